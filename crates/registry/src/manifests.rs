//! Manifests and tags: what is taken, and what of it goes.

use bytes::Bytes;
use rusqlite::Transaction;
use sha2::{Digest as _, Sha256};

use crate::error::RegistryError;
use crate::manifest::{self, Named, Said};
use crate::name::{Digest, Reference, Repository};
use crate::rows::{self, ManifestRow};
use crate::store::ImageStore;

/// Manifests of an account, and tags.
const MOST: i64 = 100_000;
/// What a row costs beside its content.
const ROW: u64 = 1024;

impl ImageStore {
    /// Takes a manifest whose blobs and manifests are there; its digest, and that of what it says something about.
    pub(crate) async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        content: Bytes,
        content_type: Option<&str>,
    ) -> Result<(Digest, Option<Digest>), RegistryError> {
        let look = {
            let (content, kind) = (content.clone(), content_type.map(str::to_owned));
            move || (manifest::read(&content, kind.as_deref()), Digest::of(&Sha256::digest(&content)))
        };
        let (said, digest) = self.memory.aside(content.len(), look).await?;
        let said = said.map_err(|e| RegistryError::bad("MANIFEST_INVALID", e))?;
        if let Reference::Digest(asked) = reference
            && *asked != digest
        {
            return Err(RegistryError::bad(
                "DIGEST_INVALID",
                format!("the manifest is {digest}, not {asked}"),
            ));
        }
        let cost = content.len() as u64 + ROW;
        self.blobs.quota().take(cost)?;
        let subject = said.subject.clone();
        let kept = self.db.write({
            let (repository, reference, digest, now) =
                (repository.clone(), reference.clone(), digest.clone(), self.now());
            move |t| put(t, &repository, &reference, &digest, &content, &said, now)
        });
        let kept = kept.await.map_err(RegistryError::from).flatten();
        if kept.is_err() {
            self.blobs.quota().give_back(cost);
        }
        kept.map(|()| (digest, subject))
    }

    /// Removes a tag, or a manifest with all its tags.
    pub(crate) async fn delete_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<(), RegistryError> {
        let (repository, reference, now) = (repository.clone(), reference.clone(), self.now());
        let remove = move |t: &Transaction<'_>| {
            let name = repository.as_str();
            Ok(match &reference {
                Reference::Tag(tag) => Ok(rows::remove_tag(t, name, tag.as_str(), now)?),
                Reference::Digest(digest) if rows::is_used(t, name, digest.as_str())? => Err(
                    RegistryError::denied("an index of the repository names the manifest: delete that first"),
                ),
                Reference::Digest(digest) => Ok(rows::remove_manifest(t, name, digest.as_str(), now)?),
            })
        };
        match self.db.write(remove).await?? {
            true => Ok(()),
            false => Err(RegistryError::no_manifest()),
        }
    }
}

fn put(
    t: &Transaction<'_>,
    repository: &Repository,
    reference: &Reference,
    digest: &Digest,
    content: &Bytes,
    said: &Said,
    now: i64,
) -> Result<Result<(), RegistryError>, skep_store::StoreError> {
    let name = repository.as_str();
    for Named { digest, size } in &said.blobs {
        match rows::blob(t, name, digest.as_str())? {
            None => {
                let text = format!("blob unknown to registry: {digest}");
                return Ok(Err(RegistryError::missing("MANIFEST_BLOB_UNKNOWN", text)));
            }
            Some(row) if row.size != *size => {
                let text = format!("{digest} has {} bytes, not {size}", row.size);
                return Ok(Err(RegistryError::bad("MANIFEST_INVALID", text)));
            }
            Some(_) => {}
        }
    }
    for Named { digest, .. } in &said.manifests {
        if !rows::has_manifest(t, name, digest.as_str())? {
            let text = format!("manifest unknown to registry: {digest}");
            return Ok(Err(RegistryError::missing("MANIFEST_UNKNOWN", text)));
        }
    }
    if rows::count_manifests(t)? >= MOST || rows::count_tags(t)? >= MOST {
        let text = format!("an account has at most {MOST} manifests and tags: delete some");
        return Ok(Err(RegistryError::denied(text)));
    }
    let uses: Vec<String> =
        said.blobs.iter().chain(&said.manifests).map(|named| named.digest.as_str().to_owned()).collect();
    let row = ManifestRow {
        digest: digest.as_str().to_owned(),
        media_type: said.media_type.clone(),
        content: content.clone(),
    };
    rows::insert_manifest(t, name, &row, said.subject.as_ref().map(Digest::as_str), &uses, now)?;
    if let Reference::Tag(tag) = reference {
        rows::set_tag(t, name, tag.as_str(), digest.as_str(), now)?;
    }
    Ok(Ok(()))
}
