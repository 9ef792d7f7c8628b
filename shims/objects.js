// Durable Objects across processes, the owner's side: other cells reach this cell's objects through it.
//
// The caller names the object by id, and by name where it has one, so that `ctx.id.name` is known here too.
// Which namespace is meant comes from `ctx.props.binding`, which the caller cannot touch.

import { WorkerEntrypoint } from "cloudflare:workers";

/** Follows property names from a stub; the engine sends the whole path as one call. */
const follow = (/** @type {any} */ stub, /** @type {string[]} */ steps) => steps.reduce((value, step) => value[step], stub);

export class ObjectGateway extends WorkerEntrypoint {
  /** @param {string} id @param {string | undefined} name */
  #stub(id, name) {
    const namespace = this.env[this.ctx.props.binding];
    return namespace.get(name === undefined ? namespace.idFromString(id) : namespace.idFromName(name));
  }

  /** Calls a method. @param {string} id @param {string | undefined} name @param {string[]} steps @param {unknown[]} args */
  call(id, name, steps, args) {
    return follow(this.#stub(id, name), steps)(...args);
  }

  /** Reads a property. @param {string} id @param {string | undefined} name @param {string[]} steps */
  get(id, name, steps) {
    return follow(this.#stub(id, name), steps);
  }

  /** `stub.fetch()`, WebSockets included. @param {Request} request */
  fetch(request) {
    const headers = new Headers(request.headers);
    const id = headers.get("x-skep-object-id") ?? "";
    const name = headers.get("x-skep-object-name");
    headers.delete("x-skep-object-id");
    headers.delete("x-skep-object-name");
    const stub = this.#stub(id, name === null ? undefined : decodeURIComponent(name));
    return stub.fetch(new Request(request, { headers }));
  }
}

export default {};
