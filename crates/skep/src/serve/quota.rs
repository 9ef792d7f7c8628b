//! An account's storage, measured now and then, so that what it may store holds.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_fleet::FileLimit;
use skep_store::Quota;
use tokio::sync::Mutex;

use super::metrics::files_below;
use super::tenant::Tenant;

/// What counts of an account's folder. The cache and the logs have limits of their own.
const COUNTED: [&str; 8] = ["kv", "r2", "d1", "queues", "analytics", "do", "content", "catalog.sqlite"];

/// How often it is measured, and at most which part of the time that may take: the first where there is room for as
/// much again, the second where there is not.
const EVERY: Duration = Duration::from_secs(2);
const SHARE: u32 = 50;
const SHARE_NEARLY_FULL: u32 = 10;

/// The largest file of a Durable Object of an account that is full. It takes what SQLite needs to open a database and
/// to read it (the index of its log has 32 KiB), and a few pages of its log.
const OPEN_ONLY: u64 = 32 << 10;

/// Bytes of what each D1 database of a full account was that stay.
const HISTORY: u64 = 1 << 20;

/// Measures one account.
pub struct Meter {
    tenant: Arc<Tenant>,
    /// When it was last, and how long it took.
    last: Mutex<Option<(Instant, Duration)>>,
}

impl Meter {
    /// How often to [`Meter::run`].
    pub const EVERY: Duration = EVERY;

    /// Of this account.
    pub fn new(tenant: Arc<Tenant>) -> Arc<Self> {
        Arc::new(Self { tenant, last: Mutex::default() })
    }

    /// Measures, unless it was not long ago.
    pub async fn run(self: Arc<Self>) -> Result<String, String> {
        let mut last = self.last.lock().await;
        let quota = self.tenant.quota.clone();
        if last.is_some_and(|(at, took)| at.elapsed() < pause(&quota, took)) {
            return Ok("not yet".to_owned());
        }
        let (tenant, start) = (self.tenant.clone(), Instant::now());
        let measured = tokio::task::spawn_blocking(move || {
            let Tenant { quota, stores, .. } = &*tenant;
            measure(&stores.dir, quota);
            if quota.is_nearly_full() {
                // What databases were gives way to what they are.
                stores.d1.tidy_to(HISTORY).map_err(|e| e.to_string())?;
                measure(&stores.dir, quota);
            }
            Ok::<_, String>(())
        });
        measured.await.map_err(|e| e.to_string())??;
        *last = Some((Instant::now(), start.elapsed()));
        Ok(format!("{} bytes", quota.used()))
    }
}

fn pause(quota: &Quota, took: Duration) -> Duration {
    let share = if quota.used() < quota.limit() / 2 { SHARE } else { SHARE_NEARLY_FULL };
    EVERY.saturating_sub(EVERY / 10).max(took * share)
}

/// Blocking.
pub fn measure(dir: &Path, quota: &Quota) {
    let measuring = quota.begin();
    let mut bytes = 0;
    for place in COUNTED {
        files_below(&dir.join(place), |path, len| {
            bytes += len - unused(path, len) / 2;
        });
    }
    quota.end(measuring, bytes);
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

/// How large the files of an account's Durable Objects may be just now. The engine knows nothing of quotas, but it
/// heeds the limit of a process's files: a write beyond it fails.
pub fn file_limit(quota: &Arc<Quota>) -> Option<FileLimit> {
    let quota = quota.is_limited().then(|| quota.clone())?;
    Some(Arc::new(move || match (quota.is_far_over(), quota.room()) {
        (true, _) => Some(0),
        (false, 0) => Some(OPEN_ONLY),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_database_has_freed_counts_half() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("kv/x")).unwrap();
        std::fs::write(dir.path().join("kv/x/value"), [0; 1000]).unwrap();
        std::fs::create_dir_all(dir.path().join("logs")).unwrap();
        std::fs::write(dir.path().join("logs/not-counted"), [0; 1000]).unwrap();
        let quota = Quota::new(1 << 30);
        measure(dir.path(), &quota);
        assert_eq!(quota.used(), 1000);
        let path = dir.path().join("kv/x/kv.sqlite");
        let db = skep_store::Database::open(&path, skep_store::Schema(&["CREATE TABLE t (a)"])).unwrap();
        drop(db);
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = DELETE; WITH n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 1000) INSERT INTO t SELECT zeroblob(1000) FROM n").unwrap();
        measure(dir.path(), &quota);
        let full = quota.used();
        assert!(full > 1_000_000, "{full}");
        connection.execute_batch("DELETE FROM t").unwrap();
        measure(dir.path(), &quota);
        assert!(quota.used() < full * 6 / 10 && quota.used() > full * 4 / 10, "{}", quota.used());
    }

    #[test]
    fn files_of_a_full_account_are_small_and_beyond_that_none_is_written() {
        let quota = Arc::new(Quota::new(100 << 20));
        let limit = file_limit(&quota).unwrap();
        assert_eq!(limit(), None);
        quota.add(100 << 20);
        assert_eq!(limit(), Some(OPEN_ONLY));
        quota.add(17 << 20);
        assert_eq!(limit(), Some(0));
        assert!(file_limit(&Arc::default()).is_none());
    }
}
