import { Hono } from "hono";
import type { Env } from "../env";

/** Files in R2. */
export const files = new Hono<{ Bindings: Env }>();

files.get("/", async (c) => {
  const { objects } = await c.env.FILES.list({ limit: 50 });
  return c.json(objects.map(({ key, size, uploaded }) => ({ key, size, uploaded })));
});

files.put("/:name", async (c) => {
  const contentType = c.req.header("content-type");
  const object = await c.env.FILES.put(c.req.param("name"), c.req.raw.body, { httpMetadata: { contentType } });
  return c.json({ key: object.key, size: object.size, etag: object.etag }, 201);
});

files.get("/:name", async (c) => {
  const object = await c.env.FILES.get(c.req.param("name"), { range: c.req.raw.headers, onlyIf: c.req.raw.headers });
  if (object === null) return c.json({ error: "There is no such file" }, 404);
  const headers = new Headers({ etag: object.httpEtag });
  object.writeHttpMetadata(headers);
  // Strangers' files must not run as pages of ours.
  headers.set("content-disposition", "attachment");
  if (!("body" in object)) return new Response(null, { status: 304, headers });
  return new Response(object.body, { headers });
});

files.delete("/:name", async (c) => {
  await c.env.FILES.delete(c.req.param("name"));
  return c.json({ deleted: c.req.param("name") });
});
