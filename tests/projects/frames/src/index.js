// Calls every method of a binding, so that what the engine sends for it can be recorded: GET /<binding>.

const stream = (text) => new Blob([text]).stream();
const refused = (call) => call.catch(() => {});

const calls = {
  async kv({ KV }) {
    await KV.put("a", "value");
    await KV.put("é/ %2F?", stream("piece"), { metadata: { é: [1, null] }, expirationTtl: 600 });
    await KV.put("b", new Uint8Array([0, 255]), { expiration: 2_000_000_000 });
    await KV.get("a");
    await KV.get("a", { type: "arrayBuffer", cacheTtl: 60 });
    await KV.getWithMetadata("é/ %2F?", "stream").then(({ value }) => new Response(value).text());
    await KV.get("nothing");
    await KV.get(["a", "nothing"]);
    await refused(KV.get(["a"], "json"));
    await KV.getWithMetadata(["é/ %2F?"], { cacheTtl: 30 });
    const { cursor } = await KV.list({ limit: 1 });
    await KV.list({ prefix: "é", cursor });
    await refused(KV.list({ cursor: "?" }));
    await refused(KV.put("k".repeat(513), ""));
    await KV.delete("b");
  },

  async r2({ R2 }) {
    const put = await R2.put("a/1", "0123456789", {
      httpMetadata: { contentType: "text/plain", cacheControl: "no-store", cacheExpiry: new Date(4e12) },
      customMetadata: { é: "ü" },
      md5: "781e5e245d69b566979b86e28d23f2c7",
    });
    await R2.put("a/2", stream("").pipeThrough(new FixedLengthStream(0)), { storageClass: "InfrequentAccess" });
    await R2.put("b", "x", { sha256: "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" });
    await R2.put("b", "y", { onlyIf: { etagDoesNotMatch: put.etag, uploadedBefore: new Date(4e12) } });
    await R2.put("c", "sealed", { ssecKey: "0f".repeat(32) });
    const text = (object) => object.text?.();
    await R2.get("c", { ssecKey: "0f".repeat(32) }).then(text);
    await refused(R2.get("c"));
    await R2.get("a/1").then(text);
    await R2.get("a/1", { range: { offset: 2, length: 3 } }).then(text);
    await R2.get("a/1", { range: { suffix: 4 } }).then(text);
    await R2.get("a/1", { range: new Headers({ Range: "bytes=1-2" }) }).then(text);
    await R2.get("a/1", { onlyIf: { etagMatches: "other", secondsGranularity: true } }).then(text);
    await R2.get("a/1", {
      onlyIf: new Headers({ "If-None-Match": `"x", W/"${put.etag}"`, "If-Modified-Since": "Mon, 01 Jan 2024 00:00:00 GMT" }),
    }).then(text);
    await R2.get("nothing");
    await R2.head("a/1");
    await R2.list({ delimiter: "/", include: ["httpMetadata", "customMetadata"] });
    const { cursor } = await R2.list({ limit: 1, prefix: "a/" });
    await R2.list({ cursor, startAfter: "a/1" });
    const upload = await R2.createMultipartUpload("m", { customMetadata: { a: "b" } });
    await upload.complete([await upload.uploadPart(1, "part")]);
    await (await R2.createMultipartUpload("n")).abort();
    await refused(R2.resumeMultipartUpload("n", "none").uploadPart(1, "part"));
    await R2.delete("a/1");
    await R2.delete(["a/2", "b"]);
  },

  async d1({ DB }) {
    await DB.exec("CREATE TABLE t (a, b);\nINSERT INTO t VALUES (1, 'x')");
    const insert = DB.prepare("INSERT INTO t VALUES (?, ?2) RETURNING *");
    await insert.bind(1.5, "é\u0000").all();
    await insert.bind(null, new Uint8Array([0, 255])).run();
    await DB.batch([insert.bind(true, -0), DB.prepare("SELECT count(*) FROM t; -- all")]);
    await DB.prepare("SELECT a, a FROM t LIMIT 2").raw({ columnNames: true });
    await DB.prepare("SELECT * FROM t WHERE b = ?").bind("x").first("a");
    const session = DB.withSession("first-primary");
    await session.prepare("SELECT 1").all();
    await DB.withSession(session.getBookmark()).prepare("UPDATE t SET a = 2").run();
    await refused(DB.prepare("SELECT nope").all());
    await refused(DB.batch([insert.bind(1, 2), DB.prepare("x")]));
    await DB.dump();
  },

  async vectorize({ INDEX }) {
    const values = (first) => Float32Array.from({ length: 32 }, (_, n) => (n ? 0 : first));
    const metadata = { kind: "é", deep: { n: 1.5 }, tags: ["a"] };
    await INDEX.insert([{ id: "a", values: values(1), metadata }, { id: "b", values: values(-1), namespace: "n" }]);
    await INDEX.upsert([{ id: "b", values: [...values(2)] }]);
    await refused(INDEX.insert([{ id: "short", values: [1] }]));
    await INDEX.query(values(1), { topK: 2, returnValues: true, returnMetadata: "all" });
    await INDEX.query(values(1), { namespace: "n", filter: { kind: { $in: ["é"], $ne: null }, "deep.n": { $gte: 1 } } });
    await INDEX.queryById("a", { returnMetadata: "indexed" });
    await refused(INDEX.query([1]));
    await INDEX.getByIds(["a", "nothing"]);
    await INDEX.describe();
    await INDEX.deleteByIds(["b"]);
  },

  async queue({ QUEUE }) {
    await QUEUE.send({ a: ["é"] });
    await QUEUE.send(new Map([[1, new Date(0)]]), { contentType: "v8" });
    await QUEUE.send("text", { contentType: "text", delaySeconds: 60 });
    await QUEUE.send(new Uint8Array([0, 255]), { contentType: "bytes" });
    await QUEUE.sendBatch(
      [{ body: 1 }, { body: "b", contentType: "text", delaySeconds: 1 }, { body: new Uint8Array(2), contentType: "bytes" }],
      { delaySeconds: 5 },
    );
    await refused(QUEUE.send("x".repeat(130_000)));
  },

  async ratelimit({ LIMIT }) {
    await LIMIT.limit({ key: "é" });
    await LIMIT.limit({ key: "" });
  },

  async analytics({ POINTS }) {
    POINTS.writeDataPoint({ blobs: ["é", null, new Uint8Array([0, 255]).buffer], doubles: [1.5, -0], indexes: ["i"] });
    POINTS.writeDataPoint({});
    await scheduler.wait(200);
  },

  async cache() {
    const cache = await caches.open("other");
    const response = () => new Response("0123456789", { headers: { "Cache-Control": "max-age=60", ETag: '"e"', Vary: "Accept" } });
    await caches.default.put("http://example.com/a?b=%20", response());
    await cache.put("http://example.com/", response());
    const match = (headers) => cache.match(new Request("http://example.com/", { headers })).then((found) => found?.text());
    await match({});
    await match({ Range: "bytes=2-4" });
    await match({ "If-None-Match": '"e"', "If-Modified-Since": "Mon, 01 Jan 2024 00:00:00 GMT" });
    await caches.default.match("http://example.com/nothing");
    await cache.delete("http://example.com/", { ignoreMethod: true });
  },

  async assets({ ASSETS }) {
    const get = (path, headers) => ASSETS.fetch(`http://assets${path}`, { headers, redirect: "manual" });
    const { headers } = await get("/", { "Accept-Encoding": "br" });
    await get("/page", { Range: "bytes=1-2" });
    await get("/page", { "If-None-Match": headers.get("ETag") });
    await get("/page.html?a=b", { "If-Range": '"x"', Range: "bytes=-1" });
    await get("/old/page");
    await get("/nothing/%2e%2e/%00");
    await ASSETS.fetch("http://assets/", { method: "POST", body: "x" });
  },
};

export default {
  async fetch(request, env) {
    await calls[new URL(request.url).pathname.slice(1)](env);
    return new Response("called");
  },
};
