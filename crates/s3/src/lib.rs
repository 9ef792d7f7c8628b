//! The S3 API of R2: requests that are signed with an access key, to operations on buckets.
//! <https://developers.cloudflare.com/r2/api/s3/api/>
//!
//! Knows R2's buckets, and neither accounts nor tokens nor sockets: an [`Account`] says whose keys and buckets there are. Codes and
//! texts are R2's, where they are known.

mod account;
mod buckets;
mod chunks;
mod claim;
mod copy;
mod digest;
mod error;
mod list;
mod meta;
mod multipart;
mod objects;
mod operation;
mod payload;
mod query;
mod room;
mod service;
mod settings;
mod sign;
mod words;
mod xml;

#[cfg(test)]
mod tests;

pub use account::{Account, BucketInfo, Changed, Grant, Scope};
pub use room::Room;
pub use service::{Place, answer};
