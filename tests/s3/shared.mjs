// An object that a worker has put, and one for it.
import assert from "node:assert/strict";
import "./names.mjs";
import { AwsClient } from "aws4fetch";

const { endpoint, key: [accessKeyId, secretAccessKey] } = JSON.parse(process.env.S3_KEYS);
const aws = new AwsClient({ accessKeyId, secretAccessKey, service: "s3", region: "auto" });
const answer = await aws.fetch(`${endpoint}/shared/from%20worker`);
const said = ["content-type", "x-amz-meta-plain", "x-amz-missing-meta"].map((name) => answer.headers.get(name));
assert.deepEqual([await answer.text(), ...said], ["w", "a/b", "=?utf-8?B?w6k=?=", "1"]);
const headers = { "content-type": "text/x-own", "x-amz-meta-name": "=?utf-8?B?w7w=?=" };
assert.equal((await aws.fetch(`${endpoint}/shared/from%20s3`, { method: "PUT", body: "s", headers })).status, 200);
console.log("all is as it should be");
