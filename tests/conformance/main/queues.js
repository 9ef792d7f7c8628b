import { attempt, attempts, eventually, kind } from "./kit.js";

/** The consumer writes what it saw to KV, where the case waits for it. */
export async function queue(batch, env) {
  for (const message of batch.messages) {
    const { key, act } = message.body?.key ? message.body : { key: `${message.body}`, act: "ack" };
    const seen = { queue: batch.queue, attempts: message.attempts, id: kind(message.id), timestamp: kind(message.timestamp), body: message.body, size: batch.messages.length };
    const all = (await env.KV.get(key, "json")) ?? [];
    await env.KV.put(key, JSON.stringify([...all, seen]));
    if (batch.queue === "dead") continue;
    if (act === "retry" && message.attempts < 2) message.retry();
    if (act === "retryLater" && message.attempts < 2) message.retry({ delaySeconds: 1 });
    if (act === "dead") message.retry();
    if (act === "throwOnce" && message.attempts < 2) throw new Error("once");
    if (act === "retryAll" && message.attempts < 2) batch.retryAll();
    if (act === "types") await env.KV.put(`${key}types`, JSON.stringify([kind(batch), kind(message), kind(batch.messages), Object.keys(batch.metadata ?? {}), await attempt(() => message.retry({ delaySeconds: -1 })), await attempt(() => message.retry({ delaySeconds: 86_401 }))]));
  }
}

/** Sends a body with `act` and waits for what the consumer saw `times` times. */
async function sent({ QUEUE, KV }, key, act, times) {
  await QUEUE.send({ key, act });
  return eventually(async () => { const all = (await KV.get(key, "json")) ?? []; return all.length >= times && all.map(({ queue, attempts }) => [queue, attempts]); });
}

export const queues = {
  "send: what the consumer sees": async ({ env, key }) => {
    await env.QUEUE.send({ key, deep: ["é", 1, null] });
    const [{ size, ...seen }] = await eventually(() => env.KV.get(key, "json"));
    return seen;
  },
  "send: what is answered": async ({ env: { IDLE } }) => {
    const shape = (answer) => answer && [Object.keys(answer), Object.keys(answer.metadata?.metrics ?? {})];
    return [shape(await IDLE.send("a")), shape(await IDLE.sendBatch([{ body: "b" }]))];
  },
  "send: content types": async ({ env, key }) => {
    const bodies = { text: "é", json: { a: [1] }, bytes: new Uint8Array([1, 255]), v8: new Map([["a", new Date(0)]]) };
    return attempts(Object.fromEntries(Object.entries(bodies).map(([contentType, body]) => [contentType, () => env.IDLE.send(body, { contentType }).then(() => "sent")])));
  },
  "send: what the consumer gets of text": async ({ env, key }) => {
    await env.QUEUE.send(key, { contentType: "text" });
    return (await eventually(() => env.KV.get(key, "json")))[0].body === key;
  },
  "send: what is refused": ({ env: { IDLE } }) => attempts({
    undefined: () => IDLE.send(undefined),
    function: async () => kind(await IDLE.send(() => 1)),
    contentType: () => IDLE.send("x", { contentType: "xml" }),
    textThatIsNone: () => IDLE.send({ a: 1 }, { contentType: "text" }),
    bytesThatAreNone: () => IDLE.send("x", { contentType: "bytes" }),
    circular: () => { const a = {}; a.a = a; return IDLE.send(a); },
  }),
  "send: more than the limits": ({ env: { IDLE } }) => attempts({
    large: async () => kind(await IDLE.send("x".repeat(128_001), { contentType: "text" })),
    delay: async () => kind(await IDLE.send("x", { delaySeconds: 86_401 })),
    negative: async () => kind(await IDLE.send("x", { delaySeconds: -1 })),
  }),
  "send: the largest message": ({ env: { IDLE } }) => attempt(() => IDLE.send("x".repeat(127_000), { contentType: "text" }).then(() => "sent")),
  "sendBatch": async ({ env, key }) => {
    await env.QUEUE.sendBatch([{ body: { key: `${key}1` } }, { body: { key: `${key}2` } }, { body: `${key}3`, contentType: "text" }]);
    return eventually(async () => { const all = await Promise.all([1, 2, 3].map((n) => env.KV.get(`${key}${n}`, "json"))); return all.every(Boolean) && all.map(([m]) => [m.queue, m.attempts]); });
  },
  "sendBatch: what is refused": ({ env: { IDLE } }) => attempts({
    none: () => IDLE.sendBatch([]),
    most: async () => kind(await IDLE.sendBatch(Array.from({ length: 100 }, () => ({ body: 1 })))),
    noBody: () => IDLE.sendBatch([{}]),
    noList: () => IDLE.sendBatch("x"),
  }),
  "sendBatch: more than the limits": ({ env: { IDLE } }) => attempts({
    many: async () => kind(await IDLE.sendBatch(Array.from({ length: 101 }, () => ({ body: 1 })))),
    large: async () => kind(await IDLE.sendBatch(Array.from({ length: 3 }, () => ({ body: "x".repeat(100_000), contentType: "text" })))),
    delay: async () => kind(await IDLE.sendBatch([{ body: 1 }], { delaySeconds: 86_401 })),
  }),
  "sendBatch: anything that can be iterated": async ({ env: { IDLE } }) => attempt(async () => kind(await IDLE.sendBatch((function* () { yield { body: 1 }; })()))),
  "send: delaySeconds": async ({ env, key }) => {
    const start = Date.now();
    await env.QUEUE.send({ key }, { delaySeconds: 1 });
    await eventually(() => env.KV.get(key));
    return Date.now() - start >= 900;
  },
  "send: delivery_delay of the producer": async ({ env, key }) => {
    const start = Date.now();
    await env.SLOW.send({ key });
    const [{ queue }] = await eventually(() => env.KV.get(key, "json"));
    return [queue, Date.now() - start >= 900];
  },
  "consumer: retry()": ({ env, key }) => sent(env, key, "retry", 2),
  "consumer: retry() with a delay": ({ env, key }) => sent(env, key, "retryLater", 2),
  "consumer: retryAll()": ({ env, key }) => sent(env, key, "retryAll", 2),
  "consumer: what throws is delivered again": ({ env, key }) => sent(env, key, "throwOnce", 2),
  "consumer: retries end in the dead-letter queue": ({ env, key }) => sent(env, key, "dead", 4),
  "consumer: a batch": async ({ env, key }) => {
    await env.PAIR.sendBatch([{ body: { key: `${key}1` } }, { body: { key: `${key}2` } }]);
    return eventually(async () => { const all = await Promise.all([1, 2].map((n) => env.KV.get(`${key}${n}`, "json"))); return all.every(Boolean) && all.map(([m]) => [m.queue, m.size]); });
  },
  "consumer: types and bad delays": async ({ env, key }) => {
    await sent(env, key, "types", 1);
    return eventually(() => env.KV.get(`${key}types`, "json"));
  },
  "metrics()": ({ env: { IDLE } }) => attempt(async () => Object.fromEntries(Object.entries(await IDLE.metrics()).map(([name, value]) => [name, kind(value)]))),
};
