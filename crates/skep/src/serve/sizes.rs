//! How much an account stores: one measurement, for what is shown of it and for what it may store.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use skep_store::Quota;

/// What an account keeps.
struct Store {
    name: &'static str,
    /// Where, in the account's folder.
    places: &'static [&'static str],
    /// Whether it counts towards what the account may store. The cache and the logs have limits of their own.
    counts: bool,
}

const fn counts(name: &'static str, places: &'static [&'static str]) -> Store {
    Store { name, places, counts: true }
}

const fn apart(name: &'static str, places: &'static [&'static str]) -> Store {
    Store { name, places, counts: false }
}

const STORES: [Store; 12] = [
    counts("kv", &["kv"]),
    counts("r2", &["r2"]),
    counts("d1", &["d1"]),
    counts("queues", &["queues"]),
    apart("cache", &["cache"]),
    counts("analytics", &["analytics"]),
    counts("vectorize", &["vectorize"]),
    counts("container_images", &["registry"]),
    apart("logs", &["logs"]),
    counts("durable_objects", &["do"]),
    counts("code_and_assets", &["content"]),
    counts("catalog", &["catalog.sqlite", "catalog.sqlite-wal"]),
];

/// How often an account is measured, and at most which part of the time that may take.
pub const EVERY: Duration = Duration::from_secs(2);
const SHARE: u32 = 50;

/// What an account's folder held at a moment.
#[derive(Clone, Debug)]
pub struct Measured {
    /// When.
    pub at: Instant,
    /// How long it took to find out.
    pub took: Duration,
    /// Bytes, by the names of stores.
    pub stores: Vec<(&'static str, u64)>,
}

/// What an account stores, measured now and then.
#[derive(Debug)]
pub struct Sizes {
    quota: Arc<Quota>,
    last: Mutex<Option<Measured>>,
}

impl Sizes {
    /// Of the account with this quota.
    pub fn new(quota: Arc<Quota>) -> Self {
        Self { quota, last: Mutex::default() }
    }

    /// The last measurement, of whoever made it.
    pub fn last(&self) -> Option<Measured> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last measurement, if it is not old, else another one. Blocking.
    pub fn recent(&self, dir: &Path) -> Measured {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.take().filter(|known| known.at.elapsed() < EVERY.max(known.took * SHARE));
        last.insert(known.unwrap_or_else(|| measure(dir, &self.quota, Instant::now()))).clone()
    }

    /// Measures, in work that began at `start`; from then on that is what counts towards the quota. Blocking.
    pub fn now(&self, dir: &Path, start: Instant) -> Measured {
        // One at a time: an account that is measured twice at once would be charged for what neither has seen.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.insert(measure(dir, &self.quota, start)).clone()
    }
}

fn measure(dir: &Path, quota: &Quota, start: Instant) -> Measured {
    let measuring = quota.begin();
    let (mut counted, mut stores) = (0, Vec::with_capacity(STORES.len()));
    for Store { name, places, counts } in &STORES {
        let mut bytes = 0;
        for place in *places {
            files_below(&dir.join(place), |path, len| {
                bytes += len;
                if *counts && quota.is_limited() {
                    counted += len - unused(path, len) / 2;
                }
            });
        }
        stores.push((*name, bytes));
    }
    quota.end(measuring, counted);
    Measured { at: Instant::now(), took: start.elapsed(), stores }
}

/// Bytes of a database's file in pages that hold nothing: rows were deleted, and the file will be filled again before it
/// grows. They count half, so that who deletes gets room, and who fills one database after the other and empties them
/// again takes no more than twice of what he may.
fn unused(path: &Path, len: u64) -> u64 {
    /// Below, it does not matter.
    const LEAST: u64 = 256 << 10;
    if len < LEAST || path.extension().is_none_or(|extension| extension != "sqlite") {
        return 0;
    }
    // <https://sqlite.org/fileformat2.html#the_database_header>
    let mut head = [0; 40];
    if File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_err()
        || !head.starts_with(b"SQLite format 3\0")
    {
        return 0;
    }
    let page = match u16::from_be_bytes([head[16], head[17]]) {
        1 => 65_536,
        bytes => u64::from(bytes),
    };
    let free = u32::from_be_bytes([head[36], head[37], head[38], head[39]]);
    (u64::from(free) * page).min(len)
}

/// Shows a file, or all files of a folder, with their lengths. What cannot be read, or goes away meanwhile, does not count.
fn files_below(path: &Path, mut show: impl FnMut(&Path, u64)) {
    let Ok(found) = path.symlink_metadata() else { return };
    if !found.is_dir() {
        if found.is_file() {
            show(path, found.len());
        }
        return;
    }
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) if found.is_file() => show(&entry.path(), found.len()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_all_folders_count_and_links_do_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("kv/b")).unwrap();
        std::fs::write(dir.path().join("kv/b/c"), [0; 700]).unwrap();
        std::fs::write(dir.path().join("kv/d"), [0; 30]).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("kv/loop")).unwrap();
        std::fs::write(dir.path().join("catalog.sqlite"), [0; 5]).unwrap();
        let stores = measure(dir.path(), &Quota::default(), Instant::now()).stores;
        let bytes = |name: &str| stores.iter().find(|(store, _)| *store == name).unwrap().1;
        assert_eq!((bytes("kv"), bytes("catalog"), bytes("r2")), (730, 5, 0));
    }

    #[test]
    fn what_is_shown_is_what_counts_and_is_measured_once_for_both() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("r2")).unwrap();
        let quota = Arc::new(Quota::new(1 << 30));
        let sizes = Sizes::new(quota.clone());
        let total = |measured: Measured| measured.stores.iter().map(|(_, bytes)| bytes).sum::<u64>();
        std::fs::write(dir.path().join("r2/a"), [0; 300]).unwrap();
        assert_eq!((total(sizes.recent(dir.path())), quota.used()), (300, 300));
        std::fs::write(dir.path().join("r2/b"), [0; 50]).unwrap();
        assert_eq!((total(sizes.now(dir.path(), Instant::now())), quota.used()), (350, 350));
        assert_eq!(sizes.last().map(total), Some(350));
    }

    #[test]
    fn what_a_database_has_freed_counts_half_and_is_shown_whole() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("kv/x")).unwrap();
        std::fs::write(dir.path().join("kv/x/value"), [0; 1000]).unwrap();
        std::fs::create_dir_all(dir.path().join("logs")).unwrap();
        std::fs::write(dir.path().join("logs/not-counted"), [0; 1000]).unwrap();
        let quota = Quota::new(1 << 30);
        let measure = || measure(dir.path(), &quota, Instant::now());
        measure();
        assert_eq!(quota.used(), 1000);
        let path = dir.path().join("kv/x/kv.sqlite");
        let db = skep_store::Database::open(&path, skep_store::Schema(&["CREATE TABLE t (a)"])).unwrap();
        drop(db);
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = DELETE; WITH n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 1000) INSERT INTO t SELECT zeroblob(1000) FROM n").unwrap();
        measure();
        let full = quota.used();
        assert!(full > 1_000_000, "{full}");
        connection.execute_batch("DELETE FROM t").unwrap();
        let shown = measure().stores[0].1;
        assert!(quota.used() < full * 6 / 10 && quota.used() > full * 4 / 10, "{}", quota.used());
        assert!(shown >= full, "{shown}");
    }
}
