// How many instances of a Workflow run at once: which have a slot, and which wait for one.
//
// Beside the index, in the same object. An instance has a slot while its `run()` is in memory; through a long wait it
// rests without, and asks again. After a crash a slot may be that of an instance that has ended, and one may wait that
// has been told to go on: both are looked at now and then, as long as any instance waits.

/** Between two looks. */
const LOOK_MS = 10_000;
/** Instances that are asked at once. */
const AT_ONCE = 50;

export class Slots {
  #storage;
  #instance;
  #limit;
  #looked = false;
  /** Whether a look is to come. */
  #armed = false;
  #ready = false;

  /** @param {any} storage @param {(id: string) => any} instance @param {number} limit */
  constructor(storage, instance, limit) {
    this.#storage = storage;
    this.#instance = instance;
    this.#limit = limit;
  }

  /** @param {string} text @param {unknown[]} values @returns {any[]} */
  #run(text, ...values) {
    const { sql } = this.#storage;
    if (!this.#ready) {
      sql.exec("CREATE TABLE IF NOT EXISTS slots (id TEXT PRIMARY KEY) WITHOUT ROWID");
      sql.exec("CREATE TABLE IF NOT EXISTS waiting (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE)");
      this.#ready = true;
    }
    return sql.exec(text, ...values).toArray();
  }

  #taken() {
    return this.#run("SELECT count(*) AS n FROM slots")[0].n;
  }

  /** @param {string} id */
  has(id) {
    return this.#run("SELECT 1 FROM slots WHERE id = ?", id).length > 0;
  }

  /** Whether the instance may go on; if not, it waits in line. @param {string} id */
  admit(id) {
    if (this.has(id)) return true;
    if (this.#taken() < this.#limit && this.#run("SELECT 1 FROM waiting LIMIT 1").length === 0) {
      this.#run("INSERT INTO slots VALUES (?)", id);
      return true;
    }
    this.#run("INSERT OR IGNORE INTO waiting (id) VALUES (?)", id);
    this.#arm();
    return false;
  }

  /** The first look is at once: who knows what was before this start. */
  #arm() {
    if (this.#armed) return;
    this.#armed = true;
    this.#storage.setAlarm(Date.now() + (this.#looked ? LOOK_MS : 0));
  }

  /** The instance rests, or is over. @param {string} id */
  leave(id) {
    this.#run("DELETE FROM slots WHERE id = ?", id);
    return this.pump();
  }

  clear() {
    this.#run("DELETE FROM slots");
    this.#run("DELETE FROM waiting");
  }

  /** Gives free slots to those who wait, the first one first. */
  async pump() {
    while (this.#taken() < this.#limit) {
      const [next] = this.#run("SELECT seq, id FROM waiting ORDER BY seq LIMIT 1");
      if (!next) return;
      this.#run("DELETE FROM waiting WHERE seq = ?", next.seq);
      this.#run("INSERT OR IGNORE INTO slots VALUES (?)", next.id);
      // It may have been paused, ended or deleted meanwhile.
      if (!(await this.#instance(next.id).admitted())) this.#run("DELETE FROM slots WHERE id = ?", next.id);
    }
  }

  /** Takes slots from instances that do not need them any more, and gives them to those who wait. */
  async look() {
    this.#looked = true;
    this.#armed = false;
    const ids = this.#run("SELECT id FROM slots").map(({ id }) => id);
    for (let start = 0; start < ids.length; start += AT_ONCE) {
      const some = ids.slice(start, start + AT_ONCE);
      await Promise.all(
        some.map(async (id) => {
          if (!(await this.#instance(id).admitted())) this.#run("DELETE FROM slots WHERE id = ?", id);
        }),
      );
    }
    await this.pump();
    if (this.#run("SELECT 1 FROM waiting LIMIT 1").length > 0) this.#arm();
  }
}
