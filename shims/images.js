// The Images binding: the engine's own, without what it would ask of hosted images, which Skep does not have.
//
// A wrapped binding. Inner binding: `fetcher`, the server that changes images.

import makeBinding from "cloudflare-internal:images-api";

const refused = () => {
  const error = new Error("IMAGES_HOSTED_ERROR 9431: hosted images (env.IMAGES.hosted) are not supported by Skep; keep them in R2");
  throw Object.assign(error, { code: 9431 });
};
const hosted = Object.freeze({ image: refused, upload: refused, list: refused, createDirectUpload: refused });

/** @param {{ fetcher: object }} env */
export default (env) => Object.defineProperty(makeBinding(env), "hosted", { get: () => hosted });
