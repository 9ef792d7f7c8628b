// Miniflare with the same worker on the same engine.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [npm, port, compatibilityDate, script, resourcePersistencePath, directory] = process.argv.slice(2);
const { Miniflare, convertV4MiniflareOptions } = createRequire(`${npm}/`)("miniflare");
const miniflare = new Miniflare(
  convertV4MiniflareOptions({
    name: "bench",
    modules: true,
    script: readFileSync(script, "utf8"),
    compatibilityDate,
    kvNamespaces: { KV: "bench" },
    r2Buckets: { BUCKET: "bench" },
    d1Databases: { DB: "bench" },
    ...(directory && { assets: { directory, routerConfig: { has_user_worker: true } } }),
    resourcePersistencePath,
    host: "127.0.0.1",
    port: Number(port),
  }),
);
await miniflare.ready;
