// What `engine.js` is in a script's isolate, in one of code that is loaded while a script runs. There the inside of the engine cannot be
// imported, so this comes by its public modules; `loading.js` lets no module of that code have a name of theirs.
//
// `connect` and `waitUntil` as functions of modules cannot be replaced from here: connections are counted where Skep opens
// them for the cell (`fleet/guard.rs`), `ctx.waitUntil` is bounded.

import { AsyncLocalStorage } from "node:async_hooks";
import * as workers from "cloudflare:workers";

const { apply, construct, defineProperty } = Reflect;
const Plain = Proxy;
const { revocable } = Plain;

/** All proxies that there are: no other way leads to one. @type {WeakSet<object>} */
const proxies = new WeakSet();
const remember = proxies.add.bind(proxies);
// The engine's own, which were made before: `env` and `exports` are.
for (const value of Object.values(workers)) if (typeof value === "object" && value !== null) remember(value);

const made = new Plain(Plain, {
  __proto__: /** @type {any} */ (null),
  construct(target, args, newTarget) {
    const proxy = construct(target, args, newTarget);
    remember(proxy);
    return proxy;
  },
});
remember(made);
defineProperty(Plain, "revocable", {
  value: function (/** @type {any[]} */ ...args) {
    const both = apply(revocable, Plain, args);
    remember(both.proxy);
    return both;
  },
  writable: true,
  configurable: true,
});
defineProperty(globalThis, "Proxy", { value: made, writable: true, configurable: true });

export { AsyncLocalStorage };
export const entrypoints = { ...workers };
export const sockets = {};
/** @type {(value: any) => boolean} */
export const isProxy = proxies.has.bind(proxies);
export const environment = () => undefined;
