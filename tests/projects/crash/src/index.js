// Writes a value into a slot of a store, and answers once it is acknowledged:
//   PUT /<store>/<writer>/<slot>?n=<number>    the value is the body
//   GET /<store>/<writer>/<slot>               one slot of KV or R2: the value; `x-n` is its number
//   GET /<store>/<writer>                      all slots of the others: [{ slot, n, text }]; halves are two rows
//   GET /hold/<object>                         keeps an object in memory for as long as somebody listens
import { DurableObject } from "cloudflare:workers";

/** Smallest size of a part that is not the last. */
const PART = 5 << 20;

export class Slots extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS slots (slot, half, n, text, PRIMARY KEY (slot, half))");
  }

  // Writes without an `await` between them are one transaction.
  put(slot, n, text) {
    for (const half of ["a", "b"]) this.ctx.storage.put(`${slot}/${half}`, { slot, n, text });
  }

  async entries() {
    return [...(await this.ctx.storage.list()).values()];
  }

  insert(slot, n, text) {
    for (const half of ["a", "b"]) {
      this.ctx.storage.sql.exec("INSERT OR REPLACE INTO slots VALUES (?, ?, ?, ?)", slot, half, n, text);
    }
  }

  rows() {
    return this.ctx.storage.sql.exec("SELECT slot, n, text FROM slots").toArray();
  }

  // The engine takes an object out of memory 10 s after its last request; this one does not end.
  fetch() {
    const pull = async (controller) => {
      await scheduler.wait(100);
      controller.enqueue(new Uint8Array(1));
    };
    return new Response(new ReadableStream({ pull }));
  }
}

const rows = async (statement) => (await statement.all()).results;

const stores = {
  kv: {
    write: (env, { key, n }, request) => env.KV.put(key, request.body ?? "", { metadata: n }),
    async read(env, { key }) {
      const { value, metadata } = await env.KV.getWithMetadata(key, "stream");
      return value && new Response(value, { headers: { "x-n": metadata } });
    },
  },
  r2: {
    write: (env, { key, n }, request) => env.R2.put(key, request.body ?? "", { customMetadata: { n: `${n}` } }),
    read: (env, { key }) => object(env.R2, key),
  },
  parts: {
    async write(env, { key, n }, request) {
      const body = await request.arrayBuffer();
      const upload = await env.PARTS.createMultipartUpload(key, { customMetadata: { n: `${n}` } });
      const pieces = [body.slice(0, PART), body.slice(PART)];
      await upload.complete(await Promise.all(pieces.map((piece, i) => upload.uploadPart(i + 1, piece))));
    },
    read: (env, { key }) => object(env.PARTS, key),
  },
  d1: {
    async write(env, { writer, slot, n }, request) {
      const insert = env.DB.prepare("INSERT OR REPLACE INTO single VALUES (?, ?, ?, ?)");
      await insert.bind(writer, slot, n, await request.text()).run();
    },
    list: (env, { writer }) => rows(env.DB.prepare("SELECT slot, n, text FROM single WHERE writer = ?").bind(writer)),
  },
  batch: {
    async write(env, { writer, slot, n }, request) {
      const insert = env.DB.prepare("INSERT OR REPLACE INTO batch VALUES (?, ?, ?, ?, ?)");
      const text = await request.text();
      await env.DB.batch(["a", "b"].map((half) => insert.bind(writer, slot, half, n, text)));
    },
    list: (env, { writer }) => rows(env.DB.prepare("SELECT slot, n, text FROM batch WHERE writer = ?").bind(writer)),
  },
  object: {
    write: async (env, { writer, slot, n }, request) =>
      env.SLOTS.getByName(`kv ${writer}`).put(slot, n, await request.text()),
    list: (env, { writer }) => env.SLOTS.getByName(`kv ${writer}`).entries(),
  },
  sql: {
    write: async (env, { writer, slot, n }, request) =>
      env.SLOTS.getByName(`sql ${writer}`).insert(slot, n, await request.text()),
    list: (env, { writer }) => env.SLOTS.getByName(`sql ${writer}`).rows(),
  },
  // What arrived; the slot does not matter, and no message replaces another.
  queue: {
    write: async (env, { writer, n }, request) => env.QUEUE.send({ writer, n, text: await request.text() }),
    list: (env, { writer, n }) =>
      rows(env.DB.prepare("SELECT 0 AS slot, n, text FROM arrived WHERE writer = ? AND n >= ?").bind(writer, n)),
  },
};

async function object(bucket, key) {
  const found = await bucket.get(key);
  return found && new Response(found.body, { headers: { "x-n": found.customMetadata.n } });
}

export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    const [, store, writer, slot] = pathname.split("/");
    if (store === "hold") return env.SLOTS.getByName(decodeURIComponent(writer)).fetch(request);
    if (!(store in stores)) return new Response("here");
    const call = { writer, slot: Number(slot), key: `${writer}/${slot}`, n: Number(searchParams.get("n")) };
    if (request.method === "PUT") {
      try {
        await stores[store].write(env, call, request);
      } catch (error) {
        return new Response(error.message, { status: 500 });
      }
      return new Response("stored");
    }
    if (slot === undefined) return Response.json(await stores[store].list(env, call));
    return (await stores[store].read(env, call)) ?? new Response("nothing", { status: 404 });
  },

  async queue(batch, env) {
    const insert = env.DB.prepare("INSERT OR IGNORE INTO arrived VALUES (?, ?, ?)");
    await env.DB.batch(batch.messages.map(({ body }) => insert.bind(body.writer, body.n, body.text)));
  },
};
