// Code that a script loads while it runs (`worker_loaders`) is counted as the script's own is, each of its invocations for itself.
// https://developers.cloudflare.com/dynamic-workers/usage/limits/
//
// It has an isolate of its own, in which none of our extensions is visible. But what is loaded passes here: `load` and what `get` calls
// are replaced where they are, and give the engine a main module of ours, which imports what counts before the code. That is `limits.js`
// again, over the engine's public modules (`loaded-engine.js`). Whatever the script gives is read once, and copied.
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

const { apply, defineProperty, getOwnPropertyDescriptor, ownKeys } = Reflect;
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
    `import { handled } from "./${folder}/${LIMITED}";\nimport * as app from ${from};\nexport * from ${from};\n` +
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
 */
export default (loaders, most, replace) => {
  replace(loaders, "load", (plain) =>
    function (/** @type {any[]} */ ...args) {
      return apply(plain, /** @type {any} */ (this), [counted(args[0], most)]);
    });
  replace(loaders, "get", (plain) =>
    function (/** @type {any[]} */ ...args) {
      const [name, given] = [args[0], args[1]];
      const code = typeof given === "function" ? async () => counted(await given(), most) : given;
      return apply(plain, /** @type {any} */ (this), [name, code]);
    });
};
