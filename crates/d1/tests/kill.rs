//! The process is killed in the middle of writes.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use skep_d1::{D1Database, D1Store, Param, ResultsFormat, Retention, Statement};
use skep_runtime::Clock;

const DIR: &str = "SKEP_D1_KILL_DIR";
const NAME: &str = "what_was_acknowledged_survives_a_kill_and_half_a_batch_does_not";

fn store(dir: &Path) -> D1Store {
    D1Store::open_with_history(dir, Retention::default(), Clock::system()).unwrap()
}

/// The part of the process that is killed: four writers, each of which says what has been acknowledged.
#[tokio::main]
async fn write_forever(dir: &Path) {
    let database = store(dir).database("db").unwrap();
    let create = Statement::new("CREATE TABLE IF NOT EXISTS t (writer, n, half)");
    database.run(vec![create], ResultsFormat::Objects).await.unwrap();
    let last = Statement::new("SELECT coalesce(max(n), 0) FROM t");
    let body = database.run(vec![last], ResultsFormat::RowsAndColumns).await.unwrap();
    let reply: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let start = reply[0]["results"]["rows"][0][0].as_f64().unwrap() as u32;
    let writers = (0..4).map(|writer| {
        let database = database.clone();
        async move {
            for n in start + 1.. {
                let half = |half: &str| Statement {
                    sql: "INSERT INTO t VALUES (?, ?, ?)".into(),
                    params: vec![
                        Param::Number(writer.into()),
                        Param::Number(n.into()),
                        Param::Text(half.into()),
                    ],
                };
                database.run(vec![half("a"), half("b")], ResultsFormat::Objects).await.unwrap();
                let mut out = std::io::stdout();
                if writer == 0 {
                    writeln!(out, "mark {n} {}", database.bookmark()).unwrap();
                }
                writeln!(out, "ack {writer} {n}").unwrap();
                out.flush().unwrap();
            }
        }
    });
    futures_util::future::join_all(writers).await;
}

/// To bookmarks of this life and of former ones, each with a state that writer 0 knows.
#[tokio::main]
async fn go_back_and_forth(dir: &Path, marks: &[(u32, String)]) {
    let database = store(dir).database("db").unwrap();
    let last = async |database: &D1Database| {
        let sql = "SELECT max(n), (SELECT count(*) FROM (SELECT 1 FROM t GROUP BY writer, n HAVING count(*) <> 2)) \
                   FROM t WHERE writer = 0";
        let body = database.run(vec![Statement::new(sql)], ResultsFormat::RowsAndColumns).await.unwrap();
        let reply: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let row = &reply[0]["results"]["rows"][0];
        assert_eq!(row[1], 0, "half a batch");
        row[0].as_f64().unwrap()
    };
    let now = last(&database).await;
    let mut present = None;
    for (n, bookmark) in [marks.first(), marks.get(marks.len() / 2), marks.last()].into_iter().flatten() {
        let restored = database.restore(bookmark).await.unwrap();
        assert_eq!(last(&database).await, f64::from(*n));
        present.get_or_insert(restored.previous);
    }
    if let Some(present) = present {
        database.restore(&present).await.unwrap();
        assert_eq!(last(&database).await, now);
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill_and_half_a_batch_does_not() {
    if let Some(dir) = std::env::var_os(DIR) {
        return write_forever(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut marks: Vec<(u32, String)> = Vec::new();
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = [0; 4];
        let mut seen = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some((n, bookmark)) = line.strip_prefix("mark ").and_then(|mark| mark.split_once(' '))
                && bookmark.len() == 59
            {
                marks.push((n.parse().unwrap(), bookmark.to_owned()));
            }
            // A line cut by the kill acknowledges nothing that can be read.
            let mut words = line.strip_prefix("ack ").unwrap_or("").split(' ').map(str::parse::<u32>);
            if let (Some(Ok(writer)), Some(Ok(n))) = (words.next(), words.next()) {
                acknowledged[writer as usize] = n;
                seen += 1;
                if seen == 5 + round * 13 {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        go_back_and_forth(dir.path(), &marks);
        let file = rusqlite::Connection::open(dir.path().join("db.sqlite")).unwrap();
        let ask = |sql: &str| file.query_row(sql, [], |row| row.get::<_, f64>(0)).unwrap();
        assert_eq!(
            ask("SELECT count(*) FROM (SELECT 1 FROM t GROUP BY writer, n HAVING count(*) <> 2)"),
            0.0
        );
        for (writer, n) in acknowledged.iter().enumerate() {
            assert!(
                ask(&format!("SELECT coalesce(max(n), 0) FROM t WHERE writer = {writer}")) >= f64::from(*n)
            );
        }
    }
}
