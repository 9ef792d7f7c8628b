//! Who hears of objects that were made and removed.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use skep_wire::BoxFuture;

use crate::model::Object;

/// What happened to an object. <https://developers.cloudflare.com/r2/buckets/event-notifications/>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was stored at once.
    Put,
    /// It was copied from another one.
    Copy,
    /// It was made of parts.
    CompleteMultipart,
    /// It was removed.
    Delete,
    /// A lifecycle rule removed it.
    Expire,
}

/// One object that is another now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub action: Action,
    /// The object's key.
    pub key: String,
    /// Its size and etag, if it is there.
    pub state: Option<(u64, String)>,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

impl Change {
    pub(crate) fn made(action: Action, object: &Object) -> Self {
        Self {
            action,
            key: object.name.clone(),
            state: Some((object.size, object.etag.clone())),
            at_ms: u64::try_from(object.uploaded).unwrap_or_default(),
        }
    }
}

/// Hears of changes.
pub trait Listen: Debug + Send + Sync {
    /// Called when the changes of a bucket are durable, and before whoever made them is told so: what has been
    /// acknowledged has been heard of.
    fn changed<'a>(&'a self, bucket: &'a str, changes: Vec<Change>) -> BoxFuture<'a, ()>;
}

/// Who hears of the changes of all buckets, if anybody does.
pub(crate) type Listener = Arc<OnceLock<Arc<dyn Listen>>>;
