// The calls that are replayed on Miniflare (record.mjs) and on our server (../conformance.rs), in this order, on one database.
const q = (sql, ...params) => ({ path: "/query?resultsFormat=ROWS_AND_COLUMNS", body: { sql, params } });
const run = (sql, ...params) => ({ path: "/execute?resultsFormat=NONE", body: { sql, params } });
const objects = (sql, ...params) => ({ path: "/query", body: { sql, params } });
const batch = (...list) => ({
  path: "/query?resultsFormat=ROWS_AND_COLUMNS",
  body: list.map((s) => (Array.isArray(s) ? { sql: s[0], params: s.slice(1) } : { sql: s, params: [] })),
});
const exec = (text) => ({ path: "/execute?resultsFormat=NONE", body: text.split("\n").map((sql) => ({ sql })) });
const commas = (n, text) => Array(n).fill(text).join(",");

export default [
  // values
  q("SELECT 1"), q("SELECT 1 AS a, 2 AS a, 'x' AS b"), objects("SELECT 1 AS a, 2 AS a, 'x' AS b"), run("SELECT 1 AS a, 2 AS a, 'x' AS b"),
  q("SELECT typeof(?), typeof(?), typeof(?), typeof(?)", 1, "x", null, [1, 2]),
  q("SELECT ?, ?, ?, ?, ?", 1.5, -0, 1e300, 123456789012, "héé\u0000\n\"\\"),
  q("SELECT x'00ff10', zeroblob(3), x''"), q("SELECT ?", []), q("SELECT hex(?)", [0, 255, 16]),
  q("SELECT 9223372036854775807, -9223372036854775808, 9007199254740993, 1e999, -1e999, 0.1, 1.0, 1e21, 1e-7, 100000000000000000000"),
  q("SELECT cast(x'ff41' as text), cast(x'e282' as text)"), q("SELECT ?1, ?2, ?1", 7, "b"), q("SELECT :a, @b, $c", 1, 2, 3), q("SELECT ?2", 1, 2),
  q("SELECT true, false, null"), q("SELECT '', 'it''s', \"dq\""),
  q("SELECT 1 AS \"1\", 2 AS \"0\", 3 AS z"), objects("SELECT 1 AS z, 2 AS \"0\""),
  // schema
  q("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, age INT CHECK (age > 0))"),
  q("CREATE TABLE posts (id INTEGER PRIMARY KEY AUTOINCREMENT, user INTEGER NOT NULL REFERENCES users(id), title, body BLOB)"),
  q("CREATE INDEX posts_user ON posts(user)"), q("CREATE TABLE kv (k TEXT PRIMARY KEY, v) WITHOUT ROWID"), q("CREATE TABLE strict_t (a INTEGER, b TEXT) STRICT"),
  q("CREATE TABLE IF NOT EXISTS users (id)"), q("CREATE TABLE users (id)"), q("CREATE VIEW names AS SELECT name FROM users"),
  // writes and their counters
  q("INSERT INTO users (name, age) VALUES (?, ?)", "ann", 30), run("INSERT INTO users (name, age) VALUES (?, ?) RETURNING id, name", "bob", 40),
  q("INSERT INTO users (name, age) VALUES ('c', 1), ('d', 2), ('e', 3)"), q("INSERT INTO posts (user, title, body) VALUES (1, 't', ?)", [1, 2, 3]),
  q("INSERT INTO kv VALUES ('a', 1)"), q("INSERT OR REPLACE INTO kv VALUES ('a', 2)"), q("INSERT INTO kv VALUES ('a', 3) ON CONFLICT (k) DO UPDATE SET v = excluded.v"),
  q("INSERT OR IGNORE INTO users (name, age) VALUES ('ann', 9)"), q("UPDATE users SET age = age + 1"), q("UPDATE users SET age = 99 WHERE id = 1"), q("UPDATE users SET name = 'anne' WHERE id = 1"),
  q("UPDATE posts SET user = 2 WHERE id = 1"), q("UPDATE kv SET v = 5"), q("DELETE FROM users WHERE id = 5"), q("DELETE FROM users WHERE id = 999"), q("DELETE FROM kv"),
  q("SELECT last_insert_rowid(), changes()"), q("SELECT id FROM users WHERE id = 1"), q("SELECT * FROM users"), q("SELECT * FROM posts"), q("SELECT count(*) FROM users"),
  q("SELECT name FROM users WHERE name = 'bob'"), q("SELECT * FROM users u JOIN posts p ON p.user = u.id"), q("SELECT * FROM names ORDER BY 1"), q("SELECT max(id) FROM users"),
  q("SELECT * FROM users WHERE id > 1 ORDER BY id LIMIT 2"), q("SELECT * FROM users LIMIT 1"), q("SELECT * FROM users WHERE id = 12345"),
  q("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 5) SELECT sum(x) FROM c"), q("EXPLAIN QUERY PLAN SELECT * FROM users WHERE id = 1"),
  // constraints
  q("INSERT INTO users (name) VALUES ('bob')"), q("INSERT INTO users (id, name) VALUES (1, 'z')"), q("INSERT INTO users (name) VALUES (NULL)"), q("INSERT INTO users (name, age) VALUES ('q', -1)"),
  q("INSERT INTO posts (user) VALUES (77)"), q("DELETE FROM users WHERE id = 2"), q("INSERT INTO strict_t VALUES ('x', 'y')"), q("INSERT INTO users (id, name) VALUES ('abc', 'z')"),
  q("INSERT INTO kv VALUES ('k', 1), ('k', 2)"), q("SELECT count(*) FROM kv"),
  // mistakes
  q("SELEC 1"), q("  bad sql"), q("SELECT * FROM nope"), q("SELECT nope FROM users"), q("SELECT"), q("SELECT 'abc"), q("SELECT (1"), q("SELECT nofn(1)"), q("SELECT abs()"), q("SELECT abs('x', 2)"),
  q("INSERT INTO users VALUES (1)"), q("INSERT INTO users (nope) VALUES (1)"), q("DROP TABLE nope"), q("CREATE INDEX i ON nope(a)"), q("ALTER TABLE users ADD COLUMN name TEXT"), q("SELECT abs(-9223372036854775808)"),
  q("SELECT json('{')"), q("SELECT ?", 1, 2), q("SELECT ?, ?", 1), q("SELECT 1", 1), q(""), q(" "), q(";"), q("-- only a comment"), q("  -- only a comment"), q("/* c */"),
  q("SELECT 1;"), q("SELECT 1; "), q("SELECT 1; SELECT 2"), q("SELECT 1; SELECT ?", 5), q("SELECT ?; SELECT 2", 5), q("SELECT 1; -- x"), q("SELECT 1; bad"), q("SELECT 1 -- x"), q("-- first\nSELECT 1"),
  q("INSERT INTO kv VALUES ('m', 1); INSERT INTO kv VALUES ('n', 2)"), q("INSERT INTO kv VALUES ('o', 1); INSERT INTO kv VALUES ('o', 2)"), q("SELECT * FROM kv"),
  q("SELECT * FROM users WHERE name LIKE ?", "%".repeat(51)), q("SELECT 'x' LIKE ?", "a".repeat(50)), q("SELECT 'x' GLOB ?", "a".repeat(51)),
  q(`SELECT ${commas(100, "?")}`, ...Array(100).fill(1)), q(`SELECT ${commas(101, "?")}`, ...Array(101).fill(1)), q(`SELECT ${commas(101, "1")}`),
  q(`CREATE TABLE wide (${Array.from({ length: 101 }, (_, i) => "c" + i).join()})`), q("SELECT " + "(".repeat(101) + "1" + ")".repeat(101)),
  q("SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6"), q("SELECT length(zeroblob(100000000))"), q("SELECT 1 + 1 FROM users ORDER BY 9"),
  // what the authorizer refuses
  ...["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "RELEASE s", "BEGIN IMMEDIATE", "END"].map((s) => q(s)),
  q("ATTACH 'x' AS y"), q("DETACH main"), q("CREATE TEMP TABLE t (a)"), q("CREATE TABLE temp.t (a)"), q("VACUUM"), q("VACUUM INTO 'x'"), q("ANALYZE"), q("REINDEX"),
  q("CREATE TABLE _cf_x (a)"), q("CREATE TABLE _CF_y (a)"), q("ALTER TABLE kv RENAME TO _cf_z"), q("ALTER TABLE kv RENAME TO kv2"), q("ALTER TABLE kv2 RENAME TO kv"), q("SELECT * FROM _cf_METADATA2"), q("CREATE INDEX _cf_i ON users(age)"), q("CREATE VIEW _cf_v AS SELECT 1"),
  q("CREATE TRIGGER _cf_t AFTER INSERT ON users BEGIN SELECT 1; END"), q("PRAGMA writable_schema = 1"), q("UPDATE sqlite_schema SET sql = ''"), q("DELETE FROM sqlite_master"), q("DROP TABLE sqlite_sequence"),
  ...["sqlite_version()", "sqlite_source_id()", "load_extension('x')", "sqlite_compileoption_get(1)", "randomblob(1) is null", "soundex('a')", "pi()", "log10(100)", "ceiling(1.5)", "power(2,3)", "pow(2,3)", "max(1,2)", "min(1,2)",
    "iif(1,2,3)", "if(1,2,3)", "unistr('a')", "date('2020-01-01')", "localtime", "format('%d',3)", "string_agg('a','b')", "concat_ws('-','a','b')", "json('[1, 2]')", "jsonb('[1]') is null", "'{\"a\":1}' -> 'a'", "'{\"a\":1}' ->> 'a'", "json_pretty('{}')",
    "json_error_position('{')", "median(1)", "percentile(1,50)", "decimal_add(1,1)", "edit('x')", "readfile('/etc/passwd')", "fts5_source_id()", "likelihood(1,0.5)", "sqlite_offset(1)", "subtype(1)", "regexp('a','b')", "'a' REGEXP 'b'", "unhex('41') is null", "octet_length('é')", "timediff('2020-01-02','2020-01-01')",
    "fts3_tokenizer('x')", "rtreecheck('x')", "rtreenode(1, x'')", "geopoly_area(x'')", "sqlite_log(1,'x')", "sign(-3)", "trunc(1.7)", "mod(7,3)", "acosh(1)", "exp(0)", "ln(1)", "log(2,8)", "CURRENT_TIMESTAMP IS NULL", "strftime('%Y','2020-01-01')", "unixepoch('2020-01-01')", "char(65)", "match('a','b')"].map((f) => q(`SELECT ${f}`)),
  // PRAGMAs
  ...["table_list", "table_info(users)", "table_info('users')", "table_xinfo(users)", "index_list(users)", "index_info(posts_user)", "index_xinfo(posts_user)", "foreign_key_list(posts)", "foreign_key_check", "foreign_key_check(posts)", "quick_check", "quick_check(1)",
    "optimize", "page_size", "page_size = 512", "foreign_keys", "foreign_keys = off", "foreign_keys", "defer_foreign_keys", "defer_foreign_keys = on", "case_sensitive_like", "ignore_check_constraints", "legacy_alter_table", "recursive_triggers",
    "reverse_unordered_selects", "user_version", "user_version = 3", "journal_mode", "journal_mode = delete", "synchronous = off", "integrity_check", "schema_version", "application_id", "page_count", "freelist_count", "max_page_count = 2", "cache_size = 1", "temp_store", "mmap_size",
    "wal_checkpoint", "database_list", "function_list", "pragma_list", "compile_options", "encoding", "auto_vacuum", "incremental_vacuum", "secure_delete", "table_info(_cf_x)", "foreign_keys = banana", "trusted_schema = off", "collation_list", "module_list", "locking_mode"].map((p) => q(`PRAGMA ${p}`)),
  q("SELECT name, type FROM pragma_table_info('users')"), q("SELECT * FROM pragma_user_version"), q("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\' ORDER BY name"),
  // batches
  batch("INSERT INTO kv VALUES ('b1', 1)", "INSERT INTO kv VALUES ('b2', 2)", "SELECT * FROM kv ORDER BY k"), batch("INSERT INTO kv VALUES ('b3', 1)", "INSERT INTO kv VALUES ('b1', 2)"), batch(["SELECT * FROM kv WHERE k = ?", "b3"], ["SELECT count(*) AS n FROM kv"]),
  batch("PRAGMA defer_foreign_keys = on", "INSERT INTO posts (user, title) VALUES (500, 'late')", "INSERT INTO users (id, name) VALUES (500, 'late')"),
  batch("PRAGMA defer_foreign_keys = on", "INSERT INTO posts (user, title) VALUES (501, 'never')"), q("SELECT count(*) FROM posts WHERE user = 501"), batch("-- nothing", "SELECT 1"), batch("-- nothing"), batch("  -- nothing"), batch(), batch("SELECT 1", "bad"),
  exec("INSERT INTO kv VALUES ('e1', 1);\nINSERT INTO kv VALUES ('e2', 2);"), exec("SELECT k FROM kv WHERE k = 'e1'"), exec("CREATE TABLE broken ("),
  batch("CREATE TABLE made (a)", "INSERT INTO made VALUES (1)", "SELECT * FROM made", "DROP TABLE made"),
  // deferrable keys in the schema
  q("CREATE TABLE child (p INTEGER REFERENCES users(id) DEFERRABLE INITIALLY DEFERRED)"), q("INSERT INTO child VALUES (4242)"), q("SELECT count(*) FROM child"), batch("INSERT INTO child VALUES (600)", "INSERT INTO users (id, name) VALUES (600, 'x600')"),
  // triggers, FTS5, R*Tree, generated columns, JSON tables
  q("CREATE TABLE log (t TEXT)"), q("CREATE TRIGGER users_log AFTER INSERT ON users BEGIN INSERT INTO log VALUES (new.name); INSERT INTO log VALUES ('again'); END"), q("INSERT INTO users (name) VALUES ('trig')"), q("SELECT * FROM log"),
  q("CREATE VIRTUAL TABLE docs USING fts5(title, body)"), q("INSERT INTO docs VALUES ('hello', 'the quick brown fox')"), q("SELECT title, highlight(docs, 1, '[', ']') FROM docs WHERE docs MATCH 'quick'"), q("SELECT title FROM docs WHERE docs MATCH 'a AND'"), q("CREATE VIRTUAL TABLE v USING fts5vocab(docs, row)"), q("SELECT term FROM v"),
  q("CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1)"), q("INSERT INTO boxes VALUES (1, 0, 1)"), q("SELECT id FROM boxes WHERE x0 < 1"), q("CREATE VIRTUAL TABLE csv USING csv(x)"), q("CREATE VIRTUAL TABLE d USING dbstat"), q("SELECT * FROM dbstat"), q("CREATE VIRTUAL TABLE f3 USING fts3(a)"), q("SELECT * FROM sqlite_dbpage"), q("SELECT * FROM bytecode('SELECT 1')"), q("SELECT * FROM generate_series(1,3)"),
  q("SELECT value FROM json_each('[1,\"b\",null]')"), q("SELECT key, value FROM json_tree('{\"a\":[1]}')"), q("CREATE TABLE g (a INT, b INT GENERATED ALWAYS AS (a * 2) STORED)"), q("INSERT INTO g (a) VALUES (4)"), q("SELECT * FROM g"), q("INSERT INTO g (a, b) VALUES (1, 2)"),
  q("UPDATE users SET age = 7 WHERE id IN (1, 2) LIMIT 1"), q("DELETE FROM log ORDER BY t LIMIT 1"), q("DROP TABLE log"), q("CREATE TABLE log (t TEXT)"), q("UPDATE users SET age = 7 WHERE id = 1"), q("SELECT row_number() OVER (ORDER BY id) AS n, id FROM users ORDER BY id LIMIT 2"), q("SELECT RAISE(ABORT, 'x')"), q("ALTER TABLE g DROP COLUMN b"), q("ALTER TABLE g RENAME COLUMN a TO z"), q("SELECT * FROM g"), q("SELECT z FROM g WHERE \"nosuch\" = 'x'"), q("DROP VIEW names"), q("DROP TABLE users"), q("DROP TABLE child"),
  batch("SELECT last_insert_rowid()", "INSERT INTO log VALUES ('z')", "SELECT last_insert_rowid(), changes(), total_changes() > 0"), q("SELECT changes()"),
  { path: "/query", body: [{ sql: "PRAGMA miniflare_d1_export(?,?,?);", params: [0, 0, "posts"] }] }, { path: "/query", body: [{ sql: "PRAGMA miniflare_d1_export(?,?,?);", params: [0, 0] }] }, { path: "/query", body: [{ sql: "PRAGMA miniflare_d1_export(?,?,?);", params: [1, 0, "posts", "kv"] }] }, { path: "/query", body: [{ sql: "PRAGMA miniflare_d1_export(?,?,?);", params: [0, 1, "posts"] }] },
  q("INSERT INTO kv VALUES ('quote''s', 'line\nfeed'), ('blob', x'00ff'), ('real', 1.5), ('int', 42), ('cr', 'a\r\nb'), ('null', NULL)"), { path: "/query", body: [{ sql: "PRAGMA miniflare_d1_export(?,?,?);", params: [0, 0, "kv"] }] },
  { path: "/query?resultsFormat=ARRAY_OF_OBJECTS", body: { sql: "SELECT 1 AS a" } }, { path: "/query?resultsFormat=BOGUS", body: { sql: "SELECT 1 AS a", params: null } }, { path: "/execute", body: [{ sql: "SELECT 1 AS a" }, { sql: "SELECT 2 AS a" }] },
];
