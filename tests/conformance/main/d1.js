import { attempt, attempts, kind } from "./kit.js";

/** A table of the case's own. */
const table = (key) => `t_${key.replaceAll("-", "_")}`;

/** A result without what differs between runs, and without the row counters, which have their own cases. */
function result({ success, results, meta }) {
  const { changes, last_row_id, changed_db } = meta;
  return { success, results, changes, last_row_id, changed_db };
}

async function rows(DB, sql, ...values) {
  return (await DB.prepare(sql).bind(...values).all()).results;
}

export const d1 = {
  "all": async ({ env: { DB } }) => {
    const answer = await DB.prepare("SELECT 1 AS one, 'two' AS two, 3.5 AS three, NULL AS four").all();
    return { keys: Object.keys(answer).sort(), meta: Object.fromEntries(Object.entries(answer.meta).map(([name, value]) => [name, kind(value)])), ...result(answer) };
  },
  "types that are stored and read": async ({ env: { DB } }) => {
    const values = { text: "é\u0000x", empty: "", int: 5, negative: -5, float: 0.1, big: 2 ** 53, huge: 1e300, small: 5e-324, true: true, false: false, null: null, bytes: new Uint8Array([1, 2, 255]), buffer: new Uint8Array([7]).buffer, noBytes: new Uint8Array(), array: [1, 2, 3], minusZero: -0 };
    const results = {};
    for (const [name, value] of Object.entries(values)) results[name] = await attempt(() => rows(DB, "SELECT ?1 AS v, typeof(?1) AS t", value));
    return results;
  },
  "types that are refused": async ({ env: { DB } }) => {
    const values = { undefined: undefined, object: { a: 1 }, bigint: 5n, symbol: Symbol("s"), function: () => 1, date: new Date(0), nan: NaN, infinity: Infinity };
    const results = {};
    for (const [name, value] of Object.entries(values)) results[name] = await attempt(() => rows(DB, "SELECT ?1 AS v, typeof(?1) AS t", value));
    return results;
  },
  "integers beyond 2^53": async ({ env: { DB } }) => rows(DB, "SELECT 9007199254740993 AS a, 9223372036854775807 AS b, -9223372036854775808 AS c"),
  "floats that JSON has no word for": ({ env: { DB } }) => attempts({ infinity: () => rows(DB, "SELECT 9e999 AS a, -9e999 AS b") }),
  "columns of the same name": async ({ env: { DB } }) => {
    const statement = DB.prepare("SELECT 1 AS a, 2 AS a, 3 AS b");
    return [await statement.raw(), await statement.raw({ columnNames: true }), (await statement.all()).results, await statement.first()];
  },
  "raw": async ({ env: { DB } }) => {
    const none = DB.prepare("SELECT 1 AS a, 2 AS b WHERE 0");
    const some = DB.prepare("SELECT 1 AS a, 'x' AS b UNION SELECT 2, NULL");
    return [await none.raw(), await none.raw({ columnNames: true }), await some.raw(), await some.raw({ columnNames: true }), await some.raw({ columnNames: false })];
  },
  "first": async ({ env: { DB } }) => attempts({
    row: () => DB.prepare("SELECT 1 AS a, 'x' AS b UNION SELECT 2, 'y'").first(),
    column: () => DB.prepare("SELECT 1 AS a, 'x' AS b").first("b"),
    none: () => DB.prepare("SELECT 1 AS a WHERE 0").first(),
    noneColumn: () => DB.prepare("SELECT 1 AS a WHERE 0").first("a"),
    unknown: () => DB.prepare("SELECT 1 AS a").first("c"),
    null: () => DB.prepare("SELECT NULL AS a").first("a"),
  }),
  "run": async ({ env: { DB }, key }) => {
    const t = table(key);
    const answers = [];
    for (const sql of [`CREATE TABLE ${t} (id INTEGER PRIMARY KEY, v TEXT)`, `INSERT INTO ${t} (v) VALUES ('a'), ('b')`, `UPDATE ${t} SET v = 'c'`, `UPDATE ${t} SET v = 'd' WHERE id = 9`, `SELECT * FROM ${t}`, `INSERT INTO ${t} (v) VALUES ('e') RETURNING id, v`, `DELETE FROM ${t} WHERE id < 3`]) {
      const { success, results, changes } = result(await DB.prepare(sql).run());
      answers.push({ success, results, changes });
    }
    return answers;
  },
  "last_row_id and changed_db": async ({ env: { DB }, key }) => {
    const t = table(key);
    await DB.exec(`CREATE TABLE ${t} (id INTEGER PRIMARY KEY, v TEXT)`);
    const answers = await DB.batch([`INSERT INTO ${t} VALUES (41, 'a')`, `SELECT 1`, `UPDATE ${t} SET v = 'b'`, `INSERT INTO ${t} (v) VALUES ('c')`, `DELETE FROM ${t}`].map((sql) => DB.prepare(sql)));
    return answers.map(({ meta }) => [meta.last_row_id, meta.changed_db]);
  },
  "parameters": async ({ env: { DB } }) => attempts({
    plain: () => rows(DB, "SELECT ? AS a, ? AS b", 1, 2),
    numbered: () => rows(DB, "SELECT ?2 AS a, ?1 AS b, ?2 AS c", 1, 2),
    mixed: () => rows(DB, "SELECT ?1 AS a, ? AS b", 1, 2),
    gap: () => rows(DB, "SELECT ?3 AS a", 1, 2, 3),
    few: () => rows(DB, "SELECT ? AS a, ? AS b", 1),
    many: () => rows(DB, "SELECT ? AS a", 1, 2),
    none: () => DB.prepare("SELECT ? AS a").all(),
    needless: () => rows(DB, "SELECT 1 AS a", 1),
    named: () => rows(DB, "SELECT :a AS a", 1),
    dollar: () => rows(DB, "SELECT $a AS a", 1),
    at: () => rows(DB, "SELECT @a AS a", 1),
    twice: async () => { const s = DB.prepare("SELECT ? AS a"); return [(await s.bind(1).first("a")), (await s.bind(2).first("a"))]; },
    hundred: () => DB.prepare(`SELECT 1 IN (${Array(100).fill("?")}) AS a`).bind(...Array(100).fill(1)).first("a"),
    more: () => DB.prepare(`SELECT 1 IN (${Array(101).fill("?")}) AS a`).bind(...Array(101).fill(1)).first("a"),
  }),
  "a comment after the last semicolon": ({ env: { DB } }) => attempts({
    none: () => rows(DB, "SELECT 1 AS a;"),
    space: () => rows(DB, "SELECT 1 AS a;  \n "),
    comment: () => rows(DB, "SELECT 1 AS a; -- done"),
    nul: () => rows(DB, "SELECT 1\u0000"),
    inside: () => rows(DB, "SELECT /* ; */ 1 AS a -- ;"),
  }),
  "several statements in one": ({ env: { DB } }) => attempts({
    prepare: () => rows(DB, "SELECT 1 AS a; SELECT 2 AS b"),
    bound: () => rows(DB, "SELECT ? AS a; SELECT 2 AS b", 1),
    run: async () => (await DB.prepare("SELECT 1 AS a; SELECT 3 AS b").run()).results,
  }),
  "batch": async ({ env: { DB }, key }) => {
    const t = table(key);
    await DB.exec(`CREATE TABLE ${t} (id INTEGER PRIMARY KEY, v TEXT UNIQUE)`);
    const insert = DB.prepare(`INSERT INTO ${t} (v) VALUES (?)`);
    return attempts({
      fine: async () => (await DB.batch([insert.bind("a"), insert.bind("b"), DB.prepare(`SELECT v FROM ${t}`)])).map((r) => [r.success, r.results, r.meta.changes]),
      fails: () => DB.batch([insert.bind("c"), insert.bind("a"), insert.bind("d")]),
      syntax: () => DB.batch([insert.bind("e"), DB.prepare("SELEKT")]),
      nothing: () => DB.batch([]),
      left: () => rows(DB, `SELECT v FROM ${t} ORDER BY v`),
    });
  },
  "exec": async ({ env: { DB }, key }) => {
    const t = table(key);
    const exec = async (sql) => { const { count, duration } = await DB.exec(sql); return [count, kind(duration)]; };
    return attempts({
      several: () => exec(`CREATE TABLE ${t} (a);\nINSERT INTO ${t} VALUES (1);\nINSERT INTO ${t} VALUES (2)`),
      oneLine: () => exec(`INSERT INTO ${t} VALUES (3); INSERT INTO ${t} VALUES (4);`),
      empty: () => exec(""),
      error: () => exec(`INSERT INTO ${t} VALUES (5);\nSELEKT 1`),
      broken: () => exec(`INSERT INTO ${t}\nVALUES (6)`),
      left: () => rows(DB, `SELECT count(*) AS n FROM ${t}`),
    });
  },
  "errors: syntax and names": ({ env: { DB } }) => attempts({
    syntax: () => rows(DB, "SELEKT 1"),
    unfinished: () => rows(DB, "SELECT"),
    empty: () => DB.prepare("").all(),
    comment: () => DB.prepare("-- nothing").all(),
    table: () => rows(DB, "SELECT * FROM nowhere"),
    column: () => rows(DB, "SELECT nothing"),
    function: () => rows(DB, "SELECT nothing(1)"),
    arguments: () => rows(DB, "SELECT abs()"),
    token: () => rows(DB, "SELECT #"),
    quote: () => rows(DB, "SELECT 'x"),
  }),
  "errors: constraints": async ({ env: { DB }, key }) => {
    const t = table(key);
    await DB.exec(`CREATE TABLE ${t} (id INTEGER PRIMARY KEY, u UNIQUE, n NOT NULL DEFAULT 1, c CHECK (c > 0), f REFERENCES ${t}(id)) STRICT`.replace(" STRICT", ""));
    await DB.exec(`INSERT INTO ${t} (id, u) VALUES (1, 'a')`);
    return attempts({
      primary: () => DB.prepare(`INSERT INTO ${t} (id) VALUES (1)`).run(),
      unique: () => DB.prepare(`INSERT INTO ${t} (u) VALUES ('a')`).run(),
      notNull: () => DB.prepare(`INSERT INTO ${t} (n) VALUES (NULL)`).run(),
      check: () => DB.prepare(`INSERT INTO ${t} (c) VALUES (0)`).run(),
      foreign: () => DB.prepare(`INSERT INTO ${t} (f) VALUES (99)`).run(),
      ignored: async () => (await DB.prepare(`INSERT OR IGNORE INTO ${t} (u) VALUES ('a')`).run()).meta.changes,
    });
  },
  "errors: types of strict tables": async ({ env: { DB }, key }) => {
    const t = table(key);
    await DB.exec(`CREATE TABLE ${t} (i INTEGER, b BLOB, t TEXT) STRICT`);
    return attempts({
      text: () => DB.prepare(`INSERT INTO ${t} (i) VALUES ('x')`).run(),
      number: () => DB.prepare(`INSERT INTO ${t} (b) VALUES (1)`).run(),
    });
  },
  "errors: what they are": async ({ env: { DB } }) => {
    try {
      await DB.prepare("SELEKT").all();
    } catch (error) {
      return { name: error.name, message: error.message, cause: String(error.cause), type: error.constructor.name };
    }
  },
  "what is not allowed": ({ env: { DB }, key }) => attempts({
    begin: () => DB.prepare("BEGIN").run(),
    commit: () => DB.prepare("COMMIT").run(),
    savepoint: () => DB.prepare("SAVEPOINT a").run(),
    attach: () => DB.prepare("ATTACH ':memory:' AS a").run(),
    vacuum: () => DB.prepare("VACUUM").run(),
    temporary: () => DB.prepare("CREATE TEMP TABLE a (b)").run(),
    extension: () => DB.prepare("SELECT load_extension('x')").run(),
    master: () => DB.prepare("DELETE FROM sqlite_master").run(),
    internal: () => DB.prepare("CREATE TABLE _cf_KV2 (a)").run(),
    reading: () => DB.prepare("SELECT * FROM _cf_KV").run(),
    writable: () => DB.prepare("PRAGMA writable_schema = ON").run(),
    virtual: () => DB.prepare(`CREATE VIRTUAL TABLE ${table(key)} USING dbstat`).run(),
  }),
  "PRAGMAs that read": async ({ env: { DB }, key }) => {
    const t = table(key);
    await DB.exec(`CREATE TABLE ${t} (id INTEGER PRIMARY KEY, v TEXT NOT NULL DEFAULT 'x', g AS (v || 'y'))`);
    await DB.exec(`CREATE INDEX ${t}_v ON ${t} (v)`);
    const results = {};
    for (const pragma of [`table_info(${t})`, `table_xinfo(${t})`, `index_list(${t})`, `index_info(${t}_v)`, `foreign_key_list(${t})`, "foreign_keys", "quick_check(1)", "user_version", "journal_mode", "page_size", "encoding", "compile_options", "foreign_key_check", "case_sensitive_like", "ignore_check_constraints", "legacy_alter_table", "reverse_unordered_selects", "defer_foreign_keys", "database_list", "synchronous"]) {
      results[pragma.replace(t, "t")] = await attempt(async () => (await DB.prepare(`PRAGMA ${pragma}`).all()).results);
    }
    const names = (await attempt(async () => (await DB.prepare("PRAGMA table_list").all()).results.filter((row) => row.name === t)));
    return { ...results, table_list: names };
  },
  "PRAGMAs that write": ({ env: { DB } }) => attempts({
    foreignKeys: async () => (await DB.batch([DB.prepare("PRAGMA foreign_keys = OFF"), DB.prepare("PRAGMA foreign_keys")])).map((r) => r.results),
    userVersion: () => rows(DB, "PRAGMA user_version = 5"),
    optimize: () => rows(DB, "PRAGMA optimize"),
    journal: () => rows(DB, "PRAGMA journal_mode = DELETE"),
  }),
  "a PRAGMA lasts for one call": async ({ env: { DB } }) => {
    await DB.prepare("PRAGMA recursive_triggers = ON").run();
    return (await DB.prepare("PRAGMA recursive_triggers").all()).results;
  },
  "foreign keys that are deferred": async ({ env: { DB }, key }) => {
    const t = table(key);
    await DB.exec(`CREATE TABLE ${t}p (id INTEGER PRIMARY KEY)`);
    await DB.exec(`CREATE TABLE ${t}c (p REFERENCES ${t}p (id))`);
    const [child, parent] = [DB.prepare(`INSERT INTO ${t}c VALUES (1)`), DB.prepare(`INSERT INTO ${t}p VALUES (1)`)];
    const defer = DB.prepare("PRAGMA defer_foreign_keys = ON");
    return attempts({
      plain: async () => (await DB.batch([child, parent])).length,
      deferred: async () => (await DB.batch([defer, child, parent])).length,
      left: () => rows(DB, `SELECT * FROM ${t}c`),
    });
  },
  "foreign keys that are deferred and violated": async ({ env: { DB }, key }) => {
    const t = table(key);
    await DB.exec(`CREATE TABLE ${t}p (id INTEGER PRIMARY KEY)`);
    await DB.exec(`CREATE TABLE ${t}c (p REFERENCES ${t}p (id))`);
    const batch = [DB.prepare("PRAGMA defer_foreign_keys = ON"), DB.prepare(`INSERT INTO ${t}c VALUES (7)`)];
    const { thrown } = await attempt(() => DB.batch(batch));
    return [thrown.replace(/reference = \w+/, "reference = …"), await rows(DB, `SELECT * FROM ${t}c`)];
  },
  "changes()": async ({ env: { DB }, key }) => {
    await DB.exec(`CREATE TABLE ${table(key)} (v)`);
    return (await DB.batch([DB.prepare(`INSERT INTO ${table(key)} VALUES (1), (2)`), DB.prepare("SELECT changes() AS n")]))[1].results;
  },
  "functions": async ({ env: { DB } }) => {
    const results = {};
    for (const call of ["json_extract('{\"a\":[1,2]}', '$.a[1]')", "'{\"a\":5}' ->> 'a'", "json_group_array(1)", "date(0, 'unixepoch')", "strftime('%s', '2020-01-01')", "unixepoch('2020-01-01')", "printf('%05d', 7)", "format('%s', 'x')", "hex('a')", "unhex('61')", "instr('abc', 'c')", "iif(1, 2, 3)", "sqrt(9)", "pi()", "round(2.5)", "substr('hello', 2, 3)", "typeof(x'00')", "quote('a''b')", "char(65, 66)", "unicode('A')", "soundex('Robert')", "sqlite_version() > '3.40'", "octet_length('é')", "concat('a', 1)", "string_agg('a', ',')", "jsonb('[1]')", "regexp('a', 'b')", "'a' REGEXP 'a'", "'a' MATCH 'a'", "total_changes() >= 0", "timediff('2020-01-02', '2020-01-01')", "randomblob(4) IS NOT NULL", "zeroblob(2)", "median(1)", "edit('x')", "likely(1)", "ceil(1.2)", "log(8, 2)", "median(1)"]) {
      results[call] = await attempt(() => DB.prepare(`SELECT ${call} AS v`).first("v"));
    }
    return results;
  },
  "full text search": async ({ env: { DB }, key }) => {
    const t = table(key);
    return attempts({
      create: async () => result(await DB.prepare(`CREATE VIRTUAL TABLE ${t} USING fts5(body)`).run()).success,
      insert: async () => (await DB.prepare(`INSERT INTO ${t} VALUES ('the quick fox'), ('lazy dog')`).run()).success,
      match: () => rows(DB, `SELECT body FROM ${t} WHERE ${t} MATCH ?`, "quick"),
      highlight: () => rows(DB, `SELECT highlight(${t}, 0, '[', ']') AS h FROM ${t} WHERE ${t} MATCH 'fox'`),
    });
  },
  "upsert, RETURNING, CTEs, windows, triggers, views": async ({ env: { DB }, key }) => {
    const t = table(key);
    await DB.exec(`CREATE TABLE ${t} (k PRIMARY KEY, n)`);
    await DB.exec(`CREATE TABLE ${t}l (m)`);
    await DB.prepare(`CREATE TRIGGER ${t}t AFTER INSERT ON ${t} BEGIN INSERT INTO ${t}l VALUES (new.k); SELECT 1; END`).run();
    await DB.exec(`CREATE VIEW ${t}v AS SELECT sum(n) AS s FROM ${t}`);
    const upsert = `INSERT INTO ${t} VALUES (?, 1) ON CONFLICT (k) DO UPDATE SET n = n + 1 RETURNING k, n`;
    return attempts({
      one: () => rows(DB, upsert, "a"),
      two: () => rows(DB, upsert, "a"),
      cte: () => rows(DB, "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 4) SELECT sum(x) AS s FROM c"),
      window: () => rows(DB, "SELECT v, row_number() OVER (ORDER BY v DESC) AS r FROM (SELECT 1 AS v UNION SELECT 2)"),
      trigger: () => rows(DB, `SELECT * FROM ${t}l`),
      view: () => rows(DB, `SELECT * FROM ${t}v`),
      each: () => rows(DB, "SELECT value FROM json_each(?)", "[1,\"a\"]"),
    });
  },
  "sessions": async ({ env: { DB }, key }) => {
    const t = table(key);
    await DB.exec(`CREATE TABLE ${t} (a)`);
    const session = DB.withSession();
    const before = session.getBookmark();
    await session.prepare(`INSERT INTO ${t} VALUES (1)`).run();
    const bookmark = session.getBookmark();
    return attempts({
      before: () => before,
      bookmark: () => kind(bookmark),
      read: async () => (await DB.withSession(bookmark).prepare(`SELECT * FROM ${t}`).all()).results,
      primary: async () => (await DB.withSession("first-primary").prepare(`SELECT * FROM ${t}`).all()).results,
      unconstrained: async () => (await DB.withSession("first-unconstrained").prepare(`SELECT * FROM ${t}`).all()).results,
      batch: async () => (await DB.withSession().batch([DB.prepare("SELECT 1 AS a")])).map((r) => r.results),
      grows: async () => { await session.prepare(`INSERT INTO ${t} VALUES (2)`).run(); return session.getBookmark() > bookmark; },
    });
  },
  "sessions: a bookmark that is none": ({ env: { DB } }) => attempts({
    word: async () => (await DB.withSession("nonsense").prepare("SELECT 1 AS a").all()).results,
    empty: async () => (await DB.withSession("").prepare("SELECT 1 AS a").all()).results,
    null: async () => (await DB.withSession(null).prepare("SELECT 1 AS a").all()).results,
    future: async () => (await DB.withSession("ffffffff-ffffffff-ffffffff-ffffffffffffffffffffffffffffffff").prepare("SELECT 1 AS a").all()).results,
  }),
  "meta: rows written": async ({ env: { DB }, key }) => {
    const t = table(key);
    await DB.exec(`CREATE TABLE ${t} (id INTEGER PRIMARY KEY, v)`);
    const written = async (sql) => (await DB.prepare(sql).run()).meta.rows_written;
    return attempts({
      insert: () => written(`INSERT INTO ${t} (v) VALUES (1), (2), (3)`),
      update: () => written(`UPDATE ${t} SET v = 9 WHERE id <= 2`),
      delete: () => written(`DELETE FROM ${t} WHERE id = 1`),
      select: () => written(`SELECT * FROM ${t}`),
    });
  },
  "meta: rows read": async ({ env: { DB }, key }) => {
    const t = table(key);
    await DB.exec(`CREATE TABLE ${t} (id INTEGER PRIMARY KEY, v)`);
    await DB.prepare(`INSERT INTO ${t} (v) SELECT value FROM json_each('[1,2,3,4,5]')`).run();
    const read = async (sql) => (await DB.prepare(sql).run()).meta.rows_read;
    return attempts({
      scan: () => read(`SELECT * FROM ${t}`),
      point: () => read(`SELECT * FROM ${t} WHERE id = 3`),
      none: () => read("SELECT 1"),
    });
  },
  "meta: rows that an index range reads": async ({ env: { DB }, key }) => {
    const t = table(key);
    await DB.exec(`CREATE TABLE ${t} (id INTEGER PRIMARY KEY, v)`);
    await DB.exec(`CREATE INDEX ${t}i ON ${t} (v)`);
    await DB.prepare(`INSERT INTO ${t} (v) SELECT value FROM json_each('[1,2,3,4,5]')`).run();
    return (await DB.prepare(`SELECT count(*) AS n FROM ${t} WHERE v > 2`).run()).meta.rows_read;
  },
  "limits": async ({ env: { DB }, key }) => {
    const t = table(key);
    await DB.exec(`CREATE TABLE ${t} (v)`);
    return attempts({
      text: async () => (await DB.prepare(`INSERT INTO ${t} VALUES (?)`).bind("x".repeat(1_999_000)).run()).success,
      statement: async () => (await DB.prepare(`SELECT ${" ".repeat(99_900)} 1 AS a`).all()).results,
      longStatement: async () => (await DB.prepare(`SELECT ${" ".repeat(100_001)} 1 AS a`).all()).results,
      columns: async () => (await DB.prepare(`CREATE TABLE ${t}c (${Array.from({ length: 100 }, (_, i) => `c${i}`)})`).run()).success,
      moreColumns: async () => (await DB.prepare(`CREATE TABLE ${t}d (${Array.from({ length: 101 }, (_, i) => `c${i}`)})`).run()).success,
      pattern: () => DB.prepare(`SELECT 'a' LIKE '${"a".repeat(51)}' AS a`).first("a"),
      depth: () => DB.prepare(`SELECT ${"(".repeat(101)}1${")".repeat(101)} AS a`).first("a"),
      compound: () => DB.prepare(`SELECT 1 AS a ${"UNION ALL SELECT 1 ".repeat(6)}`).all().then((r) => r.results.length),
      arguments: () => DB.prepare(`SELECT max(${Array(32).fill(1)}) AS a`).first("a"),
    });
  },
  "limits: a text of 2,000,001 bytes": ({ env: { DB }, key }) => attempt(async () => {
    await DB.exec(`CREATE TABLE ${table(key)} (v)`);
    return (await DB.prepare(`INSERT INTO ${table(key)} VALUES (?)`).bind("x".repeat(2_000_001)).run()).success;
  }),
  "limits: 33 arguments of a function": ({ env: { DB } }) => attempt(() => DB.prepare(`SELECT max(${Array(33).fill(1)}) AS a`).first("a")),
  "dump": ({ env: { DB } }) => attempt(async () => kind(await DB.dump())),
};
