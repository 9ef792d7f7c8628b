import { attempt, attempts, kind, text } from "./kit.js";

/** What is known of an object, without what differs between runs. `range`, `storageClass` and `ssecKeyMd5` have their own cases. */
export function head(object) {
  if (!object) return object;
  const { key, version, size, etag, httpEtag, uploaded, checksums, httpMetadata, customMetadata } = object;
  return {
    type: object.constructor.name,
    key,
    version: kind(version),
    size,
    etag: etag.length,
    httpEtag: httpEtag === `"${etag}"`,
    uploaded: Math.abs(uploaded - Date.now()) < 60_000,
    checksums: checksums.toJSON(),
    httpMetadata,
    customMetadata,
  };
}

/** An object and its content. */
export async function whole(object) {
  return object && { ...head(object), body: object.body ? await object.text() : "none" };
}

async function sha(name, content) {
  return new Uint8Array(await crypto.subtle.digest(name, new TextEncoder().encode(content))).toHex();
}

const SSEC = { ssecKey: "11".repeat(32) };

export const r2 = {
  "put: what is answered": async ({ env: { BUCKET }, key }) => head(await BUCKET.put(key, "hello")),
  "put: kinds of values": async ({ env: { BUCKET }, key }) => {
    const values = {
      string: "é",
      empty: "",
      null: null,
      arrayBuffer: new Uint8Array([104, 105]).buffer,
      view: new TextEncoder().encode("abcd").subarray(1, 3),
      blob: new Blob(["blob"], { type: "text/x" }),
      stream: new Response("stream").body,
    };
    const results = {};
    for (const [name, value] of Object.entries(values)) {
      results[name] = await attempt(async () => {
        await BUCKET.put(key + name, value);
        return whole(await BUCKET.get(key + name));
      });
    }
    return results;
  },
  "put: values that are refused": ({ env: { BUCKET }, key }) => attempts({
    nothing: () => BUCKET.put(key),
    number: async () => whole(await BUCKET.put(`${key}n`, 5)),
    noLength: () => BUCKET.put(key, new Response("abc").body.pipeThrough(new TransformStream())),
    after: () => BUCKET.head(key),
  }),
  "put: an empty key": ({ env: { BUCKET } }) => attempt(async () => (await BUCKET.put("", "x")).size),
  "put: keys": ({ env: { BUCKET }, key }) => attempts({
    longest: async () => (await BUCKET.put("k".repeat(1024), "x")).size,
    long: () => BUCKET.put("k".repeat(1025), "x"),
    longInBytes: () => BUCKET.put("é".repeat(513), "x"),
    special: async () => {
      const names = ["a b", "/a", "a//b", "é", "a?b#c", "a%20", "../x", "a\\b", "\u0001"];
      const back = [];
      for (const name of names) {
        await BUCKET.put(`${key}s${name}`, name);
        back.push((await (await BUCKET.get(`${key}s${name}`)).text()) === name);
      }
      return { back, listed: (await BUCKET.list({ prefix: `${key}s` })).objects.map((o) => o.key) };
    },
    getLong: () => BUCKET.get("k".repeat(1025)),
    headLong: () => BUCKET.head("k".repeat(1025)),
    deleteLong: () => BUCKET.delete("k".repeat(1025)),
  }),
  "put: httpMetadata": async ({ env: { BUCKET }, key }) => {
    const httpMetadata = {
      contentType: "text/x",
      contentLanguage: "de",
      contentDisposition: "attachment",
      contentEncoding: "identity",
      cacheControl: "no-cache",
      cacheExpiry: new Date(86_400_000),
    };
    const put = head(await BUCKET.put(key, "x", { httpMetadata }));
    const object = await BUCKET.get(key);
    const headers = new Headers();
    object.writeHttpMetadata(headers);
    await BUCKET.put(`${key}2`, "x", { httpMetadata: new Headers({ "content-type": "a/b", expires: "Fri, 02 Jan 1970 00:00:00 GMT", "x-other": "no" }) });
    return { put, get: head(object), headers, fromHeaders: (await BUCKET.head(`${key}2`)).httpMetadata };
  },
  "put: customMetadata": async ({ env: { BUCKET }, key }) => attempts({
    kept: async () => head(await BUCKET.put(key, "x", { customMetadata: { a: "1", B: "é", "": "empty", "a b": "c" } })),
    read: async () => (await BUCKET.head(key)).customMetadata,
    number: async () => (await BUCKET.put(key, "x", { customMetadata: { a: 1 } })).customMetadata,
    fits: async () => (await BUCKET.put(key, "x", { customMetadata: { a: "m".repeat(2047) } })).customMetadata.a.length,
    large: async () => (await BUCKET.put(key, "x", { customMetadata: { a: "m".repeat(5000) } })).customMetadata.a.length,
    tooLarge: () => BUCKET.put(key, "x", { customMetadata: { a: "m".repeat(9000) } }),
  }),
  "put: checksums": async ({ env: { BUCKET }, key }) => {
    const results = {};
    for (const [option, name] of Object.entries({ md5: "MD5", sha1: "SHA-1", sha256: "SHA-256", sha384: "SHA-384", sha512: "SHA-512" })) {
      const right = await sha(name, "hello");
      results[option] = await attempts({
        right: async () => (await BUCKET.put(key + option, "hello", { [option]: right })).checksums.toJSON(),
        buffer: async () => (await BUCKET.put(key + option, "hello", { [option]: Uint8Array.fromHex(right) })).checksums.toJSON(),
        wrong: () => BUCKET.put(`${key}wrong`, "hello", { [option]: "0".repeat(right.length) }),
        short: () => BUCKET.put(`${key}wrong`, "hello", { [option]: "00" }),
        noHex: () => BUCKET.put(`${key}wrong`, "hello", { [option]: "z".repeat(right.length) }),
      });
    }
    return {
      ...results,
      two: await attempt(() => BUCKET.put(key, "x", { md5: "0".repeat(32), sha1: "0".repeat(40) })),
      notStored: await BUCKET.head(`${key}wrong`),
      binary: kind((await BUCKET.head(`${key}sha1`)).checksums.sha1),
    };
  },
  "put: onlyIf": async ({ env: { BUCKET }, key }) => {
    const first = await BUCKET.put(key, "one");
    return attempts({
      wrongEtag: async () => head(await BUCKET.put(key, "two", { onlyIf: { etagMatches: "nope" } })),
      sameEtag: async () => (await BUCKET.put(key, "three", { onlyIf: { etagMatches: first.etag } }))?.size,
      notEtag: async () => head(await BUCKET.put(key, "four", { onlyIf: { etagDoesNotMatch: "*" } })),
      absent: async () => head(await BUCKET.put(`${key}new`, "x", { onlyIf: { etagMatches: "*" } })),
      create: async () => (await BUCKET.put(`${key}new`, "x", { onlyIf: { etagDoesNotMatch: "*" } }))?.size,
      createAgain: async () => head(await BUCKET.put(`${key}new`, "y", { onlyIf: { etagDoesNotMatch: "*" } })),
      before: async () => head(await BUCKET.put(key, "six", { onlyIf: { uploadedBefore: new Date(0) } })),
      after: async () => (await BUCKET.put(key, "seven", { onlyIf: { uploadedAfter: new Date(0) } }))?.size,
      headers: async () => head(await BUCKET.put(key, "eight", { onlyIf: new Headers({ "if-none-match": "*" }) })),
      left: async () => (await BUCKET.get(key)).text(),
    });
  },
  "put: storageClass": ({ env: { BUCKET }, key }) => attempts({
    standard: async () => (await BUCKET.put(key, "x", { storageClass: "Standard" })).storageClass,
    infrequent: async () => (await BUCKET.put(key, "x", { storageClass: "InfrequentAccess" })).storageClass,
    kept: async () => (await BUCKET.head(key)).storageClass,
    unknown: async () => (await BUCKET.put(key, "x", { storageClass: "Glacier" })).storageClass,
    default: async () => (await BUCKET.put(key, "x")).storageClass,
  }),
  "put: the same content has the same etag": async ({ env: { BUCKET }, key }) => {
    const [a, b] = [await BUCKET.put(key, "hello"), await BUCKET.put(`${key}2`, "hello")];
    return [a.etag, a.etag === b.etag, a.version !== b.version];
  },
  "get: absent": async ({ env: { BUCKET }, key }) => [await BUCKET.get(key), await BUCKET.head(key)],
  "get: ways to read a body": async ({ env: { BUCKET }, key }) => {
    await BUCKET.put(key, '{"a":1}', { httpMetadata: { contentType: "application/json" } });
    const get = () => BUCKET.get(key);
    return attempts({
      text: async () => (await get()).text(),
      json: async () => (await get()).json(),
      arrayBuffer: async () => (await get()).arrayBuffer(),
      bytes: async () => (await get()).bytes(),
      blob: async () => { const blob = await (await get()).blob(); return [blob.type, await blob.text()]; },
      stream: async () => text((await get()).body),
      twice: async () => { const object = await get(); await object.text(); return [object.bodyUsed, await attempt(() => object.text())]; },
    });
  },
  "get: ranges": async ({ env: { BUCKET }, key }) => {
    await BUCKET.put(key, "0123456789");
    const ranges = {
      offset: { offset: 4 },
      offsetLength: { offset: 2, length: 3 },
      length: { length: 4 },
      suffix: { suffix: 3 },
      suffixMore: { suffix: 30 },
      lengthMore: { offset: 8, length: 30 },
      offsetEnd: { offset: 10 },
      offsetMore: { offset: 11 },
      zero: { offset: 1, length: 0 },
      suffixZero: { suffix: 0 },
      negative: { offset: -1 },
      both: { offset: 1, suffix: 2 },
      empty: {},
      fraction: { offset: 1.5 },
    };
    const results = {};
    for (const [name, range] of Object.entries(ranges)) results[name] = await attempt(async () => { const o = await BUCKET.get(key, { range }); return [o.range, await o.text(), o.size]; });
    return results;
  },
  "get: ranges from headers": async ({ env: { BUCKET }, key }) => {
    await BUCKET.put(key, "0123456789");
    const results = {};
    for (const range of ["bytes=1-3", "bytes=5-", "bytes=-2", "bytes=0-0", "bytes=8-100", "bytes=20-30", "bytes=3-1", "bytes=0-1,3-4", "lines=1-2", "nonsense", "bytes=-0"]) {
      results[range] = await attempt(async () => { const o = await BUCKET.get(key, { range: new Headers({ range }) }); return [o.range, await o.text()]; });
    }
    return results;
  },
  "get: a range of nothing": async ({ env: { BUCKET }, key }) => {
    await BUCKET.put(key, "");
    return attempts({
      whole: async () => whole(await BUCKET.get(key)),
      offset: async () => whole(await BUCKET.get(key, { range: { offset: 0 } })),
      suffix: async () => whole(await BUCKET.get(key, { range: { suffix: 1 } })),
    });
  },
  "get: onlyIf": async ({ env: { BUCKET }, key }) => {
    const { etag, uploaded } = await BUCKET.put(key, "hello");
    const second = 1000;
    const conditions = {
      etagMatches: { etagMatches: etag },
      etagMatchesOther: { etagMatches: "other" },
      etagDoesNotMatch: { etagDoesNotMatch: etag },
      etagDoesNotMatchOther: { etagDoesNotMatch: "other" },
      star: { etagMatches: "*" },
      notStar: { etagDoesNotMatch: "*" },
      uploadedBefore: { uploadedBefore: new Date(+uploaded + 10 * second) },
      uploadedBeforeNot: { uploadedBefore: new Date(+uploaded - 10 * second) },
      uploadedAfter: { uploadedAfter: new Date(+uploaded - 10 * second) },
      uploadedAfterNot: { uploadedAfter: new Date(+uploaded + 10 * second) },
      matchesAndNotBefore: { etagMatches: etag, uploadedBefore: new Date(0) },
      notMatchesAndAfter: { etagDoesNotMatch: "other", uploadedAfter: new Date(+uploaded + 10 * second) },
      seconds: { uploadedBefore: new Date(+uploaded + second), secondsGranularity: true },
      ifMatch: new Headers({ "if-match": `"${etag}"` }),
      ifMatchWeak: new Headers({ "if-match": `W/"${etag}"` }),
      ifMatchList: new Headers({ "if-match": `"a", "${etag}"` }),
      ifNoneMatch: new Headers({ "if-none-match": `"${etag}"` }),
      ifNoneMatchWeak: new Headers({ "if-none-match": `W/"${etag}"` }),
      ifModifiedSince: new Headers({ "if-modified-since": new Date(+uploaded + 10 * second).toUTCString() }),
      ifUnmodifiedSince: new Headers({ "if-unmodified-since": new Date(+uploaded - 10 * second).toUTCString() }),
      ifModifiedSinceNonsense: new Headers({ "if-modified-since": "nonsense" }),
      ifMatchUnquoted: new Headers({ "if-match": etag }),
      quoted: { etagMatches: `"${etag}"` },
    };
    const results = {};
    for (const [name, onlyIf] of Object.entries(conditions)) results[name] = await attempt(async () => { const o = await BUCKET.get(key, { onlyIf }); return [o.constructor.name, o.body ? await o.text() : "no body"]; });
    return results;
  },
  "get: a condition and a range": async ({ env: { BUCKET }, key }) => {
    const { etag } = await BUCKET.put(key, "0123456789");
    return {
      passes: await whole(await BUCKET.get(key, { onlyIf: { etagMatches: etag }, range: { offset: 2, length: 2 } })),
      fails: await whole(await BUCKET.get(key, { onlyIf: { etagMatches: "other" }, range: { offset: 2, length: 2 } })),
    };
  },
  "head": async ({ env: { BUCKET }, key }) => {
    await BUCKET.put(key, "hello", { customMetadata: { a: "b" }, httpMetadata: { contentType: "a/b" } });
    return head(await BUCKET.head(key));
  },
  "head: range": async ({ env: { BUCKET }, key }) => {
    const put = await BUCKET.put(key, "hello");
    const failed = await BUCKET.get(key, { onlyIf: { etagMatches: "other" } });
    return { put: put.range, head: (await BUCKET.head(key)).range, failed: failed.range, get: (await BUCKET.get(key)).range };
  },
  "delete": async ({ env: { BUCKET }, key }) => {
    for (const n of [1, 2, 3]) await BUCKET.put(key + n, "x");
    const many = Array.from({ length: 1001 }, (_, i) => `${key}m${i}`);
    return attempts({
      one: () => BUCKET.delete(`${key}1`),
      absent: () => BUCKET.delete(`${key}1`),
      several: () => BUCKET.delete([`${key}2`, `${key}3`, `${key}4`]),
      none: () => BUCKET.delete([]),
      most: () => BUCKET.delete(many.slice(1)),
      left: async () => (await BUCKET.list({ prefix: key })).objects.length,
    });
  },
  "delete: 1,001 keys": ({ env: { BUCKET }, key }) => attempt(() => BUCKET.delete(Array.from({ length: 1001 }, (_, i) => `${key}${i}`))),
  "list: order and fields": async ({ env: { BUCKET }, key }) => {
    for (const name of ["b", "a", "B", "é", "a/b", "aa", "10", "2"]) await BUCKET.put(key + name, "x", { customMetadata: { n: name } });
    const list = await BUCKET.list({ prefix: key, include: ["httpMetadata", "customMetadata"] });
    return { ...list, objects: list.objects.map(head) };
  },
  "list: include": async ({ env: { BUCKET }, key }) => {
    await BUCKET.put(key, "x", { customMetadata: { a: "b" }, httpMetadata: { contentType: "a/b" } });
    const fields = async (include) => { const [o] = (await BUCKET.list({ prefix: key, include })).objects; return [o.httpMetadata, o.customMetadata]; };
    return attempts({
      none: () => fields([]),
      absent: () => fields(undefined),
      http: () => fields(["httpMetadata"]),
      custom: () => fields(["customMetadata"]),
      both: () => fields(["httpMetadata", "customMetadata"]),
      unknown: () => fields(["other"]),
    });
  },
  "list: pages": async ({ env: { BUCKET }, key }) => {
    for (let i = 0; i < 5; i++) await BUCKET.put(`${key}${i}`, "x");
    const pages = [];
    let cursor;
    do {
      const page = await BUCKET.list({ prefix: key, limit: 2, cursor });
      pages.push([page.objects.map((o) => o.key), page.truncated, kind(page.cursor)]);
      cursor = page.cursor;
    } while (cursor);
    return pages;
  },
  "list: delimiters": async ({ env: { BUCKET }, key }) => {
    for (const name of ["a", "b/1", "b/2", "b/c/3", "d/4", "e", "f--g", "f--h"]) await BUCKET.put(`${key}/${name}`, "x");
    const list = async (options) => { const l = await BUCKET.list(options); return [l.objects.map((o) => o.key), l.delimitedPrefixes, l.truncated]; };
    const pages = [];
    let cursor;
    do {
      const page = await BUCKET.list({ prefix: `${key}/`, delimiter: "/", limit: 2, cursor });
      pages.push([page.objects.map((o) => o.key), page.delimitedPrefixes]);
      cursor = page.cursor;
    } while (cursor);
    return {
      slash: await list({ prefix: `${key}/`, delimiter: "/" }),
      inside: await list({ prefix: `${key}/b/`, delimiter: "/" }),
      noSlash: await list({ prefix: `${key}/b`, delimiter: "/" }),
      two: await list({ prefix: `${key}/`, delimiter: "--" }),
      empty: await attempt(() => list({ prefix: `${key}/`, delimiter: "" })),
      pages,
    };
  },
  "list: startAfter": async ({ env: { BUCKET }, key }) => {
    for (const name of ["a", "b/1", "b/2", "c"]) await BUCKET.put(key + name, "x");
    const keys = async (options) => { const l = await BUCKET.list({ prefix: key, ...options }); return [l.objects.map((o) => o.key), l.delimitedPrefixes]; };
    return attempts({
      present: () => keys({ startAfter: `${key}a` }),
      absent: () => keys({ startAfter: `${key}aa` }),
      last: () => keys({ startAfter: `${key}c` }),
      inPrefix: () => keys({ startAfter: `${key}b/1`, delimiter: "/" }),
      before: () => keys({ startAfter: "" }),
    });
  },
  "list: limits": async ({ env: { BUCKET }, key }) => {
    await BUCKET.put(key, "x");
    const count = async (limit) => (await BUCKET.list({ prefix: key, limit })).objects.length;
    return attempts({ zero: () => count(0), negative: () => count(-1), most: () => count(1000), more: () => count(1001) });
  },
  "list: a cursor that is none": ({ env: { BUCKET }, key }) => attempt(async () => (await BUCKET.list({ prefix: key, cursor: "%%%" })).objects.length),
  "list: nothing": async ({ env: { BUCKET }, key }) => BUCKET.list({ prefix: key }),
  "SSE-C": async ({ env: { BUCKET }, key }) => attempts({
    put: async () => (await BUCKET.put(key, "secret", SSEC)).size,
    get: async () => (await BUCKET.get(key, SSEC)).text(),
    range: async () => (await BUCKET.get(key, { ...SSEC, range: { offset: 2, length: 2 } })).text(),
    bytes: async () => (await BUCKET.get(key, { ssecKey: Uint8Array.fromHex(SSEC.ssecKey).buffer })).text(),
    head: async () => head(await BUCKET.head(key)),
    shortKey: () => BUCKET.get(key, { ssecKey: "22" }),
    noHex: () => BUCKET.put(key, "x", { ssecKey: "z".repeat(64) }),
    listed: async () => (await BUCKET.list({ prefix: key })).objects.map((o) => [o.key, o.size]),
  }),
  "SSE-C: the key's digest": async ({ env: { BUCKET }, key }) => [(await BUCKET.put(key, "secret", SSEC)).ssecKeyMd5, (await BUCKET.head(key)).ssecKeyMd5],
  "SSE-C: without the key, or with another": async ({ env: { BUCKET }, key }) => {
    await BUCKET.put(key, "secret", SSEC);
    await BUCKET.put(`${key}p`, "plain");
    return attempts({
      noKey: async () => (await BUCKET.get(key)).text(),
      wrongKey: async () => (await BUCKET.get(key, { ssecKey: "22".repeat(32) })).text(),
      plain: async () => (await BUCKET.get(`${key}p`, SSEC)).text(),
    });
  },
  "a large object streams through": async ({ env: { BUCKET }, key }) => {
    const size = 6 << 20;
    await BUCKET.put(key, new Uint8Array(size).fill(7));
    const object = await BUCKET.get(key);
    const digest = new crypto.DigestStream("SHA-256");
    await object.body.pipeTo(digest);
    return [object.size, await digest.digest];
  },
};
