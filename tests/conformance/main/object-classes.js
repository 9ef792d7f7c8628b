import { DurableObject } from "cloudflare:workers";

import { attempts, kind, sleep } from "./kit.js";

/** An object whose cases run inside it. */
class Tested extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    ctx.blockConcurrencyWhile(async () => { this.blocked = "first"; });
  }

  /** Runs a case by its name, so that its answer is made where the object is. */
  async inside(name) {
    return inside[name](this.ctx, this);
  }

  async fetch(request) {
    const url = new URL(request.url);
    if (url.pathname === "/ws") return this.#accept(url);
    if (url.pathname === "/throw") throw new TypeError("from fetch");
    return Response.json({ method: request.method, url: request.url, header: request.headers.get("x-a"), body: await request.text() }, { status: 201 });
  }

  #accept(url) {
    const [client, server] = Object.values(new WebSocketPair());
    this.ctx.acceptWebSocket(server, url.searchParams.getAll("tag"));
    server.serializeAttachment({ joined: url.searchParams.getAll("tag") });
    return new Response(null, { status: 101, webSocket: client });
  }

  webSocketMessage(socket, message) {
    if (message === "close") return socket.close(4001, "as asked");
    if (message === "throw") throw new Error("in a message");
    if (message === "tags") return socket.send(JSON.stringify([this.ctx.getTags(socket), this.ctx.getWebSockets().length, this.ctx.getWebSockets("a").length, socket.deserializeAttachment()]));
    socket.send(typeof message === "string" ? `echo ${message}` : message);
  }

  async webSocketClose(socket, code, reason, clean) {
    await this.ctx.storage.put("closed", [code, reason, clean]);
  }

  async alarm(info) {
    const alarms = (await this.ctx.storage.get("alarms")) ?? [];
    alarms.push({ isRetry: info?.isRetry, retryCount: info?.retryCount, pending: await this.ctx.storage.getAlarm() });
    await this.ctx.storage.put("alarms", alarms);
    if ((await this.ctx.storage.get("fails")) && alarms.length < 2) {
      await this.ctx.storage.sync();
      throw new Error("once");
    }
  }

  get property() { return { deep: ["value"] }; }
  add(a, b) { return a + b; }
  echo(...values) { return values; }
  whoami() { return [this.ctx.id.name, kind(this.ctx.id.toString()), this.ctx.id.toString().length]; }
  fail(what) { throw what === "object" ? { odd: 1 } : Object.assign(new RangeError("on purpose"), { code: 7 }); }
  closed() { return this.ctx.storage.get("closed"); }
  async ring(ms) { await this.ctx.storage.setAlarm(Date.now() + ms); }
  async ringAndFail() { await this.ctx.storage.put("fails", true); await this.ctx.storage.setAlarm(Date.now()); }
  alarms() { return this.ctx.storage.get("alarms"); }
  async count() { const n = ((await this.ctx.storage.get("n")) ?? 0) + 1; await sleep(1); await this.ctx.storage.put("n", n); return n; }
  abort() { this.ctx.abort("aborted on purpose"); }
}

export class SqlObject extends Tested {}
export class KeyedObject extends Tested {}

