//! Whether an operation costs more when much is stored.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use crate::load;
use crate::peers::{Project, skep};
use crate::process::Peer;
use crate::report::Report;
use crate::rounds::{Plan, compare_paths};
use crate::tools::Tools;

const FEW: u32 = 1_000;
const MANY: u32 = 1_000_000;
const OPERATIONS: [(&str, &str); 5] = [
    ("kv-get", "KV.get"),
    ("kv-list", "KV.list of 100"),
    ("r2-get", "R2 get"),
    ("r2-list", "R2 list of 100"),
    ("d1-get", "D1 point SELECT"),
];

/// A million entries beside a thousand: the same latency.
pub async fn measure(tools: &Tools, report: &mut Report) -> Result<(), String> {
    let (few, few_project) = filled(tools, FEW).await?;
    let (many, many_project) = filled(tools, MANY).await?;
    let plan = Plan { connections: 8, time: Duration::from_millis(700), rounds: 4 };
    for (operation, what) in OPERATIONS {
        let [a, b] = [MANY, FEW].map(|count| format!("/among/{count}/{operation}"));
        let rounds = compare_paths(&[(&many, &a), (&few, &b)], plan).await?;
        let p50 = rounds.pairs((0, 1), |s| s.load.percentile(0.5), |many, few| many / few);
        report.at_most(&format!("{what}: p50 with 1,000,000 entries / with 1,000"), p50, 1.5, "");
    }
    drop((few, many, few_project, many_project));
    Ok(())
}

/// A project with `count` entries in each store, running.
async fn filled(tools: &Tools, count: u32) -> Result<(Peer, Project), String> {
    let project = Project::operations(tools)?;
    let peer = skep(tools, &project, "/hello").await?;
    if load::status(peer.address, "/setup").await != Some(200) {
        return Err("/setup failed".into());
    }
    drop(peer);
    for store in ["kv", "r2", "d1"] {
        for file in databases(&project.state().join(store))? {
            fill(&file, count).map_err(|e| format!("cannot fill {}: {e}", file.display()))?;
        }
    }
    Ok((skep(tools, &project, "/hello").await?, project))
}

fn databases(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        match path.is_dir() {
            true => found.extend(databases(&path)?),
            false if path.extension().is_some_and(|e| e == "sqlite") => found.push(path),
            false => {}
        }
    }
    Ok(found)
}

/// Copies the row that `/setup` wrote; what a store's rows hold is as the store itself wrote it.
fn fill(file: &Path, count: u32) -> rusqlite::Result<()> {
    let numbers =
        format!("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})");
    let key = "CAST(printf('k%07d', i) AS BLOB)";
    let db = Connection::open(file)?;
    db.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = WAL;")?;
    let has = |table: &str| db.table_exists(None, table);
    let mut sql = String::from("BEGIN;");
    if has("entries")? && has("contents")? {
        sql += &format!(
            "{numbers} INSERT INTO contents(id, value) SELECT 1000 + i, zeroblob(100) FROM n;
             {numbers} INSERT INTO entries(key, content, size) SELECT {key}, 1000 + i, 100 FROM n;"
        );
    } else if has("objects")? && has("parts")? {
        sql += &format!(
            "{numbers} INSERT INTO objects SELECT {key}, version, 100, etag, uploaded, meta, upload, blob,
             zeroblob(100) FROM n, (SELECT * FROM objects WHERE key = CAST('key' AS BLOB));"
        );
    } else if has("t")? {
        sql += &format!("{numbers} INSERT INTO t(id, v) SELECT i + 2, 'some text of usual length' FROM n;");
    }
    sql += "COMMIT; PRAGMA wal_checkpoint(TRUNCATE);";
    db.execute_batch(&sql)
}
