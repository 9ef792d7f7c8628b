// One worker, one D1 binding: what is behind the binding is what is measured.
let seed = 1;
const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
const ROWS = 10_000;

export default {
  async fetch(request, { DB }) {
    switch (new URL(request.url).pathname) {
      case "/setup": {
        await DB.exec("CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER)");
        await DB.exec("CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, text TEXT NOT NULL)");
        const insert = DB.prepare("INSERT OR REPLACE INTO users (id, name, age) VALUES (?, ?, ?)");
        for (let from = 0; from < ROWS; from += 500) {
          await DB.batch(Array.from({ length: 500 }, (_, i) => insert.bind(from + i, `user ${from + i}`, i % 90)));
        }
        return new Response("ready\n");
      }
      case "/read":
        return Response.json(await DB.prepare("SELECT id, name, age FROM users WHERE id = ?").bind(random(ROWS)).first());
      case "/insert":
        return Response.json((await DB.prepare("INSERT INTO log (text) VALUES (?)").bind("a line of text that somebody logs").run()).meta.changes);
      case "/batch": {
        const insert = DB.prepare("INSERT INTO log (text) VALUES (?)");
        const results = await DB.batch(Array.from({ length: 50 }, () => insert.bind("a line of text that somebody logs")));
        return Response.json(results.length);
      }
      default:
        return new Response("hello");
    }
  },
};
