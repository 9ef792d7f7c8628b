import { Hono } from "hono";
import type { Env } from "../env";

/** Notes in D1. */
export const notes = new Hono<{ Bindings: Env }>();

notes.get("/", async (c) => {
  const { results } = await c.env.NOTES.prepare("SELECT * FROM notes ORDER BY created DESC LIMIT 20").all();
  return c.json(results);
});

notes.post("/", async (c) => {
  const { text } = await c.req.json<{ text: string }>();
  if (typeof text !== "string" || text.length < 1 || text.length > 500) {
    return c.json({ error: "A note has 1 to 500 characters" }, 400);
  }
  const insert = c.env.NOTES.prepare("INSERT INTO notes (text, created) VALUES (?, ?) RETURNING *");
  return c.json(await insert.bind(text, Date.now()).first(), 201);
});

notes.delete("/:id", async (c) => {
  const { meta } = await c.env.NOTES.prepare("DELETE FROM notes WHERE id = ?").bind(c.req.param("id")).run();
  return c.json({ deleted: meta.changes });
});
