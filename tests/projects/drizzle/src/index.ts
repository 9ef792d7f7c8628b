import { count, eq } from "drizzle-orm";
import { drizzle } from "drizzle-orm/d1";
import * as schema from "./schema";

const { users, posts } = schema;

export default {
  async fetch(request: Request, env: { DB: D1Database }): Promise<Response> {
    const db = drizzle(env.DB, { schema });
    const { pathname } = new URL(request.url);
    try {
      if (request.method === "POST" && pathname === "/users") {
        return Response.json(await db.insert(users).values(await request.json()).returning());
      }
      if (request.method === "POST" && pathname === "/posts") {
        const rows = (await request.json()) as { author: number; title: string }[];
        const [first, ...rest] = rows.map((row) => db.insert(posts).values(row).returning());
        return Response.json(await db.batch([first, ...rest]));
      }
      if (pathname === "/users") {
        return Response.json(await db.query.users.findMany({ with: { posts: true } }));
      }
      const [{ n }] = await db.select({ n: count() }).from(posts).innerJoin(users, eq(posts.author, users.id));
      return Response.json({ posts: n });
    } catch (error) {
      const { message, cause } = error as Error;
      return Response.json({ error: String((cause as Error | undefined)?.message ?? message) }, { status: 400 });
    }
  },
};
