//! What can go wrong, in Cloudflare's words.

use ::http::StatusCode;
use skep_store::StoreError;

use crate::limits::{
    MAX_BULK_GET_KEYS, MAX_BULK_WRITE_KEYS, MAX_KEY_BYTES, MAX_LIST_KEYS, MAX_METADATA_BYTES,
    MAX_VALUE_BYTES, MIN_CACHE_TTL_SECS, MIN_TTL_SECS,
};

/// Why an operation was refused or failed; nothing was stored. The text is what an application sees.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum KvError {
    #[error("Key names must not be empty")]
    EmptyKey,
    #[error("Illegal key name \"{0}\". Please use a different name.")]
    IllegalKey(String),
    #[error("UTF-8 encoded length of {0} exceeds key length limit of {MAX_KEY_BYTES}.")]
    KeyTooLong(usize),
    #[error("Could not URL-decode key name")]
    UndecodableKey,
    #[error("Value length of {0} exceeds limit of {MAX_VALUE_BYTES}.")]
    ValueTooLong(u64),
    #[error("Metadata length of {0} exceeds limit of {MAX_METADATA_BYTES}.")]
    MetadataTooLong(usize),
    #[error("Metadata must be valid JSON")]
    MetadataNotJson,
    #[error("Invalid expiration_ttl of {0}. Please specify integer greater than 0.")]
    TtlNotPositive(String),
    #[error("Invalid expiration_ttl of {0}. Expiration TTL must be at least {MIN_TTL_SECS}.")]
    TtlTooShort(u64),
    #[error(
        "Invalid expiration of {0}. Please specify integer greater than the current number of seconds since the \
         UNIX epoch."
    )]
    ExpirationPassed(String),
    #[error(
        "Invalid expiration of {0}. Expiration times must be at least {MIN_TTL_SECS} seconds in the future."
    )]
    ExpirationTooSoon(u64),
    #[error("Invalid cache_ttl of {0}. Cache TTL must be at least {MIN_CACHE_TTL_SECS}.")]
    CacheTtl(String),
    #[error("Invalid key_count_limit of {0}. Please specify an integer greater than 0.")]
    LimitNotPositive(String),
    #[error("Invalid key_count_limit of {0}. Please specify an integer less than {MAX_LIST_KEYS}.")]
    LimitTooLarge(String),
    #[error("Invalid cursor")]
    Cursor,
    #[error("You can request a maximum of {MAX_BULK_GET_KEYS} keys")]
    TooManyKeys,
    #[error("You must request a minimum of 1 key")]
    NoKeys,
    #[error("\"{0}\" is not a valid type. Use \"json\" or \"text\"")]
    BulkType(String),
    #[error("At least one of the requested keys corresponds to a non-json value")]
    NotJson,
    #[error("Total size of request exceeds the limit of 25MB")]
    BulkTooLarge,
    #[error("Could not parse the bulk get request")]
    BulkBody,
    #[error("You can write or delete a maximum of {MAX_BULK_WRITE_KEYS} keys at a time")]
    TooManyWrites,
    #[error("Not Found")]
    NotFound,
    #[error("Method Not Allowed")]
    Method,
    #[error("The value was not received in full")]
    Interrupted(#[source] skep_wire::BoxError),
    #[error("{}", .0.outside())]
    Store(#[from] StoreError),
}

impl KvError {
    /// The HTTP status that goes with it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::KeyTooLong(_) => StatusCode::URI_TOO_LONG,
            Self::ValueTooLong(_) | Self::MetadataTooLong(_) | Self::BulkTooLarge => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Store(StoreError::DiskFull | StoreError::QuotaReached) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
