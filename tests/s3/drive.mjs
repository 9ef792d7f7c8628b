// The AWS SDK and aws4fetch against the S3 API; ends with an error if anything is not as R2 has it.
import assert from "node:assert/strict";
import "./names.mjs";
import { createReadStream, writeFileSync } from "node:fs";
import * as S from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import { AwsClient } from "aws4fetch";

const { S3_ENDPOINT: endpoint, S3_KEY: accessKeyId, S3_SECRET: secretAccessKey, S3_FOLDER: folder } = process.env;
const credentials = { accessKeyId, secretAccessKey };
const client = new S.S3Client({ region: "auto", endpoint, credentials });
const Bucket = "first-bucket";
const send = (name, input) => client.send(new S[`${name}Command`]({ Bucket, ...input }));
/** The code and status of a call that fails. */
const failure = async (promise) => {
  const error = await promise.then(() => assert.fail("it did not fail"), (error) => error);
  return [error.name, error.$metadata?.httpStatusCode];
};
const text = async (answer) => (await answer).Body.transformToString();

// Buckets.
await send("CreateBucket", { CreateBucketConfiguration: { LocationConstraint: "weur" } });
assert.deepEqual(await failure(send("CreateBucket", {})), ["BucketAlreadyOwnedByYou", 409]);
assert.deepEqual(await failure(send("CreateBucket", { Bucket: "Not_A_Name" })), ["InvalidBucketName", 400]);
const elsewhere = { Bucket: "elsewhere", CreateBucketConfiguration: { LocationConstraint: "moon" } };
assert.deepEqual(await failure(send("CreateBucket", elsewhere)), ["InvalidLocationConstraint", 400]);
assert.deepEqual((await client.send(new S.ListBucketsCommand({}))).Buckets.map(({ Name }) => Name), [Bucket]);
assert.equal((await send("GetBucketLocation", {})).LocationConstraint, "WEUR");
await send("HeadBucket", {});
assert.deepEqual(await failure(send("HeadBucket", { Bucket: "no-bucket" })), ["NotFound", 404]);
assert.deepEqual(await failure(send("GetBucketAcl", {})), ["NotImplemented", 501]);

// Objects, with keys and metadata that need encoding.
const Key = "a b/../ü+&%'()*~.txt";
const put = await send("PutObject", {
  Key, Body: "hello", ContentType: "text/x-own", CacheControl: "max-age=7", Metadata: { name: "x", other: "=?utf-8?B?w6k=?=" },
});
assert.deepEqual([put.ETag, put.ChecksumCRC32], ['"5d41402abc4b2a76b9719d911017c592"', "NhCmhg=="]);
const got = await send("GetObject", { Key });
assert.equal(await got.Body.transformToString(), "hello");
assert.deepEqual([got.ContentType, got.CacheControl, got.ContentLength], ["text/x-own", "max-age=7", 5]);
// RFC 2047 is how what is not ASCII comes back.
assert.deepEqual(got.Metadata, { name: "x", other: "=?utf-8?B?w6k=?=" });
const part = await send("GetObject", { Key, Range: "bytes=1-2" });
assert.deepEqual([await part.Body.transformToString(), part.ContentRange], ["el", "bytes 1-2/5"]);
assert.deepEqual(await failure(send("GetObject", { Key, Range: "bytes=9-" })), ["InvalidRange", 416]);
assert.deepEqual(await failure(send("GetObject", { Key: "none" })), ["NoSuchKey", 404]);
assert.deepEqual(await failure(send("HeadObject", { Key: "none" })), ["NotFound", 404]);
assert.equal((await failure(send("GetObject", { Key, IfNoneMatch: put.ETag })))[1], 304);
assert.deepEqual(await failure(send("GetObject", { Key, IfMatch: '"x"' })), ["PreconditionFailed", 412]);
assert.deepEqual(await failure(send("PutObject", { Key, Body: "x", IfNoneMatch: "*" })), ["PreconditionFailed", 412]);
await send("PutObject", { Key, Body: "again", ContentType: "text/x-own", IfMatch: put.ETag });
assert.equal(await text(send("GetObject", { Key })), "again");

// Digests, in headers and in trailers of a body in chunks.
for (const [ChecksumAlgorithm, name] of [["SHA256", "ChecksumSHA256"], ["SHA1", "ChecksumSHA1"], ["CRC32C", "ChecksumCRC32C"]]) {
  assert.ok((await send("PutObject", { Key: "digest", Body: "x".repeat(70_000), ChecksumAlgorithm }))[name]);
}
const wrong = { Key: "wrong", Body: "x", ChecksumSHA256: "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIA=" };
assert.deepEqual(await failure(send("PutObject", wrong)), ["BadDigest", 400]);
assert.deepEqual(await failure(send("GetObject", { Key: "wrong" })), ["NoSuchKey", 404]);
const file = `${folder}/file`;
writeFileSync(file, Buffer.alloc(3_000_000, 7));
await send("PutObject", { Key: "stream", Body: createReadStream(file), ContentLength: 3_000_000 });
assert.equal((await send("HeadObject", { Key: "stream" })).ContentLength, 3_000_000);

