//! All namespaces of one machine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skep_runtime::{Clock, Jobs};
use skep_store::{StoreError, folder_name};

use crate::namespace::Namespace;

/// How often expired entries are removed. They are invisible from the second on that they expire; this only
/// gives the room back.
const SWEEP: Duration = Duration::from_secs(30);

type Open = Arc<Mutex<HashMap<String, Arc<Namespace>>>>;

/// The namespaces in one folder. No two processes may have the same folder open.
#[derive(Debug)]
pub struct KvStore {
    dir: PathBuf,
    clock: Clock,
    open: Open,
}

impl KvStore {
    /// Opens or creates the folder and starts the removal of expired entries. Inside a tokio runtime only.
    pub fn open(dir: &Path, clock: Clock, jobs: &Jobs) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir)
            .map_err(|e| StoreError::io(format!("cannot create {}", dir.display()), e))?;
        let open = Open::default();
        let swept = open.clone();
        jobs.every("kv: remove expired entries", SWEEP, move || remove_expired(swept.clone()));
        Ok(Self { dir: dir.to_owned(), clock, open })
    }

    /// The namespace with this id, created when it is first asked for. The same id gives the same `Arc`.
    pub fn namespace(&self, id: &str) -> Result<Arc<Namespace>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(namespace) = open.get(id) {
            return Ok(namespace.clone());
        }
        let namespace = Arc::new(Namespace::open(&self.dir.join(folder_name(id)), self.clock.clone())?);
        open.insert(id.to_owned(), namespace.clone());
        Ok(namespace)
    }

    /// Removes a namespace with all that is in it; one that is not there is no error. Blocking. Who still holds
    /// it writes into nothing.
    pub fn remove(&self, id: &str) -> Result<(), StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(id);
        let folder = self.dir.join(folder_name(id));
        match std::fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io(format!("cannot remove {}", folder.display()), e))
            }
            _ => Ok(()),
        }
    }
}

/// One run of the background job; a namespace that fails does not spare the others.
async fn remove_expired(open: Open) -> Result<String, String> {
    let namespaces: Vec<_> = open
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let mut removed = 0;
    let mut failed = Vec::new();
    for (id, namespace) in namespaces {
        match namespace.remove_expired().await {
            Ok(count) => removed += count,
            Err(error) => failed.push(format!("{id}: {error}")),
        }
    }
    if failed.is_empty() { Ok(format!("{removed} removed")) } else { Err(failed.join("; ")) }
}
