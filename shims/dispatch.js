// The dispatch namespace binding: `env.DISPATCHER.get(name)` is a script of the namespace.
// https://developers.cloudflare.com/cloudflare-for-platforms/workers-for-platforms/
//
// A wrapped binding. Inner binding: `fetcher`, which leads to Skep. Which script is meant travels in a header that
// Skep takes off; what came of it comes back in one that no script can set.

/**
 * @typedef {{ limits?: { cpuMs?: number, subRequests?: number }, outbound?: Record<string, unknown> }} Options
 * @typedef {{ fetch(request: Request): Promise<Response> }} Fetcher
 * @typedef {{ name: string, message: string, stack?: string }} Thrown
 */

const WANTED = "x-skep-dispatch";
const THROWN = "x-skep-thrown";

const BUILT_IN = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };

/** The error that was thrown on the other side. @param {string} header */
const revive = (header) => {
  const { name, message, stack } = /** @type {Thrown} */ (JSON.parse(decodeURIComponent(header)));
  const error = new (/** @type {any} */ (BUILT_IN)[name] ?? Error)(message);
  if (stack) error.stack = stack;
  return Object.assign(error, { remote: true });
};

class Script {
  #fetcher;
  #wanted;

  /** @param {Fetcher} fetcher @param {string} wanted */
  constructor(fetcher, wanted) {
    this.#fetcher = fetcher;
    this.#wanted = wanted;
  }

  /** @param {RequestInfo} input @param {RequestInit} [init] */
  async fetch(input, init) {
    const request = new Request(input, init);
    request.headers.set(WANTED, this.#wanted);
    const response = await this.#fetcher.fetch(request);
    const thrown = response.headers.get(THROWN);
    if (thrown !== null) throw revive(thrown);
    return response;
  }
}

class DispatchNamespace {
  #fetcher;

  /** @param {Fetcher} fetcher */
  constructor(fetcher) {
    this.#fetcher = fetcher;
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
    return new Script(this.#fetcher, encodeURIComponent(JSON.stringify({ name, args, limits, outbound })));
  }
}

/** @param {{ fetcher: Fetcher }} env */
export default ({ fetcher }) => new DispatchNamespace(fetcher);
