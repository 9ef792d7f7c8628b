// The same worker on every peer. One operation per request, chosen by path.

const body = new Uint8Array(1024).fill(120);
let next = Math.floor(Math.random() * 1e9);

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    switch (pathname) {
      case "/hello":
        return new Response("Hello World!");
      case "/setup": {
        await env.KV.put("key", "x".repeat(1024));
        await env.BUCKET.put("key", body);
        await env.DB.exec("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v TEXT)");
        await env.DB.prepare("INSERT OR REPLACE INTO t VALUES (1, ?)").bind("x".repeat(100)).run();
        return new Response("ok");
      }
      case "/kv-get":
        return new Response(await env.KV.get("key"));
      case "/kv-put":
        await env.KV.put(`k${next++}`, "x".repeat(1024));
        return new Response("ok");
      case "/d1-get":
        return Response.json(await env.DB.prepare("SELECT v FROM t WHERE id = ?").bind(1).first());
      case "/d1-put":
        await env.DB.prepare("INSERT INTO t(v) VALUES (?)").bind("x".repeat(100)).run();
        return new Response("ok");
      case "/r2-get":
        return new Response((await env.BUCKET.get("key")).body);
      case "/r2-put":
        await env.BUCKET.put(`k${next++}`, body);
        return new Response("ok");
      case "/r2-big-put": {
        const { readable, writable } = new FixedLengthStream(100 << 20);
        const chunk = new Uint8Array(1 << 20);
        const writer = writable.getWriter();
        const put = env.BUCKET.put("big", readable);
        for (let n = 0; n < 100; n++) await writer.write(chunk);
        await writer.close();
        await put;
        return new Response("ok");
      }
      case "/r2-big-get":
        return new Response((await env.BUCKET.get("big")).body);
    }
    const fill = /^\/fill\/(\d+)$/.exec(pathname);
    if (fill) {
      const from = Number(fill[1]);
      const rows = Array.from({ length: 1000 }, (_, n) => `(${from + n + 2}, 'x')`).join();
      await env.DB.exec(`INSERT OR REPLACE INTO t(id, v) VALUES ${rows}`);
      return new Response("ok");
    }
    return new Response("not found", { status: 404 });
  },
};
