// Counts what an application asks of others: `limits.subrequests`, for each invocation.
// https://developers.cloudflare.com/workers/platform/limits/#subrequests
//
// Evaluated before the application, so that nothing is left that it could call without being counted: functions are
// replaced where they are, on the prototypes, and what is used here is held by name, whatever the application puts in
// its place. Which invocation a call belongs to is known by the asynchronous context. An application can step out of
// that, or pretend that an invocation begins: what is not of an invocation that the engine began has a bound in time.
//
// An extension, behind a wrapped binding that exists for nothing else: the engine makes the bindings before it evaluates the
// application, in either syntax. Inner bindings: `responses` says which responses have not ended; `kv`, `bucket` and `queue` are
// never called, their classes are what is replaced; so is `loader`'s, where the application has one. Code that it loads has this
// module, too, by `loading.js`, and none of the inner bindings.
//
// `0`, `1`, `2` and the two `false` are replaced by the script's own limit, by the length of that time, by how long an invocation may
// go on after its response (`after.js`), by whether the script is in service worker syntax, and whether it is traced.

import { AsyncLocalStorage, entrypoints, environment, sockets } from "skep-internal:engine";
import { bounding, headerOf, plainOf, visit } from "skep-internal:after";
import { DEEP, MOST as MOST_CALLS, leftOf, passed, sent } from "skep-internal:chain";
import { countStubs } from "skep-internal:stubs";
import countLoaded from "skep-internal:loading";

const LIMIT = 0;
/** In so many milliseconds, what is of no invocation may use `AROUND`: what objects do, and what is called back. */
const TIME = 1;
const AROUND = 10_000;
/** So many milliseconds after the end of its response an invocation may go on. */
const AFTER = 2;
/** Whether events come to listeners, not to exports. */
const LISTENS = false;
/** Whether spans are recorded. */
const TRACED = false;
const SEE = "To configure this limit, refer to https://developers.cloudflare.com/workers/wrangler/configuration/#limits";
const OUTSIDE = `Too many subrequests by single Worker invocation. ${SEE}`;
const OWN = `Too many API requests by single Worker invocation. ${SEE}`;
/** Calls of an invocation that may wait for their answer's head at once; others wait for their turn, as at Cloudflare. */
const AT_ONCE = 6;
const HANDLERS = ["fetch", "queue", "scheduled", "tail", "tailStream", "trace", "email"];
/** The name of the binding behind which this is, and of what the main module takes over; the application sees neither. */
const NAME = "__skep";

/**
 * What an invocation may still use, and the engine's context of it; whether that is genuine is found out when it matters.
 * `request` began it, if a visitor's did; so many `calls` of other scripts may follow on it, if that was found out already; `over` resolves
 * when it may do no more. `kind` says what was called: `fetch`, a `method` over RPC, an `object`'s, or an `event`'s handler; `result` is what
 * that returned.
 * @typedef {{ left: number, ctx: any, genuine: boolean | undefined, open: number, waiting: (() => void)[] | undefined,
 *             request: Request | undefined, calls: number | undefined, over: Promise<void> | undefined, kind: string, result: any }} Scope
 */

const { apply, construct, defineProperty, deleteProperty, getOwnPropertyDescriptor, getPrototypeOf, ownKeys } = Reflect;
const { now } = Date;
const { then } = Promise.prototype;
const { push, shift, includes } = Array.prototype;
const { bind } = AsyncLocalStorage;
const { toString } = Function.prototype;
const [PlainError, PlainPromise] = [Error, Promise];
const refuse = Promise.reject.bind(Promise);
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

/** Classes of such contexts, and the engine's `waitUntil` of each. @type {[object, Function][]} */
const classes = [];

/** The engine's `waitUntil` of contexts of that class, if it is the engine's. @param {object | null} own */
const wait = (own) => {
  for (; own; own = getPrototypeOf(own)) {
    const method = getOwnPropertyDescriptor(own, "waitUntil")?.value;
    if (typeof method !== "function") continue;
    const plain = plainOf(method) ?? method;
    return apply(toString, plain, []) === "function waitUntil() { [native code] }" ? plain : undefined;
  }
  return undefined;
};

