// Counts what an application asks of others: `limits.subrequests`, for each invocation.
// https://developers.cloudflare.com/workers/platform/limits/#subrequests
//
// Evaluated before the application, so that nothing is left that it could call without being counted: functions are
// replaced where they are, on the prototypes, and what is used here is held by name, whatever the application puts in
// its place. Which invocation a call belongs to is known by the asynchronous context. An application can step out of
// that, or pretend that an invocation begins: what is not of an invocation that the engine began has a bound in time.
//
// It also has `waitUntil` of an invocation that a visitor began end a while after the response, as it does at Cloudflare.
// https://developers.cloudflare.com/workers/runtime-apis/context/#waituntil
//
// `0`, `1` and `2` are replaced by the script's own limit, by the length of that time, and by how long that while is.

import { AsyncLocalStorage } from "node:async_hooks";
import { DurableObject, WorkerEntrypoint, WorkflowEntrypoint, env } from "cloudflare:workers";

const LIMIT = 0;
/** In so many milliseconds, what is of no invocation may use `AROUND`: what objects do, and what is called back. */
const TIME = 1;
const AROUND = 10_000;
/** So many milliseconds after the end of its response an invocation may go on. */
const AFTER = 2;
/** How often to ask whether a response has ended, where somebody waits for that. */
const [ASK_FIRST, ASK_AGAIN] = [1_000, 5_000];
const CANCELLED =
  "waitUntil() tasks did not complete within the allowed time after invocation end and have been cancelled. " +
  "See: https://developers.cloudflare.com/workers/runtime-apis/context/#waituntil";
const SEE = "To configure this limit, refer to https://developers.cloudflare.com/workers/wrangler/configuration/#limits";
const OUTSIDE = `Too many subrequests by single Worker invocation. ${SEE}`;
const OWN = `Too many API requests by single Worker invocation. ${SEE}`;
/** Calls of an invocation that may wait for their answer's head at once; others wait for their turn, as at Cloudflare. */
const AT_ONCE = 6;
const HANDLERS = ["fetch", "queue", "scheduled", "tail", "tailStream", "trace", "email"];
/** The name of the binding by which the class of all fetchers is found; the application does not see it. */
const FETCHER = "__skep_fetcher";
/** The name of the binding that says which responses have not ended; the application does not see it either. */
const RESPONSES = "__skep_responses";

/**
 * What an invocation may still use, and the engine's context of it; whether that is genuine is found out when it matters.
 * `request` began it, if a visitor's did; `over` resolves when it may do no more.
 * @typedef {{ left: number, ctx: any, genuine: boolean | undefined, open: number, waiting: (() => void)[] | undefined,
 *             request: Request | undefined, over: Promise<void> | undefined }} Scope
 */

const { apply, construct, defineProperty, getOwnPropertyDescriptor, getPrototypeOf, ownKeys } = Reflect;
const { now } = Date;
const { then } = Promise.prototype;
const { push, shift } = Array.prototype;
const { bind } = AsyncLocalStorage;
const { toString } = Function.prototype;
const [PlainError, PlainPromise] = [Error, Promise];
const refuse = Promise.reject.bind(Promise);
const race = Promise.race.bind(Promise);
const later = setTimeout.bind(globalThis);
const warn = console.warn.bind(console);
const header = Headers.prototype.get;
const headers = /** @type {() => Headers} */ (getOwnPropertyDescriptor(Request.prototype, "headers")?.get);
/** @type {AsyncLocalStorage<Scope>} */
const storage = new AsyncLocalStorage();
const current = storage.getStore.bind(storage);
const run = storage.run.bind(storage);
/** Contexts whose one invocation has used something. @type {WeakSet<object>} */
const contexts = new WeakSet();
const known = contexts.has.bind(contexts);
const remember = contexts.add.bind(contexts);

/** How many invocations have begun and not yet come to their first pause: those within each other. */
let depth = 0;
/** What is left for what is of no invocation, and since when. */
let [around, since] = [AROUND, 0];

/** Counts one. @param {string} message */
const take = (message) => {
  const scope = current();
  if (scope !== undefined) {
    if (scope.left <= 0) throw new PlainError(message);
    scope.left -= 1;
    if ((scope.genuine ??= isGenuine(scope.ctx))) return;
  }
  const time = now();
  if (time - since >= TIME) [around, since] = [AROUND, time];
  if (around <= 0) throw new PlainError(message);
  around -= 1;
};

/** The class of such contexts. @type {object | undefined} */
let genuine;
/** @type {any} */
let waitUntil;
/** The engine's own, and ours that is in its place. @type {[Function | undefined, Function | undefined]} */
let [plainWait, boundedWait] = [undefined, undefined];

