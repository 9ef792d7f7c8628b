// A script of a dispatch namespace, as its dispatcher calls it.
//
// An exception goes back to the dispatcher, which may catch it; the engine would only say "Internal Server Error".

const THROWN = "x-skep-thrown";
const OUTBOUND = "x-skep-outbound";
const SUBREQUESTS = "x-skep-subrequests";

/**
 * @param {(request: Request, env: any, ctx: any) => any} call the application
 * @param {(error: any) => void} report logs an exception
 * @param {<T>(token: string, then: () => T) => T} carry calls `then` with its requests to the outside marked
 * @param {<T>(ctx: any, limit: number, then: () => T) => T} within calls `then` with so many requests to others at most
 */
export const dispatched = (call, report, carry, within) => ({
  async fetch(/** @type {Request} */ request, /** @type {any} */ env, /** @type {any} */ ctx) {
    try {
      const token = request.headers.get(OUTBOUND);
      const most = request.headers.get(SUBREQUESTS);
      if (token === null && most === null) return await call(request, env, ctx);
      const headers = new Headers(request.headers);
      headers.delete(OUTBOUND);
      headers.delete(SUBREQUESTS);
      const plain = () => call(new Request(request, { headers }), env, ctx);
      const limited = most === null ? plain : () => within(ctx, Number(most), plain);
      return await (token === null ? limited() : carry(token, limited));
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
 * A script's class as its dispatcher calls it over RPC, where there is an outbound worker or a limit of the call's own:
 * requests that a method makes to the outside are marked and counted. Skep gives both in the props, where the application
 * does not see them.
 * @param {any} main
 * @param {<T>(token: string, then: () => T) => T} carry
 * @param {<T>(ctx: any, limit: number, then: () => T) => T} within
 */
export const called = (main, carry, within) =>
  class extends main {
    constructor(/** @type {any} */ ctx, /** @type {any} */ env) {
      const { outbound, subrequests } = ctx.props;
      const marked = (/** @type {() => any} */ then) => (outbound === undefined ? then() : carry(outbound, then));
      const enter = (/** @type {() => any} */ then) =>
        marked(subrequests === undefined ? then : () => within(ctx, subrequests, then));
      Object.defineProperty(ctx, "props", { value: {} });
      super(ctx, env);
      return new Proxy(this, {
        get(target, property) {
          const value = enter(() => Reflect.get(target, property));
          if (typeof value !== "function" || value === /** @type {any} */ (Object.prototype)[property]) return value;
          return (/** @type {any[]} */ ...args) => enter(() => value.apply(target, args));
        },
      });
    }
  };
