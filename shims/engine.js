// What of the engine is held by name by the modules that count (`limits.js`, `stubs.js`), in a script's isolate.
//
// The inside of the engine: a module of the application with the name of one of the engine's would go before that. Code that is loaded
// while a script runs has `loaded-engine.js` in this place.

import asyncHooks from "node-internal:async_hooks";
import entrypoints from "cloudflare-internal:workers";
import sockets from "cloudflare-internal:sockets";
import innerEnv from "cloudflare-internal:env";
import util from "node-internal:util";

export { entrypoints, sockets };
export const { AsyncLocalStorage } = asyncHooks;
/** Whether a value is a `Proxy`. @type {(value: unknown) => boolean} */
export const isProxy = util.isProxy.bind(util);
/** The application's `env`, where it cannot be seen otherwise. */
export const environment = () => innerEnv.getCurrentEnv();
