// Requests to the outside of a script whose dispatcher has an outbound worker: they carry what the dispatcher said
// of it. Skep sends all of them to the outbound worker, also those without this mark.

import { AsyncLocalStorage } from "node:async_hooks";

const OUTBOUND = "x-skep-outbound";

/** @type {AsyncLocalStorage<string>} */
const current = new AsyncLocalStorage();
const plain = globalThis.fetch;

globalThis.fetch = function fetch(/** @type {RequestInfo | URL} */ input, /** @type {RequestInit | undefined} */ init) {
  const token = current.getStore();
  if (token === undefined) return plain(input, init);
  const request = new Request(input, init);
  request.headers.set(OUTBOUND, token);
  return plain(request);
};

/** @template T @param {string} token @param {() => T} then @returns {T} */
export const carry = (token, then) => current.run(token, then);
