//! What a caller of one database can rely on.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};
use skep_d1::{D1Database, D1Store, Migrations};
use skep_wire::Service;

const SESSION: &str = "x-cf-d1-session-commit-token";

async fn call(
    database: &D1Database,
    path: &str,
    session: Option<&str>,
    body: Vec<u8>,
) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut request = http::Request::post(format!("http://d1{path}"));
    if let Some(session) = session {
        request = request.header(SESSION, session);
    }
    let response = database.call(request.body(skep_wire::full(body)).unwrap()).await;
    let (head, body) = response.into_parts();
    (head.status, head.headers, skep_wire::read_all(body, 1 << 30).await.unwrap().to_vec())
}

async fn query(database: &D1Database, body: Value) -> Value {
    let path = "/query?resultsFormat=ROWS_AND_COLUMNS";
    let (_, _, body) = call(database, path, None, body.to_string().into_bytes()).await;
    serde_json::from_slice(&body).unwrap()
}

async fn sql(database: &D1Database, sql: &str) -> Value {
    query(database, json!({ "sql": sql })).await
}

fn rows(reply: &Value) -> &Value {
    assert_eq!(reply[0]["success"], true, "{reply}");
    &reply[0]["results"]["rows"]
}

fn fresh() -> (tempfile::TempDir, Arc<D1Database>) {
    let dir = tempfile::tempdir().unwrap();
    let database = D1Store::open(dir.path()).unwrap().database("db").unwrap();
    (dir, database)
}

fn reopen(dir: &tempfile::TempDir, database: Arc<D1Database>) -> Arc<D1Database> {
    drop(database);
    D1Store::open(dir.path()).unwrap().database("db").unwrap()
}

#[tokio::test]
async fn what_is_acknowledged_is_there_after_a_restart() {
    let (dir, database) = fresh();
    sql(&database, "CREATE TABLE t (a)").await;
    sql(&database, "INSERT INTO t VALUES (1)").await;
    let database = reopen(&dir, database);
    assert_eq!(rows(&sql(&database, "SELECT a FROM t").await), &json!([[1]]));
}

/// So that a full disk can be read.
#[tokio::test]
async fn opening_and_reading_writes_nothing() {
    let (dir, database) = fresh();
    sql(&database, "CREATE TABLE t (a)").await;
    let log = dir.path().join("db.sqlite-wal");
    assert!(log.metadata().unwrap().len() > 0);
    let database = reopen(&dir, database);
    sql(&database, "SELECT a FROM t").await;
    assert!(log.metadata().is_ok_and(|log| log.len() == 0));
}

/// What is asked for a statement's sake, as which names are views, takes longer than a statement may on the caller's thread.
#[tokio::test]
async fn a_statement_of_a_large_schema_moves_to_where_it_has_time() {
    let dir = tempfile::tempdir().unwrap();
    let file = rusqlite::Connection::open(dir.path().join("db.sqlite")).unwrap();
    let views: String = (0..6000).map(|n| format!("CREATE VIEW v{n} AS SELECT {n} AS a;")).collect();
    file.execute_batch(&format!("BEGIN; CREATE TABLE t (a); INSERT INTO t VALUES (7); {views} COMMIT"))
        .unwrap();
    drop(file);
    let database = D1Store::open(dir.path()).unwrap().database("db").unwrap();
    assert_eq!(rows(&sql(&database, "SELECT a FROM t").await), &json!([[7]]));
    assert_eq!(rows(&sql(&database, "SELECT a FROM v5").await), &json!([[5]]));
}

