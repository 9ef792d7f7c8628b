// RPC from a dispatcher to a script of its namespace, the dispatcher's side.
//
// A worker of its own in the dispatcher's cell: it holds what can reach another process, the application does not.
// `address` is a socket of ours that leads to one process of one script.

import { WorkerEntrypoint } from "cloudflare:workers";

/** Follows property names from a stub; the engine sends the whole path as one call. */
const follow = (/** @type {any} */ stub, /** @type {string[]} */ steps) => steps.reduce((value, step) => value[step], stub);

/** @typedef {{ address: string, entrypoint?: string, props?: Record<string, unknown> }} Way */

export class Passage extends WorkerEntrypoint {
  /** @param {Way} way */
  #script({ address, entrypoint, props }) {
    return this.env.ENGINE.connect(address).getEntrypoint("user", entrypoint, props);
  }

  /** Calls a method. @param {Way} way @param {string[]} steps @param {unknown[]} args */
  call(way, steps, args) {
    return follow(this.#script(way), steps)(...args);
  }

  /** Reads a property. @param {Way} way @param {string[]} steps */
  get(way, steps) {
    return follow(this.#script(way), steps);
  }
}

export default {};