/** The engine's `waitUntil` of contexts of that class, if it is the engine's. @param {object} own */
const wait = (own) => {
  const method = getOwnPropertyDescriptor(own, "waitUntil")?.value;
  if (typeof method !== "function") return undefined;
  if (method === boundedWait) return plainWait;
  return apply(toString, method, []) === "function waitUntil() { [native code] }" ? method : undefined;
};

/** Whether the engine made this context, and it has not been here. @param {any} ctx */
const isGenuine = (ctx) => {
  try {
    if (genuine === undefined) {
      const own = getPrototypeOf(ctx);
      const method = wait(own);
      if (method === undefined) return false;
      [genuine, waitUntil] = [own, method];
    }
    if (getPrototypeOf(ctx) !== genuine || known(ctx)) return false;
    // Throws for what only looks like one.
    apply(waitUntil, ctx, [undefined]);
    remember(ctx);
    return true;
  } catch {
    return false;
  }
};

/** @param {any} ctx @param {number} limit @param {Request | undefined} request @returns {Scope} */
const scope = (ctx, limit, request) =>
  ({ left: limit, ctx, genuine: undefined, open: 0, waiting: undefined, request, over: undefined });

/** @param {number} ms @returns {Promise<void>} */
const sleep = (ms) => new PlainPromise((resolve) => void later(resolve, ms));

/** Whether Skep still answers a request. @param {string} ray */
const answers = async (ray) => {
  try {
    const response = await apply(/** @type {Function} */ (ask), responses, [`http://skep/${ray}`]);
    return response.status === 202;
  } catch {
    return false;
  }
};

/** Waits until the invocation of a request may do no more; for ever where Skep does not know the request. @param {Request} request */
const over = async (request) => {
  const ray = apply(header, apply(headers, request, []), ["cf-ray"]);
  if (ray === null || ask === undefined) return new PlainPromise(() => {});
  let pause = ASK_FIRST;
  do {
    await sleep(pause < AFTER ? pause : AFTER);
    pause = ASK_AGAIN;
  } while (await answers(ray));
  await sleep(AFTER);
  warn(CANCELLED);
};

/** @param {Function} plain */
const bounded = (plain) =>
  function (/** @type {any} */ promise) {
    const scope = current();
    const self = /** @type {any} */ (this);
    if (scope?.request === undefined) return apply(plain, self, [promise]);
    scope.over ??= over(scope.request);
    return apply(plain, self, [race([promise, scope.over])]);
  };

/** Puts our `waitUntil` in the place of the engine's, the first time that there is one. @param {any} ctx */
const bound = (ctx) => {
  const own = getPrototypeOf(ctx);
  plainWait = wait(own);
  if (plainWait === undefined) return;
  replace(own, "waitUntil", bounded);
  boundedWait = getOwnPropertyDescriptor(own, "waitUntil")?.value;
};

/** Starts a call when it is its turn. @param {Scope} scope @param {() => any} start @returns {any} */
const inTurn = (scope, start) => {
  if (scope.open >= AT_ONCE) {
    return new PlainPromise((resolve) => {
      // A call keeps the context that it was made in.
      apply(push, (scope.waiting ??= []), [bind(() => resolve(inTurn(scope, start)))]);
    });
  }
  const done = () => {
    scope.open -= 1;
    if (scope.waiting !== undefined) apply(shift, scope.waiting, [])?.();
  };
  scope.open += 1;
  /** @type {any} */
  let result;
  try {
    result = start();
  } finally {
    if (!(result instanceof PlainPromise)) done();
  }
  if (!(result instanceof PlainPromise)) return result;
  const failed = (/** @type {any} */ error) => {
    done();
    throw error;
  };
  return apply(then, result, [(/** @type {any} */ value) => (done(), value), failed]);
};

/**
 * Calls `method` as an invocation that may use `limit`, unless it is called by one.
 * @param {any} ctx @param {number} limit @param {Function} method @param {any} self @param {any[]} args
 * @param {Request} [request] the visitor's that begins it
 */
const invoke = (ctx, limit, method, self, args, request) => {
  if (depth > 0 || current() !== undefined) return apply(method, self, args);
  depth += 1;
  try {
    return run(scope(ctx, limit, request), apply, method, self, args);
  } finally {
    depth -= 1;
  }
};

/** Puts `make(value)` in the place of a method. @param {any} object @param {PropertyKey} name @param {(value: any) => any} make */
const replace = (object, name, make) => {
  const property = object && getOwnPropertyDescriptor(object, name);
  if (typeof property?.value !== "function" || !property.configurable) return;
  const value = make(property.value);
  defineProperty(value, "name", { value: property.value.name, configurable: true });
  defineProperty(object, name, { ...property, value });
};

/**
 * A method that returns a promise, counted.
 * @param {string} message @param {{ inTurn: boolean, follows?: boolean }} how whether it takes its turn, and follows redirects
 */
