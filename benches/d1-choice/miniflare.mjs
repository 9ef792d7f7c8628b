// Miniflare with the same worker on the same engine.
import { readFileSync } from "node:fs";
import * as miniflare from "miniflare";
const mf = new miniflare.Miniflare(miniflare.convertV4MiniflareOptions({
  name: "app", modules: true, script: readFileSync("worker.js", "utf8"), compatibilityDate: "2026-08-01",
  d1Databases: { DB: "bench" }, resourcePersistencePath: "state/miniflare", port: 18713, host: "127.0.0.1",
}));
await mf.ready;
console.log("ready");
