import { DurableObject, WorkerEntrypoint } from "cloudflare:workers";

const text = (bytes) => new TextDecoder().decode(bytes);

export class Box extends DurableObject {
  ended = "";

  async fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    const container = this.ctx.container;
    try {
      switch (pathname) {
        case "/state":
          return Response.json({ has: container !== undefined, running: container?.running, ended: this.ended });
        case "/start": {
          this.ended = "";
          container.start({ enableInternet: searchParams.has("internet"), env: { GREETING: "hi" } });
          container.monitor().then(() => (this.ended = "well"), (error) => (this.ended = String(error)));
          return Response.json({ running: container.running });
        }
        case "/exec": {
          const input = searchParams.get("in");
          const stdin = input === null ? undefined : new Blob([input]).stream();
          const options = { env: { A: "1" }, cwd: "/tmp", stdin };
          const process = await container.exec(["/bin/sh", "-c", searchParams.get("run")], options);
          const { stdout, stderr, exitCode } = await process.output();
          return Response.json({ out: text(stdout), err: text(stderr), code: exitCode });
        }
        case "/tcp": {
          const socket = container.getTcpPort(9000).connect("10.0.0.1:9000");
          const writer = socket.writable.getWriter();
          await writer.write(new TextEncoder().encode(searchParams.get("say")));
          const { value } = await socket.readable.getReader().read();
          await socket.close();
          return new Response(value);
        }
        case "/signal":
          container.signal(15);
          return new Response("sent");
        case "/destroy":
          await container.destroy();
          return new Response("gone");
        case "/intercept":
          await container.interceptOutboundHttp(searchParams.get("host"), this.ctx.exports.Outbound({ props: { by: this.ctx.id.name } }));
          return new Response("intercepted");
        case "/intercept-all":
          await container.interceptAllOutboundHttp(this.ctx.exports.Outbound({ props: { by: "all" } }));
          return new Response("intercepted");
        case "/intercept-https":
          await container.interceptOutboundHttps(searchParams.get("host"), this.ctx.exports.Outbound({ props: { by: "https" } }));
          return new Response("intercepted");
        default:
          return await container.getTcpPort(8080).fetch(request);
      }
    } catch (error) {
      return new Response(String(error), { status: 500 });
    }
  }
}

// Gets what containers send out.
export class Outbound extends WorkerEntrypoint {
  async fetch(request) {
    return new Response(`${this.ctx.props.by}: ${request.method} ${request.url} ${await request.text()}`);
  }
}

export default {
  fetch(request, env) {
    return env.BOX.getByName(new URL(request.url).searchParams.get("box") ?? "a").fetch(request);
  },
};
