// The same worker on every peer. One operation per request, chosen by path.

const body = new Uint8Array(1024).fill(120);
let next = Math.floor(Math.random() * 1e9);

// A row that is missing is a mistake of the benchmark, not a fast answer.
const found = (value) => new Response(value, { status: value == null ? 404 : 200 });

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
      case "/made-big": {
        const { readable, writable } = new FixedLengthStream(100 << 20);
        const chunk = new Uint8Array(1 << 20);
        const writer = writable.getWriter();
        (async () => {
          for (let n = 0; n < 100; n++) await writer.write(chunk);
          await writer.close();
        })();
        return new Response(readable);
      }
      case "/r2-big-get":
        return new Response((await env.BUCKET.get("big")).body);
    }
    const among = /^\/among\/(\d+)\/([a-z0-9-]+)$/.exec(pathname);
    if (among) {
      const n = Math.floor(Math.random() * Number(among[1]));
      const key = `k${String(n).padStart(7, "0")}`;
      switch (among[2]) {
        case "kv-get":
          return found(await env.KV.get(key));
        case "kv-list":
          return found((await env.KV.list({ prefix: key.slice(0, 5), limit: 100 })).keys[99]?.name);
        case "r2-get":
          return new Response((await env.BUCKET.get(key)).body);
        case "r2-list":
          return found((await env.BUCKET.list({ prefix: key.slice(0, 5), limit: 100 })).objects[99]?.key);
        case "d1-get":
          return found(await env.DB.prepare("SELECT v FROM t WHERE id = ?").bind(n + 2).first("v"));
      }
    }
    return new Response("not found", { status: 404 });
  },
};
