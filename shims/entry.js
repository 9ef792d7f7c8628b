// The main module of every module worker: the application's module, and the entrypoint that the edge calls.
//
// The engine says only "Internal Server Error" of an exception that leaves `fetch`, and logs it without its
// stack. This entrypoint runs in the application's own isolate, reports the stack and lets the exception go.
// `skep:app` is replaced by the name of the application's main module.

import * as app from "skep:app";
export * from "skep:app";

// Not `export { default } from`: that would fail to link where there is none.
const main = /** @type {any} */ (app).default;
export default main;

/** Logs an exception in a form that the log reader takes apart. */
const report = (/** @type {any} */ error) => {
  const { name, message, stack } = error instanceof Error ? error : { name: "", message: String(error), stack: "" };
  console.error("\u0001skep-exception:" + JSON.stringify({ name, message, stack }));
};

/**
 * The exception without what the engine has noted of its own failures. Of a connection that was lost somewhere it would make the visitor's,
 * which it closes without an answer; of an object that has too much to do, an answer that is no exception.
 */
const plain = (/** @type {any} */ error) => {
  if (!(error instanceof Error) || !("retryable" in error || "overloaded" in error)) return error;
  const { name, message, stack } = error;
  return Object.defineProperties(new Error(message), {
    name: { value: name, configurable: true, writable: true },
    stack: { value: stack, configurable: true, writable: true },
  });
};

/** @param {Request} request @param {any} env @param {any} ctx */
const call = (request, env, ctx) => {
  const handler = typeof main === "function" ? new main(ctx, env) : main;
  if (typeof handler?.fetch !== "function") throw new Error("Handler does not export a fetch() function.");
  return handler.fetch(request, env, ctx);
};

// `visited` comes before this module where it is made: it lets an invocation go on after its response for so long only. So do
// `watch` and `sent`, in a script with buckets.

/** Calls the application for a visitor. @param {Request} request @param {any} env @param {any} ctx */
const visit = async (request, env, ctx) => {
  watch(env);
  return sent(request, await /** @type {any} */ (visited)(request, ctx, () => call(request, env, ctx)));
};

export const skepEdge = {
  async fetch(/** @type {Request} */ request, /** @type {any} */ env, /** @type {any} */ ctx) {
    try {
      return await visit(request, env, ctx);
    } catch (error) {
      report(error);
      throw plain(error);
    }
  },
};

/**
 * Collects garbage, which is an answer to being asked. The engine has no function for it, but before it says that there is no
 * room for a buffer it looks for room everywhere. There is none of this size on any machine.
 */
export const skepCollect = {
  fetch(/** @type {Request} */ request, /** @type {any} */ _, /** @type {any} */ ctx) {
    // As a visit: it may be the first one, before which no bounds are set.
    return /** @type {any} */ (visited)(request, ctx, () => {
      if (request.url.endsWith("/ready")) return new Response(null, { status: 204 });
      try {
        new ArrayBuffer(2 ** 52);
      } catch {}
      return new Response(null, { status: 204 });
    });
  },
};

/**
 * Calls `email()`. The message is made here: what an application hands to it stays in this isolate, and `setReject()` is heard
 * before the handler's end is. What it stands for is with the worker that has the events.
 */
export const skepEmail = {
  async email(/** @type {any} */ message, /** @type {any} */ env, /** @type {any} */ ctx) {
    const handler = typeof main === "function" ? new main(ctx, env) : main;
    if (typeof handler?.email !== "function") throw new TypeError('The RPC receiver does not implement the method "email".');
    const { from, to, raw, rawSize, headers, canBeForwarded } = message;
    /** @type {Promise<void>[]} */
    const rejected = [];
    const replied = async (/** @type {any} */ reply) => {
      const text = reply[Symbol.for("skep.raw")];
      if (text === undefined) return message.reply(reply);
      return message.reply({ from: reply.from, to: reply.to, raw: new Uint8Array(await new Response(text).arrayBuffer()) });
    };
    try {
      await handler.email({
        from, to, raw, rawSize, headers, canBeForwarded,
        setReject: (/** @type {string} */ reason) => void rejected.push(message.setReject(String(reason))),
        forward: async (/** @type {string} */ recipient, /** @type {Headers | undefined} */ more) =>
          message.forward(recipient, more && new Headers(more)),
        reply: replied,
      }, env, ctx);
    } catch (error) {
      report(error);
      throw error;
    } finally {
      await Promise.all(rejected);
    }
  },
};

/** An outbound worker as Skep calls it: what the dispatcher said is on `env`. */
export const skepOutbound = {
  async fetch(/** @type {Request} */ request, /** @type {any} */ env, /** @type {any} */ ctx) {
    const headers = new Headers(request.headers);
    const said = JSON.parse(decodeURIComponent(headers.get("x-skep-outbound") ?? "{}"));
    headers.delete("x-skep-outbound");
    return skepEdge.fetch(new Request(request, { headers }), { ...env, ...said }, ctx);
  },
};

/** The names of an object's own functions. @param {any} object */
const methods = (object) =>
  object == null ? [] : Object.getOwnPropertyNames(object).filter((name) => {
    const property = Object.getOwnPropertyDescriptor(object, name);
    return name !== "constructor" && typeof property?.value === "function";
  });

/** What an export handles. @param {any} value */
const handlers = (value) => (typeof value === "function" ? methods(value.prototype) : methods(value));

/** Says what the application exports; called only where code is tried out. */
export const skepExports = {
  fetch() {
    const named = Object.entries(app).filter(([name, value]) => name !== "default" && value != null);
    return Response.json({
      default: handlers(main),
      named: named
        .filter(([, value]) => typeof value === "function" || typeof value === "object")
        .map(([name, value]) => ({ name, isClass: typeof value === "function", handlers: handlers(value) })),
    });
  },
};
