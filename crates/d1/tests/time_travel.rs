//! Going back in time: what was, at any bookmark and any moment that history reaches.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use skep_d1::{D1Database, D1Store, ResultsFormat, Retention, Statement, TimeTravelError};
use skep_runtime::ManualClock;

const START: u64 = 1_790_000_000_000;
const DAY: u64 = 86_400_000;
const ALL: Retention = Retention { age_ms: 30 * DAY, whole_ms: DAY, bytes: 1 << 30 };

fn store(dir: &Path, clock: &ManualClock, retention: Retention) -> D1Store {
    D1Store::open_with_history(dir, retention, clock.clock()).unwrap()
}

async fn run(database: &D1Database, sql: &str) -> serde_json::Value {
    let statements = skep_d1::statements(sql).map(Statement::new).collect();
    let body = database.run(statements, ResultsFormat::RowsAndColumns).await;
    serde_json::from_slice(&body.unwrap_or_else(|error| panic!("{sql}: {error}"))).unwrap()
}

/// Everything that is in the database.
async fn content(database: &D1Database) -> String {
    database.export_sql(false, false, Vec::new()).await.unwrap()
}

fn check(dir: &Path, id: &str) {
    let file = rusqlite::Connection::open(dir.join(format!("{id}.sqlite"))).unwrap();
    let sound: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32),
    Grow(u32),
    Update(u32),
    Delete(u32),
    Table(u32),
    Drop(u32),
    Fail,
    Wait(u64),
    Restore(prop::sample::Index),
    RestoreTime(prop::sample::Index),
    Reopen,
    Tidy,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..50u32).prop_map(Step::Insert),
        2 => (1..60u32).prop_map(Step::Grow),
        3 => (0..50u32).prop_map(Step::Update),
        2 => (0..50u32).prop_map(Step::Delete),
        2 => (0..4u32).prop_map(Step::Table),
        1 => (0..4u32).prop_map(Step::Drop),
        1 => Just(Step::Fail),
        2 => (0..200_000u64).prop_map(Step::Wait),
        3 => any::<prop::sample::Index>().prop_map(Step::Restore),
        2 => any::<prop::sample::Index>().prop_map(Step::RestoreTime),
        2 => Just(Step::Reopen),
        1 => Just(Step::Tidy),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What is known of the past: bookmark, time, content.
type Past = Vec<(String, u64, String)>;

async fn play(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START);
    let mut store = store(dir.path(), &clock, ALL);
    let mut database = Some(store.database("db").unwrap());
    let open = |database: &Option<Arc<D1Database>>| database.clone().unwrap();
    run(&open(&database), "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)").await;
    run(&open(&database), "CREATE INDEX i ON t (b)").await;
    let mut past: Past = Vec::new();
    let remember = async |past: &mut Past, database: &Arc<D1Database>| {
        let bookmark = database.bookmark_at(None).await.unwrap();
        if let Some(last) = past.last() {
            assert!(last.0 <= bookmark, "{} came before {bookmark}", last.0);
        }
        past.push((bookmark, clock.clock().now_ms(), content(database).await));
    };
    remember(&mut past, &open(&database)).await;
    for step in steps {
        let now = open(&database);
        match step {
            Step::Insert(n) => {
                drop(run(&now, &format!("INSERT OR REPLACE INTO t VALUES ({n}, 'x{n}', random())")).await)
            }
            Step::Grow(n) => {
                let sql = format!(
                    "INSERT INTO t (a, b) SELECT randomblob(900), value FROM json_each('[{}1]')",
                    "1,".repeat(n as usize)
                );
                drop(run(&now, &sql).await);
            }
            Step::Update(n) => {
                drop(run(&now, &format!("UPDATE t SET b = random() WHERE id % 7 = {n} % 7")).await)
            }
            Step::Delete(n) => drop(run(&now, &format!("DELETE FROM t WHERE id > {n}")).await),
            Step::Table(n) => {
                drop(run(&now, &format!("CREATE TABLE IF NOT EXISTS u{n} AS SELECT * FROM t LIMIT 5")).await)
            }
            Step::Drop(n) => drop(run(&now, &format!("DROP TABLE IF EXISTS u{n}")).await),
            Step::Fail => {
                let fails = vec![Statement::new("INSERT INTO t (a) VALUES (1)"), Statement::new("SELECT no")];
                now.run(fails, ResultsFormat::Objects).await.unwrap_err();
            }
            Step::Wait(ms) => clock.advance_ms(ms),
            Step::Restore(which) => {
                let (bookmark, _, was) = which.get(&past).clone();
                let before = content(&now).await;
                let restored = now.restore(&bookmark).await.unwrap();
                assert_eq!(content(&now).await, was);
                // It can be undone, and that, too.
                now.restore(&restored.previous).await.unwrap();
                assert_eq!(content(&now).await, before);
                now.restore(&restored.bookmark).await.unwrap();
                assert_eq!(content(&now).await, was);
            }
            Step::RestoreTime(which) => {
                let (_, ms, _) = *which.get(&past);
                // The last one of that moment.
                let (_, _, was) = past.iter().rev().find(|(_, at, _)| *at <= ms).cloned().unwrap();
                let bookmark = now.bookmark_at(Some(ms)).await.unwrap();
                assert_eq!(bookmark, now.bookmark_at(Some(ms)).await.unwrap(), "it is stable");
                now.restore(&bookmark).await.unwrap();
                assert_eq!(content(&now).await, was);
            }
            Step::Reopen => {
                drop(now);
                drop(database.take());
                drop(store);
                check(dir.path(), "db");
                store = self::store(dir.path(), &clock, ALL);
                database = Some(store.database("db").unwrap());
            }
            Step::Tidy => drop(store.tidy().unwrap()),
        }
        remember(&mut past, &open(&database)).await;
    }
    drop((database, store));
    check(dir.path(), "db");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]
    #[test]
    fn any_state_that_was_can_be_gone_back_to_and_from(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(play(steps));
    }
}

