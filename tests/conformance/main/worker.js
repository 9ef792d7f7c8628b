// Every case is a function that uses one behaviour of one binding and returns what it saw. A case gets its own `key`, so
// that cases can run side by side.
import { analytics } from "./analytics.js";
import { assets } from "./assets.js";
import { cache } from "./cache.js";
import { d1 } from "./d1.js";
import { overHttp } from "./http.js";
import { images } from "./images.js";
import { kv } from "./kv.js";
import { plain } from "./kit.js";
import { misc } from "./misc.js";
import { objects } from "./objects.js";
import { queue, queues } from "./queues.js";
import { r2 } from "./r2.js";
import { multipart } from "./multipart.js";
import { ratelimit } from "./ratelimit.js";
import { scheduled } from "./schedules.js";
import { services } from "./services.js";
import { sockets } from "./sockets.js";
import { workflows } from "./workflows.js";

export { KeyedObject, SqlObject } from "./object-classes.js";
export { Flow } from "./workflows.js";

const groups = {
  KV: kv,
  R2: r2,
  "R2 multipart": multipart,
  D1: d1,
  "Durable Objects": objects,
  Queues: queues,
  "Cache API": cache,
  "Static assets": assets,
  "Service bindings": services,
  WebSockets: sockets,
  Workflows: workflows,
  "Rate limits": ratelimit,
  "Analytics Engine": analytics,
  Images: images,
  Runtime: misc,
};

async function run(group, name, context) {
  // The end keeps one key from being the prefix of another.
  const key = `${group}-${name}`.toLowerCase().replace(/[^a-z0-9]+/g, "-") + "_";
  try {
    return plain(await groups[group][name]({ ...context, key }));
  } catch (error) {
    return { uncaught: String(error?.stack ?? error) };
  }
}

export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    if (url.pathname === "/cases") {
      return Response.json(Object.entries(groups).flatMap(([group, cases]) => Object.keys(cases).map((name) => [group, name])));
    }
    if (url.pathname === "/case") {
      const [group, name] = [url.searchParams.get("group"), url.searchParams.get("name")];
      return Response.json(await run(group, name, { env, ctx, request, url }));
    }
    if (url.pathname.startsWith("/http/")) return overHttp(url, request);
    if (url.pathname.startsWith("/echo")) {
      return Response.json({ method: request.method, path: url.pathname + url.search, body: await request.text() });
    }
    return new Response("no asset and no case", { status: 404, headers: { "x-worker": "conformance" } });
  },
  queue,
  scheduled,
};
