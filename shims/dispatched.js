// A script of a dispatch namespace, as its dispatcher calls it.
//
// An exception goes back to the dispatcher, which may catch it; the engine would only say "Internal Server Error".

const THROWN = "x-skep-thrown";
const OUTBOUND = "x-skep-outbound";

/**
 * @param {(request: Request, env: any, ctx: any) => any} call the application
 * @param {(error: any) => void} report logs an exception
 * @param {<T>(token: string, then: () => T) => T} carry calls `then` with its requests to the outside marked
 */
export const dispatched = (call, report, carry) => ({
  async fetch(/** @type {Request} */ request, /** @type {any} */ env, /** @type {any} */ ctx) {
    try {
      const token = request.headers.get(OUTBOUND);
      if (token === null) return await call(request, env, ctx);
      const headers = new Headers(request.headers);
      headers.delete(OUTBOUND);
      return await carry(token, () => call(new Request(request, { headers }), env, ctx));
    } catch (error) {
      report(error);
      // So that the event's outcome is an exception, as it is.
      ctx.waitUntil(Promise.reject(error));
      const { name, message, stack } = error instanceof Error ? error : { name: "Error", message: String(error), stack: "" };
      const thrown = encodeURIComponent(JSON.stringify({ name, message, stack: stack?.slice(0, 4096) }));
      return new Response(null, { status: 500, headers: { [THROWN]: thrown } });
    }
  },
});

/**
 * A script's class as its dispatcher calls it over RPC, where there is an outbound worker: requests that a method makes
 * to the outside are marked. Skep gives the mark in the props, where the application does not see it.
 * @param {any} main @param {<T>(token: string, then: () => T) => T} carry
 */
export const called = (main, carry) =>
  class extends main {
    constructor(/** @type {any} */ ctx, /** @type {any} */ env) {
      const { outbound } = ctx.props;
      Object.defineProperty(ctx, "props", { value: {} });
      super(ctx, env);
      return new Proxy(this, {
        get(target, property) {
          const value = carry(outbound, () => Reflect.get(target, property));
          if (typeof value !== "function" || value === /** @type {any} */ (Object.prototype)[property]) return value;
          return (/** @type {any[]} */ ...args) => carry(outbound, () => value.apply(target, args));
        },
      });
    }
  };
