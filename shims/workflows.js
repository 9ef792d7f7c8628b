// The Workflows of a cell: the engine's own implementation, which instances there are, and how the API reaches them.
//
// `Engine` is the engine's class with what the API shows of an instance. The object that is named `:index`, which no
// instance can be, keeps the list of the others, and says which of them may run where `concurrency` bounds that. `Control`
// takes the API's calls from the events worker.
//
// Bindings: `WORKFLOWS` is what holds for all instances of each Workflow; `workflow:<name>` is the namespace of a Workflow's instances, `api:<name>` is what a Workflow's binding is to
// an application.

import { WorkerEntrypoint, env } from "cloudflare:workers";
import { Dozes, WorkflowBinding, awake } from "./workflow-awake.js";
import { Index } from "./workflow-index.js";
import { Slots } from "./workflow-slots.js";
import { jsonOf, rollbackOf, stepsOf, time, toJson } from "./workflow-steps.js";

export { WorkflowBinding };

const INDEX = ":index";
const FINAL = new Set(["complete", "errored", "terminated"]);
/** Where an instance of these states is, is stored: its `run()` may be ended in memory, and goes on from there. */
const AT_REST = new Set(["waiting", "paused", ...FINAL]);
/** @param {{ status: string } | undefined} meta */
const atRest = (meta) => meta === undefined || AT_REST.has(meta.status);
const MAX_BATCH = 100;

/** @param {string} workflow @returns {any} */
const namespace = (workflow) => /** @type {any} */ (env)[`workflow:${workflow}`];

/** An instance, awake or not. @param {string} workflow @param {string} id @returns {any} */
function instance(workflow, id) {
  const call = (/** @type {string | symbol} */ method, /** @type {any[]} */ args) =>
    awake(async () => namespace(workflow).getByName(id)[method](...args));
  return new Proxy({}, { get: (_, method) => (/** @type {any[]} */ ...args) => call(method, args) });
}

/** Instances that have a `run()` in memory, once for each. @type {Set<{ workflow: string, id: string }>} */
const underWay = new Set();

/** What stands in the place of a moment in `dormant` of an instance that waits for a slot. */
const HELD = Infinity;

export class Engine extends Dozes {
  #index = new Index(this.ctx.storage.sql, (id) => instance(this.ctx.props.workflowName, id));
  #slots = new Slots(this.ctx.storage, (id) => instance(this.ctx.props.workflowName, id), this.#limit ?? Infinity);
  /** Who makes it. */
  #source = "binding";
  /** Calls of `run()` that only say how to roll back. */
  #replays = 0;
  /** Called when it is known whether it runs at once. @type {(() => void) | undefined} */
  #decided;

