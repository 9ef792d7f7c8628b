import { Hono } from "hono";
import story from "../story.txt";
import squareModule from "../square.wasm";
import type { Env } from "../env";

/** Bindings that need a route or two each. */
export const basics = new Hono<{ Bindings: Env }>();

basics.get("/about", async (c) => {
  const { GREETING, VERSION, SETTINGS } = c.env;
  const [runs, last] = await Promise.all([SETTINGS.get("cron:runs"), SETTINGS.get("cron:last")]);
  c.env.VISITS.writeDataPoint({ indexes: ["about"], blobs: [c.req.header("user-agent") ?? ""], doubles: [1] });
  return c.json({ greeting: GREETING, version: VERSION, story, cron: { runs: Number(runs ?? 0), last } });
});

basics.get("/settings", async (c) => {
  const { value, metadata } = await c.env.SETTINGS.getWithMetadata("theme");
  return c.json({ theme: value ?? "honey", metadata });
});

basics.put("/settings", async (c) => {
  const { theme } = await c.req.json<{ theme: string }>();
  if (!["honey", "clover", "night"].includes(theme)) return c.json({ error: "No such theme" }, 400);
  await c.env.SETTINGS.put("theme", theme, { metadata: { changed: Date.now() } });
  return c.json({ theme });
});

basics.get("/square/:n", async (c) => {
  const instance = new WebAssembly.Instance(squareModule);
  const square = instance.exports.square as (n: number) => number;
  return c.json({ square: square(Number(c.req.param("n")) | 0) });
});

basics.get("/census", async (c) => c.json({ answer: await c.env.CENSUS.count(50_000) }));

basics.post("/shout", async (c) => {
  const { success } = await c.env.SHOUTS.limit({ key: c.req.header("cf-connecting-ip") ?? "" });
  return c.json({ heard: success }, success ? 200 : 429);
});

basics.get("/slow", async (c) => {
  const cache = caches.default;
  const key = new Request(new URL("/api/v1/slow", c.req.url));
  const hit = await cache.match(key);
  if (hit) return c.json({ ...(await hit.json<object>()), cached: true });
  await new Promise((resolve) => setTimeout(resolve, 500));
  const answer = { made: new Date().toISOString() };
  await cache.put(key, Response.json(answer, { headers: { "cache-control": "max-age=15" } }));
  return c.json({ ...answer, cached: false });
});

basics.post("/harvest", async (c) => {
  const instance = await c.env.HARVEST.create({ params: { field: "clover" } });
  return c.json({ id: instance.id });
});

basics.get("/harvest/:id", async (c) => {
  const instance = await c.env.HARVEST.get(c.req.param("id"));
  return c.json(await instance.status());
});
