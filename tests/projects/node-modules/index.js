// Uses each of these Node.js modules once; the answer says what came of it.

import assert from "node:assert";
import { AsyncLocalStorage } from "node:async_hooks";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import diagnostics from "node:diagnostics_channel";
import { EventEmitter } from "node:events";
import fs from "node:fs";
import { STATUS_CODES } from "node:http";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import punycode from "node:punycode";
import querystring from "node:querystring";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { StringDecoder } from "node:string_decoder";
import { setTimeout as sleep } from "node:timers/promises";
import url from "node:url";
import util from "node:util";
import zlib from "node:zlib";

const uses = {
  assert: () => { try { assert.strictEqual(1, 2); } catch (error) { return error.code; } },
  async_hooks: () => new AsyncLocalStorage().run("kept", () => "ran"),
  buffer: () => Buffer.from("aGk=", "base64").toString(),
  crypto: () => createHash("sha256").update("a").digest("hex").slice(0, 8),
  diagnostics_channel: () => typeof diagnostics.channel("c"),
  events: () => { const e = new EventEmitter(); let got; e.on("x", (v) => (got = v)); e.emit("x", 7); return got; },
  fs: () => { fs.writeFileSync("/tmp/a.txt", "written"); return fs.readFileSync("/tmp/a.txt", "utf8"); },
  http: () => STATUS_CODES[418],
  os: () => typeof os.EOL,
  path: () => path.join("a", "..", "b"),
  process: () => typeof process.nextTick,
  punycode: () => punycode.toASCII("mañana.com"),
  querystring: () => querystring.stringify({ a: 1, b: "x y" }),
  stream: async () => { let text = ""; for await (const chunk of Readable.from(["a", "b"])) text += chunk; return text; },
  stream_promises: async () => { const out = []; await pipeline(Readable.from(["x"]), async (source) => { for await (const c of source) out.push(c); }); return out.join(); },
  string_decoder: () => new StringDecoder("utf8").write(Buffer.from("é")),
  timers_promises: () => sleep(1, "slept"),
  url: () => url.parse("http://a.b/c?d").pathname,
  util: () => util.format("%s=%d", "n", 3),
  zlib: () => zlib.gunzipSync(zlib.gzipSync("packed")).toString(),
};

export default {
  async fetch() {
    const results = {};
    for (const [name, use] of Object.entries(uses)) results[name] = await use();
    return Response.json(results);
  },
};
