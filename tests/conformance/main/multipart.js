import { attempt, attempts, kind } from "./kit.js";
import { head, whole } from "./r2.js";

const MIB = 1 << 20;
const bytes = (n, value = 1) => new Uint8Array(n).fill(value);

export const multipart = {
  "an upload from start to end": async ({ env: { BUCKET }, key }) => {
    const upload = await BUCKET.createMultipartUpload(key, { httpMetadata: { contentType: "a/b" }, customMetadata: { a: "b" } });
    const invisible = await BUCKET.head(key);
    const one = await upload.uploadPart(1, bytes(5 * MIB, 1));
    const two = await upload.uploadPart(2, bytes(10, 2));
    const object = await upload.complete([one, two]);
    const joint = await BUCKET.get(key, { range: { offset: 5 * MIB - 2, length: 4 } });
    return {
      upload: { key: upload.key, uploadId: kind(upload.uploadId) },
      invisible,
      part: { ...one, etag: kind(one.etag) },
      object: { ...head(object), etag: /^[0-9a-f]{32}-2$/.test(object.etag) },
      stored: { ...head(await BUCKET.head(key)), etag: 0 },
      joint: await joint.arrayBuffer(),
    };
  },
  "an upload that is resumed": async ({ env: { BUCKET }, key }) => {
    const { uploadId } = await BUCKET.createMultipartUpload(key);
    const upload = BUCKET.resumeMultipartUpload(key, uploadId);
    const part = await upload.uploadPart(1, "content");
    return whole2(await BUCKET.resumeMultipartUpload(key, uploadId).complete([part]), BUCKET, key);
  },
  "one part again replaces it": async ({ env: { BUCKET }, key }) => {
    const upload = await BUCKET.createMultipartUpload(key);
    const old = await upload.uploadPart(1, "old");
    const part = await upload.uploadPart(1, "new");
    return attempts({
      old: () => upload.complete([old]),
      new: async () => (await upload.complete([part])).size,
      content: async () => (await BUCKET.get(key)).text(),
    });
  },
  "parts out of order are put in order": async ({ env: { BUCKET }, key }) => {
    const upload = await BUCKET.createMultipartUpload(key);
    const two = await upload.uploadPart(2, bytes(5 * MIB, 2));
    const one = await upload.uploadPart(1, bytes(5 * MIB, 1));
    return attempts({
      complete: async () => (await upload.complete([two, one])).size,
      end: async () => (await BUCKET.get(key, { range: { suffix: 1 } })).arrayBuffer(),
    });
  },
  "parts of different sizes": async ({ env: { BUCKET }, key }) => {
    const upload = await BUCKET.createMultipartUpload(key);
    const parts = [await upload.uploadPart(1, bytes(5 * MIB)), await upload.uploadPart(2, bytes(6 * MIB)), await upload.uploadPart(3, "x")];
    return attempt(async () => (await upload.complete(parts)).size);
  },
  "a last part that is larger": async ({ env: { BUCKET }, key }) => {
    const upload = await BUCKET.createMultipartUpload(key);
    const parts = [await upload.uploadPart(1, bytes(5 * MIB)), await upload.uploadPart(2, bytes(6 * MIB))];
    return attempt(async () => (await upload.complete(parts)).size);
  },
  "a part that is too small": async ({ env: { BUCKET }, key }) => {
    const upload = await BUCKET.createMultipartUpload(key);
    const parts = [await upload.uploadPart(1, "small"), await upload.uploadPart(2, "last")];
    return attempts({
      complete: () => upload.complete(parts),
      stored: () => BUCKET.head(key),
    });
  },
  "numbers of parts": async ({ env: { BUCKET }, key }) => {
    const upload = await BUCKET.createMultipartUpload(key);
    const part = async (n) => (await upload.uploadPart(n, "x")).partNumber;
    return attempts({ zero: () => part(0), negative: () => part(-1), last: () => part(10_000), more: () => part(10_001), word: () => part("a") });
  },
  "parts that are wrong": async ({ env: { BUCKET }, key }) => {
    const upload = await BUCKET.createMultipartUpload(key);
    const part = await upload.uploadPart(1, "x");
    return attempts({
      etag: () => upload.complete([{ partNumber: 1, etag: "wrong" }]),
      number: () => upload.complete([{ partNumber: 2, etag: part.etag }]),
      twice: () => upload.complete([part, part]),
      nothing: () => upload.complete(),
    });
  },
  "no parts": async ({ env: { BUCKET }, key }) => {
    const upload = await BUCKET.createMultipartUpload(key);
    return attempt(async () => (await upload.complete([])).size);
  },
  "an upload that is not": ({ env: { BUCKET }, key }) => {
    const upload = BUCKET.resumeMultipartUpload(key, "nope");
    return attempts({
      part: () => upload.uploadPart(1, "x"),
      complete: () => upload.complete([]),
      abort: () => upload.abort(),
    });
  },
  "an upload of another key": async ({ env: { BUCKET }, key }) => {
    const { uploadId } = await BUCKET.createMultipartUpload(key);
    const other = BUCKET.resumeMultipartUpload(`${key}other`, uploadId);
    return attempts({ part: () => other.uploadPart(1, "x"), complete: () => other.complete([]), abort: () => other.abort() });
  },
  "after it is complete": async ({ env: { BUCKET }, key }) => {
    const upload = await BUCKET.createMultipartUpload(key);
    const part = await upload.uploadPart(1, "x");
    await upload.complete([part]);
    return attempts({
      part: () => upload.uploadPart(2, "y"),
      complete: () => upload.complete([part]),
      abort: () => upload.abort(),
      stored: async () => (await BUCKET.get(key)).text(),
    });
  },
  "after it is aborted": async ({ env: { BUCKET }, key }) => {
    const upload = await BUCKET.createMultipartUpload(key);
    const part = await upload.uploadPart(1, "x");
    return attempts({
      abort: () => upload.abort(),
      again: () => upload.abort(),
      part: () => upload.uploadPart(2, "y"),
      complete: () => upload.complete([part]),
      stored: () => BUCKET.head(key),
    });
  },
  "kinds of parts": async ({ env: { BUCKET }, key }) => {
    const results = {};
    const values = { string: "é", blob: new Blob(["b"]), view: new Uint8Array([65]), stream: new Response("s").body, empty: "" };
    for (const [name, value] of Object.entries(values)) {
      const upload = await BUCKET.createMultipartUpload(key + name);
      results[name] = await attempt(async () => { await upload.complete([await upload.uploadPart(1, value)]); return (await BUCKET.get(key + name)).text(); });
    }
    return results;
  },
  "SSE-C": async ({ env: { BUCKET }, key }) => {
    const ssec = { ssecKey: "11".repeat(32) };
    const upload = await BUCKET.createMultipartUpload(key, ssec);
    return attempts({
      complete: async () => (await upload.complete([await upload.uploadPart(1, "secret", ssec)])).size,
      get: async () => (await BUCKET.get(key, ssec)).text(),
    });
  },
  "SSE-C: without the key, or with another": async ({ env: { BUCKET }, key }) => {
    const upload = await BUCKET.createMultipartUpload(key, { ssecKey: "11".repeat(32) });
    return attempts({
      noKey: async () => (await upload.uploadPart(1, "x")).partNumber,
      wrongKey: async () => (await upload.uploadPart(1, "x", { ssecKey: "22".repeat(32) })).partNumber,
    });
  },
  "a key that is too long": ({ env: { BUCKET } }) => attempt(() => BUCKET.createMultipartUpload("k".repeat(1025))),
  "storageClass": async ({ env: { BUCKET }, key }) => {
    const upload = await BUCKET.createMultipartUpload(key, { storageClass: "InfrequentAccess" });
    return (await upload.complete([await upload.uploadPart(1, "x")])).storageClass;
  },
};

async function whole2(completed, bucket, key) {
  const { etag, ...rest } = await whole(await bucket.get(key));
  return { completed: completed.size, rest, etag };
}