/** @param {object} own @returns {Function | undefined} */
const waitOf = (own) => {
  for (let n = 0; n < classes.length; n++) if (classes[n][0] === own) return classes[n][1];
  const method = wait(own);
  if (method !== undefined && classes.length < 16) apply(push, classes, [[own, method]]);
  return method;
};

/** Whether the engine made this context, and it has not been here. @param {any} ctx */
const isGenuine = (ctx) => {
  try {
    const method = waitOf(getPrototypeOf(ctx));
    if (method === undefined || known(ctx)) return false;
    // Throws for what only looks like one.
    apply(method, ctx, [undefined]);
    remember(ctx);
    return true;
  } catch {
    return false;
  }
};

/**
 * @param {any} ctx @param {number} limit @param {Request | undefined} request @param {number | undefined} calls @param {string} kind
 * @returns {Scope}
 */
const makeScope = (ctx, limit, request, calls, kind) =>
  ({ left: limit, ctx, genuine: undefined, open: 0, waiting: undefined, request, calls, over: undefined, kind, result: undefined });

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

/** Calls `method` as an invocation. @param {Scope} scope @param {Function} method @param {any} self @param {any[]} args */
const enter = (scope, method, self, args) => {
  depth += 1;
  try {
    return (scope.result = run(scope, apply, method, self, args));
  } finally {
    depth -= 1;
  }
};

/**
 * Calls `method` as an invocation that may use `limit`, unless it is called by one.
 * @param {any} ctx @param {number} limit @param {string} kind @param {Function} method @param {any} self @param {any[]} args
 * @param {PropertyKey} [name] what it is called by
 */
const invoke = (ctx, limit, kind, method, self, args, name = undefined) => {
  if (depth > 0 || current() !== undefined) return apply(method, self, args);
  // Said now: a scope that has the request keeps it for longer than most need it.
  const calls = name === "fetch" ? leftOf(args[0]) : MOST_CALLS;
  return enter(makeScope(ctx, limit, undefined, calls, kind), method, self, args);
};

/** How many calls of other scripts may follow on an invocation. @param {Scope} scope */
const callsOf = (scope) => (scope.calls ??= leftOf(scope.request));

/** What an entrypoint's method is: a handler of its own, or one that is called over RPC. @param {PropertyKey} name */
const kindOf = (name) => (name === "fetch" ? "fetch" : apply(includes, HANDLERS, [name]) ? "event" : "method");

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
    __proto__: /** @type {any} */ (null),
    construct(target, args, newTarget) {
      take(OUTSIDE);
      return construct(target, args, newTarget);
    },
  });
  defineProperty(constructor.prototype, "constructor", { value: counting, writable: true, configurable: true });
  return counting;
};

const globals = getPrototypeOf(globalThis);
/** A request to the outside, which carries how many calls may follow on its sender's. @param {Function} plain */
const telling = (plain) =>
  function (/** @type {any[]} */ ...args) {
    const scope = current();
    return apply(plain, /** @type {any} */ (this), scope === undefined ? args : sent(args, callsOf(scope)));
  };
replace(globals, "fetch", telling);
replace(globals, "fetch", counted(OUTSIDE, { inTurn: true, follows: true }));
replace(globals, "WebSocket", countedClass);
replace(globals, "EventSource", countedClass);
/** A method that does not return a promise, counted. @param {string} message */
const countedPlainly = (message) => (/** @type {Function} */ plain) =>
  function (/** @type {any[]} */ ...args) {
    take(message);
    return apply(plain, /** @type {any} */ (this), args);
  };

// Old compatibility dates have less.
const { Navigator, Cache, ExtendableEvent } = /** @type {any} */ (globalThis);
replace(Navigator?.prototype, "sendBeacon", countedPlainly(OUTSIDE));
replace(getPrototypeOf(sockets), "connect", countedPlainly(OUTSIDE));
for (const name of ["match", "put", "delete"]) replace(Cache?.prototype, name, counted(OUTSIDE, { inTurn: true }));

/** What asks others, of the classes of bindings. @type {Record<string, string[]>} */
const METHODS = {
  kv: ["get", "getWithMetadata", "list", "put", "delete", "deleteBulk"],
  bucket: ["head", "get", "put", "delete", "list", "createMultipartUpload"],
  queue: ["send", "sendBatch", "metrics"],
};

