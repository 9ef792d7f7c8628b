// What `limited.js` is to a script, for code that is loaded while a script runs: it has no binding behind which counting begins.

import { WorkerEntrypoint, abortIsolate } from "cloudflare:workers";
import count from "skep-internal:limits";

count({});

/** Lets the engine forget this isolate. */
export class Goes extends WorkerEntrypoint {
  fetch() {
    abortIsolate();
  }
}

export const { handled } = /** @type {any} */ (globalThis).__skep();
