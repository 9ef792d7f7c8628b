//! When a script's Durable Objects have to run next, read from where the engine keeps their alarms.
//!
//! The engine keeps a namespace's alarms in `metadata.sqlite` beside its objects and reads them when it starts: a
//! process that is started when an alarm is due runs it.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags};

/// The earliest alarm of the namespaces with these keys, whose folders are in `objects`.
pub fn next_alarm(objects: &Path, unique_keys: &[String]) -> Option<SystemTime> {
    unique_keys.iter().filter_map(|key| in_namespace(&objects.join(key))).min()
}

fn in_namespace(folder: &Path) -> Option<SystemTime> {
    let file = folder.join("metadata.sqlite");
    if !file.exists() {
        return None;
    }
    match read(&file) {
        Ok(at) => at,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the alarms cannot be read: the script is kept running");
            Some(SystemTime::now())
        }
    }
}

fn read(file: &Path) -> rusqlite::Result<Option<SystemTime>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    let there: bool = connection.query_row(
        "SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE name = '_cf_ALARM')",
        [],
        |row| row.get(0),
    )?;
    if !there {
        return Ok(None);
    }
    let nanoseconds: Option<i64> =
        connection.query_row("SELECT min(scheduled_time) FROM _cf_ALARM", [], |row| row.get(0))?;
    Ok(nanoseconds.map(|ns| UNIX_EPOCH + Duration::from_nanos(ns.max(0).unsigned_abs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_alarm_of_all_namespaces_counts() {
        let dir = tempfile::tempdir().unwrap();
        for (key, times) in
            [("s-A", vec![5_000_000_000_i64, 3_000_000_000]), ("s-B", vec![4_000_000_000]), ("s-C", vec![])]
        {
            std::fs::create_dir(dir.path().join(key)).unwrap();
            let c = Connection::open(dir.path().join(key).join("metadata.sqlite")).unwrap();
            c.execute_batch(
                "CREATE TABLE _cf_ALARM(actor_id TEXT PRIMARY KEY, scheduled_time INTEGER, actor_name TEXT)",
            )
            .unwrap();
            for (n, time) in times.iter().enumerate() {
                c.execute("INSERT INTO _cf_ALARM VALUES (?, ?, NULL)", (n.to_string(), time)).unwrap();
            }
        }
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(next_alarm(dir.path(), &keys(&["s-A", "s-B", "s-C", "s-none"])), at(3));
        assert_eq!(next_alarm(dir.path(), &keys(&["s-B"])), at(4));
        assert_eq!(next_alarm(dir.path(), &keys(&["s-C"])), None);
        std::fs::write(
            dir.path().join("s-C/metadata.sqlite"),
            "no database at all, but long enough to be looked at",
        )
        .unwrap();
        assert!(next_alarm(dir.path(), &keys(&["s-C"])).is_some(), "what cannot be read is not put to rest");
    }
}