const PlainRequest = Request;
const { has: hasHeader, set: setHeader } = Headers.prototype;

/**
 * What a service is asked, with the span that its caller's request has: the engine tells no other process of it.
 * @param {any[]} args
 */
const told = (args) => {
  const request = current()?.request;
  const parent = request === undefined ? null : headerOf(request, "traceparent");
  if (parent === null || parent[54] !== "1") return args;
  try {
    const asked = new PlainRequest(args[0], args[1]);
    const { headers } = asked;
    if (!apply(hasHeader, headers, ["traceparent"])) apply(setHeader, headers, ["traceparent", parent]);
    return [asked];
  } catch {
    // It is for the engine to say what is wrong.
    return args;
  }
};

/** A call of another script or an object, which carries what is left of its caller's. @param {Function} plain */
const calling = (plain) =>
  function (/** @type {any[]} */ ...args) {
    const scope = current();
    const left = scope === undefined ? MOST_CALLS : callsOf(scope);
    if (left === 0) return refuse(new PlainError(DEEP));
    return apply(plain, /** @type {any} */ (this), passed(TRACED ? told(args) : args, left - 1));
  };

const { WorkerEntrypoint, DurableObject, WorkflowEntrypoint, ServiceStub } = entrypoints;
const BASES = [WorkerEntrypoint, DurableObject, WorkflowEntrypoint].map((base) => base.prototype);

/** Makes each call of a class's methods an invocation. @param {any} prototype */
const methods = (prototype) => {
  const plain = !BASES.some((base) => base.isPrototypeOf(prototype));
  const isObject = DurableObject.prototype.isPrototypeOf(prototype);
  for (; prototype && prototype !== Object.prototype && !BASES.includes(prototype); prototype = getPrototypeOf(prototype)) {
    for (const name of plain ? HANDLERS : ownKeys(prototype)) {
      if (name === "constructor") continue;
      const kind = isObject ? "object" : kindOf(name);
      replace(prototype, name, (method) => function (/** @type {any[]} */ ...args) {
        const self = /** @type {any} */ (this);
        const [env, ctx] = plain ? [args[1], args[2]] : [self.env, self.ctx];
        // What an object waits for ends with the object.
        begin(env, isObject ? undefined : ctx);
        return invoke(ctx, LIMIT, kind, method, self, args, name);
      });
    }
  }
};

/** How `waitUntil` is bounded, and the class of contexts that was last found to have ours. @type {[(plain: Function) => Function, unknown]} */
let [bounded, bound] = [(plain) => plain, undefined];

/** Puts our `waitUntil` in the place of the engine's, before the application has a context of that class. @param {any} ctx */
const bindTo = (ctx) => {
  if (typeof ctx !== "object" || ctx === null) return;
  const own = getPrototypeOf(ctx);
  if (own === bound || own === null) return;
  const method = getOwnPropertyDescriptor(own, "waitUntil")?.value;
  if (typeof method !== "function" || waitOf(own) === undefined) return;
  if (plainOf(method) === undefined) replace(own, "waitUntil", bounded);
  bound = own;
};

/** Whether the application cannot see our binding any more: at once, but with `disallow_importable_env`. */
let hidden = false;

/** @param {any} env */
const hide = (env) => {
  if (!hidden && typeof env === "object" && env !== null) hidden = deleteProperty(env, NAME);
};

/** Sees to what has to be done once, where the application is first called. @param {any} env @param {any} ctx */
const begin = (env, ctx) => {
  if (!hidden) hide(env);
  bindTo(ctx);
};

/** Makes each event that an export of the application handles an invocation. @param {Record<string, any>} app */
const handled = (app) => {
  for (const value of Object.values(app)) {
    if (typeof value === "function") methods(value.prototype);
    else if (typeof value === "object" && value !== null) {
      for (const name of HANDLERS) {
        replace(value, name, (handler) => function (/** @type {any[]} */ ...args) {
          begin(args[1], args[2]);
          return invoke(args[2], LIMIT, kindOf(name), handler, this, args, name);
        });
      }
    }
  }
};

/**
 * Calls `then` as an invocation that may use `limit` and no more than the script's own.
 * @param {any} ctx @param {number} limit @param {() => any} then
 */
