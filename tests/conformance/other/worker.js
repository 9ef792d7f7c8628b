// The worker that the other one calls.
import { DurableObject, RpcTarget, WorkerEntrypoint } from "cloudflare:workers";

class Counter extends RpcTarget {
  #n = 0;
  up(by = 1) { return (this.#n += by); }
  get value() { return this.#n; }
}

export class Named extends WorkerEntrypoint {
  add(a, b) { return a + b; }
  echo(...values) { return values; }
  props() { return this.ctx.props; }
  counter() { return new Counter(); }
  callback(f, value) { return f(value); }
  async callTwice(f) { return [await f(1), await f(2)]; }
  stream() { return new Response("streamed").body; }
  async read(stream) { return new Response(stream).text(); }
  response() { return new Response("body", { status: 203, headers: { "x-a": "b" } }); }
  nested() { return { counter: new Counter(), plain: [1, { f: (n) => n * 3 }] }; }
  fail() { throw Object.assign(new RangeError("on purpose"), { code: 7 }); }
  failWith(value) { throw value; }
  async failLater() { await scheduler.wait(1); throw new SyntaxError("later"); }
  get property() { return "a property"; }
  countOwn(name) { return this.env.ROOM.getByName(name).count(); }
  async fetch(request) { return Response.json({ named: true, url: request.url, props: this.ctx.props }); }
}

export class Room extends DurableObject {
  get size() { return 42; }
  add(a, b) { return a + b; }
  echo(...values) { return values; }
  whoami() { return this.ctx.id.name; }
  fail() { throw new RangeError("on purpose"); }
  async count() {
    const n = ((await this.ctx.storage.get("n")) ?? 0) + 1;
    await this.ctx.storage.put("n", n);
    return n;
  }
  async fetch(request) {
    if (request.headers.get("upgrade")) {
      const [client, server] = Object.values(new WebSocketPair());
      this.ctx.acceptWebSocket(server);
      return new Response(null, { status: 101, webSocket: client });
    }
    return new Response(`${request.method} ${request.url} ${await request.text()}`, { status: 202 });
  }
  webSocketMessage(socket, message) { socket.send(`echo ${message}`); }
}

export default {
  async fetch(request) {
    const url = new URL(request.url);
    if (url.pathname === "/throw") throw new Error("from the callee");
    if (url.pathname === "/redirect") return Response.redirect("https://example.com/there", 302);
    if (url.pathname === "/ws") {
      const [client, server] = Object.values(new WebSocketPair());
      server.accept();
      server.addEventListener("message", ({ data }) => server.send(`echo ${data}`));
      return new Response(null, { status: 101, webSocket: client });
    }
    const headers = Object.fromEntries(request.headers);
    return Response.json({ method: request.method, url: request.url, headers, body: await request.text() }, { status: 201, headers: { "x-answer": "yes" } });
  },
  rpc(a) { return `default ${a}`; },
};
