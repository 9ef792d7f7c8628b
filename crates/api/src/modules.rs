//! Content files: written before the rows that name them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::BodyDataStream;
use sha2::{Digest, Sha256};
use skep_catalog::Stored;
use skep_store::{BlobId, StoreError};
use skep_wire::{Body, BoxError};

use crate::platform::Tenant;
use crate::reply::ApiError;

/// The key of a content by its own hash.
pub(crate) fn key_of(bytes: &[u8]) -> String {
    format!("m:{}", hex::encode(Sha256::digest(bytes)))
}

/// What is to be kept.
pub(crate) struct Content {
    pub key: String,
    pub bytes: Bytes,
    pub content_type: Option<String>,
}

/// Keeps `bytes` under `key`, unless something is there already.
pub(crate) async fn keep(
    tenant: &Arc<dyn Tenant>,
    key: &str,
    bytes: Bytes,
    content_type: Option<String>,
    now_ms: i64,
) -> Result<(), ApiError> {
    keep_all(tenant, vec![Content { key: key.to_owned(), bytes, content_type }], now_ms).await
}

/// Keeps what is not there already, with few flushes for all of it.
pub(crate) async fn keep_all(
    tenant: &Arc<dyn Tenant>,
    contents: Vec<Content>,
    now_ms: i64,
) -> Result<(), ApiError> {
    let mut contents: BTreeMap<String, Content> =
        contents.into_iter().map(|content| (content.key.clone(), content)).collect();
    let missing = tenant.catalog().missing_content(contents.keys().cloned().collect(), now_ms).await?;
    let missing: Vec<Content> = missing.iter().filter_map(|key| contents.remove(key)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let blobs = tenant.blobs().clone();
    let values: Vec<Bytes> = missing.iter().map(|content| content.bytes.clone()).collect();
    let written = tokio::task::spawn_blocking(move || blobs.keep_all(&values));
    let ids = written.await.map_err(ApiError::internal)?.map_err(storage)?;
    let stored = missing.into_iter().zip(ids).map(|(Content { key, bytes, content_type }, id)| {
        (key, Stored { blob: id.as_str().to_owned(), size: bytes.len() as u64, content_type })
    });
    let unneeded = tenant.catalog().add_content(stored.collect(), now_ms).await?;
    let mut unneeded = unneeded.iter().filter_map(|blob| BlobId::parse(blob));
    unneeded.try_for_each(|id| tenant.blobs().remove(&id)).map_err(storage)
}

/// Where a content is, and its length.
fn find(tenant: &Arc<dyn Tenant>, key: &str) -> Result<(BlobId, u64), ApiError> {
    let stored = tenant.catalog().content(key)?;
    let found = stored.and_then(|stored| Some((BlobId::parse(&stored.blob)?, stored.size)));
    found.ok_or_else(|| ApiError::internal(format!("the content {key} is lost")))
}

/// The length of a content.
pub(crate) fn size(tenant: &Arc<dyn Tenant>, key: &str) -> Result<usize, ApiError> {
    Ok(usize::try_from(find(tenant, key)?.1).unwrap_or(usize::MAX))
}

/// Reads a content whole.
pub(crate) async fn load(tenant: &Arc<dyn Tenant>, key: &str) -> Result<Bytes, ApiError> {
    let (id, _) = find(tenant, key)?;
    let blobs = tenant.blobs().clone();
    let read = tokio::task::spawn_blocking(move || -> Result<Bytes, StoreError> {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut blobs.read(&id)?, &mut bytes)
            .map_err(|e| StoreError::io("cannot read a content file", e))?;
        Ok(bytes.into())
    });
    read.await.map_err(ApiError::internal)?.map_err(storage)
}

/// A content as a body that is read as it is sent, and its length.
pub(crate) async fn open(tenant: &Arc<dyn Tenant>, key: &str) -> Result<(Body, u64), ApiError> {
    let (id, size) = find(tenant, key)?;
    let blobs = tenant.blobs().clone();
    let opened = tokio::task::spawn_blocking(move || blobs.read(&id));
    let file = opened.await.map_err(ApiError::internal)?.map_err(storage)?;
    Ok((skep_wire::stream(skep_store::read_pieces(file, 0, size)), size))
}

/// A piece of a body: a text, or the content of a key.
pub(crate) enum Piece {
    Text(String),
    Content(String),
}

/// A body of these pieces, each of which is opened when it is sent, and its length.
pub(crate) fn joined(tenant: &Arc<dyn Tenant>, pieces: Vec<Piece>) -> Result<(Body, u64), ApiError> {
    let mut length = 0;
    for piece in &pieces {
        length += match piece {
            Piece::Text(text) => text.len(),
            Piece::Content(key) => size(tenant, key)?,
        } as u64;
    }
    let tenant = tenant.clone();
    let opened = futures_util::stream::iter(pieces).then(move |piece| {
        let tenant = tenant.clone();
        async move {
            match piece {
                Piece::Text(text) => Ok(skep_wire::full(text)),
                Piece::Content(key) => match open(&tenant, &key).await {
                    Ok((content, _)) => Ok(content),
                    Err(_) => Err(BoxError::from("a content is lost")),
                },
            }
        }
    });
    Ok((skep_wire::stream(opened.map_ok(BodyDataStream::new).try_flatten()), length))
}

pub(crate) fn storage(error: StoreError) -> ApiError {
    skep_catalog::CatalogError::Store(error).into()
}
