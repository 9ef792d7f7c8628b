//! Where events are kept: one SQLite file, ordered by time, bounded by age and size.
//!
//! Whoever hands an event over never waits: events are collected in memory up to a bound, and a task writes what has come
//! together. What does not fit is dropped and counted. The last tenth of a second is lost when the machine loses its power:
//! logs are not worth a flush each.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Transaction, params};
use skep_runtime::{Clock, Jobs, Shutdown};
use skep_store::{Database, Schema, StoreError};
use tokio::sync::Notify;

use crate::event::Event;
use crate::query::Timeframe;

const SCHEMA: Schema = Schema(&["
    CREATE TABLE event(key INTEGER PRIMARY KEY, script TEXT NOT NULL, request TEXT NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE INDEX event_script ON event(script, key);
    CREATE INDEX event_request ON event(request);
"]);

/// Events that wait to be written: so many bytes.
const MAX_WAITING: usize = 16 << 20;
/// Events come together for so long before they are written.
const GATHER: Duration = Duration::from_millis(100);
/// How often old events are looked for, and how many are removed in one write.
const TIDY: Duration = Duration::from_secs(60);
const REMOVED_AT_ONCE: i64 = 2000;
/// A question reads for so long at most.
const LONGEST: Duration = Duration::from_secs(20);
/// A key is a moment in milliseconds and a number of so many bits.
const NUMBER_BITS: u32 = 20;

/// How long and how much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Older events are removed.
    pub age: Duration,
    /// While the file has more bytes in use, the oldest events are removed.
    pub bytes: u64,
}

/// The events of an account. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Database,
    clock: Clock,
    retention: Retention,
    waiting: Mutex<Waiting>,
    more: Notify,
    /// Tells events of one millisecond apart.
    next: AtomicU64,
    kept: AtomicU64,
    dropped: AtomicU64,
    failing: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    rows: Vec<Row>,
    bytes: usize,
}

#[derive(Debug)]
struct Row {
    key: u64,
    script: String,
    request: String,
    body: String,
}

/// What was read to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    pub rows: u64,
    pub bytes: u64,
}

