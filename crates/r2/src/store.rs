//! All buckets of one machine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skep_runtime::{Clock, Jobs};
use skep_store::{StoreError, folder_name};

use crate::Bucket;

/// How often multipart uploads that are too old are looked for.
const SWEEP: Duration = Duration::from_secs(600);

type Open = Arc<Mutex<HashMap<String, Arc<Bucket>>>>;

/// The buckets in one folder. No two processes may have the same folder open.
#[derive(Debug)]
pub struct R2Store {
    dir: PathBuf,
    clock: Clock,
    open: Open,
}

impl R2Store {
    /// Opens or creates the folder and starts the removal of expired uploads. Inside a tokio runtime only.
    pub fn open(dir: &Path, clock: Clock, jobs: &Jobs) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir)
            .map_err(|e| StoreError::io(format!("cannot create {}", dir.display()), e))?;
        let open = Open::default();
        let swept = open.clone();
        jobs.every("r2: abort expired uploads", SWEEP, move || expire(swept.clone()));
        Ok(Self { dir: dir.to_owned(), clock, open })
    }

    /// The bucket of this name, created when it is first asked for. The same name gives the same `Arc`.
    pub fn bucket(&self, name: &str) -> Result<Arc<Bucket>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = open.get(name) {
            return Ok(bucket.clone());
        }
        let bucket = Arc::new(Bucket::open(&self.dir.join(folder_name(name)), self.clock.clone())?);
        open.insert(name.to_owned(), bucket.clone());
        Ok(bucket)
    }

    /// Removes a bucket with all that is in it; one that is not there is no error. Blocking. Who still holds it
    /// writes into nothing.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(name);
        let folder = self.dir.join(folder_name(name));
        match std::fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io(format!("cannot remove {}", folder.display()), e))
            }
            _ => Ok(()),
        }
    }
}

/// One run of the background job; a bucket that fails does not spare the others.
async fn expire(open: Open) -> Result<String, String> {
    let buckets: Vec<_> = {
        let open = open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|(name, bucket)| (name.clone(), bucket.clone())).collect()
    };
    let mut removed = 0;
    let mut failed = Vec::new();
    for (name, bucket) in buckets {
        match bucket.expire_uploads().await {
            Ok(count) => removed += count,
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    if failed.is_empty() { Ok(format!("{removed} removed")) } else { Err(failed.join("; ")) }
}
