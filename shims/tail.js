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
/** Characters of them. */
let size = 0;
let calling = false;
/** Characters of the events of one call, but for the last one, and of events that may wait; more are lost. */
const MOST = 1 << 20;
const MOST_WAITING = 16 << 20;

export default {
  /** @param {any[]} items @param {any} env */
  async tail(items, env) {
    for (const item of items) {
      // Ours, and no event of the application.
      if (item.entrypoint === "skepCollect") continue;
      if (env.RATE < 1 && Math.random() >= env.RATE) continue;
      if (size >= MOST_WAITING) continue;
      const text = JSON.stringify(plain(item), sayable);
      size += text.length;
      waiting.push(text);
    }
    if (calling) return;
    calling = true;
    try {
      while (waiting.length > 0) {
        let count = 0;
        for (let length = 0; count < waiting.length && length < MOST; count++) length += waiting[count].length;
        const events = waiting.splice(0, count).join(",");
        size -= events.length - (count - 1);
        const body = `[${events}]`;
        const response = await env.SINK.fetch("http://skep/", { method: "POST", body });
        await response.body?.cancel();
      }
    } finally {
      calling = false;
    }
  },
};
