import { attempt, attempts, kind } from "./kit.js";

const url = (key, path = "") => `https://cache.example/${key}${path}`;

/** An answer without what differs between runs. */
async function found(response, ...headers) {
  if (!response) return "absent";
  return [response.status, await response.text(), ...headers.map((name) => response.headers.get(name))];
}

const cached = (body, headers = {}, status = 200) => new Response(body, { status, headers: { "cache-control": "max-age=100", ...headers } });

/** Puts a response, and says whether it is kept. */
async function kept(key, response) {
  const { default: cache } = caches;
  return attempt(async () => { await cache.put(url(key), response); return found(await cache.match(url(key))); });
}

export const cache = {
  "put, match, delete": ({ key }) => attempts({
    absent: () => caches.default.match(url(key)),
    put: () => caches.default.put(url(key), cached("body", { "content-type": "a/b", "x-a": "b" })),
    match: async () => found(await caches.default.match(url(key)), "content-type", "x-a", "cache-control", "cf-cache-status"),
    request: async () => found(await caches.default.match(new Request(url(key)))),
    delete: () => caches.default.delete(url(key)),
    gone: () => caches.default.match(url(key)),
    deleteAbsent: () => caches.default.delete(url(key)),
  }),
  "headers of an answer": async ({ key }) => {
    await caches.default.put(url(key), cached("body", { "content-type": "text/plain" }));
    const headers = [...(await caches.default.match(url(key))).headers.keys()];
    return headers;
  },
  "age": async ({ key }) => {
    await caches.default.put(url(key), cached("body"));
    return (await caches.default.match(url(key))).headers.get("age");
  },
  "methods": ({ key }) => attempts({
    putPost: () => caches.default.put(new Request(url(key), { method: "POST" }), cached("x")),
    putHead: () => caches.default.put(new Request(url(key), { method: "HEAD" }), cached("x")),
    put: () => caches.default.put(url(key), cached("x")),
    matchPost: () => caches.default.match(new Request(url(key), { method: "POST" })),
    matchPostIgnored: async () => found(await caches.default.match(new Request(url(key), { method: "POST" }), { ignoreMethod: true })),
    matchHead: async () => found(await caches.default.match(new Request(url(key), { method: "HEAD" }))),
    deletePost: () => caches.default.delete(new Request(url(key), { method: "POST" })),
    deletePostIgnored: () => caches.default.delete(new Request(url(key), { method: "POST" }), { ignoreMethod: true }),
  }),
  "named caches": async ({ key }) => {
    const one = await caches.open(`${key}1`);
    const two = await caches.open(`${key}2`);
    await one.put(url(key), cached("one"));
    return [await found(await one.match(url(key))), await found(await two.match(url(key))), await found(await caches.default.match(url(key)))];
  },
  "cache keys": async ({ key }) => {
    await caches.default.put(url(key, "?a=1"), cached("x"));
    const match = async (path) => Boolean(await caches.default.match(url(key, path)));
    return { same: await match("?a=1"), other: await match("?a=2"), none: await match(""), fragment: await match("?a=1#f"), more: await match("?a=1&b") };
  },
  "what is refused": ({ key }) => attempts({
    partial: () => caches.default.put(url(key), cached("x", {}, 206)),
    varyStar: () => caches.default.put(url(key), cached("x", { vary: "*" })),
    setCookie: () => kept(`${key}c`, cached("x", { "set-cookie": "a=b" })),
    setCookiePrivate: () => kept(`${key}p`, cached("x", { "set-cookie": "a=b", "cache-control": "private=set-cookie, max-age=100" })),
    relative: () => caches.default.match("/path"),
    nothing: () => caches.default.put(url(key)),
    addAll: () => kind(caches.default.addAll),
  }),
  "a body can be used once": async ({ key }) => {
    const response = cached("x");
    await caches.default.put(url(key), response);
    return [response.bodyUsed, await attempt(() => caches.default.put(url(key), response))];
  },
  "Cache-Control: what is kept": async ({ key }) => {
    const results = {};
    for (const control of ["max-age=100", "s-maxage=100", "max-age=0", "max-age=0, s-maxage=100", "no-store", "no-cache", "private", "public, max-age=100", "must-revalidate, max-age=100", "max-age=nonsense", "private, max-age=100", "max-age=100, no-cache", "immutable, max-age=100", "max-age=100, stale-while-revalidate=10"]) {
      results[control] = await kept(key + control, cached("x", { "cache-control": control }));
    }
    return results;
  },
  "Cache-Control: capital letters": ({ key }) => kept(key, cached("x", { "cache-control": "MAX-AGE=100" })),
  "Cache-Control: no-cache of one header": ({ key }) => kept(key, cached("x", { "cache-control": 'no-cache="x-a", max-age=100' })),
  "Expires: what is kept": async ({ key }) => {
    const at = (ms) => new Date(Date.now() + ms).toUTCString();
    const results = {};
    for (const [name, expires] of Object.entries({ future: at(100_000), past: at(-100_000), nonsense: "nonsense", zero: "0" })) {
      results[name] = await kept(key + name, new Response("x", { headers: { expires } }));
    }
    return results;
  },
  "statuses that are kept with max-age": async ({ key }) => {
    const results = {};
    for (const status of [200, 203, 300, 301, 302, 307, 308, 404, 405, 410, 414, 501]) {
      results[status] = await kept(key + status, cached("x", {}, status));
    }
    return results;
  },
  "other statuses with max-age": async ({ key }) => {
    const results = {};
    for (const status of [201, 400, 403, 418, 500, 503]) results[status] = (await kept(key + status, cached("x", {}, status))) !== "absent";
    return results;
  },
  "statuses that are kept without Cache-Control": async ({ key }) => {
    const results = {};
    for (const status of [200, 201, 203, 300, 301, 302, 307, 404, 410, 500]) {
      results[status] = (await kept(key + status, new Response("x", { status }))) !== "absent";
    }
    return results;
  },
  "it expires": async ({ key }) => {
    await caches.default.put(url(key), cached("x", { "cache-control": "max-age=1" }));
    const before = await found(await caches.default.match(url(key)));
    await scheduler.wait(2100);
    return [before, await found(await caches.default.match(url(key)))];
  },
  "put replaces": async ({ key }) => {
    await caches.default.put(url(key), cached("one", { "x-a": "1" }));
    await caches.default.put(url(key), cached("two"));
    return found(await caches.default.match(url(key)), "x-a");
  },
  "ranges": async ({ key }) => {
    await caches.default.put(url(key), cached("0123456789", { "content-length": "10", "content-type": "text/plain" }));
    const results = {};
    for (const range of ["bytes=1-3", "bytes=5-", "bytes=-2", "bytes=0-0", "bytes=8-100"]) {
      results[range] = await found(await caches.default.match(new Request(url(key), { headers: { range } })), "content-range", "content-length");
    }
    return results;
  },
  "ranges that cannot be satisfied": async ({ key }) => {
    await caches.default.put(url(key), cached("0123456789", { "content-length": "10", "content-type": "text/plain" }));
    return found(await caches.default.match(new Request(url(key), { headers: { range: "bytes=20-30" } })), "content-range");
  },
  "a range of another unit": async ({ key }) => {
    await caches.default.put(url(key), cached("0123456789", { "content-length": "10" }));
    return found(await caches.default.match(new Request(url(key), { headers: { range: "lines=1-2" } })));
  },
  "several ranges": async ({ key }) => {
    await caches.default.put(url(key), cached("0123456789", { "content-length": "10", "content-type": "text/plain" }));
    const response = await caches.default.match(new Request(url(key), { headers: { range: "bytes=0-1,3-4" } }));
    return [response.status, response.headers.get("content-type")?.split(";")[0]];
  },
  "conditions": async ({ key }) => {
    const modified = "Wed, 01 Jan 2020 00:00:00 GMT";
    await caches.default.put(url(key), cached("x", { etag: '"tag"', "last-modified": modified }));
    const results = {};
    for (const [name, headers] of Object.entries({
      sameTag: { "if-none-match": '"tag"' },
      weakTag: { "if-none-match": 'W/"tag"' },
      list: { "if-none-match": '"a", "tag"' },
      star: { "if-none-match": "*" },
      otherTag: { "if-none-match": '"other"' },
      since: { "if-modified-since": modified },
      sinceLater: { "if-modified-since": "Thu, 02 Jan 2020 00:00:00 GMT" },
      sinceEarlier: { "if-modified-since": "Tue, 31 Dec 2019 00:00:00 GMT" },
      sinceNonsense: { "if-modified-since": "nonsense" },
      match: { "if-match": '"other"' },
      unmodified: { "if-unmodified-since": "Tue, 31 Dec 2019 00:00:00 GMT" },
    })) results[name] = await found(await caches.default.match(new Request(url(key), { headers })), "etag");
    return results;
  },
  "conditions: another etag and the same time": async ({ key }) => {
    const modified = "Wed, 01 Jan 2020 00:00:00 GMT";
    await caches.default.put(url(key), cached("x", { etag: '"tag"', "last-modified": modified }));
    return (await caches.default.match(new Request(url(key), { headers: { "if-none-match": '"other"', "if-modified-since": modified } }))).status;
  },
  "Vary is not looked at": async ({ key }) => {
    const request = (language) => new Request(url(key), { headers: { "accept-language": language } });
    await caches.default.put(request("de"), cached("deutsch", { vary: "accept-language" }));
    return [await found(await caches.default.match(request("de"))), await found(await caches.default.match(request("en")))];
  },
  "bodies": async ({ key }) => {
    const bytes = new Uint8Array(300_000).fill(9);
    await caches.default.put(url(key), cached(bytes));
    await caches.default.put(url(key, "s"), cached(new Response("streamed").body));
    await caches.default.put(url(key, "e"), cached(null));
    return [(await (await caches.default.match(url(key))).arrayBuffer()).byteLength, await found(await caches.default.match(url(key, "s"))), await found(await caches.default.match(url(key, "e")))];
  },
  "Cache-Tag is taken away": async ({ key }) => {
    await caches.default.put(url(key), cached("x", { "cache-tag": "a,b" }));
    return found(await caches.default.match(url(key)), "cache-tag");
  },
  "hosts do not matter": async ({ key }) => {
    await caches.default.put(`http://other.example/${key}`, cached("x"));
    return [await found(await caches.default.match(`http://other.example/${key}`)), await found(await caches.default.match(`https://other.example/${key}`)), await found(await caches.default.match(`http://OTHER.example/${key}`))];
  },
};
