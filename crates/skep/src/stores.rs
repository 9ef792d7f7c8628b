//! Everything that is kept between runs, in one folder.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skep_analytics::AnalyticsStore;
use skep_cache::{CacheStore, Limits};
use skep_catalog::Catalog;
use skep_d1::{D1Store, Retention};
use skep_kv::KvStore;
use skep_queues::Queues;
use skep_r2::R2Store;
use skep_ratelimit::RateLimiter;
use skep_runtime::{Clock, Jobs, Shutdown};
use skep_store::Quota;
use skep_vectorize::VectorizeStore;

use crate::mail::Folder;

/// The servers behind bindings, and the ledger of what is deployed.
pub struct Stores {
    /// The folder.
    pub dir: PathBuf,
    /// What is deployed.
    pub catalog: Catalog,
    /// KV.
    pub kv: KvStore,
    /// R2.
    pub r2: R2Store,
    /// D1.
    pub d1: D1Store,
    /// Queues.
    pub queues: Queues,
    /// Rate limits; in memory.
    pub ratelimits: RateLimiter,
    /// The Cache API.
    pub cache: CacheStore,
    /// Analytics Engine.
    pub analytics: AnalyticsStore,
    /// Vectorize.
    pub vectorize: VectorizeStore,
    // Held: two processes on one folder would break each other's files.
    _lock: File,
}

/// How much is kept of what may go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keeping {
    /// Of what D1 databases were; `None`: nothing.
    pub history: Option<Retention>,
    /// Bytes that scripts cache together; `None`: what is usual.
    pub cache: Option<u64>,
}

impl Stores {
    /// Opens or creates everything in `dir`, for which there is `flag`. `keeping` says how much is kept of what may go; what is stored
    /// otherwise counts towards `quota`.
    pub fn open(
        dir: &Path,
        flag: &str,
        clock: &Clock,
        jobs: &Jobs,
        shutdown: &Shutdown,
        keeping: Keeping,
        quota: &Arc<Quota>,
    ) -> Result<Self, String> {
        let in_dir = |what: &str, error: &dyn std::fmt::Display| {
            format!("cannot open {what} in {}: {error}", dir.display())
        };
        std::fs::create_dir_all(dir).map_err(|e| in_dir("the state", &e))?;
        let lock = lock(dir, flag)?;
        let d1 = match keeping.history {
            Some(retention) => D1Store::open_with_history(&dir.join("d1"), retention, clock.clone()),
            None => D1Store::open(&dir.join("d1")),
        };
        Ok(Self {
            dir: dir.to_owned(),
            catalog: Catalog::open(&dir.join("catalog.sqlite"))
                .map_err(|e| in_dir("the catalog", &e))?
                .within(quota.clone()),
            kv: KvStore::open(&dir.join("kv"), clock.clone(), jobs)
                .map_err(|e| in_dir("KV", &e))?
                .within(quota.clone()),
            r2: R2Store::open_within(&dir.join("r2"), clock.clone(), jobs, quota.clone())
                .map_err(|e| in_dir("R2", &e))?,
            d1: d1
                .map_err(|e| in_dir("D1", &e))?
                .within(quota.clone())
                .searched_apart(crate::searches::apart()?),
            queues: {
                let (dir, quota) = (dir.join("queues"), quota.clone());
                Queues::open_within(&dir, clock.clone(), jobs, shutdown.clone(), quota)
                    .map_err(|e| in_dir("queues", &e))?
            },
            ratelimits: RateLimiter::new(clock.clone(), jobs),
            cache: {
                let usual = Limits::default();
                let limits = Limits { store: keeping.cache.unwrap_or(usual.store), ..usual };
                let cache = CacheStore::open_with(&dir.join("cache"), clock.clone(), jobs, limits);
                cache.map_err(|e| in_dir("the cache", &e))?
            },
            analytics: AnalyticsStore::open(&dir.join("analytics"))
                .map_err(|e| in_dir("Analytics Engine", &e))?
                .within(quota.clone()),
            vectorize: VectorizeStore::open(&dir.join("vectorize"), clock.clone())
                .map_err(|e| in_dir("Vectorize", &e))?
                .within(quota.clone()),
            _lock: lock,
        })
    }

    /// Where mail is kept that is not sent.
    pub fn mail(&self) -> Folder {
        Folder(self.dir.join("email"))
    }

    /// Where Durable Objects keep their files.
    pub fn objects(&self) -> PathBuf {
        self.dir.join("do")
    }

    /// Removes the files of deleted Durable Object namespaces.
    pub async fn bury_doomed_objects(&self) -> Result<(), String> {
        for key in self.catalog.doomed().map_err(|e| e.to_string())? {
            let folder = self.objects().join(&key);
            match std::fs::remove_dir_all(&folder) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("cannot remove {}: {e}", folder.display()));
                }
                _ => self.catalog.buried(&key).await.map_err(|e| e.to_string())?,
            }
        }
        Ok(())
    }
}

/// How long a database is open that nobody uses, and how often that is looked at.
const IDLE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(10);

/// Closes databases that nobody uses, of all kinds and accounts, from now on. Who is asked something is opened again.
pub fn let_sleep(jobs: &Jobs) {
    jobs.every("close databases that nobody uses", LOOK, || async {
        let slept = tokio::task::spawn_blocking(|| skep_store::let_sleep(IDLE));
        slept.await.map_err(|e| e.to_string())
    });
}

/// Takes the folder for this process; `flag` names another one.
pub fn lock(dir: &Path, flag: &str) -> Result<File, String> {
    let path = dir.join("lock");
    let unusable = |error: std::io::Error| format!("cannot use {}: {error}", path.display());
    let mut file =
        File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let _ = file.read_to_string(&mut owner);
            return Err(format!(
                "the state in {} is in use by another Skep (process {}): end that one, or choose another folder \
                 with {flag}",
                dir.display(),
                owner.trim()
            ));
        }
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
    }
    file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(unusable)?;
    Ok(file)
}
