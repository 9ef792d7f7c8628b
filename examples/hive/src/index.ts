import { Hono } from "hono";
import { cors } from "hono/cors";
import { logger } from "hono/logger";
import { basics } from "./routes/basics";
import { files } from "./routes/files";
import { jobs, work } from "./routes/jobs";
import { notes } from "./routes/notes";
import { rooms } from "./routes/rooms";
import type { Env, Job } from "./env";

export { Census } from "./census";
export { Harvest } from "./harvest";
export { Limiter } from "./limiter";
export { Room } from "./room";

const api = new Hono<{ Bindings: Env }>().basePath("/api/v1");

api.use(logger());
api.use(cors());
// Every caller has a minute's budget, kept by a Durable Object of the app's own.
api.use(async (c, next) => {
  const caller = c.req.header("cf-connecting-ip") ?? "unknown";
  const { allowed, remaining } = await c.env.LIMITER.getByName(caller).take(c.env.LIMITS.perMinute, 60_000);
  c.header("x-budget-remaining", String(remaining));
  if (!allowed) return c.json({ error: "Too many requests; try again in a minute" }, 429);
  await next();
});

api.route("/", basics);
api.route("/notes", notes);
api.route("/files", files);
api.route("/jobs", jobs);
api.route("/rooms", rooms);
api.notFound((c) => c.json({ error: "There is no such path" }, 404));
api.onError((error, c) => {
  console.error(error);
  return c.json({ error: error.message }, 500);
});

export default {
  fetch: api.fetch,

  async queue(batch: MessageBatch<Job>, env: Env) {
    await work(batch, env);
  },

  async scheduled(controller: ScheduledController, env: Env) {
    const runs = Number((await env.SETTINGS.get("cron:runs")) ?? 0) + 1;
    await env.SETTINGS.put("cron:runs", String(runs));
    await env.SETTINGS.put("cron:last", new Date(controller.scheduledTime).toISOString());
  },
} satisfies ExportedHandler<Env, Job>;
