//! What goes into a namespace and comes out of it.

use std::fs::File;

use bytes::Bytes;

use crate::limits::MAX_LIST_KEYS;
use crate::rows::KeyInfo;

/// When an entry ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    /// Seconds since the Unix epoch.
    At(u64),
    /// Seconds from now.
    After(u64),
}

/// What a put stores beside the value.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// Without one the entry stays.
    pub expiration: Option<Expiration>,
    /// JSON, at most 1024 bytes.
    pub metadata: Option<String>,
}

/// One entry of a bulk put.
#[derive(Clone, Debug)]
pub struct BulkEntry {
    /// The key.
    pub key: String,
    /// Expiry and metadata.
    pub options: PutOptions,
    /// The value.
    pub value: Bytes,
}

/// A value that was found.
#[derive(Debug)]
pub enum Value {
    /// A small one.
    Inline(Bytes),
    /// A large one: an open file, which stays whole when its key is overwritten meanwhile.
    File(File),
}

/// An entry that was found.
#[derive(Debug)]
pub struct Entry {
    /// The value.
    pub value: Value,
    /// Bytes of the value.
    pub size: u64,
    /// Seconds since the Unix epoch from which it is gone.
    pub expiration: Option<u64>,
    /// JSON.
    pub metadata: Option<String>,
}

/// Which keys to list.
#[derive(Clone, Debug)]
pub struct ListOptions {
    /// Only keys that start so; empty for all.
    pub prefix: String,
    /// Where the page before ended: its [`ListPage::cursor`].
    pub cursor: Option<String>,
    /// Keys at most, 1 to 1000.
    pub limit: usize,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self { prefix: String::new(), cursor: None, limit: MAX_LIST_KEYS }
    }
}

/// A page of keys in the byte order of their UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage {
    /// May be empty although there are more.
    pub keys: Vec<KeyInfo>,
    /// Where to go on; absent on the last page.
    pub cursor: Option<String>,
}
