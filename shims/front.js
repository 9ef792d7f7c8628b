// A script with static assets as other cells see it: a `fetch()` may be for an asset, everything else is for
// the script. `ROUTER` decides: it answers with the asset, or with a header that says "run the worker".

import { WorkerEntrypoint } from "cloudflare:workers";

export class Front extends WorkerEntrypoint {
  constructor(/** @type {any} */ ctx, /** @type {any} */ env) {
    super(ctx, env);
    const fetch = async (/** @type {Request} */ request) => {
      const { method, headers, url } = request;
      const answer = await env.ROUTER.fetch(url, { method, headers, redirect: "manual" });
      return answer.headers.has("x-skep-run-worker") ? env.USER.fetch(request) : answer;
    };
    return new Proxy(this, {
      get(target, property) {
        if (property === "fetch") return fetch;
        if (typeof property !== "string" || Reflect.has(target, property)) return Reflect.get(target, property);
        return Reflect.get(env.USER, property);
      },
    });
  }
}

export default {};
