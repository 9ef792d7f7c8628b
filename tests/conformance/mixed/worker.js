// A worker with static assets that others call.
import { RpcTarget, WorkerEntrypoint } from "cloudflare:workers";

class Counter extends RpcTarget {
  #n = 0;
  up() { return ++this.#n; }
}

export class Named extends WorkerEntrypoint {
  who() { return [this.env.WHO, this.ctx.props]; }
  fetch(request) { return new Response(`named ${new URL(request.url).pathname}`); }
}

export default class extends WorkerEntrypoint {
  async fetch(request) {
    const url = new URL(request.url);
    if (url.pathname === "/ws") {
      const [client, server] = Object.values(new WebSocketPair());
      server.accept();
      server.addEventListener("message", ({ data }) => server.send(`echo ${data}`));
      return new Response(null, { status: 101, webSocket: client });
    }
    return Response.json({ worker: true, method: request.method, url: request.url, body: await request.text(), host: request.headers.get("host"), props: this.ctx.props });
  }
  add(a, b) { return a + b; }
  echo(...values) { return values; }
  counter() { return new Counter(); }
  get property() { return "a property"; }
  fail() { throw new RangeError("on purpose"); }
  stream() { return new Response("streamed").body; }
  callback(f) { return f(20); }
  who() { return [this.env.WHO, this.ctx.props]; }
}
