import { Hono } from "hono";
import type { Env, Job } from "../env";

/** Work that is done later, by the queue's consumer. */
export const jobs = new Hono<{ Bindings: Env }>();

jobs.post("/", async (c) => {
  const { text } = await c.req.json<{ text: string }>();
  const id = crypto.randomUUID();
  await c.env.JOBS.send({ id, text: String(text).slice(0, 200) });
  return c.json({ id, state: "queued" }, 202);
});

jobs.get("/:id", async (c) => {
  const result = await c.env.SETTINGS.get(`job:${c.req.param("id")}`, "json");
  return c.json(result ?? { state: "queued" });
});

/** The consumer: turns each text into capitals and leaves the result where the page finds it. */
export async function work(batch: MessageBatch<Job>, env: Env) {
  for (const message of batch.messages) {
    const { id, text } = message.body;
    const result = { state: "done", result: text.toUpperCase(), attempts: message.attempts, batch: batch.messages.length };
    await env.SETTINGS.put(`job:${id}`, JSON.stringify(result), { expirationTtl: 3600 });
    message.ack();
  }
}
