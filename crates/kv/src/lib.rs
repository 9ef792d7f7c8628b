//! Workers KV: namespaces of keys with values, metadata and expiry.
//!
//! Strongly consistent, which is more than Cloudflare promises. Knows nothing of cells, scripts or the control
//! API; a cell reaches one [`Namespace`] over HTTP, an admin interface calls the same methods.
//!
//! Entry points: [`KvStore`] hands out a [`Namespace`] by id; a namespace is a [`skep_wire::Service`].
//!
//! On disk: a folder per namespace with one SQLite file and the values above 64 KiB as content files.

mod bulk;
mod error;
mod http;
mod key;
mod limits;
mod namespace;
mod object;
mod pieces;
mod rows;
mod store;
mod types;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use error::KvError;
pub use limits::{
    MAX_BULK_GET_KEYS, MAX_BULK_WRITE_KEYS, MAX_KEY_BYTES, MAX_LIST_KEYS, MAX_METADATA_BYTES,
    MAX_VALUE_BYTES, MIN_TTL_SECS,
};
pub use namespace::Namespace;
pub use rows::KeyInfo;
pub use store::KvStore;
pub use types::{BulkEntry, Entry, Expiration, ListOptions, ListPage, PutOptions, Value};
