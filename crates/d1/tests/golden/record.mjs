// Records Miniflare's answers to calls.mjs: `npm i miniflare@5.20261117.0-beta && node record.mjs > answers.jsonl` (Node.js 22 or newer).
import * as miniflare from "miniflare";
import calls from "./calls.mjs";

// The engine's D1 client hides its fetcher; it is caught when the client first uses it.
const script = `let fetcher;
export default { async fetch(request, env) {
  if (!fetcher) {
    let proto = Object.getPrototypeOf(env.SELF);
    while (proto && !Object.hasOwn(proto, "fetch")) proto = Object.getPrototypeOf(proto);
    const original = proto.fetch;
    proto.fetch = function (...args) { fetcher = this; return original.apply(this, args); };
    await env.DB.prepare("SELECT 1").all();
  }
  const { path, body } = await request.json();
  const reply = await fetcher.fetch("http://d1" + path, { method: "POST", body: JSON.stringify(body) });
  return Response.json({ status: reply.status, body: await reply.text() });
} }`;
const mf = new miniflare.Miniflare(miniflare.convertV4MiniflareOptions({
  name: "recorder", modules: true, script, compatibilityDate: "2026-08-01", d1Databases: { DB: "golden" }, serviceBindings: { SELF: "recorder" },
}));
for (const call of calls) {
  const reply = await mf.dispatchFetch("http://x/", { method: "POST", body: JSON.stringify(call) });
  const text = await reply.text();
  let answer;
  try { answer = JSON.parse(JSON.parse(text).body); } catch { answer = { broken: true }; }
  console.log(JSON.stringify({ call, answer }));
}
await mf.dispose();
