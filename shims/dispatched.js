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
