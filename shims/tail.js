// Passes on what the engine saw of each event of the application, as JSON, to Skep.
//
// `SINK` is a server of ours; `RATE` is the share of events that anybody wants, from 0 to 1: the others cost no more than
// the engine's own work. URLs and headers are redacted by the engine as Tail Workers get them.

/** @param {any} event */
const eventOf = (event) => {
  if (event == null) return null;
  if (event.request) {
    const { url, method, headers, cf } = event.request;
    const response = event.response ? { status: event.response.status } : undefined;
    return { request: { url, method, headers: { ...headers }, cf }, response };
  }
  const plain = /** @type {any} */ ({});
  for (const name of ["cron", "scheduledTime", "queue", "batchSize", "mailFrom", "rcptTo", "rawSize", "rpcMethod", "consumedEvents"]) {
    const value = event[name];
    if (value === undefined || typeof value === "function") continue;
    plain[name] = value instanceof Date ? value.toISOString() : value;
  }
  if (typeof event.getWebSocketEvent === "object") {
    const { webSocketEventType, code, wasClean } = event.getWebSocketEvent;
    plain.getWebSocketEvent = { webSocketEventType, code, wasClean };
  }
  return plain;
};

/** @param {any} item */
const plain = (item) => ({
  outcome: item.outcome,
  entrypoint: item.entrypoint ?? undefined,
  eventTimestamp: item.eventTimestamp,
  exceptions: (item.exceptions ?? []).map((/** @type {any} */ { name, message, timestamp, stack }) => ({ name, message, timestamp, stack })),
  logs: (item.logs ?? []).map((/** @type {any} */ { message, level, timestamp }) => ({ message, level, timestamp })),
  diagnosticsChannelEvents: (item.diagnosticsChannelEvents ?? []).map((/** @type {any} */ { channel, message, timestamp }) => ({ channel, message, timestamp })),
  truncated: item.truncated,
  executionModel: item.executionModel,
  durableObjectId: item.durableObjectId ?? undefined,
  // The engine leaves it 0. It is over when it is reported.
  wallTime: item.wallTime || Math.max(0, Date.now() - item.eventTimestamp),
  cpuTime: item.cpuTime,
  event: eventOf(item.event),
});

/** What cannot be said in JSON is said in words. @param {string} _ @param {any} value */
const sayable = (_, value) => (typeof value === "bigint" ? `${value}n` : value);

/** Events that wait until the call that is under way has ended: under load many of them share one. @type {string[]} */
const waiting = [];
let calling = false;
/** Events of one call, and events that may wait; more are lost. */
const MOST = 256;
const MOST_WAITING = 8192;

export default {
  /** @param {any[]} items @param {any} env */
  async tail(items, env) {
    for (const item of items) {
      // Ours, and no event of the application.
      if (item.entrypoint === "skepCollect") continue;
      if (env.RATE < 1 && Math.random() >= env.RATE) continue;
      if (waiting.length < MOST_WAITING) waiting.push(JSON.stringify(plain(item), sayable));
    }
    if (calling) return;
    calling = true;
    try {
      while (waiting.length > 0) {
        const body = `[${waiting.splice(0, MOST).join(",")}]`;
        const response = await env.SINK.fetch("http://skep/", { method: "POST", body });
        await response.body?.cancel();
      }
    } finally {
      calling = false;
    }
  },
};
