import { Hono } from "hono";
import type { Env } from "../env";

/** Chat rooms: one Durable Object each. */
export const rooms = new Hono<{ Bindings: Env }>();

rooms.get("/:name", (c) => {
  if (c.req.header("upgrade")?.toLowerCase() !== "websocket") return c.json({ error: "Expected a WebSocket" }, 426);
  return c.env.ROOMS.getByName(c.req.param("name")).fetch(c.req.raw);
});

rooms.get("/:name/history", async (c) => c.json(await c.env.ROOMS.getByName(c.req.param("name")).history()));
