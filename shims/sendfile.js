// Has Skep send what a script only passes on: a response whose body is an object's of R2, as it came, becomes one that names it.
//
// Nothing of it goes through this process, which would hold 16 pieces of it for as long as the visitor takes. A stream is its
// object's, or it is another one: whoever reads, tees, transforms or clones gets a stream that is not known here. The same goes for what
// a script of a dispatch namespace has sent this way to its dispatcher (`dispatch.js`).
//
// `""`, `1` and `false` are replaced by the name of a bucket's binding, if there is one, by the bytes of the smallest content that is
// worth it, and by whether there is a dispatch namespace.

const BUCKET = "";
const LEAST = 1;
const DISPATCHES = false;
const HEADER = "x-skep-sendfile";
/** Where the content of a dispatched answer has its name. */
const CONTENT = Symbol.for("skep.content");

const { apply, defineProperty, getOwnPropertyDescriptor, getPrototypeOf } = Reflect;
const { then } = Promise.prototype;
const [PlainPromise, PlainResponse] = [Promise, Response];

/** What Skep calls the contents that came, by their streams. @type {WeakMap<object, string>} */
const contents = new WeakMap();
const [known, remember] = [contents.get.bind(contents), contents.set.bind(contents)];
/** Whether buckets are watched, and whether anything can have come. */
let [watched, any] = [BUCKET === "", DISPATCHES];

/** What `get` gave. @param {any} object */
const note = (object) => {
  if (object === null || !(object.size >= LEAST) || object.ssecKeyMd5 !== undefined) return;
  const { offset = 0, length = object.size - offset } = object.range ?? {};
  const stream = object.body;
  if (stream === undefined || length < LEAST) return;
  remember(stream, `${object.version}.${offset}.${length}`);
  any = true;
};

/** A `get` that failed is the script's to see. */
const ignore = () => {};

/** Takes note of what buckets give from now on. @param {any} env */
export const watch = (env) => {
  if (watched) return;
  const bucket = env[BUCKET];
  // A parameter of an outbound worker may have the binding's name.
  if (typeof bucket !== "object" || bucket === null) return;
  const prototype = getPrototypeOf(bucket);
  const property = getOwnPropertyDescriptor(prototype, "get");
  const native = property?.value;
  if (typeof native !== "function") return;
  watched = true;
  const { get } = {
    /** @param {any[]} rest */
    get(...rest) {
      const got = apply(native, this, rest);
      if (got instanceof PlainPromise) apply(then, got, [note, ignore]);
      return got;
    },
  };
  defineProperty(prototype, "get", { ...property, value: get });
};

/**
 * What to answer a request with instead of `response`.
 * @param {Request} request
 * @param {any} response
 */
export const sent = (request, response) => {
  if (!any || request.method === "HEAD" || !(response instanceof PlainResponse)) return response;
  const stream = response.body;
  const content = stream === null ? undefined : known(stream) ?? /** @type {any} */ (stream)[CONTENT];
  // What has an encoding is the engine's to encode, or not.
  if (content === undefined || response.bodyUsed || stream?.locked || response.headers.has("content-encoding")) return response;
  const named = new PlainResponse(null, response);
  named.headers.set(HEADER, content);
  stream?.cancel().catch(ignore);
  return named;
};
