// What keys of several tokens reach, and what becomes of bodies that break off; ends with an error if it is anything else.
import assert from "node:assert/strict";
import "./names.mjs";
import http from "node:http";
import { AwsClient } from "aws4fetch";

const { endpoint, keys } = JSON.parse(process.env.S3_KEYS);
const client = ([accessKeyId, secretAccessKey]) =>
  new AwsClient({ accessKeyId, secretAccessKey, service: "s3", region: "auto", retries: 0 });
const [full, reader, one, rolled, disabled, other, none] = keys.map(client);
/** Status and code of a request. */
const ask = async (by, method, path, body) => {
  const answer = await by.fetch(`${endpoint}${path}`, { method, body });
  const text = await answer.text();
  return [answer.status, /<Code>(.*?)<\/Code>/.exec(text)?.[1]];
};

for (const bucket of ["logs", "site"]) assert.deepEqual(await ask(full, "PUT", `/${bucket}`), [200, undefined]);
assert.deepEqual(await ask(full, "PUT", "/site/page", "x"), [200, undefined]);

// One that reads.
assert.deepEqual(await ask(reader, "GET", "/site/page"), [200, undefined]);
assert.deepEqual(await ask(reader, "GET", "/site?list-type=2"), [200, undefined]);
for (const [method, path] of [["PUT", "/site/page"], ["DELETE", "/site/page"], ["PUT", "/new-bucket"], ["DELETE", "/site"], ["PUT", "/site?cors"]]) {
  assert.deepEqual(await ask(reader, method, path, method === "PUT" ? "x" : undefined), [403, "AccessDenied"], `${method} ${path}`);
}

// One for the objects of a bucket.
assert.deepEqual(await ask(one, "PUT", "/logs/a", "x"), [200, undefined]);
for (const [method, path] of [["GET", "/site/page"], ["PUT", "/site/page"], ["GET", "/none/page"], ["DELETE", "/logs"]]) {
  assert.deepEqual(await ask(one, method, path, method === "PUT" ? "x" : undefined), [403, "AccessDenied"], `${method} ${path}`);
}
const copy = await one.fetch(`${endpoint}/logs/b`, { method: "PUT", headers: { "x-amz-copy-source": "/site/page" } });
assert.equal(copy.status, 403);
const buckets = await (await one.fetch(`${endpoint}/`)).text();
assert.deepEqual([...buckets.matchAll(/<Name>(.*?)<\/Name>/g)].map(([, name]) => name), ["logs"]);

// One for something else.
for (const path of ["/", "/site", "/site/page"]) assert.deepEqual(await ask(none, "GET", path), [403, "AccessDenied"], path);

// Those that are worth nothing, or are of another account.
for (const by of [disabled, other]) assert.deepEqual(await ask(by, "GET", "/site/page"), [401, "Unauthorized"]);
assert.deepEqual(await ask(rolled, "GET", "/site/page"), [403, "SignatureDoesNotMatch"]);
const plain = async (path, init) => {
  const answer = await fetch(`${endpoint}${path}`, init);
  return [answer.status, /<Code>(.*?)<\/Code>/.exec(await answer.text())?.[1]];
};
assert.deepEqual(await plain("/site/page"), [400, "InvalidArgument"]);
assert.deepEqual(await plain("/none"), [400, "InvalidArgument"]);
assert.deepEqual(await plain("/site", { method: "POST", body: "form" }), [501, "NotImplemented"]);
const old = { "x-amz-date": "20200101T000000Z" };
const stale = await full.sign(`${endpoint}/site/page`, { headers: old, aws: { datetime: "20200101T000000Z" } });
assert.equal((await fetch(stale)).status, 403);

// A body that breaks off, or is another one than was signed, is no object.
const url = async (key) => (await full.sign(new Request(`${endpoint}/site/${key}?X-Amz-Expires=60`, { method: "PUT" }), { aws: { signQuery: true } })).url;
// Nor does a URL do more than it was signed for.
const turned = await fetch(await url("turned"), { method: "PUT", headers: { "x-amz-copy-source": "/logs/a" } });
assert.deepEqual([turned.status, /<Code>(.*?)<\/Code>/.exec(await turned.text())[1]], [403, "AccessDenied"]);
assert.deepEqual(await ask(full, "GET", "/site/turned"), [404, "NoSuchKey"]);
const broken = new URL(await url("broken"));
await new Promise((resolve) => {
  const headers = { host: broken.host, "content-length": 1000 };
  const request = http.request({ host: "127.0.0.1", port: broken.port, path: broken.pathname + broken.search, method: "PUT", headers });
  request.on("error", resolve).on("close", resolve);
  request.write("x".repeat(500), () => setTimeout(() => request.destroy(), 100));
});
assert.deepEqual(await ask(full, "GET", "/site/broken"), [404, "NoSuchKey"]);
const hash = "0".repeat(64);
const forged = await full.sign(`${endpoint}/site/forged`, { method: "PUT", body: "x", headers: { "x-amz-content-sha256": hash } });
const refused = await fetch(forged);
assert.deepEqual([refused.status, /<Code>(.*?)<\/Code>/.exec(await refused.text())[1]], [400, "XAmzContentSHA256Mismatch"]);
assert.deepEqual(await ask(full, "GET", "/site/forged"), [404, "NoSuchKey"]);
// More than scripts get.
assert.deepEqual(await ask(full, "PUT", "/site/large", "x".repeat(50_000)), [200, undefined]);
console.log("all is as it should be");
