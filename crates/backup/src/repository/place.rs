//! Where backups are kept.

use std::ops::Range;

/// Named pieces of content: a folder, or a bucket. Everything blocks, and is all or nothing.
pub trait Place: Send + Sync {
    /// What it is called in messages.
    fn shown(&self) -> String;
    /// Stores a piece, durably, in place of one of the same name.
    fn put(&self, key: &str, content: Vec<u8>) -> Result<(), PlaceError>;
    /// A piece, or the part of it in a range of bytes; `None` if it is not there.
    fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<Vec<u8>>, PlaceError>;
    /// All pieces whose names begin with `prefix`, which ends with a slash.
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, PlaceError>;
    /// Removes a piece; it is no error if it is not there.
    fn remove(&self, key: &str) -> Result<(), PlaceError>;
}

/// A piece in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub key: String,
    /// Its length, in bytes.
    pub size: u64,
}

/// Why a place does not do what it should, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PlaceError(pub String);

impl From<std::io::Error> for PlaceError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}
