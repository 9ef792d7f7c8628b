import { DurableObject } from "cloudflare:workers";
import page from "./page.html";

/** How long a machine is kept that nobody uses. */
const IDLE = 10 * 60 * 1000;
/** How long a command may take. */
const PATIENCE = 30 * 1000;

/** One visitor's machine. */
export class Sandbox extends DurableObject {
  /** Runs a command in a shell; what it printed, and its exit code. */
  async run(command) {
    const { container } = this.ctx;
    if (!container.running) {
      container.start({ enableInternet: false });
      // That it ends is no news: the next command starts it again.
      container.monitor().catch(() => {});
    }
    // It outlives this object, which rests after some seconds, and ends by the alarm.
    await container.setInactivityTimeout(IDLE);
    await this.ctx.storage.setAlarm(Date.now() + IDLE);
    const process = await container.exec(["/bin/sh", "-c", command], { stderr: "combined" });
    const timer = setTimeout(() => process.kill(9), PATIENCE);
    const { stdout, exitCode } = await process.output();
    clearTimeout(timer);
    return { output: new TextDecoder().decode(stdout), exitCode };
  }

  async alarm() {
    if (this.ctx.container.running) await this.ctx.container.destroy();
  }
}

export default {
  async fetch(request, env) {
    const visitor = /^\/run\/([\w-]{1,64})$/.exec(new URL(request.url).pathname)?.[1];
    if (visitor === undefined) return new Response(page, { headers: { "content-type": "text/html;charset=utf-8" } });
    if (request.method !== "POST") return new Response("a command is the body of a POST", { status: 405 });
    return Response.json(await env.SANDBOX.getByName(visitor).run(await request.text()));
  },
};
