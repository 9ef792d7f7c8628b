// Passes on what the engine records of each traced invocation, as JSON, to Skep: its spans with their attributes.
//
// `SINK` is a server of ours; `EDGE` is the entrypoint that the edge calls for visitors, `null` if there is only one; `RATE` is the
// share of invocations that is recorded of those that nobody has decided on, from 0 to 1.
// What a visitor's request began is recorded if Skep has put it under a span of its own, which its `traceparent` says; what is
// called by a recorded invocation in this process is recorded, too. Of the others the engine is told to say nothing more.
//
// An invocation is [trace, fields, spans]; a span is [name, id, parent, start, end, attributes, whether it was closed] and, until it
// is over, how many characters.

/** @typedef {[string, string, string, number, number, Record<string, unknown>, boolean, number]} Span times in milliseconds */

const SAMPLED = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f][13579bdf](-.*)?$/;
/** Spans of an invocation that are kept until it ends or passes them on, and characters of their attributes; the most spans that it may have. */
const [MOST_AT_ONCE, MOST_TEXT_AT_ONCE, MOST] = [256, 65_536, 10_000];
/** Characters of a text, and of all that is said of a span; the rest is left out. */
const [MOST_TEXT, MOST_SAID] = [4096, 16_384];
/** Characters of one call, and that may wait; more are lost. */
const [MOST_CALLED, MOST_WAITING] = [262_144, 8_388_608];
/** So many characters a millisecond at most: who floods spans keeps nobody else from being served. */
const PACE = 4096;
/** Traces that are remembered, by the engine's name for them: those that began last. */
const MOST_TRACES = 8192;

/**
 * The invocation that a trace began with here, whether Skep has a span of it, what it was, and the context of the trace outside.
 * @typedef {{ root?: string, rootHasSpan: boolean, rootType?: string, traceparent?: string }} Trace
 */

/** Traces that began here; `null` if they are not recorded. @type {Map<string, Trace | null>} */
const traces = new Map();

/** @param {any[]} headers @param {string} name @returns {string | undefined} */
const header = (headers, name) => headers?.find((one) => one.name === name)?.value;

/** @param {string} traceId @param {Trace | null} trace */
const remember = (traceId, trace) => {
  if (traces.size >= MOST_TRACES) traces.delete(/** @type {string} */ (traces.keys().next().value));
  traces.set(traceId, trace);
};

/** What is known of the trace of an invocation; `null` if it is not recorded. @param {any} event @param {any} env */
const traceOf = ({ spanContext: { traceId, spanId }, event: { info, entrypoint, spanId: root } }, { RATE: rate, EDGE: edge }) => {
  const known = spanId === undefined ? undefined : traces.get(traceId);
  if (known !== undefined) {
    // What an event of Skep's calls is what begins here.
    if (known !== null) known.root ??= root;
    return known;
  }
  /** @type {Trace | null} */
  let trace = null;
  const traceparent = header(info?.headers, "traceparent");
  // The edge has a span of each request. A script in service worker syntax has one entrypoint, for it and for all others.
  const rootHasSpan = edge === null ? header(info?.headers, "cf-ray") !== undefined : entrypoint === edge;
  if (traceparent !== undefined) trace = SAMPLED.test(traceparent) ? { root, rootHasSpan, rootType: info?.type, traceparent } : null;
  else if (!rootHasSpan && Math.random() < rate) trace = { root, rootHasSpan, rootType: info?.type };
  remember(traceId, trace);
  return trace;
};

/** What an event says of how an invocation began. @param {any} info @returns {Record<string, unknown>} */
const began = (info) => {
  const { type, method, url, cron, scheduledTime, queueName, batchSize, mailFrom, rcptTo, rawSize } = info ?? {};
  return { type, method, url, cron, scheduledTime, queueName, batchSize, mailFrom, rcptTo, rawSize };
};

/**
 * Adds attributes, by name, to those that take up `size` characters; returns how many they do then.
 * @param {Record<string, unknown>} all @param {{ name: string, value: unknown }[]} said @param {number} size
 */
const add = (all, said, size) => {
  for (const { name, value } of said) {
    const text = typeof value === "string" ? value.slice(0, MOST_TEXT) : value;
    size += name.length + (typeof text === "string" ? text.length : 16);
    if (size > MOST_SAID) break;
    all[name.slice(0, 256)] = text;
  }
  return size;
};

/** @param {string} _ @param {any} value */
const sayable = (_, value) => (typeof value === "bigint" ? Number(value) : value);

/** Invocations that wait until the call that is under way has ended, and their characters. @type {string[]} */
const waiting = [];
let length = 0;
let calling = false;

