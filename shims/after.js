// What an invocation does after its answer: it is ended after a while, as it is at Cloudflare.
// https://developers.cloudflare.com/workers/runtime-apis/context/#waituntil
//
// What `waitUntil` gets races with the end of that time; when nothing is waited for any more, the engine cancels what is left. When
// a visitor's response has ended only Skep knows, so it is asked. An answer to another script or an object has been given when the
// handler has returned; if it has a body that may still be on its way, there is more time, and so there is for events. Which invocation it is for stands in the asynchronous context, and, as an
// application can step out of that, at the visitor's context itself. Who has neither has the time from now on.

/**
 * @typedef {{ ctx: any, genuine: boolean | undefined, kind: string, result: any, request: Request | undefined,
 *             over: Promise<void> | undefined }} Scope
 * @typedef {{ fetch(url: string): Promise<Response> }} Fetcher
 */

/** How often to ask whether a response has ended, where somebody waits for that. */
const [ASK_FIRST, ASK_AGAIN] = [1_000, 5_000];
/** Milliseconds that events have, and what follows an answer whose end cannot be seen. */
const LONG = 900_000;
const CANCELLED =
  "waitUntil() tasks did not complete within the allowed time after invocation end and have been cancelled. " +
  "See: https://developers.cloudflare.com/workers/runtime-apis/context/#waituntil";

const { apply, getOwnPropertyDescriptor } = Reflect;
const PlainPromise = Promise;
const race = Promise.race.bind(Promise);
const resolved = Promise.resolve.bind(Promise);
const { then } = Promise.prototype;
const [later, forget] = [setTimeout.bind(globalThis), clearTimeout.bind(globalThis)];
const warn = console.warn.bind(console);
const PlainResponse = Response;
const header = Headers.prototype.get;
/** Old compatibility dates have it on each request. */
const headers = getOwnPropertyDescriptor(Request.prototype, "headers")?.get;
const bodyOf = getOwnPropertyDescriptor(Response.prototype, "body")?.get;
/** Ours, and the engine's that it is in the place of. @type {WeakMap<Function, Function>} */
const plains = new WeakMap();
const [plain, keep] = [plains.get.bind(plains), plains.set.bind(plains)];

/** Returns what it gets, so that a private field can be put on that. */
const Same = /** @type {any} */ (function (/** @type {object} */ it) {
  return it;
});

/** The invocation of a visitor's context, where no application can read or write it. */
class Visit extends Same {
  #scope;

  /** @param {object} ctx @param {Scope} scope */
  constructor(ctx, scope) {
    super(ctx);
    this.#scope = scope;
  }

  /** @param {any} ctx @returns {Scope | undefined} */
  static of(ctx) {
    return typeof ctx === "object" && ctx !== null && #scope in ctx ? ctx.#scope : undefined;
  }
}

/** A header of the request that the engine made. @param {any} request @param {string} name @returns {string | null} */
export const headerOf = (request, name) => {
  const said = headers === undefined ? request.headers : apply(headers, request, []);
  return apply(header, said, [name]);
};

/** Whether a response may still be on its way when it has been returned. @param {any} response */
const isOpen = (response) => {
  if (!(response instanceof PlainResponse)) return true;
  return (bodyOf === undefined ? response.body : apply(bodyOf, response, [])) !== null;
};

/** @param {number} ms @returns {Promise<void>} */
const sleep = (ms) => new PlainPromise((resolve) => void later(resolve, ms));

/** The engine's function that ours is in the place of. @param {Function} ours */
export const plainOf = (ours) => plain(ours);

/** This context is of that invocation, of a visitor's request. @param {object} ctx @param {Scope} scope */
export const visit = (ctx, scope) => {
  if (Visit.of(ctx) === undefined) new Visit(ctx, scope);
};

/**
 * Makes a `waitUntil` that ends in time.
 * @param {() => Scope | undefined} current the invocation whose asynchronous context this is
 * @param {(ctx: any) => boolean} isGenuine whether the engine made a context
 * @param {number} after milliseconds after the response
 * @param {Fetcher | undefined} responses says which responses have not ended; loaded code has none, and none of its responses is a visitor's
 */
export const bounding = (current, isGenuine, after, responses) => {
  const ask = responses?.fetch;

  /** Whether Skep still answers a request. @param {string} ray */
  const answers = async (ray) => {
    try {
      const response = await apply(ask, responses, [`http://responses.skep.internal/${ray}`]);
      return response.status === 202;
    } catch {
      return false;
    }
  };

  /** Resolves after that time, if a promise does not settle before. @param {Promise<any>} promise @returns {Promise<void>} */
  const end = (promise) =>
    new PlainPromise((resolve) => {
      const timer = later(() => {
        warn(CANCELLED);
        resolve(undefined);
      }, after);
      const settled = () => forget(timer);
      apply(then, promise, [settled, settled]);
    });

  /** Waits until an invocation that another script began, or an event, may do no more. @param {Scope} scope */
  const called = async (scope) => {
    // Its handler may not have returned yet.
    await undefined;
    let { result } = scope;
    scope.result = undefined;
    if (result instanceof PlainPromise) {
      result = await new PlainPromise((resolve) => {
        apply(then, result, [(/** @type {any} */ value) => resolve([value]), () => resolve([])]);
      });
      [result] = result;
    }
    await sleep(scope.kind === "method" || scope.kind === "fetch" && !isOpen(result) ? after : LONG);
    warn(CANCELLED);
  };

  /** Waits until an invocation that a request began may do no more. @param {Scope} scope @param {any} request */
  const over = async (scope, request) => {
    const ray = responses === undefined ? null : headerOf(request, "cf-ray");
    if (ray === null) return called(scope);
    let pause = ASK_FIRST;
    do {
      await sleep(pause < after ? pause : after);
      pause = ASK_AGAIN;
    } while (await answers(ray));
    await sleep(after);
    warn(CANCELLED);
  };

  /** When a promise that `ctx` or nobody is to wait for is given up, if ever. @param {any} ctx @param {Promise<any>} promise */
  const endOf = (ctx, promise) => {
    const scope = current();
    const visited = scope?.request === undefined ? (Visit.of(ctx) ?? Visit.of(scope?.ctx)) : scope;
    if (visited !== undefined) return (visited.over ??= over(visited, visited.request));
    if (scope !== undefined && (scope.genuine ??= isGenuine(scope.ctx))) {
      // What an object does ends with the object.
      return scope.kind === "object" ? undefined : (scope.over ??= called(scope));
    }
    return end(promise);
  };

  return (/** @type {Function} */ plain) => {
    const bounded = function (/** @type {any} */ promise) {
      const self = /** @type {any} */ (this);
      const work = resolved(promise);
      const over = endOf(self, work);
      return apply(plain, self, [over === undefined ? work : race([work, over])]);
    };
    keep(bounded, plain);
    return bounded;
  };
};
