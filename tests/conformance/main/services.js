import { attempt, attempts, eventually, kind, plain } from "./kit.js";

async function caught(work) {
  try {
    return { value: plain(await work()) };
  } catch (e) {
    return { name: e?.name, message: e?.message, code: e?.code, remote: e?.remote, error: e instanceof Error, value: e instanceof Error ? undefined : plain(e) };
  }
}

export const services = {
  "fetch": async ({ env: { PLAIN } }) => attempts({
    get: async () => { const r = await PLAIN.fetch("https://x.y/path?q=1#f"); return [r.status, r.headers.get("x-answer"), r.headers.get("content-type"), await r.json()]; },
    post: async () => (await PLAIN.fetch("http://x.y:81/", { method: "POST", body: "body", headers: { "x-a": "b", "content-type": "text/x" } })).json(),
    stream: async () => (await (await PLAIN.fetch("http://x.y/", { method: "PUT", body: new Response("streamed").body })).json()).body,
    head: async () => { const r = await PLAIN.fetch("https://x.y/", { method: "HEAD" }); return [r.status, await r.text()]; },
    custom: async () => (await (await PLAIN.fetch("https://x.y/", { method: "PURGE" })).json()).method,
    redirect: async () => { const r = await PLAIN.fetch("https://x.y/redirect", { redirect: "manual" }); return [r.status, r.headers.get("location")]; },
    relative: () => PLAIN.fetch("/path"),
    request: async () => (await (await PLAIN.fetch(new Request("https://x.y/r", { headers: { "user-agent": "me" } }))).json()).headers,
  }),
  "fetch: a callee that throws": async ({ env: { PLAIN } }) => attempt(async () => { const r = await PLAIN.fetch("https://x.y/throw"); return [r.status, await r.text()]; }),
  "fetch: a named entrypoint and its props": async ({ env: { NAMED } }) => (await NAMED.fetch("https://x.y/z")).json(),
  "fetch: a WebSocket": async ({ env: { PLAIN } }) => {
    const { status, webSocket } = await PLAIN.fetch("https://x.y/ws", { headers: { upgrade: "websocket" } });
    webSocket.accept();
    const said = [];
    webSocket.addEventListener("message", ({ data }) => said.push(data));
    webSocket.send("over");
    await eventually(() => said.length);
    webSocket.close();
    return [status, said];
  },
  "fetch: the worker itself": async ({ env: { SELF } }) => (await SELF.fetch("https://x.y/echo?a", { method: "POST", body: "b" })).json(),
  "RPC: values": async ({ env: { NAMED } }) => attempts({
    add: () => NAMED.add(1, 2),
    types: () => NAMED.echo(new Date(0), new Map([["a", 1]]), 5n, undefined, null, NaN, new Uint8Array([1]), new Error("e"), [1, , 3], new Headers({ a: "b" })),
    property: () => NAMED.property,
    props: () => NAMED.props(),
    missing: () => NAMED.nothing(),
    missingProperty: () => NAMED.nothing,
    symbol: () => NAMED.echo(Symbol("s")),
    class: () => NAMED.echo(new (class Own { a = 1; })()),
    large: async () => (await NAMED.echo("x".repeat(1 << 20)))[0].length,
    tooLarge: async () => (await NAMED.echo("x".repeat(40 << 20)))[0].length,
    circular: async () => { const a = {}; a.self = a; const [b] = await NAMED.echo(a); return b.self === b; },
  }),
  "RPC: functions": async ({ env: { NAMED } }) => attempts({
    callback: () => NAMED.callback((n) => n * 2, 21),
    twice: () => NAMED.callTwice((n) => n + 1),
    returned: async () => { using back = await NAMED.echo((n) => n + 1); return back[0](1); },
    thrown: () => NAMED.callback(() => { throw new TypeError("in the callback"); }),
    environment: () => NAMED.callback(async () => "async", 1),
  }),
  "RPC: targets": async ({ env: { NAMED } }) => attempts({
    target: async () => { using counter = await NAMED.counter(); await counter.up(); return [await counter.up(4), await counter.value]; },
    pipelined: () => NAMED.counter().up(7),
    nested: async () => { using nested = await NAMED.nested(); return [await nested.counter.up(), await nested.plain[1].f(3), nested.plain[0]]; },
    disposed: async () => { const counter = await NAMED.counter(); counter[Symbol.dispose](); return counter.up(); },
    duplicate: async () => { const counter = await NAMED.counter(); using copy = counter.dup(); counter[Symbol.dispose](); return copy.up(); },
    kind: async () => { using counter = await NAMED.counter(); return kind(counter); },
  }),
  "RPC: streams and responses": async ({ env: { NAMED } }) => attempts({
    stream: async () => new Response(await NAMED.stream()).text(),
    read: () => NAMED.read(new Response("from here").body),
    response: async () => { const r = await NAMED.response(); return [r.status, r.headers.get("x-a"), await r.text()]; },
    request: async () => { const [r] = await NAMED.echo(new Request("https://a.b/", { method: "POST", body: "b" })); return [r.method, r.url, await r.text()]; },
  }),
  "RPC: errors": async ({ env: { NAMED } }) => ({
    range: await caught(() => NAMED.fail()),
    later: await caught(() => NAMED.failLater()),
    string: await caught(() => NAMED.failWith("a string")),
    object: await caught(() => NAMED.failWith({ a: 1 })),
    undefined: await caught(() => NAMED.failWith(undefined)),
    own: await caught(() => NAMED.failWith(Object.assign(new Error("own"), { name: "OwnError" }))),
    cause: await caught(() => NAMED.failWith(new Error("outer", { cause: new Error("inner") }))),
  }),
  "a callee with static assets: fetch": ({ env: { MIXED, MIXED_NAMED } }) => {
    const get = async (service, path, init) => { const r = await service.fetch(`https://x.y${path}`, { redirect: "manual", ...init }); return [r.status, r.headers.get("content-type"), r.headers.get("location"), await r.text()]; };
    return attempts({
      asset: () => get(MIXED, "/data.json"),
      page: () => get(MIXED, "/page"),
      moved: () => get(MIXED, "/docs/guide.html"),
      redirect: () => get(MIXED, "/old"),
      head: () => get(MIXED, "/data.json", { method: "HEAD" }),
      first: () => get(MIXED, "/file.txt"),
      script: () => get(MIXED, "/nothing?q"),
      post: () => get(MIXED, "/data.json", { method: "POST", body: "body" }),
      postElsewhere: () => get(MIXED, "/nothing", { method: "POST", body: "body" }),
      named: () => get(MIXED_NAMED, "/data.json"),
    });
  },
  "a callee with static assets: RPC": ({ env: { MIXED, MIXED_NAMED } }) => attempts({
    add: () => MIXED.add(1, 2),
    types: () => MIXED.echo(new Date(0), new Map([[1, 2]]), 5n),
    property: () => MIXED.property,
    target: async () => { using counter = await MIXED.counter(); await counter.up(); return counter.up(); },
    pipelined: () => MIXED.counter().up(),
    stream: async () => new Response(await MIXED.stream()).text(),
    callback: () => MIXED.callback((n) => n + 1),
    fail: () => MIXED.fail(),
    missing: () => MIXED.nothing(),
    who: () => MIXED.who(),
    named: () => MIXED_NAMED.who(),
  }),
  "a callee with static assets: a WebSocket": async ({ env: { MIXED } }) => {
    const { status, webSocket } = await MIXED.fetch("https://x.y/ws", { headers: { upgrade: "websocket" } });
    webSocket.accept();
    const said = [];
    webSocket.addEventListener("message", ({ data }) => said.push(data));
    webSocket.send("over");
    await eventually(() => said.length);
    webSocket.close();
    return [status, said];
  },
  "RPC: the default export": ({ env: { PLAIN } }) => attempt(() => PLAIN.rpc(1)),
  "RPC: names that are reserved": ({ env: { NAMED } }) => attempts({
    constructor: () => NAMED.constructor.name,
    toString: () => kind(NAMED.toString),
    then: () => kind(NAMED.then),
    connect: () => kind(NAMED.connect),
  }),
};
