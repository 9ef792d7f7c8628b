import { attempts, eventually, kind, plain } from "./kit.js";
import { keyValueCases, sqlCases } from "./object-classes.js";

const outside = {
  "ids": ({ env: { OBJECTS, KEYED }, key }) => attempts({
    named: () => { const id = OBJECTS.idFromName(key); return [id.name, id.toString().length, id.equals(OBJECTS.idFromName(key)), id.equals(OBJECTS.idFromName("other"))]; },
    unique: () => { const [a, b] = [OBJECTS.newUniqueId(), OBJECTS.newUniqueId()]; return [a.name, a.toString().length, a.equals(b)]; },
    back: () => { const id = OBJECTS.newUniqueId(); return OBJECTS.idFromString(id.toString()).equals(id); },
    nonsense: () => OBJECTS.idFromString("nonsense"),
    foreign: () => OBJECTS.idFromString(KEYED.newUniqueId().toString()),
    foreignGet: () => OBJECTS.get(KEYED.idFromName("a")).add(1, 1),
    empty: () => OBJECTS.idFromName("").name,
    jurisdiction: () => kind(OBJECTS.jurisdiction("eu").newUniqueId().toString()),
    byName: () => OBJECTS.getByName(key).name,
    stub: () => { const stub = OBJECTS.get(OBJECTS.idFromName(key)); return [stub.name, stub.id.name, kind(stub)]; },
    location: () => OBJECTS.getByName(key, { locationHint: "weur" }).add(1, 1),
    badLocation: () => OBJECTS.getByName(key, { locationHint: "moon" }).add(1, 1),
  }),
  "what an object knows of its id": async ({ env: { OBJECTS }, key }) => [await OBJECTS.getByName(key).whoami(), (await OBJECTS.get(OBJECTS.newUniqueId()).whoami())[0]],
  "fetch": async ({ env: { OBJECTS }, key }) => {
    const stub = OBJECTS.getByName(key);
    return attempts({
      post: async () => { const r = await stub.fetch("https://a.b/path?q", { method: "POST", body: "body", headers: { "x-a": "b" } }); return [r.status, await r.json()]; },
      request: async () => (await stub.fetch(new Request("http://x/"))).json(),
      relative: () => stub.fetch("/path"),
      throws: () => stub.fetch("https://a.b/throw"),
    });
  },
  "RPC: values": async ({ env: { OBJECTS }, key }) => {
    const stub = OBJECTS.getByName(key);
    return attempts({
      add: () => stub.add(1, 2),
      types: () => stub.echo(new Date(0), new Map([["a", 1]]), new Set([1]).size, 5n, undefined, null, NaN, new Uint8Array([1, 2]), /x/.source, new Error("e"), [1, , 3]),
      property: () => stub.property,
      deep: () => stub.property.deep,
      missing: () => stub.nothing(),
      missingProperty: () => stub.nothing,
      function: async () => (await stub.echo((n) => n + 1))[0](1),
      symbol: () => stub.echo(Symbol("s")),
      class: () => stub.echo(new (class Own { a = 1; })()),
      request: async () => { const [r] = await stub.echo(new Response("inside", { status: 202 })); return [r.status, await r.text()]; },
      stream: async () => new Response((await stub.echo(new Response("streamed").body))[0]).text(),
      large: async () => (await stub.echo("x".repeat(1 << 20)))[0].length,
    });
  },
  "RPC: errors": async ({ env: { OBJECTS }, key }) => {
    const stub = OBJECTS.getByName(key);
    const caught = async (work) => { try { await work(); } catch (e) { return { name: e?.name, message: e?.message, code: e?.code, remote: e?.remote, range: e instanceof RangeError, value: e instanceof Error ? undefined : plain(e) }; } };
    return { error: await caught(() => stub.fail()), object: await caught(() => stub.fail("object")) };
  },
  "calls of one object do not overlap in storage": async ({ env: { OBJECTS }, key }) => {
    const stub = OBJECTS.getByName(key);
    return (await Promise.all(Array.from({ length: 5 }, () => stub.count()))).length;
  },
  "abort": async ({ env: { OBJECTS }, key }) => attempts({
    abort: () => OBJECTS.getByName(key).abort(),
    after: () => OBJECTS.getByName(key).add(1, 2),
  }),
  "an alarm rings": async ({ env: { OBJECTS }, key }) => {
    await OBJECTS.getByName(key).ring(10);
    return eventually(() => OBJECTS.getByName(key).alarms());
  },
  "an alarm that fails is tried again": async ({ env: { OBJECTS }, key }) => {
    const stub = OBJECTS.getByName(key);
    await stub.ringAndFail();
    const alarms = await eventually(async () => { const a = await stub.alarms(); return a?.length > 1 && a; });
    return alarms;
  },
  "hibernating WebSockets": async ({ env: { OBJECTS }, key }) => {
    const stub = OBJECTS.getByName(key);
    const open = async (query) => {
      const response = await stub.fetch(`https://a.b/ws${query}`, { headers: { upgrade: "websocket" } });
      response.webSocket.accept();
      return response;
    };
    const { status, webSocket: socket } = await open("?tag=a&tag=b");
    const other = (await open("")).webSocket;
    const said = [];
    socket.addEventListener("message", ({ data }) => said.push(data));
    socket.addEventListener("close", ({ code, reason, wasClean }) => said.push([code, reason, wasClean]));
    socket.send("hello");
    socket.send(new Uint8Array([1, 2]));
    socket.send("tags");
    socket.send("close");
    await eventually(() => said.length >= 4);
    other.close(4002, "bye");
    return [status, said, await eventually(() => stub.closed())];
  },
  "an object of another worker": async ({ env: { FOREIGN }, key }) => {
    const stub = FOREIGN.getByName(key);
    return attempts({
      call: () => stub.add(1, 2),
      name: () => stub.whoami(),
      property: () => stub.size,
      fetch: async () => { const r = await stub.fetch("https://a.b/p?q", { method: "PUT", body: "x" }); return [r.status, await r.text()]; },
      stored: async () => [await stub.count(), await stub.count()],
      missing: () => stub.nothing(),
      throws: () => stub.fail(),
      id: () => [FOREIGN.idFromName(key).toString().length, kind(stub.id)],
      types: () => stub.echo(new Date(0), new Map([[1, 2]]), 5n),
      function: async () => (await stub.echo((n) => n + 1))[0](1),
    });
  },
  "the object that another worker's calls reach is its own": async ({ env: { FOREIGN, NAMED }, key }) => {
    await FOREIGN.getByName(key).count();
    return NAMED.countOwn(key);
  },
  "a WebSocket to an object of another worker": async ({ env: { FOREIGN }, key }) => {
    const { webSocket } = await FOREIGN.getByName(key).fetch("https://a.b/", { headers: { upgrade: "websocket" } });
    webSocket.accept();
    const said = [];
    webSocket.addEventListener("message", ({ data }) => said.push(data));
    webSocket.send("over");
    await eventually(() => said.length);
    webSocket.close();
    return said;
  },
};

/** Cases that run in an object of each class. */
const inside = {};
for (const name of keyValueCases) {
  inside[`${name} (SQLite)`] = async ({ env, key }) => plain(await env.OBJECTS.getByName(key).inside(name));
  inside[`${name} (key-value)`] = async ({ env, key }) => plain(await env.KEYED.getByName(key).inside(name));
}
for (const name of sqlCases) inside[name] = async ({ env, key }) => plain(await env.OBJECTS.getByName(key).inside(name));

export const objects = { ...outside, ...inside };
