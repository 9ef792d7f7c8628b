import { WorkflowEntrypoint } from "cloudflare:workers";
import { NonRetryableError } from "cloudflare:workflows";

import { attempt, attempts, eventually, kind } from "./kit.js";

export class Flow extends WorkflowEntrypoint {
  async run(event, step) {
    const { act } = event.payload ?? {};
    const one = await step.do("one", async () => ({ a: 1 }));
    if (act === "sleep") await step.sleep("nap", 10);
    if (act === "fail") await step.do("fails", { retries: { limit: 1, delay: 1 } }, async () => { throw new TypeError("on purpose"); });
    if (act === "final") await step.do("fails", async () => { throw new NonRetryableError("for good"); });
    if (act === "caught") return { caught: await attempt(() => step.do("fails", { retries: { limit: 0, delay: 1 } }, async () => { throw new Error("inner"); })) };
    if (act === "event") return { event: (({ payload, type }) => ({ payload, type }))(await step.waitForEvent("wait", { type: "go", timeout: "10 seconds" })) };
    if (act === "times") return { times: kind(event.timestamp), id: kind(event.instanceId) };
    const two = await step.do("two", async () => one.a + 1);
    return { one, two, payload: event.payload };
  }
}

/** Runs a workflow to its end. */
async function finished({ FLOW }, payload, then = () => {}) {
  const instance = await FLOW.create({ params: payload });
  await then(instance);
  const ends = ["complete", "errored", "terminated"];
  return eventually(async () => {
    const { status, output, error } = await instance.status();
    return ends.includes(status) && { status, output, error };
  });
}

export const workflows = {
  "steps and output": ({ env }) => finished(env, { n: 1 }),
  "a sleep": ({ env }) => finished(env, { act: "sleep" }),
  "a step that fails for good": ({ env }) => finished(env, { act: "final" }),
  "a step whose retries are used up": ({ env }) => finished(env, { act: "fail" }),
  "a failure that is caught": ({ env }) => finished(env, { act: "caught" }),
  "an event": ({ env }) => finished(env, { act: "event" }, (instance) => instance.sendEvent({ type: "go", payload: { a: 1 } })),
  "what a run knows of itself": ({ env }) => finished(env, { act: "times" }),
  "ids": async ({ env: { FLOW }, key }) => attempts({
    own: async () => (await FLOW.create({ id: key })).id === key,
    get: async () => (await FLOW.get(key)).id === key,
    absent: () => FLOW.get(`${key}none`),
    generated: async () => (await FLOW.create()).id.length,
  }),
  "ids that are refused": async ({ env: { FLOW }, key }) => attempts({
    own: async () => (await FLOW.create({ id: key })).id === key,
    again: () => FLOW.create({ id: key }),
    invalid: () => FLOW.create({ id: "not valid!" }),
    long: () => FLOW.create({ id: "x".repeat(101) }),
  }),
  "createBatch": async ({ env: { FLOW }, key }) => attempts({
    two: async () => (await FLOW.createBatch([{ id: `${key}1` }, { id: `${key}2` }])).map((i) => i.id),
    none: () => FLOW.createBatch([]),
  }),
  "terminate": ({ env }) => finished(env, { act: "event" }, async (instance) => {
    await eventually(async () => ["waiting", "running"].includes((await instance.status()).status));
    await instance.terminate();
  }),
};