const within = (ctx, limit, then) => invoke(ctx, Math.min(limit, LIMIT), "method", then, undefined, []);

/**
 * Calls `then` as the invocation that a visitor's request begins: it ends a while after its response.
 * @template T @param {Request} request @param {any} ctx @param {() => T} then @returns {T}
 */
const visited = (request, ctx, then) => {
  bindTo(ctx);
  const scope = current();
  if (scope !== undefined) {
    scope.request ??= request;
    // It began before its request was known.
    scope.calls = undefined;
    visit(ctx, scope);
    return then();
  }
  if (depth > 0) return then();
  const own = makeScope(ctx, LIMIT, request, undefined, "fetch");
  visit(ctx, own);
  return enter(own, then, undefined, []);
};

/** Events that a script in service worker syntax listens to, each of which is an invocation. */
const EVENTS = ["fetch", ...HANDLERS, "alarm"];

/** Listeners of the application, and ours in the place of each. @type {WeakMap<object, Function>} */
const listeners = new WeakMap();
const [listenerOf, keepListener] = [listeners.get.bind(listeners), listeners.set.bind(listeners)];

/** @param {any} listener */
const listening = (listener) => {
  if ((typeof listener !== "object" && typeof listener !== "function") || listener === null) return listener;
  let ours = listenerOf(listener);
  if (ours === undefined) {
    ours = function (/** @type {any} */ event) {
      const self = /** @type {any} */ (this);
      const call = () =>
        typeof listener === "function" ? apply(listener, self, [event]) : apply(listener.handleEvent, listener, [event]);
      return event.type === "fetch" ? visited(event.request, event, call) : invoke(event, LIMIT, "event", call, undefined, []);
    };
    keepListener(listener, ours);
  }
  return ours;
};

/** @param {Function} plain */
const listens = (plain) =>
  function (/** @type {any[]} */ ...args) {
    const self = /** @type {any} */ (this);
    // Read once: it may be an object that says something else the next time.
    if (args.length > 0) args[0] = `${args[0]}`;
    const ours = (self === undefined || self === globalThis) && apply(includes, EVENTS, [args[0]]);
    if (!ours) return apply(plain, self, args);
    deleteProperty(globalThis, NAME);
    return apply(plain, self, [args[0], listening(args[1]), args[2]]);
  };

/**
 * Replaces what is to be counted, and lets the main module take over what it needs.
 * @param {{ responses?: any, kv?: any, bucket?: any, queue?: any, loader?: any }} inner
 */
export default (inner) => {
  const waitUntil = (/** @type {Promise<any>} */ promise) => entrypoints.waitUntil(promise);
  const plainFetch = ServiceStub.prototype.fetch;
  bounded = bounding(current, isGenuine, AFTER, inner.responses);
  replace(getPrototypeOf(entrypoints), "waitUntil", bounded);
  replace(ExtendableEvent?.prototype, "waitUntil", bounded);
  for (const [name, names] of Object.entries(METHODS)) {
    if (!(name in inner)) continue;
    const own = getPrototypeOf(/** @type {any} */ (inner)[name]);
    for (const method of names) replace(own, method, counted(OWN, { inTurn: true }));
  }
  if (inner.loader !== undefined) countLoaded(getPrototypeOf(inner.loader), LIMIT, replace, { waitUntil, fetch: plainFetch });
  // Of other scripts and objects any number may be waited for.
  replace(ServiceStub.prototype, "fetch", calling);
  replace(ServiceStub.prototype, "fetch", counted(OWN, { inTurn: false }));
  replace(ServiceStub.prototype, "connect", countedPlainly(OWN));
  // Where stubs have no methods, names on them mean nothing.
  if (/** @type {any} */ (globalThis).Cloudflare?.compatibilityFlags?.rpc !== false) countStubs(take, OWN);
  if (LISTENS) {
    // The global scope has an `EventTarget` of its own, whose functions no other has.
    for (let object = globalThis; object; object = getPrototypeOf(object)) {
      for (const name of ["addEventListener", "removeEventListener"]) replace(object, name, listens);
    }
    return undefined;
  }
  /** @type {any} */ (globalThis)[NAME] = () => {
    deleteProperty(globalThis, NAME);
    hide(environment());
    return { handled, visited, within };
  };
  return undefined;
};
