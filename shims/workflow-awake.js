// Instances of Workflows that go to sleep. The engine keeps them in memory for ever, those that are over as well: 335 KB and three open files each.
//
// `Dozes` is the engine's class, whose calls are counted: ten seconds after the last one, when its `run()` is not in memory either, the object
// goes. All that an instance is is stored, and the next call or its alarm has it back, as after a crash. A call that comes just then fails before it has begun, and is
// made again (`awake`).

import { WorkflowBinding as Binding, Engine as Instance } from "./workflows.js";

/** How long an instance that has nothing to do stays in memory after its last call, as other objects do. */
const AWAKE_MS = 10_000;
/** Why a call failed that came just when the instance went to sleep. */
const ASLEEP = "the Workflow instance went to sleep";

/** Calls again what came when the instance went to sleep. @template T @param {() => Promise<T>} call @returns {Promise<T>} */
export async function awake(call) {
  try {
    return await call();
  } catch (/** @type {any} */ error) {
    if (!String(error?.message).includes(ASLEEP)) throw error;
    return call();
  }
}

/** The methods that a class has itself. @param {any} type @returns {[string, Function][]} */
const methodsOf = ({ prototype }) =>
  Object.entries(Object.getOwnPropertyDescriptors(prototype))
    .filter(([name, { value }]) => name !== "constructor" && typeof value === "function")
    .map(([name, { value }]) => [name, value]);

export class Dozes extends Instance {
  /** What is under way: calls, and its `run()`. */
  #busy = 0;
  #lastUsed = 0;
  /** Whether it will be looked whether it can go to sleep. */
  #looks = false;
  /** Whether somebody has what gives him its history as it goes on. */
  #followed = false;

  /** Has all calls of this class counted. */
  static countCalls() {
    const inherited = methodsOf(Instance).map(([name]) => /** @type {[string, Function]} */ ([name, this.prototype[name]]));
    for (const [name, method] of new Map([...inherited, ...methodsOf(this)])) {
      /** @this {Dozes} @param {unknown[]} args */
      const value = function (...args) {
        return this.during(() => Reflect.apply(method, this, args));
      };
      Object.defineProperty(this.prototype, name, { value });
    }
  }

  /** Does `work`, and stays awake meanwhile. @template T @param {() => T} work @returns {T} */
  during(work) {
    this.#busy += 1;
    const end = () => {
      this.#busy -= 1;
      this.#lastUsed = Date.now();
      this.#look();
    };
    let result;
    try {
      result = work();
    } catch (error) {
      end();
      throw error;
    }
    if (result instanceof Promise) return /** @type {any} */ (result.finally(end));
    end();
    return result;
  }

  /** Whether there is anything for which it has to be in memory beside calls. @returns {boolean} */
  get staysAwake() {
    return false;
  }

  /** Looks after a while whether it can go to sleep. */
  #look() {
    if (this.#looks || this.#followed || this.staysAwake) return;
    this.#looks = true;
    setTimeout(() => this.#sleep(), AWAKE_MS);
  }

  async #sleep() {
    this.#looks = false;
    // Its end looks again.
    if (this.#busy > 0) return;
    if (Date.now() - this.#lastUsed < AWAKE_MS) return this.#look();
    await this.ctx.storage.sync();
    if (this.#busy === 0 && !this.#followed && !this.staysAwake) this.ctx.abort(ASLEEP);
  }

  /** @param {object} [options] */
  subscribe(options) {
    this.#followed = true;
    return super.subscribe(options);
  }
}

/** What a Workflow is to an application. */
export class WorkflowBinding extends Binding {
  static {
    for (const [name, method] of methodsOf(Binding)) {
      // Batches call instance after instance: again would be the first ones, too.
      if (name.endsWith("Batch")) continue;
      /** @this {WorkflowBinding} @param {unknown[]} args */
      const value = function (...args) {
        return awake(async () => Reflect.apply(method, this, args));
      };
      Object.defineProperty(this.prototype, name, { value });
    }
  }
}
