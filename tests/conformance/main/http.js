// What the edge is asked by `requests.txt`.

const gzipped = async (text) => new Uint8Array(await new Response(new Response(text).body.pipeThrough(new CompressionStream("gzip"))).arrayBuffer());

const answers = {
  status: (url) => new Response(url.searchParams.has("body") ? "body" : null, { status: Number(url.searchParams.get("code")), statusText: "Said so" }),
  cookies: () => { const headers = new Headers({ "set-cookie": "a=1; Path=/" }); headers.append("set-cookie", "b=2"); return new Response("cookies", { headers }); },
  headers: () => new Response("headers", { headers: { "X-Mixed-Case": "Value", "x-twice": "a, b", "x-empty": "", server: "mine", date: "yesterday", "x-utf8": "ok" } }),
  redirect: () => Response.redirect("https://example.com/a%20b?c#d", 307),
  json: () => Response.json({ a: 1 }),
  stream: () => { const { readable, writable } = new TransformStream(); const writer = writable.getWriter(); writer.write(new TextEncoder().encode("one ")); writer.write(new TextEncoder().encode("two")).then(() => writer.close()); return new Response(readable); },
  fixed: () => { const { readable, writable } = new FixedLengthStream(3); const writer = writable.getWriter(); writer.write(new TextEncoder().encode("abc")); writer.close(); return new Response(readable); },
  empty: () => new Response(""),
  none: () => new Response(null),
  gzip: async () => new Response("plain", { headers: { "content-encoding": "gzip" } }),
  manual: async () => new Response(await gzipped("plain"), { headers: { "content-encoding": "gzip" }, encodeBody: "manual" }),
  url: (url, request) => new Response(request.url.replace(url.host, "HOST")),
  method: (url, request) => new Response(request.method),
  throws: () => { throw new RangeError("on purpose"); },
  nothing: () => undefined,
  string: () => "not a response",
  large: () => new Response("x".repeat(1 << 20)),
  forwarded: (url, request) => Response.json(Object.fromEntries(["x-own", "cookie", "authorization", "te", "connection", "x-forwarded-for", "cf-connecting-ip"].map((name) => [name, request.headers.get(name)]))),
  forged: (url, request) => Response.json([request.headers.get("x-skep-own"), request.headers.get("cf-ray") === "mine", request.headers.get("cf-connecting-ip") === "1.2.3.4"]),
};

export function overHttp(url, request) {
  return answers[url.pathname.split("/")[2]](url, request);
}
