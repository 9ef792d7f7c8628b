import bytes from "./data.bin";
import textModule from "./text.txt";
import wasm from "./add.wasm";

import { attempt, attempts, kind } from "./kit.js";

export const misc = {
  "variables": ({ env }) => [env.TEXT, env.JSON],
  "version metadata": ({ env: { VERSION } }) => [Object.keys(VERSION).sort(), VERSION.id.length, VERSION.tag, !Number.isNaN(Date.parse(VERSION.timestamp))],
  "modules of text, data and wasm": async () => [textModule, bytes, kind(wasm), (await WebAssembly.instantiate(wasm)).exports.add(2, 3)],
  "what the global scope has": () => Object.fromEntries(["fetch", "caches", "crypto", "WebSocketPair", "HTMLRewriter", "navigator", "scheduler", "process", "Buffer", "require", "global", "MessageChannel", "EventSource", "URLPattern", "Temporal", "WeakRef"].map((name) => [name, typeof globalThis[name]])),
  "navigator.userAgent": () => navigator.userAgent,
  "names in env": ({ env }) => Object.keys(env).sort(),
  "the request": ({ request, url }) => [request.method, url.protocol, url.pathname, kind(request.signal), request.redirect, request.body],
  "the visitor's Accept-Encoding": ({ request }) => request.headers.get("accept-encoding"),
  "request.cf": ({ request }) => Object.fromEntries(["colo", "httpProtocol", "tlsVersion", "timezone"].map((name) => [name, kind(request.cf?.[name])])),
  "request.cf: where the visitor is": ({ request }) => Object.fromEntries(["country", "asn", "city"].map((name) => [name, kind(request.cf?.[name])])),
  "request.cf: what is known of the connection": ({ request }) => Object.fromEntries(["clientAcceptEncoding", "requestPriority", "tlsCipher", "edgeRequestKeepAliveStatus", "isEUCountry", "botManagement", "tlsClientAuth"].map((name) => [name, kind(request.cf?.[name])])),
  "headers that an edge adds": ({ request }) => Object.fromEntries(["cf-connecting-ip", "cf-ray", "cf-visitor", "x-forwarded-proto", "x-real-ip", "cf-ipcountry"].map((name) => [name, kind(request.headers.get(name))])),
  "headers that are not the visitor's to see": ({ request }) => [...request.headers.keys()].filter((name) => /^(x-skep|mf-)/.test(name)),
  "ctx": ({ ctx }) => attempts({ props: () => ctx.props, waitUntil: () => ctx.waitUntil(Promise.resolve()), passThrough: () => ctx.passThroughOnException() }),
  "ctx.exports": ({ ctx }) => [...new Set(Object.keys(ctx.exports ?? {}).map((name) => name.replace(/^skep.*/, "skep…")))].sort(),
  "code from strings is refused": () => attempts({ eval: () => eval("1 + 1"), function: () => new Function("return 1")(), wasm: async () => WebAssembly.compile(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])) }),
  "HTMLRewriter": async () => new HTMLRewriter().on("a", { element: (e) => e.setAttribute("href", "/x") }).transform(new Response("<a href=y>z</a>")).text(),
  "crypto": async () => [new Uint8Array(await crypto.subtle.digest("MD5", new Uint8Array())).toHex(), crypto.randomUUID().length],
  "Response: what is refused": () => attempts({ status: () => new Response(null, { status: 99 }), body: () => new Response("x", { status: 204 }), json: () => Response.json(() => 1), redirect: () => Response.redirect("https://a.b/", 200) }),
  "cookies of a response": async () => { const headers = new Headers(); headers.append("set-cookie", "a=1"); headers.append("set-cookie", "b=2"); return [headers.getSetCookie(), headers.get("set-cookie"), headers.getAll("set-cookie")]; },
  "node:": async () => attempt(async () => kind((await import("node:buffer")).Buffer)),
  "cloudflare:": async () => attempts({ workers: async () => Object.keys(await import("cloudflare:workers")).sort(), sockets: async () => Object.keys(await import("cloudflare:sockets")).sort(), email: async () => Object.keys(await import("cloudflare:email")).sort() }),
  "compatibility flags": () => [globalThis.Cloudflare?.compatibilityFlags?.nodejs_compat, globalThis.Cloudflare?.compatibilityFlags?.global_navigator],
};