// Copies.
const CopySource = `${Bucket}/${encodeURIComponent(Key)}`;
await send("CopyObject", { Key: "copy", CopySource });
assert.equal((await send("HeadObject", { Key: "copy" })).ContentType, "text/x-own");
await send("CopyObject", { Key: "copy", CopySource, MetadataDirective: "REPLACE", ContentType: "a/b", StorageClass: "STANDARD_IA" });
const copied = await send("HeadObject", { Key: "copy" });
assert.deepEqual([copied.ContentType, copied.CacheControl, copied.StorageClass], ["a/b", undefined, "STANDARD_IA"]);
assert.deepEqual(await failure(send("CopyObject", { Key: "c", CopySource: `${Bucket}/none` })), ["NoSuchKey", 404]);
const unless = { Key: "c", CopySource, CopySourceIfNoneMatch: "*" };
assert.deepEqual(await failure(send("CopyObject", unless)), ["PreconditionFailed", 412]);

// Lists, by pages and by groups.
for (let n = 0; n < 7; n += 1) await send("PutObject", { Key: `many/${n}/x`, Body: "" });
const groups = [];
for await (const page of S.paginateListObjectsV2({ client, pageSize: 3 }, { Bucket, Prefix: "many/", Delimiter: "/" })) {
  groups.push((page.CommonPrefixes ?? []).map(({ Prefix }) => Prefix));
}
assert.deepEqual(groups.map((page) => page.length), [3, 3, 1]);
const first = await send("ListObjects", { Prefix: "many/", Delimiter: "/", MaxKeys: 4 });
assert.deepEqual([first.IsTruncated, first.NextMarker], [true, "many/3/"]);
const rest = await send("ListObjects", { Prefix: "many/", Delimiter: "/", Marker: first.NextMarker });
assert.deepEqual(rest.CommonPrefixes.map(({ Prefix }) => Prefix), ["many/4/", "many/5/", "many/6/"]);
const url = await send("ListObjectsV2", { Prefix: "a b", EncodingType: "url" });
assert.equal(decodeURIComponent(url.Contents[0].Key), Key);
assert.deepEqual(await failure(send("ListObjectsV2", { MaxKeys: -1 })), ["InvalidMaxKeys", 400]);