#[tokio::test]
async fn a_bookmark_of_another_database_or_before_history_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START);
    let store = store(dir.path(), &clock, ALL);
    let (a, b) = (store.database("a").unwrap(), store.database("b").unwrap());
    run(&a, "CREATE TABLE t (a)").await;
    run(&b, "CREATE TABLE t (a)").await;
    let of_b = b.bookmark_at(None).await.unwrap();
    assert_eq!(a.restore(&of_b).await, Err(TimeTravelError::Invalid(of_b)));
    assert!(matches!(a.restore("00000085-0000024c-00004c6d").await, Err(TimeTravelError::Invalid(_))));
    assert!(matches!(a.bookmark_at(Some(START - 1)).await, Err(TimeTravelError::TooOld { .. })));
    for late in [START + 1, u64::MAX] {
        assert!(matches!(a.bookmark_at(Some(late)).await, Err(TimeTravelError::Future(_))));
    }
    assert!(a.bookmark_at(Some(START)).await.is_ok());
}

#[tokio::test]
async fn without_history_nothing_is_kept_and_what_was_kept_goes() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START);
    let kept = store(dir.path(), &clock, ALL);
    run(&kept.database("db").unwrap(), "CREATE TABLE t (a)").await;
    assert!(dir.path().join("db.history.sqlite").exists());
    drop(kept);
    let plain = D1Store::open(dir.path()).unwrap();
    let database = plain.database("db").unwrap();
    assert_eq!(database.bookmark_at(None).await, Err(TimeTravelError::Off));
    assert_eq!(database.restore(&database.bookmark()).await, Err(TimeTravelError::Off));
    assert!(!dir.path().join("db.history.sqlite").exists());
}

