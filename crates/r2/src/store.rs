//! All buckets of one machine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skep_runtime::{Clock, Jobs};
use skep_store::{Folders, StoreError, Upkeep};

use crate::Bucket;
use crate::change::{Listen, Listener};

/// How often multipart uploads that are too old are looked for.
const SWEEP: Duration = Duration::from_secs(600);

/// The buckets in one folder. No two processes may have the same folder open.
#[derive(Debug)]
pub struct R2Store {
    clock: Clock,
    buckets: Arc<Folders<Bucket>>,
    listener: Listener,
}

impl R2Store {
    /// Opens or creates the folder and starts the removal of expired uploads. Inside a tokio runtime only.
    pub fn open(dir: &Path, clock: Clock, jobs: &Jobs) -> Result<Self, StoreError> {
        let buckets = Arc::new(Folders::open(dir)?);
        let swept = buckets.clone();
        jobs.every("r2: abort expired uploads", SWEEP, move || expire(swept.clone()));
        Ok(Self { clock, buckets, listener: Listener::default() })
    }

    /// The bucket of this name, created when it is first asked for. The same name gives the same `Arc`.
    pub fn bucket(&self, name: &str) -> Result<Arc<Bucket>, StoreError> {
        let open = |folder: &Path| Bucket::open(folder, name, self.listener.clone(), self.clock.clone());
        self.buckets.get(name, open)
    }

    /// Lets `listener` hear of objects that are made and removed from now on, in all buckets. The first one stays.
    pub fn listen(&self, listener: Arc<dyn Listen>) {
        if self.listener.set(listener).is_err() {
            tracing::warn!("somebody listens to the buckets already");
        }
    }

    /// Removes a bucket with all that is in it; one that is not there is no error. Blocking. Who still holds it
    /// writes into nothing.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.buckets.remove(name)
    }
}

/// One run of the background job.
async fn expire(buckets: Arc<Folders<Bucket>>) -> Result<String, String> {
    let mut upkeep = Upkeep::default();
    for (name, bucket) in buckets.all() {
        upkeep.note(&name, bucket.expire_uploads().await);
    }
    upkeep.told()
}
