//! A search that writes cannot be stopped. Whoever does not want the database any more does not wait for it, and finds it as it was.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::{Duration, Instant};

use skep_d1::{D1Store, Param, ResultsFormat, Retention, Statement};
use skep_runtime::Clock;

async fn asked(store: &D1Store, sql: &str) -> String {
    let answer =
        store.database("a").unwrap().run(vec![Statement::new(sql)], ResultsFormat::RowsAndColumns).await;
    String::from_utf8(answer.unwrap().to_vec()).unwrap()
}

fn open(dir: &Path) -> D1Store {
    D1Store::open_with_history(dir, Retention::default(), Clock::system()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_left_while_a_search_that_writes_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let database = store.database("a").unwrap();
    asked(&store, "CREATE VIRTUAL TABLE t USING fts5(a)").await;
    asked(&store, "CREATE TABLE u (a)").await;
    let words = |count: usize| Param::Text("a ".repeat(count));
    let insert = Statement { sql: "INSERT INTO t VALUES (?)".into(), params: vec![words(100_000)] };
    database.run(vec![insert], ResultsFormat::Objects).await.unwrap();
    // Minutes, in one step.
    let near = Param::Text(format!("NEAR({})", "a ".repeat(250)));
    let bomb = vec![
        Statement::new("INSERT INTO u VALUES (1)"),
        Statement { sql: "DELETE FROM t WHERE t MATCH ?".into(), params: vec![near] },
    ];
    let search = tokio::time::timeout(Duration::from_secs(2), database.run(bomb, ResultsFormat::Objects));
    assert!(search.await.is_err(), "the caller has gone");
    // A backup takes what is committed, and does not wait either.
    let start = Instant::now();
    let paused = tokio::task::block_in_place(|| store.pause()).unwrap();
    assert!(start.elapsed() < Duration::from_secs(20));
    drop(paused);
    let start = Instant::now();
    drop(database);
    drop(store);
    assert!(start.elapsed() < Duration::from_secs(20));
    let store = open(dir.path());
    for (table, rows) in [("t", 1), ("u", 0)] {
        let counted = asked(&store, &format!("SELECT count(*) FROM {table}")).await;
        assert!(counted.contains(&format!("\"rows\":[[{rows}]]")), "{counted}");
    }
}
