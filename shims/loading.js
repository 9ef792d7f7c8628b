// Code that a script loads while it runs (`worker_loaders`) is counted as the script's own is, each of its invocations for itself.
// https://developers.cloudflare.com/dynamic-workers/usage/limits/
//
// It has an isolate of its own, in which none of our extensions is visible. But what is loaded passes here: `load` and what `get` calls
// are replaced where they are, and give the engine a main module of ours, which imports what counts before the code. That is `limits.js`
// again, over the engine's public modules (`loaded-engine.js`). Whatever the script gives is read once, and copied.
//
// What is loaded under an id stays in the engine's memory until it says itself that it is not needed: a worker that has one for each of its
// users would have them all. So of the ids that a worker uses the last few are kept, and others are let go, by an entrypoint of ours beside the
// code's own. What runs in such an isolate comes to its end; the next use of its id has the code asked for again, as at Cloudflare.
//
// `PARTS` is replaced by those modules by their names, in a folder that nobody knows beforehand.

/** @type {Record<string, string>} */
const PARTS = {};
const LIMITED = "limited.js";
/** Shows a script `node:async_hooks`, which says which invocation a request is of. */
const [ALS, NO_ALS] = ["nodejs_als", "no_nodejs_als"];
const KEYS = [
  "compatibilityDate", "compatibilityFlags", "allowExperimental", "limits", "mainModule", "modules", "env", "globalOutbound", "tails",
  "streamingTails",
];

/** Ids whose code is kept. */
const MOST = 32;
/** The entrypoint by which an isolate is let go. */
const GOES = "skepGoes";
/** What is let go where the code went by itself: the engine would keep it under the id for ever if it did not start. */
const EMPTY = { compatibilityDate: "2026-01-01", mainModule: "m.js", modules: { "m.js": "export default {};" } };

const { apply, defineProperty, getOwnPropertyDescriptor, getPrototypeOf, ownKeys } = Reflect;
const { then } = Promise.prototype;
const PlainMap = Map;
const { set: setOf, delete: deleteOf, keys: keysOf } = Map.prototype;
const sizeOf = /** @type {() => number} */ (getOwnPropertyDescriptor(Map.prototype, "size")?.get);
const { next } = getPrototypeOf(new Map().keys());
/** By loader: its ids, the one that was not used for longest first. @type {WeakMap<object, Map<string, true>>} */
const used = new WeakMap();
const [idsOf, keepIds] = [used.get.bind(used), used.set.bind(used)];
const { includes, endsWith } = String.prototype;
const { stringify } = JSON;
const PlainTypeError = TypeError;
const { isInteger } = Number;
const random = crypto.randomUUID.bind(crypto);
const names = ownKeys(PARTS);

/** Sets a property, whatever prototypes say. @param {object} object @param {PropertyKey} name @param {unknown} value */
const put = (object, name, value) =>
  defineProperty(object, name, { __proto__: null, value, writable: true, enumerable: true, configurable: true });

/** @param {any} given @returns {string[]} */
const flagsOf = (given) => {
  /** @type {string[]} */
  const flags = [];
  const count = given?.length ?? 0;
  for (let n = 0; n < count; n++) {
    const flag = `${given[n]}`;
    if (flag !== NO_ALS && flag !== ALS) put(flags, flags.length, flag);
  }
  put(flags, flags.length, ALS);
  return flags;
};

/** What an invocation of loaded code may use. @param {any} limits @param {number} most */
const limitOf = (limits, most) => {
  const said = limits?.subRequests;
  if (said === undefined) return most;
  if (!isInteger(said) || said < 0) throw new PlainTypeError("limits.subRequests must be a whole number that is not negative");
  return said < most ? said : most;
};

/** The code, with what counts before it. @param {any} given @param {number} most subrequests of an invocation */
const counted = (given, most) => {
  /** @type {any} */
  const code = { __proto__: null };
  for (let n = 0; n < KEYS.length; n++) {
    const value = given[KEYS[n]];
    if (value !== undefined) put(code, KEYS[n], value);
  }
  const main = `${code.mainModule}`;
  if (apply(endsWith, main, [".py"])) throw new PlainTypeError("Dynamic Workers in Python are not supported by Skep");
  const limit = limitOf(code.limits, most);
  const modules = { __proto__: null };
  const own = ownKeys(code.modules);
  for (let n = 0; n < own.length; n++) {
    const name = own[n];
    if (typeof name !== "string" || !getOwnPropertyDescriptor(code.modules, name)?.enumerable) continue;
    if (apply(includes, name, [":"])) throw new PlainTypeError(`Module name must not contain ':'. Got: ${name}`);
    put(modules, name, code.modules[name]);
  }
  const folder = `skep-${random()}`;
  const module = (/** @type {string} */ text) => {
    const made = { __proto__: null };
    put(made, "js", text);
    return made;
  };
  for (let n = 0; n < names.length; n++) {
    const name = /** @type {string} */ (names[n]);
    put(modules, `${folder}/${name}`, module(PARTS[name]));
  }
  put(modules, `${folder}/limit.js`, module(`export default ${limit};`));
  const from = stringify(`./${main}`);
  const entry =
    `import { handled, Goes } from "./${folder}/${LIMITED}";\nexport { Goes as ${GOES} };\nimport * as app from ${from};\nexport * from ${from};\n` +
    "const main = app.default;\nexport default main;\nhandled(app);\n";
  put(modules, `${folder}.js`, module(entry));
  put(code, "mainModule", `${folder}.js`);
  put(code, "modules", modules);
  put(code, "compatibilityFlags", flagsOf(code.compatibilityFlags));
  return code;
};

/**
 * Has all that is loaded counted.
 * @param {any} loaders the prototype of what loads
 * @param {number} most subrequests of one invocation
 * @param {(object: any, name: PropertyKey, make: (plain: Function) => Function) => void} replace
 * @param {{ waitUntil: Function, fetch: Function }} engine what is called uncounted
 */
export default (loaders, most, replace, engine) => {
  const plainGet = loaders.get;
  const nothing = () => {};

  /** Lets go what was loaded under an id. @param {any} loader @param {string} id */
  const letGo = (loader, id) => {
    const stub = apply(plainGet, loader, [id, () => counted(EMPTY, most)]);
    const going = apply(engine.fetch, stub.getEntrypoint(GOES), ["http://goes/"]);
    // The isolate goes without an answer.
    engine.waitUntil(apply(then, going, [nothing, nothing]));
  };

  /** Notes that an id is used. @param {any} loader @param {string} id */
  const use = (loader, id) => {
    let ids = idsOf(loader);
    if (ids === undefined) keepIds(loader, (ids = new PlainMap()));
    apply(deleteOf, ids, [id]);
    apply(setOf, ids, [id, true]);
    if (apply(sizeOf, ids, []) <= MOST) return;
    const oldest = apply(next, apply(keysOf, ids, []), []).value;
    apply(deleteOf, ids, [oldest]);
    letGo(loader, oldest);
  };

  replace(loaders, "load", (plain) =>
    function (/** @type {any[]} */ ...args) {
      return apply(plain, /** @type {any} */ (this), [counted(args[0], most)]);
    });
  replace(loaders, "get", (plain) =>
    function (/** @type {any[]} */ ...args) {
      const [id, given] = [args[0], args[1]];
      const name = id === null || id === undefined ? null : `${id}`;
      const code = typeof given === "function" ? async () => counted(await given(), most) : given;
      const stub = apply(plain, /** @type {any} */ (this), [name, code]);
      if (name !== null) use(this, name);
      return stub;
    });
};