#[tokio::test]
async fn bookmarks_grow_with_writes_and_across_restarts_and_only_sessions_get_them() {
    let (dir, mut database) = fresh();
    let (_, headers, _) = call(&database, "/query", None, br#"{"sql":"SELECT 1"}"#.to_vec()).await;
    assert!(!headers.contains_key(SESSION));
    let mut seen: Vec<String> = Vec::new();
    for round in 0..3 {
        for text in
            ["CREATE TABLE IF NOT EXISTS t (a)", "SELECT 1", "INSERT INTO t VALUES (1)", "SELECT a FROM t"]
        {
            let session = seen.last().map_or("first-primary", String::as_str);
            let body = json!({ "sql": text }).to_string().into_bytes();
            let (_, headers, _) = call(&database, "/query", Some(session), body).await;
            seen.push(headers[SESSION].to_str().unwrap().to_owned());
        }
        if round < 2 {
            database = reopen(&dir, database);
        }
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert!(seen[0] < seen[2] && seen[3] < seen[4]);
    assert!(seen.iter().all(|bookmark| bookmark.len() == seen[0].len()));
}

#[tokio::test]
async fn calls_that_share_a_transaction_do_not_share_their_fate() {
    let (_dir, database) = fresh();
    sql(&database, "CREATE TABLE t (a PRIMARY KEY)").await;
    let calls = (0..40).map(|i| {
        let database = &database;
        async move { sql(database, &format!("INSERT INTO t VALUES ({})", i / 2)).await["success"] != false }
    });
    let outcomes = futures_util::future::join_all(calls).await;
    assert_eq!(outcomes.iter().filter(|ok| **ok).count(), 20);
    assert_eq!(rows(&sql(&database, "SELECT count(*) FROM t").await), &json!([[20]]));
}

#[tokio::test]
async fn a_deferred_key_is_checked_at_the_end_of_its_own_call() {
    let (_dir, database) = fresh();
    sql(&database, "CREATE TABLE p (id INTEGER PRIMARY KEY)").await;
    sql(&database, "CREATE TABLE c (p INTEGER REFERENCES p(id))").await;
    let orphan = |n: i32| json!([{ "sql": "PRAGMA defer_foreign_keys = on" }, { "sql": format!("INSERT INTO c VALUES ({n})") }]);
    let parent = |n: i32| json!({ "sql": format!("INSERT INTO p VALUES ({n})") });
    for n in 1..4 {
        // Sent at once, so that they could share a transaction; the parent comes too late for the orphan.
        let (orphan, parent) = tokio::join!(query(&database, orphan(n)), query(&database, parent(n)));
        let error =
            "FOREIGN KEY constraint failed: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_FOREIGNKEY)";
        assert_eq!(orphan["error"], error);
        assert_eq!(parent[0]["success"], true);
    }
    assert_eq!(rows(&sql(&database, "SELECT count(*) FROM c").await), &json!([[0]]));
}

#[tokio::test]
async fn keys_declared_deferrable_are_checked_per_call_too() {
    let (_dir, database) = fresh();
    sql(&database, "CREATE TABLE p (id INTEGER PRIMARY KEY)").await;
    sql(&database, "CREATE TABLE c (p INTEGER REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED)").await;
    let (orphan, parent) =
        tokio::join!(sql(&database, "INSERT INTO c VALUES (1)"), sql(&database, "INSERT INTO p VALUES (1)"));
    assert_eq!(orphan["success"], false);
    assert_eq!(parent[0]["success"], true);
}

#[tokio::test]
async fn a_switch_lasts_for_its_call() {
    let (_dir, database) = fresh();
    for _ in 0..3 {
        let both = json!([{ "sql": "PRAGMA case_sensitive_like = on" }, { "sql": "SELECT 'a' LIKE 'A'" }]);
        assert_eq!(query(&database, both).await[1]["results"]["rows"], json!([[0]]));
        sql(&database, "EXPLAIN PRAGMA case_sensitive_like = on").await;
        for text in ["SELECT 'a' LIKE 'A'", "SELECT 'a' LIKE 'A', changes() IS NULL"] {
            assert_eq!(rows(&sql(&database, text).await)[0][0], 1, "{text}");
        }
    }
}

#[tokio::test]
async fn a_table_cannot_get_a_reserved_name_by_renaming() {
    let (_dir, database) = fresh();
    sql(&database, "CREATE TABLE t (a)").await;
    let renamed = sql(&database, "ALTER TABLE t RENAME TO _cf_t").await;
    assert_eq!(renamed["error"], "not authorized: SQLITE_AUTH");
    assert_eq!(rows(&sql(&database, "SELECT count(*) FROM t").await), &json!([[0]]));
}

#[tokio::test]
async fn vacuum_writes_no_file() {
    let (dir, database) = fresh();
    let path = dir.path().join("stolen").display().to_string();
    for text in [format!("VACUUM INTO '{path}'"), format!("/**/ vacuum into '{path}'")] {
        assert_eq!(sql(&database, &text).await["success"], false);
    }
    assert!(!dir.path().join("stolen").exists());
}

#[tokio::test]
async fn a_long_read_does_not_hold_the_callers_thread() {
    let (_dir, database) = fresh();
    let long = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 3000000) SELECT count(*) FROM c";
    let running = {
        let database = database.clone();
        tokio::spawn(async move { sql(&database, long).await })
    };
    // This runtime has one thread: if the read held it, the next line would come after it.
    tokio::task::yield_now().await;
    assert_eq!(rows(&sql(&database, "SELECT 1").await), &json!([[1]]));
    assert!(!running.is_finished());
    assert_eq!(rows(&running.await.unwrap()), &json!([[3_000_000]]));
}

#[tokio::test]
async fn many_reads_in_one_call_do_not_hold_the_callers_thread_either() {
    let (_dir, database) = fresh();
    sql(&database, "CREATE TABLE t (a)").await;
    let long = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 2000) SELECT count(*) FROM c";
    for statements in [90, 500] {
        let batch = Value::Array(vec![json!({ "sql": long }); statements]);
        let running = {
            let database = database.clone();
            tokio::spawn(async move { query(&database, batch).await })
        };
        tokio::task::yield_now().await;
        assert!(!running.is_finished());
        let replies = running.await.unwrap();
        assert_eq!(replies.as_array().unwrap().len(), statements);
        assert_eq!(replies[statements - 1]["results"]["rows"], json!([[2000]]));
    }
}

