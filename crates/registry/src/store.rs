//! The images of one account.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use skep_runtime::{Clock, Jobs};
use skep_store::{BlobId, Blobs, Database, Quota, StoreError};

use crate::error::RegistryError;
use crate::memory::{Memory, kept};
use crate::name::{Digest, Reference, Repository};
use crate::rows;
use crate::upload::Session;

/// The largest blob: an image has to fit the disk of the largest instance type.
/// <https://developers.cloudflare.com/containers/platform-details/limits/>
pub const MAX_BLOB: u64 = 20_000_000_000;
/// All images of an account together, by the same page.
pub const MAX_STORED: u64 = 50_000_000_000;
/// How often uploads that were given up are looked for, and what nobody needs.
const TIDY: Duration = Duration::from_secs(60 * 60);

/// The images of one account: repositories with blobs, manifests and tags. No two processes may have the same folder open.
#[derive(Debug)]
pub struct ImageStore {
    pub(crate) db: Database,
    pub(crate) blobs: Blobs,
    pub(crate) clock: Clock,
    /// What of [`MAX_STORED`] is taken, by uploads under way, too.
    pub(crate) room: Arc<Quota>,
    pub(crate) uploads: Mutex<HashMap<String, Arc<Session>>>,
    /// For what is read whole, by both servers of a node.
    pub(crate) memory: Memory,
}

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What it is.
    pub digest: Digest,
    /// Of what kind.
    pub media_type: String,
    /// Its bytes.
    pub size: usize,
}

impl ImageStore {
    /// Opens or creates the folder. What is stored counts towards `quota`, too.
    pub fn open(dir: &Path, clock: Clock, quota: Arc<Quota>) -> Result<Self, StoreError> {
        Self::open_for(dir, clock, quota, MAX_STORED)
    }

    /// As [`Self::open`], for so many bytes.
    pub(crate) fn open_for(
        dir: &Path,
        clock: Clock,
        quota: Arc<Quota>,
        most: u64,
    ) -> Result<Self, StoreError> {
        let db = Database::open(&dir.join("registry.sqlite"), rows::SCHEMA)?;
        let blobs = Blobs::open(&dir.join("blobs"))?.within(quota);
        let (named, stored) = db.read(rows::files)?;
        let orphans = blobs.sweep(&named)?;
        if orphans > 0 {
            tracing::info!(orphans, dir = %dir.display(), "removed files of unfinished uploads");
        }
        let room = Arc::new(Quota::new(most));
        room.add(stored);
        Ok(Self { db, blobs, clock, room, uploads: Mutex::default(), memory: Memory::default() })
    }

    /// Removes what was given up and what nobody needs from time to time, from now on. `account` names the job;
    /// `in_use` are the manifests that run somewhere, as `repository@digest`. Inside a tokio runtime only.
    pub fn tidy_by<F>(self: &Arc<Self>, jobs: &Jobs, account: &str, in_use: F)
    where
        F: Fn() -> Result<std::collections::HashSet<String>, String> + Send + Sync + 'static,
    {
        let (images, in_use) = (self.clone(), Arc::new(in_use));
        jobs.every(format!("{account}: tidy the image registry"), TIDY, move || {
            let (images, in_use) = (images.clone(), in_use.clone());
            async move {
                let ended = images.end_uploads();
                // All scripts of the account are looked at for it.
                let named =
                    tokio::task::spawn_blocking(move || in_use()).await.map_err(|e| e.to_string())??;
                let removed = images.collect(named).await.map_err(|e| e.to_string())?;
                Ok(format!("{ended} uploads ended, {removed} removed"))
            }
        });
    }

    /// Milliseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        i64::try_from(self.clock.now_ms()).unwrap_or(i64::MAX)
    }

    /// A manifest of a repository.
    pub fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Manifest>, StoreError> {
        let found = self.db.read(|c| {
            let digest = match reference {
                Reference::Digest(digest) => Some(digest.as_str().to_owned()),
                Reference::Tag(tag) => rows::tagged(c, repository.as_str(), tag.as_str())?,
            };
            match digest {
                Some(digest) => rows::manifest(c, repository.as_str(), &digest),
                None => Ok(None),
            }
        })?;
        Ok(found.and_then(|row| {
            let digest = Digest::parse(&row.digest)?;
            Some(Manifest { digest, media_type: row.media_type, size: row.size })
        }))
    }

    /// A manifest of a repository as it was sent, if it is still there. It has room in memory until the last of it is gone.
    pub(crate) async fn content(
        self: &Arc<Self>,
        repository: &Repository,
        manifest: &Manifest,
    ) -> Result<Option<Bytes>, RegistryError> {
        let room = self.memory.room(manifest.size).await;
        let (images, repository, digest) = (self.clone(), repository.clone(), manifest.digest.clone());
        let read = move || images.db.read(|c| rows::content(c, repository.as_str(), digest.as_str()));
        let found = self.memory.aside(manifest.size, read).await??;
        Ok(found.map(|(_, content)| kept(content.into(), room)))
    }

    /// A blob of a repository, open, and its length. Blocking.
    pub fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<(std::fs::File, u64)>, StoreError> {
        let found = self.db.read(|c| rows::blob(c, repository.as_str(), digest.as_str()))?;
        found.map(|row| Ok((self.blobs.read(&row.file)?, row.size))).transpose()
    }

    /// Removes content files; failing leaves orphans, which the next open removes.
    pub(crate) async fn discard(&self, files: Vec<(BlobId, u64)>) {
        if files.is_empty() {
            return;
        }
        let (blobs, room) = (self.blobs.clone(), self.room.clone());
        let removed = tokio::task::spawn_blocking(move || {
            for (file, size) in files {
                match blobs.remove(&file) {
                    Ok(()) => room.give_back(size),
                    Err(error) => tracing::warn!(%error, "a file that is not needed stays"),
                }
            }
        });
        let _ = removed.await;
    }
}
