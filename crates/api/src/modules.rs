//! Content files: written before the rows that name them.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use skep_catalog::Stored;
use skep_store::{BlobId, StoreError};

use crate::platform::Tenant;
use crate::reply::ApiError;

/// The key of a content by its own hash.
pub(crate) fn key_of(bytes: &[u8]) -> String {
    format!("m:{}", hex::encode(Sha256::digest(bytes)))
}

/// Keeps `bytes` under `key`, unless something is there already.
pub(crate) async fn keep(
    tenant: &Arc<dyn Tenant>,
    key: &str,
    bytes: Bytes,
    content_type: Option<String>,
    now_ms: i64,
) -> Result<(), ApiError> {
    let missing = tenant.catalog().missing_content(vec![key.to_owned()], now_ms).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let blobs = tenant.blobs().clone();
    let size = bytes.len() as u64;
    let written = tokio::task::spawn_blocking(move || {
        let mut writer = blobs.create(BlobId::random())?;
        writer.write(&bytes)?;
        writer.finish()
    });
    let id = written.await.map_err(ApiError::internal)?.map_err(storage)?;
    let stored = Stored { blob: id.as_str().to_owned(), size, content_type };
    if !tenant.catalog().add_content(key, stored, now_ms).await? {
        tenant.blobs().remove(&id).map_err(storage)?;
    }
    Ok(())
}

/// Reads a content whole.
pub(crate) async fn load(tenant: &Arc<dyn Tenant>, key: &str) -> Result<Bytes, ApiError> {
    let stored = tenant.catalog().content(key)?;
    let id = stored.and_then(|stored| BlobId::parse(&stored.blob));
    let id = id.ok_or_else(|| ApiError::internal(format!("the content {key} is lost")))?;
    let blobs = tenant.blobs().clone();
    let read = tokio::task::spawn_blocking(move || -> Result<Bytes, StoreError> {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut blobs.read(&id)?, &mut bytes)
            .map_err(|e| StoreError::io("cannot read a content file", e))?;
        Ok(bytes.into())
    });
    read.await.map_err(ApiError::internal)?.map_err(storage)
}

pub(crate) fn storage(error: StoreError) -> ApiError {
    skep_catalog::CatalogError::Store(error).into()
}