#[tokio::test]
async fn values_past_two_megabytes_are_refused_and_nothing_is_stored() {
    let (_dir, database) = fresh();
    sql(&database, "CREATE TABLE t (a)").await;
    let insert = |text: String| json!({ "sql": "INSERT INTO t VALUES (?)", "params": [text] });
    let refused = query(&database, insert("x".repeat(2_000_001))).await;
    assert_eq!(refused["error"], "string or blob too big: SQLITE_TOOBIG");
    assert_eq!(rows(&query(&database, insert("x".repeat(1_900_000))).await), &json!([]));
    assert_eq!(rows(&sql(&database, "SELECT length(a) FROM t").await), &json!([[1_900_000]]));
}

#[tokio::test]
async fn a_statement_past_a_hundred_kilobytes_is_refused() {
    let (_dir, database) = fresh();
    let reply = sql(&database, &format!("SELECT '{}'", "x".repeat(100_000))).await;
    assert_eq!(reply["error"], "statement too long: SQLITE_TOOBIG");
}

#[tokio::test]
async fn a_function_takes_thirty_two_arguments() {
    let (_dir, database) = fresh();
    let call = |n: usize| format!("SELECT coalesce({})", vec!["1"; n].join(","));
    assert_eq!(rows(&sql(&database, &call(32)).await), &json!([[1]]));
    assert!(sql(&database, &call(33)).await["error"].as_str().unwrap().starts_with("too many arguments"));
}

#[tokio::test]
async fn a_result_too_large_for_memory_is_an_error() {
    let (_dir, database) = fresh();
    let text = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 100) SELECT hex(zeroblob(900000)) FROM c";
    assert_eq!(
        sql(&database, text).await["error"],
        "D1 DB's isolate exceeded its memory limit and was reset."
    );
}

#[tokio::test]
async fn a_dump_is_a_database() {
    let (dir, database) = fresh();
    sql(&database, "CREATE TABLE t (a)").await;
    sql(&database, "INSERT INTO t VALUES ('kept')").await;
    let (status, _, file) = call(&database, "/dump", None, vec![]).await;
    assert_eq!(status, StatusCode::OK);
    let path = dir.path().join("copy");
    std::fs::write(&path, file).unwrap();
    let copy = rusqlite::Connection::open(&path).unwrap();
    assert_eq!(copy.query_row("SELECT a FROM t", [], |row| row.get::<_, String>(0)).unwrap(), "kept");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("dump")), "{left:?}");
}

#[tokio::test]
async fn a_file_of_a_newer_format_is_not_opened() {
    let (dir, database) = fresh();
    drop(database);
    let file = rusqlite::Connection::open(dir.path().join("db.sqlite")).unwrap();
    file.pragma_update(None, "application_id", 0x536b_0002).unwrap();
    drop(file);
    let error = D1Store::open(dir.path()).unwrap().database("db").unwrap_err().to_string();
    assert!(error.contains("has format 2"), "{error}");
}

#[tokio::test]
async fn migrations_are_applied_once_in_order_and_each_as_a_whole() {
    let (dir, database) = fresh();
    let folder = dir.path().join("migrations");
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("0002_rows.sql", "INSERT INTO t VALUES ('a;b'); -- one\nINSERT INTO t VALUES ('c');");
    write(
        "0001_init.sql",
        "CREATE TABLE t (a);\nCREATE TRIGGER g AFTER DELETE ON t\nBEGIN\n  SELECT 1;\nEND;\n",
    );
    write("notes.txt", "not a migration");
    let migrations = Migrations::new(&folder);
    assert_eq!(database.migrate(&migrations).await.unwrap(), ["0001_init.sql", "0002_rows.sql"]);
    assert!(database.migrate(&migrations).await.unwrap().is_empty());
    write("0003_bad.sql", "INSERT INTO t VALUES ('lost'); INSERT INTO nope VALUES (1);");
    let error = database.migrate(&migrations).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "Migration 0003_bad.sql failed with the following errors: no such table: nope: SQLITE_ERROR"
    );
    assert_eq!(rows(&sql(&database, "SELECT a FROM t").await), &json!([["a;b"], ["c"]]));
    assert_eq!(
        rows(&sql(&database, "SELECT id, name FROM d1_migrations").await),
        &json!([[1, "0001_init.sql"], [2, "0002_rows.sql"]])
    );
    assert_eq!(database.pending_migrations(&migrations).await.unwrap(), ["0003_bad.sql"]);
}

