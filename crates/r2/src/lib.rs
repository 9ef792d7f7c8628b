//! R2 object storage: buckets of objects on SQLite rows and content files.
//!
//! Small objects live in their row, so that a durable put is one group commit; larger ones are content files,
//! and a multipart object is a list of them. Every value streams in and out in constant memory.
//!
//! Knows nothing of the catalog, cells, accounts or the S3 and v4 APIs. Entry points: [`R2Store`] opens a folder
//! of buckets; [`Bucket`] has the operations as methods and is the `Service` that the engine's R2 binding calls.

mod bucket;
mod change;
mod checksum;
mod condition;
mod cors;
mod cursor;
mod error;
mod lifecycle;
mod limits;
mod list;
mod lock;
mod model;
mod moment;
mod multipart;
mod ranges;
mod read;
mod request;
mod rows;
mod rules;
mod service;
mod ssec;
mod store;
mod sweep;
mod uploads;
mod usage;
mod web;
mod write;

#[cfg(test)]
mod tests;

pub use bucket::Bucket;
pub use change::{Action, Change, Listen};
pub use checksum::{Algorithm, Expected};
pub use condition::{Conditional, Etag};
pub use cors::{Allowed, CorsRule};
pub use error::{OBJECT_LOCKED, R2Error};
pub use lifecycle::{ClassTransition, Conditions, LifecycleRule, Transition, When};
pub use limits::{
    MAX_DELETE_KEYS, MAX_KEY_BYTES, MAX_LIST, MAX_METADATA_BYTES, MAX_OBJECT_BYTES, MAX_PARTS, MAX_PUT_BYTES,
    MIN_PART_BYTES,
};
pub use list::{ListOptions, ListOutcome};
pub use lock::{LockCondition, LockRule};
pub use model::{CustomField, HttpFields, Object, ObjectOptions, StorageClass};
pub use moment::Moment;
pub use multipart::PublishedPart;
pub use ranges::{Range, Span};
pub use read::{GetBody, GetOptions, GetOutcome, Stored};
pub use rules::{MAX_RULES, Rules, RulesError, Unfit};
pub use ssec::SsecKey;
pub use store::R2Store;
pub use uploads::{PartInfo, PartOf, UploadInfo};
pub use usage::Usage;
pub use write::PutOptions;
