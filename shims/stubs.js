// Methods that are called over RPC, counted: of other scripts, of objects, of what `ctx.exports` has.
//
// A stub has no functions that could be replaced: for any name that it and its prototypes lack, the engine makes a property that can be
// called or awaited. So one more prototype is put below that of all stubs, which has every name: it lets the engine make the property,
// with itself out of the way, and hands it out behind a proxy that counts. A call on what came back is no request of its own.
//
// While it is out of the way nothing of the application may run, and the engine's property must never be where the application
// can have it: hence no handler inherits from `Object.prototype`, and prototypes are looked through by hand.

import { entrypoints, isProxy } from "skep-internal:engine";
import free from "skep-internal:free";

const { apply, defineProperty, get, getOwnPropertyDescriptor, getPrototypeOf, setPrototypeOf } = Reflect;
const [PlainProxy, PlainPromise, PlainTypeError] = [Proxy, Promise, TypeError];
const refuse = Promise.reject.bind(Promise);
const isFree = free.has.bind(free);
const nothing = () => {};

const stubs = entrypoints.ServiceStub.prototype;
const above = /** @type {object} */ (getPrototypeOf(stubs));
const awaits = entrypoints.RpcProperty.prototype;
/** What makes an object awaitable, as the engine has it. @type {Record<string, Function>} */
const awaiting = { __proto__: /** @type {any} */ (null), then: awaits.then, catch: awaits.catch, finally: awaits.finally };

/** Properties of a stub that were made, as to ask the engine costs more than most calls; so many of each are kept. */
const MOST = 64;
/** @type {WeakMap<object, Map<string, any>>} */
const made = new WeakMap();
const [properties, remember] = [made.get.bind(made), made.set.bind(made)];
const PlainMap = Map;
const sizeOf = /** @type {() => number} */ (getOwnPropertyDescriptor(Map.prototype, "size")?.get);
const [getOf, setOf] = [Map.prototype.get, Map.prototype.set];
/** @param {Map<string, any>} map */
const size = (map) => apply(sizeOf, map, []);
/** @param {Map<string, any>} map @param {string} name */
const property = (map, name) => apply(getOf, map, [name]);
/** @param {string} name @param {any} value */
const one = (name, value) => add(new PlainMap(), name, value);
/** @param {Map<string, any>} map @param {string} name @param {any} value @returns {Map<string, any>} */
const add = (map, name, value) => apply(setOf, map, [name, value]);

/** Where names are looked for that are not those of a property. */
const HIDDEN = "hidden";

/**
 * The property of that name that an object or a prototype of it has, up to `end`; `HIDDEN` where that cannot be said without
 * running what is not ours.
 * @param {any} object @param {PropertyKey} name @param {object | null} end
 */
const find = (object, name, end) => {
  for (; object !== end && object !== null; object = getPrototypeOf(object)) {
    if (isProxy(object)) return HIDDEN;
    const found = getOwnPropertyDescriptor(object, name);
    if (found !== undefined) return found;
  }
  return object === end ? undefined : HIDDEN;
};

/** Whether the engine makes a property of that name of a stub. @param {PropertyKey} name */
const isMade = (name) => typeof name === "string" && name !== "then";

/** @param {(message: string) => void} take counts one, or throws @param {string} message */
export const countStubs = (take, message) => {
  /** What a call comes to that is not made: whatever is done with it fails. @param {any} error @returns {any} */
  const failed = (error) =>
    new PlainProxy(nothing, {
      __proto__: /** @type {any} */ (null),
      apply: () => failed(error),
      get: (_, name) => {
        if (name !== "then" && name !== "catch" && name !== "finally") return isMade(name) ? failed(error) : undefined;
        return (/** @type {any[]} */ ...args) => apply(/** @type {any} */ (PlainPromise.prototype)[name], refuse(error), args);
      },
    });

  /** A property of a stub as the application gets it. @param {any} real @returns {any} */
  const counted = (real) => {
    const ours = new PlainProxy(real, {
      __proto__: /** @type {any} */ (null),
      apply(_, self, args) {
        try {
          take(message);
        } catch (error) {
          return failed(error);
        }
        return apply(real, undefined, args);
      },
      get(_, name) {
        const method = typeof name === "string" ? awaiting[name] : undefined;
        if (method !== undefined) {
          return (/** @type {any[]} */ ...args) => {
            try {
              take(message);
            } catch (error) {
              return apply(/** @type {any} */ (PlainPromise.prototype)[name], refuse(error), args);
            }
            return apply(method, real, args);
          };
        }
        const found = find(real, name, null);
        if (found === HIDDEN) return undefined;
        if (found !== undefined) return found.get === undefined ? found.value : apply(found.get, ours, []);
        const value = real[name];
        return typeof value === "function" ? counted(value) : value;
      },
    });
    return ours;
  };

  /** @type {object} */
  const below = new PlainProxy(Object.create(above), {
    __proto__: /** @type {any} */ (null),
    get(target, name, stub) {
      if (typeof name !== "string" || find(above, name, null) !== undefined) return get(target, name, stub);
      // Nothing but the engine may be asked for it then.
      if (find(stub, name, below) !== undefined) return undefined;
      const had = properties(stub);
      const known = had === undefined ? undefined : property(had, name);
      if (known !== undefined) return known;
      setPrototypeOf(stubs, above);
      let engines;
      try {
        engines = stub[name];
      } finally {
        setPrototypeOf(stubs, below);
      }
      if (typeof engines !== "function" || isFree(stub)) return engines;
      const ours = counted(engines);
      if (had === undefined) remember(stub, one(name, ours));
      else if (size(had) < MOST) add(had, name, ours);
      return ours;
    },
    has: (_, name) => find(above, name, null) !== undefined || isMade(name),
    setPrototypeOf: () => false,
  });
  setPrototypeOf(stubs, below);
  keep();
};

/** Whose prototype is, stays it. */
const keep = () => {
  const refusal = "Immutable prototype object 'Fetcher' cannot have their prototype set";
  const plain = Object.setPrototypeOf;
  const set = function setPrototypeOf(/** @type {any} */ object, /** @type {object | null} */ prototype) {
    if (object === stubs) throw new PlainTypeError(refusal);
    return plain(object, prototype);
  };
  const reflected = (/** @type {object} */ object, /** @type {object | null} */ prototype) =>
    object !== stubs && setPrototypeOf(object, prototype);
  defineProperty(Object, "setPrototypeOf", { value: set, writable: true, configurable: true });
  defineProperty(Reflect, "setPrototypeOf", { value: reflected, writable: true, configurable: true });
  const own = /** @type {PropertyDescriptor} */ (getOwnPropertyDescriptor(Object.prototype, "__proto__"));
  defineProperty(Object.prototype, "__proto__", {
    ...own,
    set(prototype) {
      if (this === stubs) throw new PlainTypeError(refusal);
      apply(/** @type {Function} */ (own.set), this, [prototype]);
    },
  });
};