// Objects in parts.
const upload = new Upload({ client, params: { Bucket, Key: "multi", Body: Buffer.alloc(11_000_000, 3) } });
assert.match((await upload.done()).ETag, /^"[0-9a-f]{32}-3"$/);
const { UploadId } = await send("CreateMultipartUpload", { Key: "parts", ContentType: "a/b" });
const one = await send("UploadPart", { Key: "parts", UploadId, PartNumber: 1, Body: Buffer.alloc(5 << 20, 1) });
const two = await send("UploadPartCopy", {
  Key: "parts", UploadId, PartNumber: 2, CopySource: `${Bucket}/stream`, CopySourceRange: "bytes=0-9",
});
const listed = (await send("ListParts", { Key: "parts", UploadId })).Parts;
assert.deepEqual(listed.map(({ PartNumber, Size }) => [PartNumber, Size]), [[1, 5 << 20], [2, 10]]);
assert.deepEqual((await send("ListMultipartUploads", {})).Uploads.map(({ Key }) => Key), ["parts"]);
const complete = (Parts) => send("CompleteMultipartUpload", { Key: "parts", UploadId, MultipartUpload: { Parts } });
assert.deepEqual(await failure(complete([{ PartNumber: 1, ETag: '"x"' }])), ["InvalidPart", 400]);
const done = await complete([{ PartNumber: 1, ETag: one.ETag }, { PartNumber: 2, ETag: two.CopyPartResult.ETag }]);
assert.match(done.ETag, /-2"$/);
assert.equal((await send("HeadObject", { Key: "parts" })).ContentLength, (5 << 20) + 10);
assert.deepEqual(await failure(complete([{ PartNumber: 1, ETag: one.ETag }])), ["NoSuchUpload", 404]);
const second = await send("GetObject", { Key: "parts", PartNumber: 2 });
const said = [second.ContentRange, second.PartsCount, (await second.Body.transformToByteArray()).length];
assert.deepEqual(said, [`bytes ${5 << 20}-${(5 << 20) + 9}/${(5 << 20) + 10}`, 2, 10]);
const headed = await send("HeadObject", { Key: "parts", PartNumber: 1 });
assert.deepEqual([headed.ContentLength, headed.PartsCount], [5 << 20, 2]);
assert.deepEqual(await failure(send("GetObject", { Key: "parts", PartNumber: 3 })), ["InvalidPartNumber", 416]);
const whole = await send("GetObject", { Key: "stream", PartNumber: 1 });
assert.deepEqual([whole.ContentLength, whole.PartsCount], [3_000_000, undefined]);
const other = await send("CreateMultipartUpload", { Key: "given up" });
await send("AbortMultipartUpload", { Key: "given up", UploadId: other.UploadId });
const gone = send("UploadPart", { Key: "given up", UploadId: other.UploadId, PartNumber: 1, Body: "x" });
assert.deepEqual(await failure(gone), ["NoSuchUpload", 404]);

// A key of the client's own.
const own = { SSECustomerAlgorithm: "AES256", SSECustomerKey: Buffer.alloc(32, 7).toString("base64"), SSECustomerKeyMD5: "" };
own.SSECustomerKeyMD5 = (await import("node:crypto")).createHash("md5").update(Buffer.alloc(32, 7)).digest("base64");
await send("PutObject", { Key: "sealed", Body: "secret", ...own });
assert.equal(await text(send("GetObject", { Key: "sealed", ...own })), "secret");
assert.deepEqual(await failure(send("GetObject", { Key: "sealed" })), ["InvalidArgument", 400]);

// What is set for the bucket.
assert.deepEqual(await failure(send("GetBucketCors", {})), ["NoSuchCORSConfiguration", 404]);
const CORSRules = [{ AllowedOrigins: ["https://page.test"], AllowedMethods: ["PUT"], AllowedHeaders: ["*"], MaxAgeSeconds: 9 }];
await send("PutBucketCors", { CORSConfiguration: { CORSRules } });
assert.deepEqual((await send("GetBucketCors", {})).CORSRules, CORSRules);
const Rules = [{ ID: "old", Status: "Enabled", Filter: { Prefix: "tmp/" }, Expiration: { Days: 3 } }];
await send("PutBucketLifecycleConfiguration", { LifecycleConfiguration: { Rules } });
assert.deepEqual((await send("GetBucketLifecycleConfiguration", {})).Rules, Rules);

// URLs that are signed for a while: what pages of other origins use, by the rules above.
const sign = (command, input, expiresIn = 60) => getSignedUrl(client, new S[command]({ Bucket, ...input }), { expiresIn });
const upUrl = await sign("PutObjectCommand", { Key: "by url" });
assert.equal((await fetch(upUrl, { method: "PUT", body: "by url" })).status, 200);
const asked = { origin: "https://page.test", "access-control-request-method": "PUT", "access-control-request-headers": "content-type" };
const preflight = await fetch(upUrl, { method: "OPTIONS", headers: asked });
assert.deepEqual([preflight.status, preflight.headers.get("access-control-allow-origin")], [204, "https://page.test"]);
const stranger = await fetch(upUrl, { method: "OPTIONS", headers: { ...asked, origin: "https://other.test" } });
assert.equal(stranger.status, 403);
const getUrl = await sign("GetObjectCommand", { Key: "by url", ResponseContentDisposition: "attachment" });
const answer = await fetch(getUrl);
assert.deepEqual([await answer.text(), answer.headers.get("content-disposition")], ["by url", "attachment"]);
const status = async (url, init) => (await fetch(url, init)).status;
assert.equal(await status(getUrl.replace("by%20url", "stream")), 403);
assert.equal(await status(getUrl, { method: "DELETE" }), 403);
assert.equal(await status(getUrl.replace("X-Amz-Expires=60", "X-Amz-Expires=600")), 403);
assert.equal(await status(getUrl.replace(/X-Amz-Date=\d{8}/, "X-Amz-Date=20200101")), 400);
const aws = new AwsClient({ accessKeyId, secretAccessKey, service: "s3", region: "auto" });
const at = `${endpoint}/${Bucket}/by%20aws4fetch`;
assert.equal((await aws.fetch(at, { method: "PUT", body: "aws4fetch" })).status, 200);
const signed = await aws.sign(new Request(`${at}?X-Amz-Expires=60`), { aws: { signQuery: true } });
assert.equal(await (await fetch(signed)).text(), "aws4fetch");
const styled = new S.S3Client({ region: "auto", endpoint, credentials, forcePathStyle: true });
assert.equal(await text(styled.send(new S.GetObjectCommand({ Bucket, Key: "by url" }))), "by url");

// All goes.
assert.deepEqual(await failure(send("DeleteBucket", {})), ["BucketNotEmpty", 409]);
const keys = (await send("ListObjectsV2", {})).Contents.map(({ Key }) => ({ Key }));
const deleted = await send("DeleteObjects", { Delete: { Objects: [...keys.slice(1), { Key: "never there" }] } });
assert.equal(deleted.Deleted.length, keys.length);
await send("DeleteObject", { Key: keys[0].Key });
await send("DeleteBucket", {});
assert.deepEqual(await failure(send("ListObjectsV2", {})), ["NoSuchBucket", 404]);
console.log("all is as it should be");
