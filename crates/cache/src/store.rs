//! The caches of all workers of one machine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skep_runtime::{Clock, Jobs};
use skep_store::{StoreError, folder_name};

use crate::worker::{Limits, WorkerCache};

/// How often stale entries are removed and uses are noted.
const TIDY: Duration = Duration::from_secs(10);

type Open = Arc<Mutex<HashMap<String, Arc<WorkerCache>>>>;

/// The caches in one folder. No two processes may have the same folder open.
#[derive(Debug)]
pub struct CacheStore {
    dir: PathBuf,
    clock: Clock,
    limits: Limits,
    open: Open,
}

impl CacheStore {
    /// Opens or creates the folder and starts the upkeep. Inside a tokio runtime only.
    pub fn open(dir: &Path, clock: Clock, jobs: &Jobs) -> Result<Self, StoreError> {
        Self::open_with(dir, clock, jobs, Limits::default())
    }

    /// As [`CacheStore::open`], with other limits for each worker.
    pub fn open_with(dir: &Path, clock: Clock, jobs: &Jobs, limits: Limits) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir)
            .map_err(|e| StoreError::io(format!("cannot create {}", dir.display()), e))?;
        let open = Open::default();
        let tidied = open.clone();
        jobs.every("cache: remove stale entries", TIDY, move || tidy(tidied.clone()));
        Ok(Self { dir: dir.to_owned(), clock, limits, open })
    }

    /// The caches of one worker, created when first asked for. The same id gives the same `Arc`.
    pub fn worker(&self, id: &str) -> Result<Arc<WorkerCache>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = open.get(id) {
            return Ok(cache.clone());
        }
        let folder = self.dir.join(folder_name(id));
        let cache = Arc::new(WorkerCache::open(&folder, self.clock.clone(), self.limits)?);
        open.insert(id.to_owned(), cache.clone());
        Ok(cache)
    }
}

/// One run of the background job; a worker's cache that fails does not spare the others.
async fn tidy(open: Open) -> Result<String, String> {
    let caches: Vec<_> = open
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let mut removed = 0;
    let mut failed = Vec::new();
    for (id, cache) in caches {
        match cache.tidy().await {
            Ok(count) => removed += count,
            Err(error) => failed.push(format!("{id}: {error}")),
        }
    }
    if failed.is_empty() { Ok(format!("{removed} removed")) } else { Err(failed.join("; ")) }
}
