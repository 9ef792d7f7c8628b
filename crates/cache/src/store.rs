//! The caches of all workers of one machine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skep_runtime::{Clock, Jobs};
use skep_store::{Folders, StoreError, Upkeep};

use crate::later::LaterCache;
use crate::worker::{Limits, WorkerCache};

/// How often those are tidied, too, that nobody has used since: each has to wake up for it.
const ALL: u32 = 360;
/// How often stale entries are removed and uses are noted.
const TIDY: Duration = Duration::from_secs(10);

/// The caches in one folder. No two processes may have the same folder open.
#[derive(Clone, Debug)]
pub struct CacheStore {
    clock: Clock,
    limits: Limits,
    caches: Arc<Folders<WorkerCache>>,
}

impl CacheStore {
    /// Opens or creates the folder and starts the upkeep. Inside a tokio runtime only.
    pub fn open(dir: &Path, clock: Clock, jobs: &Jobs) -> Result<Self, StoreError> {
        Self::open_with(dir, clock, jobs, Limits::default())
    }

    /// As [`CacheStore::open`], with other limits for each worker.
    pub fn open_with(dir: &Path, clock: Clock, jobs: &Jobs, limits: Limits) -> Result<Self, StoreError> {
        let caches = Arc::new(Folders::open(dir)?);
        let tidied = caches.clone();
        let mut runs = 0;
        jobs.every("cache: remove stale entries", TIDY, move || {
            runs = (runs + 1) % ALL;
            tidy(tidied.clone(), runs == 0)
        });
        Ok(Self { clock, limits, caches })
    }

    /// The caches of one worker, opened or created when it is first called.
    pub fn later(&self, id: &str) -> LaterCache {
        LaterCache::new(self.clone(), id)
    }

    /// The caches of one worker, created when first asked for. The same id gives the same `Arc`.
    pub fn worker(&self, id: &str) -> Result<Arc<WorkerCache>, StoreError> {
        self.caches.get(id, |folder| WorkerCache::open(folder, self.clock.clone(), self.limits))
    }
}

/// One run of the background job.
async fn tidy(caches: Arc<Folders<WorkerCache>>, all: bool) -> Result<String, String> {
    let mut upkeep = Upkeep::default();
    for (id, cache) in caches.all() {
        if !all && !cache.is_used() {
            continue;
        }
        upkeep.note(&id, cache.tidy().await);
    }
    upkeep.told()
}
