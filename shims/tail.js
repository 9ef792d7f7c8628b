// Passes on what the engine saw of each event of the application, as JSON, to Skep.
//
// `SINK` is a server of ours. URLs and headers are redacted by the engine as Tail Workers get them.

/** @param {any} event */
const eventOf = (event) => {
  if (event == null) return null;
  if (event.request) {
    const { url, method, headers, cf } = event.request;
    const response = event.response ? { status: event.response.status } : undefined;
    return { request: { url, method, headers: { ...headers }, cf }, response };
  }
  const plain = /** @type {any} */ ({});
  for (const name of ["cron", "scheduledTime", "queue", "batchSize", "mailFrom", "rcptTo", "rawSize", "rpcMethod", "getWebSocketEvent", "consumedEvents"]) {
    const value = event[name];
    if (value === undefined || typeof value === "function") continue;
    plain[name] = value instanceof Date ? value.toISOString() : value;
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
  wallTime: item.wallTime,
  cpuTime: item.cpuTime,
  event: eventOf(item.event),
});

/** What cannot be said in JSON is said in words. @param {string} _ @param {any} value */
const sayable = (_, value) => (typeof value === "bigint" ? `${value}n` : value);

export default {
  /** @param {any[]} items @param {any} env */
  async tail(items, env) {
    const response = await env.SINK.fetch("http://skep/", {
      method: "POST",
      body: JSON.stringify(items.map(plain), sayable),
    });
    await response.body?.cancel();
  },
};
