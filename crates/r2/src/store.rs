//! All buckets of one machine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skep_runtime::{Clock, Jobs};
use skep_store::{Folders, Quota, StoreError, Upkeep};

use crate::Bucket;
use crate::change::{Listen, Listener};
use crate::rules;

/// How often lifecycle rules are followed.
const SWEEP: Duration = Duration::from_secs(600);

/// The buckets in one folder. No two processes may have the same folder open.
#[derive(Debug)]
pub struct R2Store {
    open: Arc<Open>,
}

/// What it takes to open a bucket.
#[derive(Debug)]
struct Open {
    clock: Clock,
    buckets: Folders<Bucket>,
    listener: Listener,
    quota: Arc<Quota>,
}

impl Open {
    fn bucket(&self, name: &str) -> Result<Arc<Bucket>, StoreError> {
        let (listener, clock, quota) = (self.listener.clone(), self.clock.clone(), self.quota.clone());
        let open = |folder: &Path| Bucket::open(folder, name, listener, clock, quota);
        self.buckets.get(name, open)
    }

    /// Follows the rules of all buckets, one after the other. They are opened if there may be something to do in them.
    async fn sweep(self: Arc<Self>) -> Result<String, String> {
        let this = self.clone();
        let ids = tokio::task::spawn_blocking(move || this.buckets.ids());
        let ids = ids.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        let mut upkeep = Upkeep::default();
        for id in ids {
            let (this, name) = (self.clone(), id.clone());
            let found = tokio::task::spawn_blocking(move || {
                rules::may_have_work(&this.buckets.folder(&name)).then(|| this.bucket(&name)).transpose()
            });
            match found.await.map_err(|e| e.to_string())? {
                Ok(None) => {}
                Ok(Some(bucket)) => upkeep.note(&id, bucket.sweep().await),
                Err(error) => upkeep.note(&id, Err::<usize, _>(error)),
            }
        }
        upkeep.told()
    }
}

impl R2Store {
    /// Opens or creates the folder; lifecycle rules are followed from then on. Inside a tokio runtime only.
    pub fn open(dir: &Path, clock: Clock, jobs: &Jobs) -> Result<Self, StoreError> {
        Self::open_within(dir, clock, jobs, Arc::default())
    }

    /// As [`R2Store::open`]; what is stored counts towards `quota`.
    pub fn open_within(dir: &Path, clock: Clock, jobs: &Jobs, quota: Arc<Quota>) -> Result<Self, StoreError> {
        let (buckets, listener) = (Folders::open(dir)?, Listener::default());
        let open = Arc::new(Open { clock, buckets, listener, quota });
        let swept = open.clone();
        jobs.every("r2: lifecycle rules", SWEEP, move || swept.clone().sweep());
        Ok(Self { open })
    }

    /// The bucket of this name, created when it is first asked for. The same name gives the same `Arc`.
    pub fn bucket(&self, name: &str) -> Result<Arc<Bucket>, StoreError> {
        self.open.bucket(name)
    }

    /// The bucket of this name, if it has been asked for; `None` also where that cannot be said without waiting.
    pub fn ready(&self, name: &str) -> Option<Arc<Bucket>> {
        self.open.buckets.ready(name)
    }

    /// Lets `listener` hear of objects that are made and removed from now on, in all buckets. The first one stays.
    pub fn listen(&self, listener: Arc<dyn Listen>) {
        if self.open.listener.set(listener).is_err() {
            tracing::warn!("somebody listens to the buckets already");
        }
    }

    /// Removes a bucket with all that is in it; one that is not there is no error. Blocking. Who still holds it
    /// writes into nothing.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.open.buckets.remove(name)
    }

    /// Follows all lifecycle rules now; says what was done.
    #[cfg(test)]
    pub(crate) async fn sweep(&self) -> Result<String, String> {
        self.open.clone().sweep().await
    }
}
