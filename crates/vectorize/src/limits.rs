//! Cloudflare's limits. <https://developers.cloudflare.com/vectorize/platform/limits/>

use std::ops::RangeInclusive;

/// Numbers of a vector; the lower bound is what the API says of a smaller one.
pub const DIMENSIONS: RangeInclusive<usize> = 32..=1536;
/// Bytes of an index's name.
pub const MAX_NAME_BYTES: usize = 64;
/// Vectors of one call of a script.
pub const MAX_BATCH_WORKERS: usize = 1000;
/// Vectors of one call over HTTP.
pub const MAX_BATCH_HTTP: usize = 5000;
/// Bytes of one call that brings vectors.
pub const MAX_UPLOAD: usize = 100_000_000;
/// Ids of a page of a list.
pub const MAX_LIST: usize = 1000;
/// Metadata indexes of an index.
pub const MAX_PROPERTIES: usize = 10;

/// Bytes of a vector's id.
pub(crate) const MAX_ID_BYTES: usize = 64;
/// Bytes of a namespace's name.
pub(crate) const MAX_NAMESPACE_BYTES: usize = 64;
/// Bytes of a vector's metadata as compact JSON.
pub(crate) const MAX_METADATA_BYTES: usize = 10 << 10;
/// Vectors of an index.
pub(crate) const MAX_VECTORS: u64 = 10_000_000;
/// Namespaces of an index.
pub(crate) const MAX_NAMESPACES: u64 = 50_000;
/// Vectors of an answer, and of one that has values or all metadata.
pub(crate) const MAX_TOP_K: usize = 100;
pub(crate) const MAX_TOP_K_FULL: usize = 50;
/// Vectors of an answer where nothing is said.
pub(crate) const DEFAULT_TOP_K: usize = 5;
/// Ids that are got, and deleted, at once. The API says so of more.
pub(crate) const MAX_GET: usize = 20;
pub(crate) const MAX_DELETE: usize = 100;
/// A filter's compact JSON is shorter than this.
pub(crate) const MAX_FILTER_BYTES: usize = 2048;
/// Characters of a key of a filter.
pub(crate) const MAX_KEY_CHARS: usize = 512;
/// Bytes of a text that are indexed.
pub(crate) const INDEXED_BYTES: usize = 64;
