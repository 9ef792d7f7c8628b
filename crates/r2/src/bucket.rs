//! One bucket: its file, its content files, and who is reading them.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Transaction;
use skep_runtime::Clock;
use skep_store::{BlobId, Blobs, Database, Quota, StoreError};

use crate::change::{Action, Change, Listener};
use crate::model::Object;
use crate::rows::{self, Garbage};
use crate::rules::InEffect;
use crate::sweep::Progress;
use crate::{R2Error, limits};

/// The file of a bucket, in its folder.
pub(crate) const FILE: &str = "bucket.sqlite";

/// A bucket. Its operations are methods; as a `Service` it speaks the engine's R2 protocol.
#[derive(Debug)]
pub struct Bucket {
    pub(crate) core: Arc<Core>,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub db: Database,
    pub blobs: Blobs,
    pub clock: Clock,
    pub rules: InEffect,
    pub progress: tokio::sync::Mutex<Progress>,
    name: String,
    listener: Listener,
    readers: Mutex<HashMap<String, Readers>>,
}

/// Those who read the files of one version of an object.
#[derive(Debug, Default)]
struct Readers {
    count: usize,
    /// Files to be removed after the last of them.
    doomed: Vec<BlobId>,
}

/// Keeps the files of one version from being removed.
#[derive(Debug)]
pub(crate) struct ReadLease {
    core: Arc<Core>,
    version: String,
}

impl Bucket {
    pub(crate) fn open(
        dir: &Path,
        name: &str,
        listener: Listener,
        clock: Clock,
        quota: Arc<Quota>,
    ) -> Result<Self, StoreError> {
        let db = Database::open(&dir.join(FILE), rows::SCHEMA)?;
        let blobs = Blobs::open(&dir.join("blobs"))?.within(quota);
        let orphans = blobs.sweep(&db.read(rows::all_blobs)?)?;
        if orphans > 0 {
            tracing::info!(orphans, dir = %dir.display(), "removed files of unfinished writes");
        }
        let rules = InEffect::open(&db)?;
        let name = name.to_owned();
        let (progress, readers) = Default::default();
        let core = Core { db, blobs, clock, rules, progress, name, listener, readers };
        Ok(Self { core: Arc::new(core) })
    }

    /// What is known of an object; 10007 if there is none.
    pub fn head(&self, key: &str) -> Result<Object, R2Error> {
        limits::key(key)?;
        self.core.db.read(|c| rows::head(c, key))?.ok_or_else(R2Error::no_such_key)
    }

    /// Removes objects; keys that there are not do no harm. All or none: 10069 if one is locked.
    pub async fn delete(&self, keys: Vec<String>) -> Result<(), R2Error> {
        if keys.len() > limits::MAX_DELETE_KEYS {
            return Err(R2Error::invalid_argument("Delete is limited to 1000 keys."));
        }
        keys.iter().try_for_each(|key| limits::key(key))?;
        let (at_ms, rules) = (self.core.clock.now_ms(), self.core.rules.clone());
        let remove = move |t: &Transaction<'_>| -> Result<_, StoreError> {
            let rules = rules.get();
            for key in &keys {
                if rows::locked(t, &rules, key, at_ms as i64)? {
                    return Ok(Err(R2Error::object_locked()));
                }
            }
            let (mut garbage, mut changes) = (Vec::new(), Vec::new());
            for key in keys {
                let Some(removed) = rows::remove(t, &key)? else { continue };
                garbage.push(removed);
                changes.push(Change { action: Action::Delete, key, state: None, at_ms });
            }
            Ok(Ok(((), garbage, changes)))
        };
        self.core.commit_change(Vec::new(), remove).await
    }
}

impl Core {
    /// Runs `job` in a transaction. If it is not kept, `new` files go; if it is, what it replaced goes. Done to the
    /// end even when the caller is gone. A job that refuses must not have written anything.
    pub fn commit<T, F>(
        self: &Arc<Self>,
        new: Vec<BlobId>,
        job: F,
    ) -> impl Future<Output = Result<T, R2Error>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<Result<(T, Vec<Garbage>), R2Error>, StoreError>
            + Send
            + 'static,
    {
        self.commit_change(new, move |t| Ok(job(t)?.map(|(result, garbage)| (result, garbage, Vec::new()))))
    }

    /// As [`Self::commit`], for a job that makes or removes objects: who listens has heard of it when this resolves.
    pub fn commit_change<T, F>(
        self: &Arc<Self>,
        new: Vec<BlobId>,
        job: F,
    ) -> impl Future<Output = Result<T, R2Error>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<Result<(T, Vec<Garbage>, Vec<Change>), R2Error>, StoreError>
            + Send
            + 'static,
    {
        let core = self.clone();
        let task = tokio::spawn(async move {
            let outcome = core.db.write(job).await.map_err(R2Error::from).flatten();
            match outcome {
                Ok((result, garbage, changes)) => {
                    core.discard(garbage);
                    if let Some(listener) = core.listener.get().filter(|_| !changes.is_empty()) {
                        listener.changed(&core.name, changes).await;
                    }
                    Ok(result)
                }
                Err(error) => {
                    core.unlink(new);
                    Err(error)
                }
            }
        });
        async move { task.await.unwrap_or_else(|_| Err(R2Error::internal())) }
    }

    /// Keeps the files of `version` until the lease is dropped. The version must be looked up again afterwards: it
    /// may have been replaced in between.
    pub fn lease(self: &Arc<Self>, version: &str) -> ReadLease {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.entry(version.to_owned()).or_default().count += 1;
        ReadLease { core: self.clone(), version: version.to_owned() }
    }

    fn discard(&self, garbage: Vec<Garbage>) {
        let mut free = Vec::new();
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        for Garbage { version, blobs } in garbage {
            match readers.get_mut(&version) {
                Some(readers) => readers.doomed.extend(blobs),
                None => free.extend(blobs),
            }
        }
        drop(readers);
        self.unlink(free);
    }

    /// Removes files that no row names. Failing leaves orphans, which the next open removes.
    pub fn unlink(&self, ids: Vec<BlobId>) {
        if ids.is_empty() {
            return;
        }
        let blobs = self.blobs.clone();
        let remove = move || {
            for id in &ids {
                if let Err(error) = blobs.remove(id) {
                    tracing::warn!(%error, "a file that is not needed stays");
                }
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

impl Drop for ReadLease {
    fn drop(&mut self) {
        let mut readers = self.core.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = readers.get_mut(&self.version) else { return };
        entry.count -= 1;
        if entry.count == 0 {
            let doomed = readers.remove(&self.version).map(|entry| entry.doomed).unwrap_or_default();
            drop(readers);
            self.core.unlink(doomed);
        }
    }
}
