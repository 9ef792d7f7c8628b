// The S3 API of `skep dev`: two buckets with a key each, and one without.
import assert from "node:assert/strict";
import { AwsClient } from "aws4fetch";

const { endpoint } = JSON.parse(process.env.S3_KEYS);
const client = (accessKeyId, secretAccessKey) =>
  new AwsClient({ accessKeyId, secretAccessKey, service: "s3", region: "auto", retries: 0 });
const [one, two] = [client("one", "s1"), client("two", "s2")];
const ask = async (by, method, path, init = {}) => {
  const answer = await by.fetch(`${endpoint}${path}`, { method, ...init });
  const text = await answer.text();
  return [answer.status, /<Code>(.*?)<\/Code>/.exec(text)?.[1] ?? text];
};
assert.deepEqual(await ask(one, "GET", "/shared/from%20worker"), [200, "w"]);
const headers = { "content-type": "text/x-own", "x-amz-meta-name": "=?utf-8?B?w7w=?=" };
assert.deepEqual(await ask(one, "PUT", "/shared/from%20s3", { body: "s", headers }), [200, ""]);
const names = async (by) => [...(await ask(by, "GET", ""))[1].matchAll(/<Name>(.*?)<\/Name>/g)].map(([, name]) => name);
assert.deepEqual([await names(one), await names(two)], [["shared"], ["second"]]);
assert.deepEqual(await ask(two, "GET", "/shared/from%20s3"), [403, "AccessDenied"]);
assert.deepEqual(await ask(one, "GET", "/without/a"), [403, "AccessDenied"]);
assert.deepEqual(await ask(client("one", "s2"), "GET", "/shared/a"), [403, "SignatureDoesNotMatch"]);
assert.deepEqual(await ask(client("none", "s1"), "GET", "/shared/a"), [401, "Unauthorized"]);
// Buckets are those of the configuration.
assert.deepEqual(await ask(one, "PUT", "/another"), [501, "NotImplemented"]);
const url = (await one.sign(new Request(`${endpoint}/shared/page?X-Amz-Expires=60`, { method: "PUT" }), { aws: { signQuery: true } })).url;
const asked = { origin: "http://page.test", "access-control-request-method": "PUT" };
const preflight = await fetch(url, { method: "OPTIONS", headers: asked });
assert.deepEqual([preflight.status, preflight.headers.get("access-control-allow-origin")], [204, "*"]);
const put = await fetch(url, { method: "PUT", body: "x", headers: { origin: "http://page.test" } });
assert.deepEqual([put.status, put.headers.get("access-control-allow-origin")], [200, "*"]);
console.log("all is as it should be");