#[tokio::test]
async fn history_is_dropped_by_age_and_by_size_and_thinned_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START);
    let first = store(dir.path(), &clock, ALL);
    let database = first.database("db").unwrap();
    run(&database, "CREATE TABLE t (id INTEGER PRIMARY KEY, n, blob)").await;
    run(&database, "INSERT INTO t VALUES (1, 0, NULL)").await;
    let mut bookmarks = Vec::new();
    // Four hours with a state every ten seconds, then a week without.
    for n in 1..=1440u64 {
        clock.advance_ms(10_000);
        run(&database, &format!("UPDATE t SET n = {n}")).await;
        bookmarks.push(database.bookmark_at(None).await.unwrap());
    }
    let counted = async |database: &D1Database, bookmark: &str| {
        database.restore(bookmark).await.unwrap();
        run(database, "SELECT n FROM t").await[0]["results"]["rows"][0][0].as_u64().unwrap()
    };
    assert_eq!(counted(&database, &bookmarks[6]).await, 7, "every state is there");
    clock.advance_ms(7 * DAY);
    assert!(first.tidy().unwrap().contains("1 histories"));
    let back = counted(&database, &bookmarks[1001]).await;
    assert!((996..=1002).contains(&back), "the last state of a minute before it: {back}");
    for minute in [1, 60, 239] {
        let at = START + minute * 60_000;
        let bookmark = database.bookmark_at(Some(at)).await.unwrap();
        let back = counted(&database, &bookmark).await;
        assert!(back <= minute * 6 && back + 6 >= minute * 6, "{back} in minute {minute}");
    }
    // Bytes that do not compress.
    let random = "UPDATE t SET blob = (SELECT group_concat(hex(randomblob(500)), '') FROM json_each('[1,2,3,4,5,6,7,8,9,10]'))";
    for _ in 0..40 {
        clock.advance_ms(60_000);
        run(&database, random).await;
        // Asking stores what is known.
        database.bookmark_at(Some(clock.clock().now_ms())).await.unwrap();
    }
    drop((database, first));
    let small = Retention { bytes: 100_000, ..ALL };
    let bounded = store(dir.path(), &clock, small);
    let database = bounded.database("db").unwrap();
    bounded.tidy().unwrap();
    assert!(matches!(database.restore(&bookmarks[1439]).await, Err(TimeTravelError::TooOld { .. })));
    assert!(database.bookmark_at(Some(clock.clock().now_ms() - 60_000)).await.is_ok());
    clock.advance_ms(31 * DAY);
    bounded.tidy().unwrap();
    let oldest = database.bookmark_at(Some(clock.clock().now_ms() - 1)).await.unwrap();
    assert_eq!(oldest, database.bookmark_at(None).await.unwrap(), "the present state stays");
    drop((database, bounded));
    check(dir.path(), "db");
}

#[tokio::test]
async fn what_was_written_without_history_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START);
    let kept = store(dir.path(), &clock, ALL);
    let database = kept.database("db").unwrap();
    run(&database, "CREATE TABLE t (a)").await;
    let bookmark = database.bookmark_at(None).await.unwrap();
    drop((database, kept));
    // As an older Skep would: the file says that it was opened for writing once more.
    let file = rusqlite::Connection::open(dir.path().join("db.sqlite")).unwrap();
    file.execute_batch("INSERT INTO t VALUES (1); PRAGMA user_version = 9").unwrap();
    drop(file);
    clock.advance_ms(60_000);
    let kept = store(dir.path(), &clock, ALL);
    let database = kept.database("db").unwrap();
    clock.advance_ms(60_000);
    run(&database, "INSERT INTO t VALUES (2)").await;
    assert!(matches!(database.restore(&bookmark).await, Err(TimeTravelError::Invalid(_))));
    assert!(database.bookmark_at(None).await.unwrap() > bookmark);
}

#[tokio::test]
async fn a_large_change_is_undone_whole() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START);
    let store = store(dir.path(), &clock, ALL);
    let database = store.database("db").unwrap();
    run(&database, "CREATE TABLE t (id INTEGER PRIMARY KEY, a)").await;
    let fill = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 20000) \
                INSERT INTO t SELECT x, hex(randomblob(100)) FROM n";
    run(&database, fill).await;
    let (bookmark, was) = (database.bookmark_at(None).await.unwrap(), content(&database).await);
    run(&database, "UPDATE t SET a = hex(randomblob(100))").await;
    run(&database, "DELETE FROM t").await;
    let restored = database.restore(&bookmark).await.unwrap();
    assert!(content(&database).await == was);
    assert_eq!(run(&database, "SELECT count(*) FROM t").await[0]["results"]["rows"][0][0], 20000);
    database.restore(&restored.previous).await.unwrap();
    assert_eq!(run(&database, "SELECT count(*) FROM t").await[0]["results"]["rows"][0][0], 0);
    drop((database, store));
    check(dir.path(), "db");
}
