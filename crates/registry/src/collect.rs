//! What nobody needs any more goes.

use std::collections::HashSet;

use rusqlite::Transaction;
use skep_store::StoreError;

use crate::error::RegistryError;
use crate::rows;
use crate::store::ImageStore;

/// What was sent and is not named yet is left alone for so long: a push sends the layers first.
const PUSHING_MS: i64 = 60 * 60 * 1000;

impl ImageStore {
    /// Removes manifests without a tag that no index names and that are not `in_use` (`repository@digest`), then the
    /// blobs that no manifest names; how many of both.
    pub async fn collect(&self, in_use: HashSet<String>) -> Result<usize, RegistryError> {
        let now = self.now();
        let removed = self.db.write(move |t| collect(t, &in_use, now)).await?;
        let (manifests, files) = removed;
        let count = manifests + files.len();
        self.discard(files.into_iter().map(|row| (row.file, row.size)).collect()).await;
        Ok(count)
    }
}

fn collect(
    t: &Transaction<'_>,
    in_use: &HashSet<String>,
    now: i64,
) -> Result<(usize, Vec<rows::BlobRow>), StoreError> {
    let (settled, mut count) = (now - PUSHING_MS, 0);
    loop {
        let mut loose = rows::loose_manifests(t, settled)?;
        loose.retain(|(repository, digest)| !in_use.contains(&format!("{repository}@{digest}")));
        if loose.is_empty() {
            break;
        }
        for (repository, digest) in loose {
            rows::remove_manifest(t, &repository, &digest, now)?;
            count += 1;
        }
    }
    rows::remove_loose_links(t, settled)?;
    Ok((count, rows::remove_unlinked(t)?))
}
