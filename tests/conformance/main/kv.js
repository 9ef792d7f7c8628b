import { attempt, attempts, kind, text } from "./kit.js";

const seconds = () => Math.floor(Date.now() / 1000);

/** A list without what differs between runs. */
const listed = (list) => ({ ...list, cursor: kind(list.cursor) });

export const kv = {
  "get: types": async ({ env: { KV }, key }) => {
    await KV.put(key, '{"a":[1,"é"]}');
    return {
      default: await KV.get(key),
      text: await KV.get(key, "text"),
      json: await KV.get(key, "json"),
      arrayBuffer: await KV.get(key, "arrayBuffer"),
      stream: await text(await KV.get(key, "stream")),
      option: await KV.get(key, { type: "json" }),
    };
  },
  "get: an absent key": async ({ env: { KV }, key }) => ({
    text: await KV.get(key),
    json: await KV.get(key, "json"),
    arrayBuffer: await KV.get(key, "arrayBuffer"),
    stream: await KV.get(key, "stream"),
    withMetadata: await KV.getWithMetadata(key),
  }),
  "get: an unknown type": async ({ env: { KV }, key }) => attempts({
    absent: () => KV.get(key, "xml"),
    present: async () => { await KV.put(key, "x"); return KV.get(key, "xml"); },
  }),
  "get: json that is none": async ({ env: { KV }, key }) => {
    await KV.put(key, "{nope");
    return attempt(() => KV.get(key, "json"));
  },
  "get: keys that are refused": ({ env: { KV } }) => attempts({
    empty: () => KV.get(""),
    dot: () => KV.get("."),
    dots: () => KV.get(".."),
    long: () => KV.get("k".repeat(513)),
    longest: () => KV.get("k".repeat(512)),
    longInBytes: () => KV.get("é".repeat(257)),
    number: () => KV.get(42),
    nothing: () => KV.get(),
  }),
  "get: cacheTtl": async ({ env: { KV }, key }) => {
    await KV.put(key, "x");
    return attempts({
      enough: () => KV.get(key, { cacheTtl: 60 }),
      thirty: () => KV.get(key, { cacheTtl: 30 }),
      short: () => KV.get(key, { cacheTtl: 29 }),
      zero: () => KV.get(key, { cacheTtl: 0 }),
      negative: () => KV.get(key, { cacheTtl: -1 }),
      word: () => KV.get(key, { cacheTtl: "long" }),
    });
  },
  "get: keys with special characters": async ({ env: { KV }, key }) => {
    const names = ["a b", "a/b", "a?b", "a#b", "a%20b", "é", "日本", "a+b", "../a", "a\\b", "a:b"].map((n) => key + n);
    for (const name of names) await KV.put(name, name);
    const back = [];
    for (const name of names) back.push((await KV.get(name)) === name);
    return { back, listed: (await KV.list({ prefix: key })).keys.map((k) => k.name) };
  },
  "getWithMetadata: types": async ({ env: { KV }, key }) => {
    await KV.put(key, '{"v":1}', { metadata: { m: [1, null, "é"] } });
    const stream = await KV.getWithMetadata(key, "stream");
    return {
      text: await KV.getWithMetadata(key),
      json: await KV.getWithMetadata(key, "json"),
      arrayBuffer: await KV.getWithMetadata(key, { type: "arrayBuffer" }),
      stream: { ...stream, value: await text(stream.value) },
    };
  },
  "getWithMetadata: kinds of metadata": async ({ env: { KV }, key }) => {
    const results = {};
    for (const [name, metadata] of Object.entries({ none: undefined, null: null, string: "s", number: 5, false: false, list: [1], empty: {} })) {
      await KV.put(key + name, "x", { metadata });
      results[name] = (await KV.getWithMetadata(key + name)).metadata;
    }
    return results;
  },
  "bulk get: values": async ({ env: { KV }, key }) => {
    await KV.put(`${key}1`, '{"n":1}');
    await KV.put(`${key}2`, '"two"', { metadata: { two: 2 } });
    const keys = [`${key}1`, `${key}2`, `${key}3`];
    return {
      text: await KV.get(keys),
      json: await KV.get(keys, "json"),
      option: await KV.get(keys, { type: "text" }),
      metadata: await KV.getWithMetadata(keys),
      jsonMetadata: await KV.getWithMetadata(keys, { type: "json" }),
    };
  },
  "bulk get: a key twice": async ({ env: { KV }, key }) => {
    await KV.put(key, "x");
    return KV.get([key, key]);
  },
  "bulk get: what is refused": async ({ env: { KV }, key }) => {
    await KV.put(key, "{nope");
    const many = Array.from({ length: 101 }, (_, i) => `${key}${i}`);
    return attempts({
      none: () => KV.get([]),
      many: () => KV.get(many),
      most: async () => (await KV.get(many.slice(1))).size,
      arrayBuffer: () => KV.get([key], "arrayBuffer"),
      stream: () => KV.get([key], "stream"),
      unknown: () => KV.get([key], "xml"),
      empty: () => KV.get([""]),
      long: () => KV.get(["k".repeat(513)]),
      noJson: () => KV.get([key], "json"),
      cacheTtl: () => KV.get([key], { cacheTtl: 10 }),
    });
  },
  "bulk get: too much at once": async ({ env: { KV }, key }) => {
    const big = "x".repeat(13 << 20);
    await KV.put(`${key}1`, big);
    await KV.put(`${key}2`, big);
    return attempt(async () => (await KV.get([`${key}1`, `${key}2`])).size);
  },
  "put: kinds of values": async ({ env: { KV }, key }) => {
    const { readable, writable } = new FixedLengthStream(3);
    const writer = writable.getWriter();
    writer.write(new Uint8Array([1, 2, 3]));
    writer.close();
    const values = {
      string: "é",
      empty: "",
      arrayBuffer: new Uint8Array([0, 255]).buffer,
      view: new Uint8Array([9, 8, 7, 6]).subarray(1, 3),
      float: new Float32Array([1]),
      stream: readable,
    };
    const results = {};
    for (const [name, value] of Object.entries(values)) {
      await KV.put(key + name, value);
      results[name] = await KV.get(key + name, "arrayBuffer");
    }
    return results;
  },
  "put: values that are refused": ({ env: { KV }, key }) => attempts({
    nothing: () => KV.put(key),
    null: () => KV.put(key, null),
    number: () => KV.put(key, 5),
    object: () => KV.put(key, { a: 1 }),
    blob: () => KV.put(key, new Blob(["x"])),
    noLength: () => KV.put(key, new Response("abc").body.pipeThrough(new TransformStream())),
    after: () => KV.get(key),
  }),
  "put: returns nothing": ({ env: { KV }, key }) => KV.put(key, "x"),
  "put: expirationTtl": ({ env: { KV }, key }) => attempts({
    least: () => KV.put(`${key}1`, "x", { expirationTtl: 60 }),
    less: () => KV.put(`${key}2`, "x", { expirationTtl: 59 }),
    zero: () => KV.put(`${key}2`, "x", { expirationTtl: 0 }),
    negative: () => KV.put(`${key}2`, "x", { expirationTtl: -1 }),
    fraction: () => KV.put(`${key}3`, "x", { expirationTtl: 60.9 }),
    string: () => KV.put(`${key}4`, "x", { expirationTtl: "70" }),
    word: () => KV.put(`${key}2`, "x", { expirationTtl: "soon" }),
    stored: async () => (await KV.list({ prefix: key })).keys.map((k) => [k.name.slice(-1), Math.abs(k.expiration - seconds() - 65) <= 10]),
  }),
  "put: expiration": ({ env: { KV }, key }) => attempts({
    past: () => KV.put(key, "x", { expiration: 1 }).catch((e) => { throw new Error(e.message.replace(/\d{6,}/g, "N")); }),
    soon: () => KV.put(key, "x", { expiration: seconds() + 30 }).catch((e) => { throw new Error(e.message.replace(/\d{6,}/g, "N")); }),
    later: () => KV.put(key, "x", { expiration: seconds() + 120 }),
    listed: async () => (await KV.list({ prefix: key })).keys.map((k) => k.expiration - seconds() > 100),
    both: () => KV.put(key, "x", { expiration: seconds() + 1000, expirationTtl: 100 }),
    winner: async () => (await KV.list({ prefix: key })).keys.map((k) => k.expiration - seconds() > 500),
  }),
  "put: keys that are refused": ({ env: { KV } }) => attempts({
    empty: () => KV.put("", "x"),
    dot: () => KV.put(".", "x"),
    dots: () => KV.put("..", "x"),
    long: () => KV.put("k".repeat(513), "x"),
  }),
  "put: metadata of 1,024 bytes and of one more": ({ env: { KV }, key }) => attempts({
    most: () => KV.put(key, "x", { metadata: "m".repeat(1022) }),
    more: () => KV.put(`${key}2`, "x", { metadata: "m".repeat(1023) }),
    kept: async () => (await KV.getWithMetadata(key)).metadata.length,
    notStored: () => KV.get(`${key}2`),
  }),
  "put: a value of 25 MiB and of one byte more": ({ env: { KV }, key }) => attempts({
    most: () => KV.put(key, new Uint8Array(25 << 20)),
    kept: async () => (await KV.get(key, "arrayBuffer")).byteLength,
    more: () => KV.put(`${key}2`, new Uint8Array((25 << 20) + 1)),
    notStored: () => KV.get(`${key}2`),
  }),
  "put: what was there is replaced with its metadata and expiration": async ({ env: { KV }, key }) => {
    await KV.put(key, "one", { metadata: 1, expirationTtl: 100 });
    await KV.put(key, "two");
    return [await KV.getWithMetadata(key), (await KV.list({ prefix: key })).keys];
  },
  "delete": async ({ env: { KV }, key }) => {
    await KV.put(key, "x");
    return attempts({
      present: () => KV.delete(key),
      gone: () => KV.get(key),
      absent: () => KV.delete(key),
      empty: () => KV.delete(""),
      long: () => KV.delete("k".repeat(513)),
    });
  },
  "delete: several keys": async ({ env: { KV }, key }) => {
    await KV.put(`${key}1`, "x");
    return attempts({
      list: () => KV.delete([`${key}1`, `${key}2`]),
      left: () => KV.get(`${key}1`),
    });
  },
  "list: order, metadata, expiration": async ({ env: { KV }, key }) => {
    for (const name of ["b", "a", "B", "é", "aa", "1", "10", "2"]) await KV.put(key + name, "x");
    await KV.put(`${key}m`, "x", { metadata: { a: 1 } });
    return listed(await KV.list({ prefix: key }));
  },
  "list: pages": async ({ env: { KV }, key }) => {
    for (let i = 0; i < 5; i++) await KV.put(`${key}${i}`, "x");
    const pages = [];
    let cursor;
    do {
      const page = await KV.list({ prefix: key, limit: 2, cursor });
      pages.push(listed(page));
      cursor = page.list_complete ? undefined : page.cursor;
    } while (cursor);
    return pages;
  },
  "list: a last page that is full": async ({ env: { KV }, key }) => {
    for (let i = 0; i < 4; i++) await KV.put(`${key}${i}`, "x");
    const first = await KV.list({ prefix: key, limit: 2 });
    const second = await KV.list({ prefix: key, limit: 2, cursor: first.cursor });
    return [listed(first), listed(second)];
  },
  "list: what was deleted between pages": async ({ env: { KV }, key }) => {
    for (let i = 0; i < 4; i++) await KV.put(`${key}${i}`, "x");
    const { cursor } = await KV.list({ prefix: key, limit: 2 });
    await KV.delete(`${key}1`);
    await KV.delete(`${key}2`);
    return listed(await KV.list({ prefix: key, limit: 2, cursor }));
  },
  "list: nothing": async ({ env: { KV }, key }) => listed(await KV.list({ prefix: key })),
  "list: limits": async ({ env: { KV }, key }) => {
    await KV.put(key, "x");
    return attempts({
      zero: async () => listed(await KV.list({ prefix: key, limit: 0 })),
      negative: async () => listed(await KV.list({ prefix: key, limit: -1 })),
      thousand: async () => listed(await KV.list({ prefix: key, limit: 1000 })),
      more: async () => listed(await KV.list({ prefix: key, limit: 1001 })),
      word: async () => listed(await KV.list({ prefix: key, limit: "many" })),
      null: async () => listed(await KV.list({ prefix: key, limit: null })),
    });
  },
  "list: a cursor that is none": async ({ env: { KV }, key }) => attempt(async () => listed(await KV.list({ prefix: key, cursor: "not a cursor" }))),
  "list: prefixes": async ({ env: { KV }, key }) => {
    for (const name of ["a%b", "a_b", "a*b", "ab", "A"]) await KV.put(key + name, "x");
    const names = async (prefix) => (await KV.list({ prefix: key + prefix })).keys.map((k) => k.name);
    return attempts({
      percent: () => names("a%"),
      underscore: () => names("a_"),
      star: () => names("a*"),
      upper: () => names("A"),
      null: async () => listed(await KV.list({ prefix: null, limit: 1 })).keys.length,
      long: () => KV.list({ prefix: "k".repeat(513) }),
    });
  },
  "two namespaces do not share keys": async ({ env: { KV, OTHER_KV }, key }) => {
    await KV.put(key, "one");
    return [await OTHER_KV.get(key), (await OTHER_KV.list({ prefix: key })).keys];
  },
};
