//! Whose buckets there are, and who may do what with them: to be said by whoever uses this crate.

use std::sync::Arc;

use skep_r2::Bucket;
use skep_wire::BoxFuture;

use crate::room::Room;

/// What an access key is good for.
#[derive(Clone)]
pub struct Grant {
    /// The secret access key: what requests are signed with.
    pub secret: String,
    /// Where objects may be read and listed.
    pub read: Scope,
    /// Where they may be written and removed.
    pub write: Scope,
    /// Whether buckets may be made, removed and set.
    pub manage: bool,
}

/// Buckets of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// Those of these names, which may be none.
    Named(Vec<String>),
}

impl Scope {
    /// Whether a bucket is one of them.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|other| other == name),
        }
    }
}

/// A bucket, from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketInfo {
    /// Its name.
    pub name: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Where it was asked to be, such as `WEUR`.
    pub location: Option<String>,
}

/// What came of a change to buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is done.
    Done,
    /// There is such a bucket.
    Exists,
    /// There is none.
    Missing,
    /// There are objects in it.
    NotEmpty,
    /// A bucket cannot have that name.
    InvalidName,
    /// There is no such place for one.
    InvalidLocation,
    /// Buckets are said elsewhere: they are not changed here.
    Fixed,
}

/// An account: its keys and its buckets. An error is one of the machine's, for its log.
pub trait Account: Send + Sync {
    /// Its id, 32 hexadecimal digits.
    fn id(&self) -> &str;
    /// The room for its documents.
    fn room(&self) -> &Room;
    /// What a key of its is good for, now; `None` if there is none of that id.
    fn grant(&self, key: &str) -> Result<Option<Grant>, String>;
    /// All buckets, by name.
    fn buckets(&self) -> Result<Vec<BucketInfo>, String>;
    /// A bucket.
    fn bucket<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Arc<Bucket>>, String>>;
    /// Makes a bucket.
    fn create<'a>(
        &'a self,
        name: &'a str,
        location: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Changed, String>>;
    /// Removes an empty bucket.
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Changed, String>>;
}
