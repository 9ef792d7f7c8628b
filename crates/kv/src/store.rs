//! All namespaces of one machine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skep_runtime::{Clock, Jobs};
use skep_store::{Folders, Quota, StoreError, Upkeep};

use crate::namespace::Namespace;

/// How often those are looked at, too, that nobody has used since: each has to wake up for it.
const ALL: u32 = 120;
/// How often expired entries are removed. They are invisible from the second on that they expire; this only
/// gives the room back.
const SWEEP: Duration = Duration::from_secs(30);

/// The namespaces in one folder. No two processes may have the same folder open.
#[derive(Debug)]
pub struct KvStore {
    clock: Clock,
    namespaces: Arc<Folders<Namespace>>,
    quota: Arc<Quota>,
}

impl KvStore {
    /// Opens or creates the folder and starts the removal of expired entries. Inside a tokio runtime only.
    pub fn open(dir: &Path, clock: Clock, jobs: &Jobs) -> Result<Self, StoreError> {
        let namespaces = Arc::new(Folders::open(dir)?);
        let swept = namespaces.clone();
        let mut runs = 0;
        jobs.every("kv: remove expired entries", SWEEP, move || {
            runs = (runs + 1) % ALL;
            remove_expired(swept.clone(), runs == 0)
        });
        Ok(Self { clock, namespaces, quota: Arc::default() })
    }

    /// What is stored in namespaces that are opened from now on counts towards `quota`.
    #[must_use]
    pub fn within(self, quota: Arc<Quota>) -> Self {
        Self { quota, ..self }
    }

    /// The namespace with this id, created when it is first asked for. The same id gives the same `Arc`.
    pub fn namespace(&self, id: &str) -> Result<Arc<Namespace>, StoreError> {
        self.namespaces.get(id, |folder| Namespace::open(folder, self.clock.clone(), self.quota.clone()))
    }

    /// Removes a namespace with all that is in it; one that is not there is no error. Blocking. Who still holds
    /// it writes into nothing.
    pub fn remove(&self, id: &str) -> Result<(), StoreError> {
        self.namespaces.remove(id)
    }
}

/// One run of the background job.
async fn remove_expired(namespaces: Arc<Folders<Namespace>>, all: bool) -> Result<String, String> {
    let mut upkeep = Upkeep::default();
    for (id, namespace) in namespaces.all() {
        if !all && !namespace.is_used() {
            continue;
        }
        upkeep.note(&id, namespace.remove_expired().await);
    }
    upkeep.told()
}