#[tokio::test]
async fn what_is_not_the_protocol_is_answered_with_an_error() {
    let (_dir, database) = fresh();
    assert_eq!(call(&database, "/nope", None, vec![]).await.0, StatusCode::NOT_FOUND);
    let (status, _, body) = call(&database, "/query", None, b"{".to_vec()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["success"], false);
}

fn param() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(|n| json!(n)),
        any::<f64>().prop_filter("JSON has no other", |x| x.is_finite()).prop_map(|x| json!(x)),
        any::<String>().prop_map(|text| json!(text)),
        any::<Vec<u8>>().prop_map(|bytes| json!(bytes)),
    ]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn parameters_come_back_as_they_were(params in prop::collection::vec(param(), 1..20)) {
        let (_dir, database) = fresh();
        runtime().block_on(async {
            let places = vec!["?"; params.len()].join(",");
            let names: Vec<String> = (0..params.len()).map(|i| format!("c{i}")).collect();
            sql(&database, &format!("CREATE TABLE t ({})", names.join(","))).await;
            query(&database, json!({ "sql": format!("INSERT INTO t VALUES ({places})"), "params": params })).await;
            for text in [format!("SELECT {places}"), "SELECT * FROM t".to_owned()] {
                let bound = if text.contains('?') { params.clone() } else { vec![] };
                let reply = query(&database, json!({ "sql": text, "params": bound })).await;
                for (back, sent) in rows(&reply)[0].as_array().unwrap().iter().zip(&params) {
                    let same = match (back.as_f64(), sent.as_f64()) {
                        (Some(back), Some(sent)) => back == sent,
                        _ => back == sent,
                    };
                    assert!(same, "{back} {sent}");
                }
            }
        });
    }

    /// A batch either happens as a whole or not at all, whatever stands in it.
    #[test]
    fn a_batch_is_atomic(batches in prop::collection::vec(prop::collection::vec((0u8..12, any::<bool>(), any::<bool>()), 1..6), 1..8)) {
        let (_dir, database) = fresh();
        runtime().block_on(async {
            sql(&database, "CREATE TABLE t (k INTEGER PRIMARY KEY, v INTEGER)").await;
            let mut model: BTreeMap<u8, usize> = BTreeMap::new();
            for (round, batch) in batches.iter().enumerate() {
                let mut next = Some(model.clone());
                let mut statements = Vec::new();
                for (key, insert, read) in batch {
                    if *read {
                        statements.push(json!({ "sql": "SELECT * FROM t" }));
                    } else if *insert {
                        statements.push(json!({ "sql": "INSERT INTO t VALUES (?, ?)", "params": [key, round] }));
                        next = next.filter(|m| !m.contains_key(key));
                        if let Some(m) = &mut next { m.insert(*key, round); }
                    } else {
                        statements.push(json!({ "sql": "DELETE FROM t WHERE k = ?", "params": [key] }));
                        if let Some(m) = &mut next { m.remove(key); }
                    }
                }
                let reply = query(&database, Value::Array(statements)).await;
                assert_eq!(reply.is_array(), next.is_some(), "{reply}");
                model = next.unwrap_or(model);
                let expected: Vec<Value> = model.iter().map(|(k, v)| json!([k, v])).collect();
                assert_eq!(rows(&sql(&database, "SELECT * FROM t ORDER BY k").await), &json!(expected));
            }
        });
    }

    #[test]
    fn arbitrary_bodies_and_sql_are_answered(body: Vec<u8>, text in "[a-z(){};'\"?*=,0-9 -]{0,40}", word in 0usize..6) {
        let (_dir, database) = fresh();
        let word = ["SELECT ", "INSERT ", "PRAGMA ", "CREATE ", "WITH ", ""][word];
        runtime().block_on(async {
            let (_, _, reply) = call(&database, "/query", None, body).await;
            assert!(serde_json::from_slice::<Value>(&reply).is_ok());
            let reply = sql(&database, &format!("{word}{text}")).await;
            assert!(reply[0]["success"] == true || reply["success"] == false, "{reply}");
        });
    }
}