/** As many of those that wait as make up a call. */
const next = () => {
  let size = 0;
  let count = 0;
  while (count < waiting.length && (count === 0 || size + waiting[count].length <= MOST_CALLED)) size += waiting[count++].length;
  length -= size;
  return `[${waiting.splice(0, count).join(",")}]`;
};

/** @param {any} env @param {any} invocation */
const pass = async (env, invocation) => {
  const said = JSON.stringify(invocation, sayable);
  if (length + said.length <= MOST_WAITING) {
    waiting.push(said);
    length += said.length;
  }
  if (calling) return;
  calling = true;
  try {
    while (waiting.length > 0) {
      const body = next();
      const response = await env.SINK.fetch("http://skep/", { method: "POST", body });
      await response.body?.cancel();
      if (waiting.length > 0) await scheduler.wait(body.length / PACE);
    }
  } finally {
    calling = false;
  }
};

/** Spans of workers of ours that pass a call on: those that came last. @type {Set<string>} */
const hidden = new Set();

/** @param {string} spanId */
const hide = (spanId) => {
  if (hidden.size >= MOST_TRACES) hidden.delete(/** @type {string} */ (hidden.values().next().value));
  hidden.add(spanId);
};

/** @param {boolean} isHidden whether what is recorded is to be seen by nobody */
const recorder = (isHidden) => ({
  /** @param {any} onset @param {any} env @param {any} ctx */
  tailStream(onset, env, ctx) {
    const { spanContext, event, timestamp } = onset;
    // Ours, and no event of the application.
    if (event.entrypoint === "skepCollect" || event.entrypoint === "skepExports") return undefined;
    const trace = traceOf(onset, env);
    if (trace === null) return undefined;
    const { entrypoint, executionModel, durableObjectId, spanId: id } = event;
    const fields = /** @type {Record<string, unknown>} */ ({
      ...began(event.info), ...trace, id, parent: id === trace.root ? undefined : spanContext.spanId,
      entrypoint, executionModel, durableObjectId, start: timestamp.getTime(), attributes: {}, hidden: isHidden,
    });
    if (isHidden) hide(id);
    /** Those that are open. @type {Map<string, Span>} */
    const open = new Map();
    /** @type {Span[]} */
    let done = [];
    let [count, size, own] = [0, 0, 0];
    /** @param {boolean} isLast */
    const flush = (isLast) => {
      const spans = done;
      [done, size] = [[], 0];
      ctx.waitUntil(pass(env, [spanContext.traceId, isLast ? fields : { ...trace, id, parent: fields.parent, hidden: isHidden }, spans]));
    };
    /** @param {Span} span */
    const close = (span) => {
      size += /** @type {number} */ (span.pop());
      done.push(span);
      if (done.length >= MOST_AT_ONCE || size >= MOST_TEXT_AT_ONCE) flush(false);
    };
    return {
      /** @param {any} said */
      spanOpen({ spanContext: { spanId: parent }, event: { name, spanId }, timestamp }) {
        if (isHidden) hide(spanId);
        if (count++ < MOST) open.set(spanId, [name.slice(0, 256), spanId, parent, timestamp.getTime(), 0, {}, true, 0]);
      },
      /** @param {any} said */
      attributes({ spanContext: { spanId }, event: { info } }) {
        if (spanId === id) own = add(/** @type {any} */ (fields.attributes), info, own);
        const span = open.get(spanId);
        if (span !== undefined) span[7] = add(span[5], info, span[7]);
      },
      /** @param {any} said */
      spanClose({ spanContext: { spanId }, timestamp }) {
        const span = open.get(spanId);
        if (span === undefined) return;
        open.delete(spanId);
        span[4] = timestamp.getTime();
        close(span);
      },
      /** @param {any} said */
      return({ event: { info } }) {
        if (info?.statusCode !== undefined) fields.status = info.statusCode;
      },
      /** @param {any} said */
      exception({ event: { name, message } }) {
        fields.exception ??= { name, message };
      },
      /** @param {any} said */
      outcome({ event: { outcome }, timestamp }) {
        const end = timestamp.getTime();
        for (const span of open.values()) {
          span[4] = end;
          span[6] = false;
          close(span);
        }
        open.clear();
        // The spans of a caller may come after what they call.
        Object.assign(fields, { outcome, end, belowHidden: hidden.has(spanContext.spanId) });
        flush(true);
      },
    };
  },
});

export default recorder(false);

/** Hears of workers of ours that pass calls on (`objects.js`, `remote-object.js`, `passage.js`, `front.js`). */
export const through = recorder(true);

/** Hears of the events that Skep delivers (`events.js`): which span of its own each is. */
export const events = {
  /** @param {any} onset */
  tailStream({ spanContext: { traceId }, event: { info } }) {
    const traceparent = header(info?.headers, "traceparent");
    remember(traceId, traceparent === undefined ? null : { rootHasSpan: true, traceparent });
  },
};
