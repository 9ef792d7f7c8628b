// The system worker of a cell that turns Skep's HTTP calls into events of the application.
//
//   POST /queue      {queue, messages: [{id, ts, attempts, fmt, b64}], metadata?, target?}
//   POST /scheduled  {cron, time, target?}
//   POST /tail       {events, target?}
//   POST /email      {id, from, to, headers, b64}, to `MAILED`; what the handler does with it goes to `MAIL`
//   POST /workflow   {workflow, op, …}, for the instances of a Workflow: see workflows.js
//   GET  /health
//   GET  /resting    whether no instance of a Workflow is in the middle of anything: 204, or 409
//   GET  /collect    collects this worker's garbage: see entry.js
//
// `USER` is the application's default entrypoint; `target` names another service binding of this worker.
// The answer is what the engine says of the event. An event that could not be made or handled at all is
// answered by a status of 400 or more and {error: {name, message, stack}}.
//
// Needs the flags `experimental` and `service_binding_extra_handlers`, which give service bindings the
// methods `queue()` and `scheduled()`; only this worker has them, never the application.

import { built } from "./mail-parts.js";

/**
 * @typedef {{ id: string, ts: number, attempts: number, fmt: "json" | "text" | "bytes" | "v8", b64: string }} WireMessage
 * @typedef {{ backlogCount: number, backlogBytes: number, oldestMessageTimestamp: number }} WireMetrics
 * @typedef {{ queue: string, messages: WireMessage[], metadata?: { metrics: WireMetrics }, target?: string }} QueueEvent
 * @typedef {{ cron: string, time: number, target?: string }} CronEvent
 * @typedef {{ events: object[], target?: string }} TailEvents
 * @typedef {{ id: string, from: string, to: string, headers: [string, string][], b64: string }} EmailEvent
 * @typedef {{ queue(name: string, messages: object[], metadata?: object): Promise<object>,
 *             scheduled(event: { cron: string, scheduledTime: Date }): Promise<object>,
 *             tail(events: object[]): Promise<void> }} Target
 */

class BadEvent extends Error {
  name = "BadEvent";
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** @param {string} base64 @returns {Uint8Array} */
const bytes = (base64) => /** @type {any} */ (Uint8Array).fromBase64(base64);

/** The message as the engine takes it; it decodes v8 bodies itself. @param {WireMessage} message */
const decode = ({ id, ts, attempts, fmt, b64 }) => {
  const raw = bytes(b64);
  const message = { id, timestamp: new Date(ts), attempts };
  switch (fmt) {
    case "json":
      return { ...message, body: JSON.parse(utf8.decode(raw)) };
    case "text":
      return { ...message, body: utf8.decode(raw) };
    case "bytes":
      return { ...message, body: raw.buffer };
    case "v8":
      return { ...message, serializedBody: raw };
    default:
      throw new BadEvent(`unknown message format: ${fmt}`);
  }
};

/** @param {{ metrics: WireMetrics } | undefined} metadata */
const decodeMetadata = (metadata) => {
  if (!metadata) return undefined;
  const { oldestMessageTimestamp: oldest, ...counts } = metadata.metrics;
  return { metrics: oldest ? { ...counts, oldestMessageTimestamp: new Date(oldest) } : counts };
};

/** @param {Record<string, Target>} env @param {string} name @returns {Target} */
const find = (env, name = "USER") => {
  if (!Object.hasOwn(env, name)) throw new BadEvent(`no such target: ${name}`);
  return env[name];
};

/** What a handler of mail may call. @param {string} id @param {any} mail what hears of it */
const mailing = (id, mail) => {
  const tell = async (/** @type {string} */ what, /** @type {BodyInit} */ body) => {
    const answer = await mail.fetch(`http://mail/${id}/${what}`, { method: "POST", body });
    if (!answer.ok) throw new Error(await answer.text());
    return answer.status === 204 ? undefined : answer.json();
  };
  return {
    setReject: (/** @type {string} */ reason) => tell("reject", reason),
    forward: (/** @type {string} */ to, /** @type {Headers | undefined} */ headers) =>
      tell("forward", JSON.stringify({ to, headers: [...(headers ?? [])] })),
    reply: (/** @type {any} */ reply) =>
      reply.raw instanceof Uint8Array
        ? tell(`reply?${new URLSearchParams({ from: reply.from })}`, reply.raw)
        : tell("reply-built", built(reply)),
  };
};

/** @type {Record<string, (event: any, env: Record<string, Target>) => Promise<object>>} */
const events = {
  "POST /queue": (/** @type {QueueEvent} */ { queue, messages, metadata, target }, env) =>
    find(env, target).queue(queue, messages.map(decode), decodeMetadata(metadata)),
  "POST /scheduled": (/** @type {CronEvent} */ { cron, time, target }, env) =>
    find(env, target).scheduled({ cron, scheduledTime: new Date(time) }),
  "POST /tail": async (/** @type {TailEvents} */ { events, target }, env) => {
    await find(env, target).tail(events);
    return { outcome: "ok" };
  },
  "POST /email": async (/** @type {EmailEvent} */ { id, from, to, headers, b64 }, env) => {
    const raw = bytes(b64);
    const message = {
      from, to, raw: new Response(/** @type {any} */ (raw)).body, rawSize: raw.byteLength, headers: new Headers(headers),
      canBeForwarded: true, ...mailing(id, env.MAIL),
    };
    await /** @type {any} */ (find(env, "MAILED")).email(message);
    return { outcome: "ok" };
  },
  "POST /workflow": (/** @type {{ workflow: string, op: string }} */ call, env) =>
    /** @type {any} */ (find(env, "WORKFLOWS")).call(call),
};

/** @param {number} status @param {unknown} cause */
const failed = (status, cause) => {
  const error = cause instanceof Error ? cause : new Error(String(cause));
  const { name, message, stack = "" } = error;
  return Response.json({ error: { name, message, stack } }, { status });
};

export default {
  /** @param {Request} request @param {Record<string, Target>} env */
  async fetch(request, env) {
    const call = `${request.method} ${new URL(request.url).pathname}`;
    if (call === "GET /health") return new Response("ok");
    if (call === "GET /collect") {
      try {
        new ArrayBuffer(2 ** 52);
      } catch {}
      return new Response(null, { status: 204 });
    }
    if (call === "GET /resting") {
      const resting = await /** @type {any} */ (find(env, "WORKFLOWS")).resting();
      return new Response(null, { status: resting ? 204 : 409 });
    }
    if (!Object.hasOwn(events, call)) return failed(404, new BadEvent(`no such event: ${call}`));
    let event;
    try {
      event = await request.json();
      if (typeof event !== "object" || event === null) throw new BadEvent("an event is a JSON object");
    } catch (error) {
      return failed(400, error);
    }
    try {
      return Response.json(await events[call](event, env));
    } catch (error) {
      return failed(error instanceof BadEvent ? 400 : 500, error);
    }
  },
};
