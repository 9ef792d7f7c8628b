//! A registry of container images: what `docker push` and `docker pull` speak.
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>
//!
//! Layers and configurations are content files, manifests and tags rows beside them, one folder per account. What is
//! not what its digest says is never taken, what is half there never seen.
//!
//! Knows nothing of the catalog, scripts, or what runs containers: [`Accounts`] says whose folder is where, and which
//! images are needed. Entry points: [`ImageStore`] is the images of one account, [`ImageRegistry`] the server of all,
//! [`Credentials`] who may ask it.

mod blobs;
mod collect;
mod credentials;
mod error;
mod lists;
mod manifest;
mod manifests;
mod memory;
mod name;
mod path;
mod ranges;
mod rows;
mod service;
mod store;
mod upload;

#[cfg(test)]
mod tests;

pub use credentials::{Credentials, Grant, MOST_MINUTES, USER};
pub use error::RegistryError;
pub use manifest::MAX_MANIFEST;
pub use name::{Digest, Reference, Repository, Tag};
pub use service::{Accounts, ImageRegistry};
pub use store::{ImageStore, MAX_BLOB, MAX_STORED, Manifest};
