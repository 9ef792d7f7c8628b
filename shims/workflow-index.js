// Which instances a Workflow has: the engine knows one only by its name.
//
// The index is in an object of the Workflow's own namespace, so it lies, is backed up and is removed with the instances.
// An instance is entered before it is made: after a crash one may be missing of those that are entered, never the other
// way round. What an instance does is asked of itself. Only how one ended is kept, as long as nothing may change that.

/** An entry without an instance is one that is being made, for so long. */
const MAKING_MS = 60_000;
/** Instances that are asked at once. */
const AT_ONCE = 50;

/**
 * @typedef {{ status: string, created: number, started: number | null, ended: number | null, modified: number,
 *             expires: number | null }} Summary
 * @typedef {{ seq: number, id: string, created: number, source: string, summary: string | null }} Row
 * @typedef {{ status?: string, from?: number, to?: number, ascending?: boolean, after?: number, skip?: number, limit: number }} Query
 */

export class Index {
  #sql;
  #instance;
  #ready = false;

  /** @param {any} sql @param {(id: string) => any} instance */
  constructor(sql, instance) {
    this.#sql = sql;
    this.#instance = instance;
  }

  /** @param {string} text @param {unknown[]} values @returns {any[]} */
  #run(text, ...values) {
    if (!this.#ready) {
      this.#sql.exec(
        "CREATE TABLE IF NOT EXISTS instances (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, " +
          "created INTEGER NOT NULL, source TEXT NOT NULL, summary TEXT, expires INTEGER, changes INTEGER NOT NULL DEFAULT 0)",
      );
      this.#sql.exec("CREATE INDEX IF NOT EXISTS by_creation ON instances (created)");
      this.#ready = true;
    }
    return this.#sql.exec(text, ...values).toArray();
  }

  /** An instance is about to be made. @param {string} id @param {string} source who makes it */
  entered(id, source) {
    this.#run("INSERT OR REPLACE INTO instances (id, created, source) VALUES (?, ?, ?)", id, Date.now(), source);
  }

  /** Who made it. @param {string[]} ids */
  fromApi(ids) {
    for (const id of ids) this.#run("UPDATE instances SET source = 'api' WHERE id = ?", id);
  }

  /** How it ended is no longer the end: it is about to be restarted or deleted. @param {string} id */
  changed(id) {
    this.#run("UPDATE instances SET summary = NULL, expires = NULL, changes = 1 WHERE id = ?", id);
  }

  /** @param {string} id */
  sourceOf(id) {
    return this.#run("SELECT source FROM instances WHERE id = ?", id)[0]?.source ?? "unknown";
  }

  ids() {
    return this.#run("SELECT id FROM instances ORDER BY seq").map(({ id }) => id);
  }

  clear() {
    this.#run("DELETE FROM instances");
  }

  /** What it does, asked unless it is known; null if it is gone. @param {Row} row @returns {Promise<Summary | null>} */
  async #look({ seq, id, created, summary }) {
    if (summary !== null) return JSON.parse(summary);
    /** @type {Summary | null} */
    const now = await this.#instance(id).summary();
    if (now === null) {
      if (created + MAKING_MS < Date.now()) this.#run("DELETE FROM instances WHERE seq = ?", seq);
    } else if (now.ended !== null) {
      const kept = "UPDATE instances SET summary = ?, expires = ? WHERE seq = ? AND changes = 0";
      this.#run(kept, JSON.stringify(now), now.expires, seq);
    }
    return now;
  }

  /** @param {Row[]} rows @returns {Promise<(Summary & { id: string, seq: number, source: string })[]>} */
  async #lookAt(rows) {
    const seen = [];
    for (let start = 0; start < rows.length; start += AT_ONCE) {
      const some = rows.slice(start, start + AT_ONCE);
      seen.push(...(await Promise.all(some.map(async (row) => ({ row, summary: await this.#look(row) })))));
    }
    return seen.flatMap(({ row: { id, seq, source }, summary }) => (summary ? [{ ...summary, id, seq, source }] : []));
  }

  /** Instances in the order of their creation, and how many there are. @param {Query} query */
  async list({ status, from = 0, to = Number.MAX_SAFE_INTEGER, ascending = false, after, skip = 0, limit }) {
    this.#run("DELETE FROM instances WHERE expires <= ?", Date.now());
    const range = "FROM instances WHERE created BETWEEN ? AND ?";
    const order = ascending ? "ORDER BY seq ASC" : "ORDER BY seq DESC";
    const start = after ?? (ascending ? 0 : Number.MAX_SAFE_INTEGER);
    const part = `SELECT * ${range} AND seq ${ascending ? ">" : "<"} ? ${order}`;
    if (status !== undefined) {
      const all = await this.#lookAt(this.#run(`SELECT * ${range} ${order}`, from, to));
      const found = all.filter((one) => one.status === status);
      const rest = found.filter(({ seq }) => (ascending ? seq > start : seq < start)).slice(skip);
      const page = rest.slice(0, limit);
      return { instances: page, total: found.length, next: rest.length > limit ? page.at(-1)?.seq : null };
    }
    const total = this.#run(`SELECT count(*) AS n ${range}`, from, to)[0].n;
    const rows = this.#run(`${part} LIMIT ? OFFSET ?`, from, to, start, limit + 1, skip);
    const page = rows.slice(0, limit);
    return { instances: await this.#lookAt(page), total, next: rows.length > limit ? page.at(-1).seq : null };
  }

  /** How many are in each status. */
  async counts() {
    this.#run("DELETE FROM instances WHERE expires <= ?", Date.now());
    /** @type {Record<string, number>} */
    const counts = {};
    for (const { status } of await this.#lookAt(this.#run("SELECT * FROM instances"))) {
      counts[status] = (counts[status] ?? 0) + 1;
    }
    return counts;
  }
}
