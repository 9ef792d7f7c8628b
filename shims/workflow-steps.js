// What an instance of a Workflow did, as the API shows it: a fold over the history that the engine keeps.
//
// The history is what `subscribe()` gives. A step is named as in it: with the number of its occurrence behind.

const SHOWN = 1024;

/** Base64 of what JSON cannot hold. @param {ArrayBuffer | ArrayBufferView} value */
const base64 = (value) => {
  const bytes = value instanceof ArrayBuffer ? new Uint8Array(value) : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return /** @type {any} */ (bytes).toBase64();
};

/** Values that structured clone knows and JSON does not. @param {string} _ @param {unknown} value */
const plain = (_, value) => {
  if (typeof value === "bigint") return String(value);
  if (value instanceof Map || value instanceof Set) return [...value];
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return base64(value);
  return value;
};

/** JSON of any value; `null` of one that JSON has nothing for. @param {unknown} value @returns {string} */
export const toJson = (value) => {
  try {
    return JSON.stringify(value, plain) ?? "null";
  } catch {
    // A value that contains itself.
    return JSON.stringify("[not serializable as JSON]");
  }
};

/** What JSON can say of `value`. @param {unknown} value */
export const jsonOf = (value) => JSON.parse(toJson(value));

/** @param {number | undefined} ms */
const time = (ms) => (ms === undefined ? null : new Date(ms).toISOString());

/** The output of a step: JSON, cut where it is long. @param {unknown} value */
const shown = (value) => {
  if (value === undefined) return null;
  const json = toJson(value);
  return json.length > SHOWN ? `${json.slice(0, SHOWN)}[truncated output]` : json;
};

/**
 * @typedef {{ type: string, timestamp: number, stepName: string, attempt?: number, error?: object, output?: unknown,
 *             config?: object, durationMs?: number, eventType?: string }} Entry
 */

/** How the entries of a step with this name change what is shown of it. */
class Steps {
  /** @type {any[]} */
  all = [];
  /** @param {(name: string) => any} wait The engine's record of a wait for an event. */
  constructor(wait) {
    this.wait = wait;
  }

  /** @param {string} type @param {string} name */
  last(type, name) {
    return this.all.findLast((step) => step.type === type && step.name === name) ?? {};
  }

  /** A step with attempts, or its rollback. @param {string} type @param {string} kind @param {Entry} entry */
  worked(type, kind, { stepName: name, timestamp, error = null, output, config }) {
    const end = time(timestamp);
    const step = this.last(type, name);
    const attempt = step.attempts?.at(-1) ?? {};
    switch (kind) {
      case "started":
        return this.all.push({ name, type, start: end, end: null, success: null, config, attempts: [], output: null });
      case "attempt_started":
        return step.attempts?.push({ start: end, end: null, success: null, error: null });
      case "attempt_completed":
        return Object.assign(attempt, { end, success: true });
      case "attempt_errored":
        return Object.assign(attempt, { end, success: false, error });
      case "completed":
        return Object.assign(step, { end, success: true, output: shown(output) });
      case "errored":
        return Object.assign(step, { end, success: false });
    }
  }

  /** @param {Entry} entry */
  add(entry) {
    const { type, stepName: name, timestamp } = entry;
    const worked = /^(rollback_)?(?:step_(started|completed|errored)|(attempt_\w+))$/.exec(type);
    if (worked) return this.worked(worked[1] ? "rollback" : "step", worked[2] ?? worked[3], entry);
    switch (type) {
      case "sleep_started":
        return this.all.push({
          name, type: "sleep", start: time(timestamp), end: time(timestamp + (entry.durationMs ?? 0)), finished: false, error: null,
        });
      case "sleep_completed":
        return Object.assign(this.last("sleep", name), { end: time(timestamp), finished: true });
      case "wait_started":
        return this.all.push({
          name, type: "waitForEvent", start: time(timestamp), end: time(this.wait(name)?.deadline), finished: false,
          event_type: entry.eventType, error: null, output: null,
        });
      case "wait_completed": {
        const output = shown(this.wait(name)?.value?.payload);
        return Object.assign(this.last("waitForEvent", name), { end: time(timestamp), finished: true, output });
      }
      case "wait_timed_out":
        return Object.assign(this.last("waitForEvent", name), {
          end: time(timestamp), finished: true, error: this.wait(name)?.error ?? null,
        });
      case "workflow_terminated":
        return this.all.push({ type: "termination", trigger: { source: "unknown" } });
    }
  }
}

/** The steps of a history. @param {Entry[]} history @param {(name: string) => any} wait */
export const stepsOf = (history, wait) => {
  const steps = new Steps(wait);
  for (const entry of history) steps.add(entry);
  return steps.all;
};

/** How the rollback of a history ended; null without one. @param {Entry[]} history */
export const rollbackOf = (history) => {
  const end = history.findLast(({ type }) => type === "rollback_completed" || type === "rollback_errored");
  if (!end) return null;
  if (end.type === "rollback_completed") return { outcome: "complete", error: null };
  return { outcome: "failed", error: history.findLast(({ type }) => type === "rollback_step_errored")?.error ?? null };
};

/** A moment as the API writes it. */
export { time };
