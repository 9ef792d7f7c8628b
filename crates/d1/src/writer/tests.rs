use std::time::Duration;

use super::*;

const SLOW: &str =
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) INSERT INTO t SELECT x FROM c";

fn writer(prepare: impl FnOnce(&mut Session)) -> (tempfile::TempDir, Writer) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.sqlite");
    let mut session = Session::writer(&path).unwrap();
    session.trusted(|c| c.execute_batch("CREATE TABLE t (a)")).unwrap();
    prepare(&mut session);
    let shared = Shared {
        quota: Arc::default(),
        results: skep_runtime::Backlog::new(Arc::default()),
        path,
        plans: Plans::default(),
        bookmarks: Arc::new(Bookmarks::new("a", Place { era: 1, commits: 0 })),
        history: None,
        gate: Arc::default(),
        last_row_id: AtomicI64::new(0),
        size: AtomicI64::new(0),
        stage: Stage::default(),
    };
    (dir, Writer::start(session, Arc::new(shared), String::new()).unwrap())
}

async fn run(writer: &Writer, sql: &str) -> Result<String, D1Error> {
    let body = writer.run(vec![Statement::new(sql)], ResultsFormat::RowsAndColumns).await?;
    Ok(String::from_utf8(body.bytes).unwrap())
}

async fn count(writer: &Writer) -> String {
    run(writer, "SELECT count(*) FROM t").await.unwrap()
}

#[tokio::test]
async fn a_write_past_its_time_fails_alone() {
    let (_dir, writer) = writer(|session| session.query_time = Duration::from_millis(200));
    let insert = "INSERT INTO t VALUES (1)";
    let (a, slow, b) = tokio::join!(run(&writer, insert), run(&writer, SLOW), run(&writer, insert));
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(slow.unwrap_err().to_string(), crate::error::TIMED_OUT);
    assert!(count(&writer).await.contains("\"rows\":[[2]]"));
}

#[tokio::test]
async fn a_full_disk_fails_the_write_that_needs_room_and_no_other() {
    let full = |session: &mut Session| {
        session.trusted(|c| c.query_row("PRAGMA max_page_count = 40", [], |_| Ok(()))).unwrap();
    };
    let (_dir, writer) = writer(full);
    let insert = "INSERT INTO t VALUES (1)";
    let big = "INSERT INTO t VALUES (zeroblob(1000000))";
    for _ in 0..3 {
        let (a, big, b) = tokio::join!(run(&writer, insert), run(&writer, big), run(&writer, insert));
        assert!(a.is_ok() && b.is_ok());
        assert_eq!(big.unwrap_err().to_string(), "database or disk is full: SQLITE_FULL");
    }
    assert!(count(&writer).await.contains("\"rows\":[[6]]"));
}

#[tokio::test]
async fn a_database_at_its_largest_says_so_and_can_be_emptied() {
    let small = |session: &mut Session| {
        session.trusted(|c| c.query_row("PRAGMA max_page_count = 200", [], |_| Ok(()))).unwrap();
    };
    let (_dir, writer) = writer(small);
    let outcome = loop {
        if let Err(error) = run(&writer, "INSERT INTO t VALUES (zeroblob(4000))").await {
            break error;
        }
    };
    assert_eq!(outcome.to_string(), crate::error::TOO_LARGE);
    run(&writer, "DELETE FROM t").await.unwrap();
    run(&writer, "INSERT INTO t VALUES (zeroblob(4000))").await.unwrap();
}

#[tokio::test]
async fn what_is_queued_is_written_before_the_writer_ends() {
    let (dir, writer) = writer(|_| {});
    let (reply, _nobody_listens) = oneshot::channel();
    let statements = vec![Statement::new("INSERT INTO t VALUES (1)")];
    let job = Job { statements, format: ResultsFormat::Objects, alone: false, reply };
    writer.queue.as_ref().unwrap().send(Message::Call(job)).unwrap();
    drop(writer);
    let file = rusqlite::Connection::open(dir.path().join("a.sqlite")).unwrap();
    assert_eq!(file.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0)).unwrap(), 1);
}
