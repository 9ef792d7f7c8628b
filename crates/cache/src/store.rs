//! The caches of all workers of one account.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skep_runtime::{Clock, Jobs};
use skep_store::{Folders, StoreError, Upkeep};

use crate::account::Account;
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
    account: Arc<Account>,
}

impl CacheStore {
    /// Opens or creates the folder and starts the upkeep. Inside a tokio runtime only.
    pub fn open(dir: &Path, clock: Clock, jobs: &Jobs) -> Result<Self, StoreError> {
        Self::open_with(dir, clock, jobs, Limits::default())
    }

    /// As [`CacheStore::open`], with other limits.
    pub fn open_with(dir: &Path, clock: Clock, jobs: &Jobs, limits: Limits) -> Result<Self, StoreError> {
        let caches = Arc::new(Folders::open(dir)?);
        let store = Self { clock, limits, caches, account: Account::new(limits.store) };
        let tidied = store.clone();
        let mut runs = 0;
        jobs.every("cache: remove stale entries", TIDY, move || {
            runs += 1;
            tidied.clone().tidy(runs == 1, runs % ALL == 0)
        });
        Ok(store)
    }

    /// The caches of one worker, opened or created when it is first called.
    pub fn later(&self, id: &str) -> LaterCache {
        LaterCache::new(self.clone(), id)
    }

    /// The caches of one worker, created when first asked for. The same id gives the same `Arc`.
    pub fn worker(&self, id: &str) -> Result<Arc<WorkerCache>, StoreError> {
        self.caches.get(id, |folder| {
            WorkerCache::open(folder, self.clock.clone(), self.limits, self.account.share(id))
        })
    }

    async fn opened(&self, id: &str) -> Result<Arc<WorkerCache>, StoreError> {
        let (this, id) = (self.clone(), id.to_owned());
        let opened = tokio::task::spawn_blocking(move || this.worker(&id)).await;
        opened.map_err(|e| StoreError::io("cannot open a cache", std::io::Error::other(e)))?
    }

    /// Whether workers cache more together than they may.
    pub(crate) fn is_over(&self) -> bool {
        self.account.excess() > 0
    }

    /// Removes what was used longest ago, whoever has cached it, until there is room; returns how many entries went.
    pub(crate) async fn make_room(&self) -> Result<usize, StoreError> {
        let _one = self.account.making_room.lock().await;
        if !self.is_over() {
            return Ok(0);
        }
        let this = self.clone();
        let ids = tokio::task::spawn_blocking(move || this.caches.ids()).await;
        let ids = ids.map_err(|e| StoreError::io("cannot list caches", std::io::Error::other(e)))??;
        let mut line = BinaryHeap::new();
        for id in ids {
            let oldest = self.opened(&id).await?.oldest().await?;
            // One without entries may have room to give back.
            line.push(Reverse((oldest.unwrap_or(0), id)));
        }
        let mut removed = 0;
        while self.account.to_go() > 0
            && let Some(Reverse((_, id))) = line.pop()
        {
            let until = line.peek().map_or(u64::MAX, |Reverse((used, _))| *used);
            let cache = self.opened(&id).await?;
            removed += cache.shed(until, self.account.to_go()).await?;
            line.extend(cache.oldest().await?.map(|used| Reverse((used, id))));
        }
        Ok(removed)
    }

    /// One run of the background job: the `first` one looks for what was cached before, now and then one looks at `all`.
    async fn tidy(self, first: bool, all: bool) -> Result<String, String> {
        if first {
            let this = self.clone();
            let found = tokio::task::spawn_blocking(move || this.look()).await;
            found.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        }
        let mut upkeep = Upkeep::default();
        for (id, cache) in self.caches.all() {
            if !all && !cache.is_used() {
                continue;
            }
            upkeep.note(&id, cache.tidy().await);
        }
        upkeep.note("all", self.make_room().await);
        upkeep.told()
    }

    /// Counts what those have on the disk whom nobody has asked for yet. Blocking.
    pub(crate) fn look(&self) -> Result<(), StoreError> {
        for id in self.caches.ids()? {
            if !self.account.knows(&id) {
                self.account.share(&id).set(size_of(&self.caches.folder(&id)));
            }
        }
        Ok(())
    }
}

/// Bytes of all files below a folder, as far as they can be seen.
pub(crate) fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = entries.map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => size_of(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    });
    size.sum()
}