/// Which events are read.
pub(crate) enum Which<'a> {
    All,
    /// Of one script.
    Script(&'a str),
    /// Of one invocation.
    Request(&'a str),
}

impl LogStore {
    /// Opens or creates the file in `dir`. `name` is the account's, for the list of jobs.
    pub fn open(
        dir: &Path,
        name: &str,
        retention: Retention,
        clock: Clock,
        jobs: &Jobs,
        shutdown: Shutdown,
    ) -> Result<Self, StoreError> {
        // A crash of the process loses nothing with NORMAL in WAL mode; one of the machine the last writes.
        let db = Database::open_with(&dir.join("logs.sqlite"), SCHEMA, |connection| {
            connection.pragma_update(None, "synchronous", "NORMAL")
        })?;
        let next = AtomicU64::new(clock.now_ms().wrapping_mul(0x9e37_79b9));
        let this = Self(Arc::new(Inner {
            db,
            clock,
            retention,
            waiting: Mutex::default(),
            more: Notify::new(),
            next,
            kept: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        }));
        let writer = this.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = writer.0.more.notified() => {}
                    () = shutdown.requested() => break,
                }
                tokio::select! {
                    () = tokio::time::sleep(GATHER) => {}
                    () = shutdown.requested() => {}
                }
                writer.flush().await;
            }
            writer.flush().await;
        });
        let tidied = this.clone();
        jobs.every(format!("{name}: remove old logs"), TIDY, move || {
            let store = tidied.clone();
            async move { store.tidy().await.map_err(|e| e.to_string()) }
        });
        Ok(this)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps events, soon. Those that there is no room for are dropped.
    pub fn append(&self, events: Vec<Event>) {
        let rows: Vec<Row> = events.into_iter().map(|event| self.row(&event)).collect();
        let mut waiting = self.waiting();
        for row in rows {
            let bytes = row.body.len();
            if waiting.bytes + bytes > MAX_WAITING {
                self.0.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            waiting.bytes += bytes;
            waiting.rows.push(row);
        }
        drop(waiting);
        self.0.more.notify_one();
    }

    fn row(&self, event: &Event) -> Row {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed) & ((1 << NUMBER_BITS) - 1);
        Row {
            key: event.at_ms.min((1 << 43) - 1) << NUMBER_BITS | number,
            script: event.script.clone(),
            request: event.body["$metadata"]["requestId"].as_str().unwrap_or_default().to_owned(),
            body: event.body.to_string(),
        }
    }

    /// Writes what waits.
    pub async fn flush(&self) {
        let rows = {
            let mut waiting = self.waiting();
            waiting.bytes = 0;
            std::mem::take(&mut waiting.rows)
        };
        if rows.is_empty() {
            return;
        }
        let (count, bound) = (rows.len() as u64, self.0.retention.bytes);
        let written = self.0.db.write(move |transaction| {
            insert(transaction, &rows)?;
            // A burst does not wait for the job.
            let mut rounds = 0;
            while used(transaction)? > bound && rounds < 20 && remove_oldest(transaction)? > 0 {
                rounds += 1;
            }
            Ok(())
        });
        match written.await {
            Ok(()) => {
                self.0.kept.fetch_add(count, Ordering::Relaxed);
                self.0.failing.store(false, Ordering::Relaxed);
            }
            Err(error) => {
                self.0.dropped.fetch_add(count, Ordering::Relaxed);
                if !self.0.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "logs of scripts cannot be written, and are dropped");
                }
            }
        }
    }

    /// Removes what is too old or too much.
    async fn tidy(&self) -> Result<String, StoreError> {
        let oldest =
            self.0.clock.now_ms().saturating_sub(self.0.retention.age.as_millis() as u64) << NUMBER_BITS;
        let bound = self.0.retention.bytes;
        let mut total = 0;
        loop {
            let removed = self.0.db.write(move |transaction| {
                let aged = transaction
                    .prepare_cached("DELETE FROM event WHERE key IN (SELECT key FROM event WHERE key < ? ORDER BY key LIMIT ?)")?
                    .execute(params![oldest as i64, REMOVED_AT_ONCE])?;
                match aged == 0 && used(transaction)? > bound {
                    true => remove_oldest(transaction),
                    false => Ok(aged),
                }
            });
            match removed.await? {
                0 => return Ok(format!("{total} removed")),
                count => total += count,
            }
        }
    }

    /// Events that were kept and that were dropped since the start.
    pub fn counts(&self) -> (u64, u64) {
        (self.0.kept.load(Ordering::Relaxed), self.0.dropped.load(Ordering::Relaxed))
    }

    /// Shows events in a frame of time, the newest first, until `visit` has enough. Blocking.
    pub(crate) fn scan(
        &self,
        frame: Timeframe,
        which: &Which<'_>,
        mut visit: impl FnMut(u64, &str) -> ControlFlow<()>,
    ) -> Result<Read, StoreError> {
        let (condition, name) = match which {
            Which::All => ("?3 IS NULL", None),
            Which::Script(script) => ("script = ?3", Some(*script)),
            Which::Request(request) => ("request = ?3", Some(*request)),
        };
        let sql = format!(
            "SELECT key, body FROM event WHERE {condition} AND key >= ?1 AND key < ?2 ORDER BY key DESC"
        );
        self.0.db.read(|connection| {
            let mut read = Read::default();
            let mut statement = connection.prepare_cached(&sql)?;
            let bounds = [frame.from, frame.to].map(|at| (at.min((1 << 43) - 1) << NUMBER_BITS) as i64);
            let mut rows = statement.query(params![bounds[0], bounds[1], name])?;
            let begun = Instant::now();
            while let Some(row) = rows.next()? {
                if begun.elapsed() > LONGEST {
                    let late = std::io::ErrorKind::TimedOut.into();
                    return Err(StoreError::io(format!("logs were read for {} s", LONGEST.as_secs()), late));
                }
                let key: i64 = row.get(0)?;
                let body = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
                read.rows += 1;
                read.bytes += body.len() as u64;
                if visit(key as u64, body).is_break() {
                    break;
                }
            }
            Ok(read)
        })
    }
}

fn insert(transaction: &Transaction<'_>, rows: &[Row]) -> Result<(), StoreError> {
    let mut statement = transaction
        .prepare_cached("INSERT OR IGNORE INTO event(key, script, request, body) VALUES (?, ?, ?, ?)")?;
    for row in rows {
        // Only a clock that was set back, or a million events in a millisecond, makes a number that is taken.
        let mut key = row.key;
        while statement.execute(params![key as i64, row.script, row.request, row.body])? == 0 {
            key += 1;
        }
    }
    Ok(())
}

fn remove_oldest(transaction: &Transaction<'_>) -> Result<usize, StoreError> {
    let sql = "DELETE FROM event WHERE key IN (SELECT key FROM event ORDER BY key LIMIT ?)";
    Ok(transaction.prepare_cached(sql)?.execute([REMOVED_AT_ONCE])?)
}

/// Bytes of the pages that hold something.
fn used(transaction: &Transaction<'_>) -> Result<u64, StoreError> {
    let number = |pragma: &str| transaction.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let pages = number("page_count")? - number("freelist_count")?;
    Ok((pages * number("page_size")?) as u64)
}

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// An event's id, as a ULID: <https://github.com/ulid/spec>. Ids are ordered as their events are.
pub(crate) fn id_of(key: u64) -> String {
    let number = u128::from(key >> NUMBER_BITS) << 80 | u128::from(key & ((1 << NUMBER_BITS) - 1));
    (0..26).map(|n| DIGITS[(number >> (125 - 5 * n)) as usize & 31] as char).collect()
}

