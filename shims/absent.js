// What answers for a worker that a binding names and that does not run. Status and text are wrangler's.

import { WorkerEntrypoint } from "cloudflare:workers";

/** What the engine looks for before it calls anything. @type {Set<string | symbol>} */
const HANDLERS = new Set(
  ["connect", "tail", "trace", "tailStream", "scheduled", "alarm", "test", "self"].concat(
    ["webSocketMessage", "webSocketClose", "webSocketError"],
  ),
);

export default class extends WorkerEntrypoint {
  constructor(/** @type {any} */ ctx, /** @type {any} */ env) {
    super(ctx, env);
    return new Proxy(this, {
      get(target, name) {
        if (HANDLERS.has(name) || Reflect.has(target, name)) return Reflect.get(target, name);
        throw new Error(env.SAID);
      },
    });
  }

  fetch() {
    const { SAID, THROWS } = /** @type {any} */ (this.env);
    if (THROWS) throw new Error(SAID);
    return new Response(SAID, { status: 503 });
  }
}