  /** @param {any} ctx @param {any} env */
  constructor(ctx, env) {
    const { workflowClass } = ctx.props;
    const run = (/** @type {any} */ event, /** @type {any} */ step) => this.#go(workflowClass, event, step);
    Object.defineProperty(ctx, "props", { value: { ...ctx.props, workflowClass: { run } } });
    const wait = ctx.waitUntil.bind(ctx);
    // The engine's class has its `run()` waited for, to the end of a rollback.
    Object.defineProperty(ctx, "waitUntil", { value: (/** @type {Promise<any>} */ work) => wait(this.#track(work)) });
    super(ctx, env);
  }

  /** Notes that it is under way until this ends. @template T @param {Promise<T>} work @returns {Promise<T>} */
  async #track(work) {
    const entry = { workflow: this.ctx.props.workflowName, id: this.ctx.id.name };
    underWay.add(entry);
    try {
      return await this.during(() => work);
    } finally {
      underWay.delete(entry);
    }
  }

  /** Whether it is in the middle of nothing: it waits, or is over. Not while a step, or what is between two steps, runs. */
  rests() {
    return atRest(this.#meta());
  }

  /** The index has what is not stored; an instance that rests, or waits for a slot, has nothing. */
  get staysAwake() {
    const meta = this.#meta();
    return this.ctx.id.name === INDEX || !(atRest(meta) || meta.dormant === HELD);
  }

  /** Instances that may run at once. @returns {number | undefined} */
  get #limit() {
    return /** @type {any} */ (env).WORKFLOWS?.[this.ctx.props.workflowName]?.concurrency;
  }

  /** The index, from any instance. */
  get #all() {
    return namespace(this.ctx.props.workflowName).getByName(INDEX);
  }

  /** @param {unknown} params @param {object} [retention] */
  async create(params, retention) {
    if (!this.exists()) await this.#all.indexed("entered", this.ctx.id.name, this.#source);
    const decided = this.#limit && new Promise((/** @type {any} */ tell) => (this.#decided = tell));
    const created = super.create(params, retention);
    await decided;
    return created;
  }

  /** Makes it because its time has come. @param {{ cron: string, scheduledTime: number }} schedule */
  createScheduled(schedule) {
    this.ctx.storage.kv.put("schedule", schedule);
    this.#source = "cron";
    return this.create({});
  }

  /** Calls the application's `run()`, once it may. @param {any} workflow @param {any} event @param {any} step */
  async #go(workflow, event, step) {
    const schedule = this.ctx.storage.kv.get("schedule");
    const said = schedule ? { ...event, schedule } : event;
    const { generation, status } = this.#meta();
    if (!this.#limit || this.#replays > 0 || status === "rollingBack") return workflow.run(said, step);
    const id = this.ctx.id.name;
    const admitted = await this.#all.slot("admit", id);
    const now = this.#meta();
    const over = now === undefined || FINAL.has(now.status);
    if (!over && now.generation === generation && !admitted) this.#hold();
    this.#decided?.();
    if (over) return void (await this.#all.slot("leave", id));
    if (now.generation !== generation) return undefined;
    if (!admitted) {
      // Its turn may have come before it waited.
      if (await this.#all.slot("has", id)) this.admitted();
      return undefined;
    }
    this.ctx.storage.kv.put("ran", true);
    try {
      return await workflow.run(said, step);
    } finally {
      // Restarted meanwhile, its slot is that of the other call.
      const after = this.#meta();
      if (after === undefined || after.generation === generation || FINAL.has(after.status)) {
        await this.#all.slot("leave", id);
      }
    }
  }

  /** Lets it wait for a slot: as one that rests, and that no moment wakes. */
  #hold() {
    const { kv } = this.ctx.storage;
    const { started, ...meta } = this.#meta();
    const held = { ...meta, status: "queued", generation: crypto.randomUUID(), dormant: HELD };
    if (kv.get("ran")) return kv.put("meta", { ...held, started });
    kv.put("meta", held);
    // It has not started.
    for (const [key, { type }] of [...kv.list({ prefix: "l:" })]) if (type !== "workflow_queued") kv.delete(key);
  }

  /** It has a slot; false if it does not need one now. */
  admitted() {
    const meta = this.#meta();
    if (meta === undefined || FINAL.has(meta.status) || meta.status === "paused") return false;
    if (meta.dormant !== HELD) return !(meta.dormant > Date.now());
    this.ctx.storage.kv.put("meta", { ...meta, status: "queued", dormant: undefined });
    return this.exists();
  }

  resume() {
    super.resume();
    // Paused while it waited for a slot: it asks for one again.
    if (this.#meta().dormant === HELD) this.admitted();
  }

  /** @param {{ rollback?: boolean }} [options] */
  async terminate(options) {
    this.#replays += 1;
    try {
      return await this.#track(super.terminate(options));
    } finally {
      this.#replays -= 1;
    }
  }

  alarm() {
    return this.ctx.id.name === INDEX ? this.#slots.look() : super.alarm();
  }

  /** A call of the slots, which are where the index is. @param {"admit" | "has" | "leave"} method @param {string} id */
  slot(method, id) {
    return this.#slots[method](id);
  }

  noSlots() {
    this.#slots.clear();
  }

  /** @param {object} [options] */
  async restart(options) {
    await this.#all.indexed("changed", this.ctx.id.name);
    return super.restart(options);
  }

  async destroy() {
    await this.#all.indexed("changed", this.ctx.id.name);
    return super.destroy();
  }

  /** A call of the index that this object is. @param {string} method @param {unknown[]} args */
  indexed(method, ...args) {
    return /** @type {any} */ (this.#index)[method](...args);
  }

  /** @param {object} [options] @returns {any[]} */
  #history(options) {
    return [...this.ctx.storage.kv.list({ prefix: "l:", ...options })].map(([, entry]) => entry);
  }

  #meta() {
    return this.ctx.storage.kv.get("meta");
  }

  /** What a list shows of it; null if there is no such instance. */
  summary() {
    if (!this.exists()) return null;
    const { status, created, expires = null } = this.#meta();
    const started = this.#history({ limit: 4 }).find(({ type }) => type === "workflow_started");
    const modified = this.#history({ limit: 1, reverse: true })[0]?.timestamp ?? created;
    const ended = FINAL.has(status) ? modified : null;
    return { status, created, started: started?.timestamp ?? null, ended, modified, expires };
  }

  /** The engine's record of step `name-n`. @param {string} type @param {string} stepName */
  #record(type, stepName) {
    const dash = stepName.lastIndexOf("-");
    return this.ctx.storage.kv.get(`s:${type}:${stepName.slice(dash + 1)}:${stepName.slice(0, dash)}`);
  }

  /** All that the API shows of it. @param {{ simple?: boolean, descending?: boolean }} how */
  describe({ simple, descending }) {
    const summary = this.summary();
    if (!summary) return null;
    const { params, output, error = null } = this.#meta();
    const history = this.#history();
    const steps = stepsOf(history, (name) => this.#record("waitForEvent", name));
    const { status, created, started, ended } = summary;
    const result = typeof output === "string" || typeof output === "number" ? output : toJson(output);
    return {
      created,
      status,
      params: jsonOf(params),
      queued: time(created),
      start: time(started ?? undefined),
      end: time(ended ?? undefined),
      success: FINAL.has(status) ? status === "complete" : null,
      error,
      output: output === undefined || output === null ? null : result,
      rollback: rollbackOf(history),
      step_count: steps.length,
      ...(simple ? {} : { steps: descending ? steps.reverse() : steps }),
    };
  }

  /** One step in full; null if it was not reached. @param {{ name: string, type?: string, attempt?: number }} which */
  step({ name, type, attempt }) {
    const wait = (/** @type {string} */ name) => this.#record("waitForEvent", name);
    const found = stepsOf(this.#history(), wait).find(
      (step) => step.name === name && (type ? step.type === type : ["step", "waitForEvent"].includes(step.type)),
    );
    if (!found) return null;
    if (found.type === "waitForEvent") {
      const { value, error = null } = wait(name) ?? {};
      const status = error ? "errored" : found.finished ? "complete" : "waiting";
      return { status, error, event_type: found.event_type, output: jsonOf(value?.payload) };
    }
    const record = this.#record("do", name) ?? {};
    const tried = attempt === undefined ? found.attempts.at(-1) : found.attempts[attempt - 1];
    if (!tried) return attempt === undefined ? { status: "running", error: null, output: null } : null;
    const status = tried.success === null ? "running" : tried.success ? "complete" : "errored";
    if (status === "complete" && record.stream) throw new Error("step.stream");
    const hidden = found.config?.sensitive === "output";
    const output = status !== "complete" ? null : hidden ? "[REDACTED]" : jsonOf(record.value);
    return { status, error: tried.error, output };
  }
}

Engine.countCalls();

/** Every operation: what is said of it, the Workflow's binding, its instances, its index. */
/** @type {Record<string, (call: any, api: any, instances: (id: string) => any, index: any) => Promise<any>>} */
const operations = {
  list: (query, _api, _instances, index) => index.indexed("list", query),
  counts: (_call, _api, _instances, index) => index.indexed("counts"),
  async create({ instances }, api, _instances, index) {
    const created = [];
    for (const one of instances) created.push((await api.create(one)).id);
    await index.indexed("fromApi", created);
    return { created };
  },
  async scheduled({ cron, time }, _api, instances) {
    const id = crypto.randomUUID();
    await instances(id).createScheduled({ cron, scheduledTime: time });
    return { id };
  },
  async describe({ id, ...how }, api, instances, index) {
    await api.getInstance(id);
    const found = await instances(id).describe(how);
    return { ...found, source: await index.indexed("sourceOf", id) };
  },
  async step({ id, ...which }, api, instances) {
    await api.getInstance(id);
    const step = await instances(id).step(which);
    if (!step) throw new Error("step.not_found");
    return step;
  },
  async status({ id, action, options }, api) {
    await api[action](id, options);
    return { status: (await api.status(id)).status };
  },
  async event({ id, type, payload }, api) {
    await api.sendEvent(id, { type, payload });
    return {};
  },
  remove: ({ ids }, api) => api.deleteBatch({ instances: ids }),
  async terminate({ ids, status }, api, _instances, index) {
    const of = async () => {
      const { instances } = await index.indexed("list", { status, limit: Number.MAX_SAFE_INTEGER });
      return instances.filter((/** @type {any} */ one) => !FINAL.has(one.status)).map((/** @type {any} */ one) => one.id);
    };
    const ended = await Promise.allSettled((ids ?? (await of())).map((/** @type {string} */ id) => api.terminate(id)));
    return { terminated: ended.filter((one) => one.status === "fulfilled").length };
  },
  /** Deletes all that the Workflow has. */
  async clear(_call, api, _instances, index) {
    const ids = await index.indexed("ids");
    for (let start = 0; start < ids.length; start += MAX_BATCH) {
      await api.deleteBatch({ instances: ids.slice(start, start + MAX_BATCH) });
    }
    await index.indexed("clear");
    await index.noSlots();
    return {};
  },
};

export default class Control extends WorkerEntrypoint {
  /** Whether the process may end: each instance goes on from where it is. */
  async resting() {
    const asked = [...underWay].map(({ workflow, id }) => instance(workflow, id).rests());
    return (await Promise.all(asked)).every(Boolean);
  }

  /** @param {{ workflow: string, op: string }} call */
  call({ workflow, op, ...call }) {
    const instances = (/** @type {string} */ id) => instance(workflow, id);
    if (!namespace(workflow) || !Object.hasOwn(operations, op)) throw new Error("workflow.not_deployed");
    return operations[op](call, /** @type {any} */ (env)[`api:${workflow}`], instances, instances(INDEX));
  }
}