/// The key of an event's id.
pub(crate) fn key_of(id: &str) -> Option<u64> {
    if id.len() != 26 {
        return None;
    }
    let mut number: u128 = 0;
    for byte in id.bytes() {
        let digit = DIGITS.iter().position(|digit| *digit == byte.to_ascii_uppercase())?;
        number = number.checked_mul(32)? | digit as u128;
    }
    let (at, low) = (u64::try_from(number >> 80).ok()?, number & ((1 << 80) - 1));
    let low = u64::try_from(low).ok().filter(|low| *low < 1 << NUMBER_BITS)?;
    (at < 1 << 43).then_some(at << NUMBER_BITS | low)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use skep_runtime::{ManualClock, ShutdownTrigger};

    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1000;

    fn open(dir: &Path, clock: &ManualClock, bytes: u64) -> (LogStore, ShutdownTrigger) {
        let (trigger, shutdown) = Shutdown::new();
        let jobs = Jobs::new(clock.clock(), shutdown.clone());
        let retention = Retention { age: Duration::from_millis(DAY_MS), bytes };
        (LogStore::open(dir, "a", retention, clock.clock(), &jobs, shutdown).unwrap(), trigger)
    }

    fn event(at_ms: u64, text: &str) -> Event {
        Event {
            at_ms,
            script: "s".into(),
            body: json!({ "source": { "message": text }, "$metadata": { "requestId": "r" } }),
        }
    }

    fn texts(store: &LogStore) -> Vec<String> {
        let mut found = Vec::new();
        let frame = Timeframe { from: 0, to: u64::MAX };
        store
            .scan(frame, &Which::All, |_, body| {
                let body: serde_json::Value = serde_json::from_str(body).unwrap();
                found.push(body["source"]["message"].as_str().unwrap().to_owned());
                ControlFlow::Continue(())
            })
            .unwrap();
        found
    }

    #[tokio::test]
    async fn events_are_kept_in_order_of_time_until_they_are_too_old() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(3 * DAY_MS);
        let (store, _trigger) = open(dir.path(), &clock, 1 << 30);
        store.append(vec![
            event(3 * DAY_MS, "new"),
            event(2 * DAY_MS - 1, "old"),
            event(2 * DAY_MS, "just so"),
        ]);
        store.flush().await;
        assert_eq!(texts(&store), ["new", "just so", "old"]);
        assert_eq!(store.tidy().await.unwrap(), "1 removed");
        assert_eq!(texts(&store), ["new", "just so"]);
        assert_eq!(store.counts(), (3, 0));
        drop(store);
    }

    #[tokio::test]
    async fn events_of_one_moment_are_all_kept_also_after_a_new_start() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(5);
        for _ in 0..2 {
            // The same number comes up twice.
            let (store, _trigger) = open(dir.path(), &clock, 1 << 30);
            store.append(vec![event(5, "a"), event(5, "b")]);
            store.flush().await;
        }
        let (store, _trigger) = open(dir.path(), &clock, 1 << 30);
        assert_eq!(texts(&store).len(), 4);
    }

    #[tokio::test]
    async fn the_oldest_make_room_and_what_comes_too_fast_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(DAY_MS);
        let (store, _trigger) = open(dir.path(), &clock, 4 << 20);
        let large = "x".repeat(1000);
        for round in 0..5 {
            store.append((0..4000).map(|n| event(round * 10_000 + n, &large)).collect());
            store.flush().await;
        }
        let left = texts(&store).len();
        assert!((1000..=4200).contains(&left), "{left}");
        let file = std::fs::metadata(dir.path().join("logs.sqlite")).unwrap().len();
        assert!(file < 16 << 20, "{file}");
        assert_eq!(store.counts().1, 0);
        store.append((0..40).map(|n| event(n, &"x".repeat(1 << 20))).collect());
        assert!(store.counts().1 >= 24, "{:?}", store.counts());
    }

    #[tokio::test]
    async fn what_waits_is_written_when_skep_ends() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(DAY_MS);
        let (store, trigger) = open(dir.path(), &clock, 1 << 30);
        store.append(vec![event(DAY_MS, "last")]);
        trigger.trigger();
        while store.counts().0 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(texts(&store), ["last"]);
    }

    proptest! {
        #[test]
        fn an_id_names_its_key_and_ids_are_ordered_as_keys(a in 0u64..1 << 63, b in 0u64..1 << 63) {
            prop_assert_eq!(key_of(&id_of(a)), Some(a));
            prop_assert_eq!(a.cmp(&b), id_of(a).cmp(&id_of(b)));
        }

        #[test]
        fn any_text_is_an_id_or_not(text in ".{0,30}") {
            if let Some(key) = key_of(&text) {
                prop_assert_eq!(id_of(key), text.to_uppercase());
            }
        }
    }
}