const keyValue = {
  "put, get, delete": async ({ storage }) => attempts({
    absent: () => storage.get("none"),
    put: () => storage.put("a", { date: new Date(0), map: new Map([[1, 2]]), bytes: new Uint8Array([1]) }),
    get: () => storage.get("a"),
    several: () => storage.put({ b: 1, c: 2, d: 3 }),
    getSeveral: () => storage.get(["d", "b", "none"]),
    delete: () => storage.delete("b"),
    deleteAbsent: () => storage.delete("b"),
    deleteSeveral: () => storage.delete(["c", "d", "e"]),
    undefined: () => storage.put("u", undefined),
    function: () => storage.put("f", () => 1),
    emptyKey: async () => { await storage.put("", 1); return storage.get(""); },
    number: async () => { await storage.put(5, 1); return storage.get("5"); },
    null: () => storage.put(null, 1),
  }),
  "list": async ({ storage }) => {
    await storage.put({ b: 1, a: 2, "é": 3, B: 4, ab: 5, abc: 6 });
    return attempts({
      all: () => storage.list(),
      prefix: () => storage.list({ prefix: "ab" }),
      range: () => storage.list({ start: "a", end: "b" }),
      after: () => storage.list({ startAfter: "ab" }),
      reverse: () => storage.list({ reverse: true, limit: 2 }),
      both: () => storage.list({ start: "a", startAfter: "a" }),
      zero: () => storage.list({ limit: 0 }),
      empty: () => storage.list({ start: "z", end: "a" }),
    });
  },
  "limits": async ({ storage }) => attempts({
    key: () => storage.put("k".repeat(2048), 1),
    longKey: () => storage.put("k".repeat(2049), 1),
    value: () => storage.put("v", new Uint8Array(127 << 10)),
    longValue: () => storage.put("v2", new Uint8Array(3 << 20)),
    many: () => storage.put(Object.fromEntries(Array.from({ length: 129 }, (_, i) => [`m${i}`, i]))),
    getMany: () => storage.get(Array.from({ length: 129 }, (_, i) => `m${i}`)),
    deleteMany: () => storage.delete(Array.from({ length: 129 }, (_, i) => `m${i}`)),
  }),
  "transaction": async ({ storage }) => attempts({
    commit: () => storage.transaction(async (t) => { await t.put("a", 1); return t.get("a"); }),
    rollback: () => storage.transaction(async (t) => { await t.put("a", 2); t.rollback(); }),
    throws: () => storage.transaction(async (t) => { await t.put("a", 3); throw new Error("no"); }),
    left: () => storage.get("a"),
  }),
  "deleteAll": async ({ storage }) => {
    await storage.put({ a: 1, b: 2 });
    await storage.setAlarm(Date.now() + 100_000);
    await storage.deleteAll();
    return [await storage.list(), await storage.getAlarm() === null];
  },
  "alarms are set, read and deleted": async ({ storage }) => {
    const at = Date.now() + 100_000;
    return attempts({
      none: () => storage.getAlarm(),
      set: () => storage.setAlarm(at),
      get: async () => (await storage.getAlarm()) === at,
      date: async () => { await storage.setAlarm(new Date(at + 1)); return (await storage.getAlarm()) === at + 1; },
      delete: () => storage.deleteAlarm(),
      gone: () => storage.getAlarm(),
      invalid: () => storage.setAlarm("soon"),
      negative: () => storage.setAlarm(-1),
    });
  },
  "storage.sql": async ({ storage }) => attempts({ exec: () => storage.sql.exec("SELECT 1 AS a").toArray() }),
};

const sql = {
  "sql: results": ({ storage }) => {
    storage.sql.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t (v) VALUES ('a'), (2.5), (NULL), (x'0102')");
    const cursor = storage.sql.exec("SELECT * FROM t");
    const names = cursor.columnNames;
    const first = cursor.next();
    return attempts({
      names: () => names,
      first: () => first,
      rest: () => cursor.toArray(),
      raw: () => [...storage.sql.exec("SELECT id, v FROM t WHERE id < ?", 3).raw()],
      one: () => storage.sql.exec("SELECT count(*) AS n FROM t").one(),
      oneOfMany: () => storage.sql.exec("SELECT * FROM t").one(),
      oneOfNone: () => storage.sql.exec("SELECT * FROM t WHERE 0").one(),
      iterated: () => [...storage.sql.exec("SELECT id FROM t")],
      counters: () => { const c = storage.sql.exec("INSERT INTO t (v) VALUES (1)"); c.toArray(); return [c.rowsRead, c.rowsWritten]; },
      size: () => storage.sql.databaseSize > 0,
    });
  },
  "sql: errors": ({ storage }) => attempts({
    syntax: () => storage.sql.exec("SELEKT").toArray(),
    table: () => storage.sql.exec("SELECT * FROM none").toArray(),
    begin: () => storage.sql.exec("BEGIN").toArray(),
    attach: () => storage.sql.exec("ATTACH ':memory:' AS a").toArray(),
    few: () => storage.sql.exec("SELECT ?").toArray(),
    many: () => storage.sql.exec("SELECT 1", 1).toArray(),
    object: () => storage.sql.exec("SELECT ?", {}).toArray(),
    internal: () => storage.sql.exec("SELECT * FROM _cf_KV").toArray(),
  }),
  "sql: transactionSync": ({ storage }) => {
    storage.sql.exec("CREATE TABLE t (v)");
    return attempts({
      commit: () => storage.transactionSync(() => { storage.sql.exec("INSERT INTO t VALUES (1)"); return "done"; }),
      throws: () => storage.transactionSync(() => { storage.sql.exec("INSERT INTO t VALUES (2)"); throw new Error("no"); }),
      left: () => storage.sql.exec("SELECT * FROM t").toArray(),
    });
  },
  "sql: the key-value API of the same object": async ({ storage }) => attempts({
    put: () => storage.kv.put("a", { b: 1 }),
    get: () => storage.kv.get("a"),
    list: () => [...storage.kv.list()],
    async: () => storage.get("a"),
    delete: () => storage.kv.delete("a"),
  }),
  "sql: bookmarks": async ({ storage }) => attempts({ current: async () => kind(await storage.getCurrentBookmark()), time: async () => kind(await storage.getBookmarkForTime(Date.now())) }),
};

const inside = { ...keyValue, ...sql };
export const keyValueCases = Object.keys(keyValue);
export const sqlCases = Object.keys(sql);
