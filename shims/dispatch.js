// The dispatch namespace binding: `env.DISPATCHER.get(name)` is a script of the namespace.
// https://developers.cloudflare.com/cloudflare-for-platforms/workers-for-platforms/
//
// A wrapped binding. Inner bindings: `fetcher`, which leads to Skep, and `passage`, for RPC. Which script is meant
// travels in a header that Skep takes off; what came of it comes back in one that no script can set.

/**
 * @typedef {{ limits?: { cpuMs?: number, subRequests?: number }, outbound?: Record<string, unknown> }} Options
 * @typedef {{ fetch(request: Request): Promise<Response> }} Fetcher
 * @typedef {{ fetcher: Fetcher, passage: any }} Env
 * @typedef {Options & { name: string, args?: Record<string, unknown> }} Said
 * @typedef {{ name: string, message: string, stack?: string }} Thrown
 */

import { withSpan } from "cloudflare-internal:tracing-helpers";
import free from "skep-internal:free";

const WANTED = "x-skep-dispatch";
const THROWN = "x-skep-thrown";
/** What Skep calls the content of an answer, if the dispatcher may have it sent; `sendfile.js` finds it on the answer's stream. */
const SENDFILE = "x-skep-sendfile";
const CONTENT = Symbol.for("skep.content");

const BUILT_IN = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };

/** The error that was thrown on the other side. @param {string} header */
const revive = (header) => {
  const { name, message, stack } = /** @type {Thrown} */ (JSON.parse(decodeURIComponent(header)));
  const error = new (/** @type {any} */ (BUILT_IN)[name] ?? Error)(message);
  if (stack) error.stack = stack;
  return Object.assign(error, { remote: true });
};

/** An answer whose stream has its content's name. @param {Response} response @param {string} name */
const named = (response, name) => {
  const plain = new Response(response.body, response);
  plain.headers.delete(SENDFILE);
  Object.defineProperty(plain, "url", { value: response.url, configurable: true });
  Object.defineProperty(/** @type {ReadableStream} */ (plain.body), CONTENT, { value: name });
  return plain;
};

/** A script: `fetch`, and any method over RPC. */
class Script {
  #env;
  #said;

  /** @param {Env} env @param {Said} said */
  constructor(env, said) {
    this.#env = env;
    this.#said = said;
  }

  /** @param {Request} request @param {object} how */
  async #send(request, how) {
    request.headers.set(WANTED, encodeURIComponent(JSON.stringify({ ...this.#said, ...how })));
    const response = await withSpan("wfp_get", () => this.#env.fetcher.fetch(request));
    const thrown = response.headers.get(THROWN);
    if (thrown !== null) throw revive(thrown);
    const content = response.headers.get(SENDFILE);
    return content === null ? response : named(response, content);
  }

  /** @param {RequestInfo} input @param {RequestInit} [init] */
  fetch(input, init) {
    return this.#send(new Request(input, init), {});
  }

  /** A way to the script's process, for one call. */
  async way() {
    const response = await this.#send(new Request("http://skep/"), { rpc: true });
    return response.json();
  }

  get passage() {
    return this.#env.passage;
  }
}

/** A callable, awaitable path of property names below a script. @param {Script} script @param {string[]} steps */
const path = (script, steps) =>
  new Proxy(function () {}, {
    get(_, step) {
      if (step === "then") {
        return (/** @type {any[]} */ ...settle) => script.way().then((way) => script.passage.get(way, steps)).then(...settle);
      }
      return typeof step === "string" ? path(script, [...steps, step]) : undefined;
    },
    apply: (_, __, args) => result(script.way().then((way) => script.passage.call(way, steps, args))),
  });

/**
 * A promise whose result can be used before it is there, as that of a call to a service binding: property names are
 * kept until something is called or awaited, as a property of a stub is itself awaitable.
 * @param {Promise<any>} promise @param {string[]} [steps] @returns {any}
 */
const result = (promise, steps = []) => {
  const follow = (/** @type {any} */ value, /** @type {string[]} */ path) => path.reduce((value, step) => value[step], value);
  return new Proxy(function () {}, {
    get(_, step) {
      if (step === "then" || step === "catch" || step === "finally") {
        const end = steps.length > 0 ? promise.then((value) => follow(value, steps)) : promise;
        return (/** @type {any[]} */ ...settle) => (/** @type {any} */ (end))[step](...settle);
      }
      return typeof step === "string" ? result(promise, [...steps, step]) : undefined;
    },
    apply: (_, __, args) => {
      const last = /** @type {string} */ (steps.at(-1));
      return result(promise.then((value) => (steps.length > 0 ? follow(value, steps.slice(0, -1))[last](...args) : value(...args))));
    },
  });
};

class DispatchNamespace {
  #env;

  /** @param {Env} env */
  constructor(env) {
    this.#env = env;
  }

  /**
   * A script of the namespace. Whether it exists is found out by the first call.
   * @param {string} name @param {Record<string, unknown>} [args] @param {Options} [options]
   */
  get(name, args, options) {
    if (typeof name !== "string") {
      throw new TypeError("Failed to execute 'get' on 'DispatchNamespace': parameter 1 is not of type 'string'.");
    }
    const { limits, outbound } = options ?? {};
    const script = new Script(this.#env, { name, args, limits, outbound });
    return new Proxy(script, {
      get(_, property) {
        if (property === "fetch") return (/** @type {any[]} */ ...args) => script.fetch(...args);
        // A stub is no promise.
        return typeof property === "string" && property !== "then" ? path(script, [property]) : undefined;
      },
    });
  }
}

/** @param {Env} env */
export default (env) => {
  // The way that a call needs was counted.
  free.add(env.passage);
  return new DispatchNamespace(env);
};