const counted = (message, how) => (/** @type {Function} */ plain) =>
  function (/** @type {any[]} */ ...args) {
    try {
      take(message);
    } catch (error) {
      return refuse(error);
    }
    const start = () => apply(plain, /** @type {any} */ (this), args);
    const scope = how.inTurn ? current() : undefined;
    const result = scope === undefined ? start() : inTurn(scope, start);
    return how.follows && result instanceof PlainPromise ? apply(then, result, [redirected]) : result;
  };

/** A redirect that was followed is a subrequest of its own. @param {Response} response */
const redirected = (response) => {
  if (response.redirected) {
    try {
      take(OUTSIDE);
    } catch {}
  }
  return response;
};

/** @param {any} constructor */
const countedClass = (constructor) => {
  const counting = new Proxy(constructor, {
    construct(target, args, newTarget) {
      take(OUTSIDE);
      return construct(target, args, newTarget);
    },
  });
  defineProperty(constructor.prototype, "constructor", { value: counting, writable: true, configurable: true });
  return counting;
};

const globals = getPrototypeOf(globalThis);
replace(globals, "fetch", counted(OUTSIDE, { inTurn: true, follows: true }));
replace(globals, "WebSocket", countedClass);
replace(globals, "EventSource", countedClass);
replace(Navigator.prototype, "sendBeacon", (plain) => function (/** @type {any[]} */ ...args) {
  take(OUTSIDE);
  return apply(plain, /** @type {any} */ (this), args);
});
for (const name of ["match", "put", "delete"]) replace(Cache.prototype, name, counted(OUTSIDE, { inTurn: true }));

/** By the name of a binding's class, what of it asks others. @type {Record<string, string[]>} */
const METHODS = {
  __proto__: /** @type {any} */ (null),
  Fetcher: ["fetch"],
  KvNamespace: ["get", "getWithMetadata", "list", "put", "delete", "deleteBulk"],
  R2Bucket: ["head", "get", "put", "delete", "list", "createMultipartUpload"],
  WorkerQueue: ["send", "sendBatch", "metrics"],
};
const bindings = /** @type {Record<PropertyKey, any>} */ (env);
const responses = bindings[RESPONSES];
/** @type {Function | undefined} */
const ask = responses?.fetch;
delete bindings[RESPONSES];
const done = new Set();
for (const name of ownKeys(bindings)) {
  for (let object = getPrototypeOf(Object(bindings[name])); object && !done.has(object); object = getPrototypeOf(object)) {
    done.add(object);
    const { name } = object.constructor;
    // Of other scripts and objects any number may be waited for.
    const how = { inTurn: name !== "Fetcher" };
    for (const method of METHODS[name] ?? []) replace(object, method, counted(OWN, how));
  }
}
delete bindings[FETCHER];

const BASES = [WorkerEntrypoint, DurableObject, WorkflowEntrypoint].map((base) => base.prototype);

/** Makes each call of a class's methods an invocation. @param {any} prototype */
const methods = (prototype) => {
  const plain = !BASES.some((base) => base.isPrototypeOf(prototype));
  for (; prototype && prototype !== Object.prototype && !BASES.includes(prototype); prototype = getPrototypeOf(prototype)) {
    for (const name of plain ? HANDLERS : ownKeys(prototype)) {
      if (name === "constructor") continue;
      replace(prototype, name, (method) => function (/** @type {any[]} */ ...args) {
        const self = /** @type {any} */ (this);
        return invoke(plain ? args[2] : self.ctx, LIMIT, method, self, args);
      });
    }
  }
};

/** Makes each event that an export of the application handles an invocation. @param {Record<string, any>} app */
export const handled = (app) => {
  for (const value of Object.values(app)) {
    if (typeof value === "function") methods(value.prototype);
    else if (typeof value === "object" && value !== null) {
      for (const name of HANDLERS) {
        replace(value, name, (handler) => function (/** @type {any[]} */ ...args) {
          return invoke(args[2], LIMIT, handler, this, args);
        });
      }
    }
  }
};

/**
 * Calls `then` as an invocation that may use `limit` and no more than the script's own.
 * @param {any} ctx @param {number} limit @param {() => any} then
 */
export const within = (ctx, limit, then) => invoke(ctx, Math.min(limit, LIMIT), then, undefined, []);

/**
 * Calls `then` as the invocation that a visitor's request begins: it ends a while after its response.
 * @template T @param {Request} request @param {any} ctx @param {() => T} then @returns {T}
 */
export const visited = (request, ctx, then) => {
  if (boundedWait === undefined) bound(ctx);
  const scope = current();
  if (scope === undefined) return invoke(ctx, LIMIT, then, undefined, [], request);
  scope.request ??= request;
  return then();
};
