//! Blobs that are there: found in a repository, or made part of another one.

use rusqlite::Transaction;
use skep_store::StoreError;

use crate::error::RegistryError;
use crate::name::{Digest, Repository};
use crate::rows;
use crate::store::ImageStore;

/// Who asks whether a blob is there is about to name it in a manifest; that is written down no more often than this.
const TOUCHED_MS: i64 = 10 * 60 * 1000;

impl ImageStore {
    /// The length of a blob of a repository. If `pushes`, it stays for the manifest that is about to name it.
    pub(crate) async fn find_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        pushes: bool,
    ) -> Result<Option<u64>, RegistryError> {
        let found = self.db.read(|c| {
            let Some(row) = rows::blob(c, repository.as_str(), digest.as_str())? else { return Ok(None) };
            let times = rows::touched(c, repository.as_str(), digest.as_str())?;
            Ok::<_, StoreError>(Some((row.size, times.unwrap_or((0, 0)))))
        })?;
        let Some((size, (touched, released))) = found else { return Ok(None) };
        if !pushes || touched > released && self.now() - touched < TOUCHED_MS {
            return Ok(Some(size));
        }
        self.link(repository, digest, repository).await
    }

    /// Makes a blob of `from` part of `repository`, too; its length, or `None` if there is none.
    pub(crate) async fn link(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<Option<u64>, RegistryError> {
        let (repository, digest, from, now) = (repository.clone(), digest.clone(), from.clone(), self.now());
        let linked = move |t: &Transaction<'_>| {
            let Some(row) = rows::blob(t, from.as_str(), digest.as_str())? else { return Ok(None) };
            rows::link(t, repository.as_str(), digest.as_str(), now)?;
            Ok(Some(row.size))
        };
        Ok(self.db.write(linked).await?)
    }

    /// Takes a blob out of a repository. One that a manifest names stays.
    pub(crate) async fn delete_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), RegistryError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        let removed = move |t: &Transaction<'_>| {
            if rows::is_used(t, repository.as_str(), digest.as_str())? {
                return Ok(Err(RegistryError::denied("a manifest of the repository needs the blob")));
            }
            if !rows::unlink(t, repository.as_str(), digest.as_str())? {
                return Ok(Err(RegistryError::no_blob()));
            }
            Ok(Ok(rows::remove_unlinked(t)?))
        };
        let files = self.db.write(removed).await??;
        self.discard(files.into_iter().map(|row| (row.file, row.size)).collect()).await;
        Ok(())
    }
}
