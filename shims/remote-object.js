// Durable Objects across processes, the caller's side.
//
// A binding with `script_name` is a real namespace here, with the owner's unique key, so ids and names are
// the engine's own; each of its objects is a proxy that passes every call on to the owner's `ObjectGateway`.

import { DurableObject } from "cloudflare:workers";

/** A callable, awaitable path of property names below the remote object. */
const path = (/** @type {any} */ gateway, /** @type {string} */ id, /** @type {string | undefined} */ name, /** @type {string[]} */ steps) =>
  new Proxy(function () {}, {
    get(_, step) {
      if (step === "then") {
        return (/** @type {any[]} */ ...settle) => gateway.get(id, name, steps).then(...settle);
      }
      return typeof step === "string" ? path(gateway, id, name, [...steps, step]) : undefined;
    },
    apply: (_, __, args) => gateway.call(id, name, steps, args),
  });

/** A Durable Object class whose objects live in another cell. @param {string} owner the gateway's binding */
export const remoteObject = (owner) =>
  class extends DurableObject {
    constructor(/** @type {DurableObjectState} */ ctx, /** @type {any} */ env) {
      super(ctx, env);
      const id = ctx.id.toString();
      const name = ctx.id.name;
      const gateway = env[owner];
      const fetch = (/** @type {any} */ input, /** @type {any} */ init) => {
        const request = new Request(input, init);
        request.headers.set("x-skep-object-id", id);
        if (name !== undefined) request.headers.set("x-skep-object-name", encodeURIComponent(name));
        return gateway.fetch(request);
      };
      return new Proxy(this, {
        get(target, property) {
          if (property === "fetch") return fetch;
          if (typeof property !== "string" || Reflect.has(target, property)) return Reflect.get(target, property);
          return path(gateway, id, name, [property]);
        },
      });
    }
  };
