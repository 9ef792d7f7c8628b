//! What an operation refuses, with Cloudflare's codes and texts
//! (<https://developers.cloudflare.com/r2/api/error-codes/>).

use http::StatusCode;
use skep_store::StoreError;

use crate::model::Object;

/// The code of what a lock rule forbids.
pub const OBJECT_LOCKED: u32 = 10069;

/// A refused operation. Nothing was stored.
#[derive(Debug, thiserror::Error)]
#[error("{message} ({code})")]
pub struct R2Error {
    code: u32,
    status: StatusCode,
    message: String,
    object: Option<Box<Object>>,
}

impl R2Error {
    fn new(status: StatusCode, code: u32, message: impl Into<String>) -> Self {
        Self { code, status, message: message.into(), object: None }
    }

    /// Cloudflare's number for it, as in the v4 API.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The text for the application.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The object that did not meet the conditions of a read.
    pub fn object(&self) -> Option<&Object> {
        self.object.as_deref()
    }

    pub(crate) fn with_object(mut self, object: Object) -> Self {
        self.object = Some(Box::new(object));
        self
    }

    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            10001,
            "We encountered an internal error. Please try again.",
        )
    }

    pub(crate) fn disk_full() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            10001,
            "We encountered an internal error: the disk is full. Nothing was stored.",
        )
    }

    pub(crate) fn account_full() -> Self {
        Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            10001,
            "The account's storage limit is reached. Nothing was stored.",
        )
    }

    pub(crate) fn no_such_key() -> Self {
        Self::new(StatusCode::NOT_FOUND, 10007, "The specified key does not exist.")
    }

    pub(crate) fn entity_too_small() -> Self {
        Self::bad(10011, "Your proposed upload is smaller than the minimum allowed object size.")
    }

    pub(crate) fn metadata_too_large() -> Self {
        Self::bad(10012, "Your metadata headers exceed the maximum allowed metadata size.")
    }

    pub(crate) fn incomplete_body() -> Self {
        Self::bad(
            10013,
            "You did not provide the number of bytes specified by the Content-Length HTTP header.",
        )
    }

    pub(crate) fn invalid_object_name() -> Self {
        Self::bad(10020, "The specified object name is not valid.")
    }

    pub(crate) fn invalid_max_keys() -> Self {
        Self::bad(10022, "MaxKeys params must be positive integer <= 1000.")
    }

    pub(crate) fn no_such_upload() -> Self {
        Self::bad(10024, "The specified multipart upload does not exist.")
    }

    pub(crate) fn invalid_part() -> Self {
        Self::bad(10025, "One or more of the specified parts could not be found.")
    }

    pub(crate) fn invalid_argument(message: impl Into<String>) -> Self {
        Self::bad(10029, message)
    }

    pub(crate) fn precondition_failed() -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            10031,
            "At least one of the pre-conditions you specified did not hold.",
        )
    }

    pub(crate) fn unavailable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, 10043, "Service is temporarily unavailable.")
    }

    /// Documented with status 403, seen with 409; the text as the engine's callers see it.
    pub(crate) fn object_locked() -> Self {
        Self::new(StatusCode::FORBIDDEN, OBJECT_LOCKED, "The object is locked by the bucket policy.")
    }

    pub(crate) fn bad_digest(algorithm: &str, provided: &[u8], computed: &[u8]) -> Self {
        let (provided, computed) = (hex::encode(provided), hex::encode(computed));
        Self::bad(
            10037,
            format!(
                "The {algorithm} checksum you specified did not match what we received.\n\
                 You provided a {algorithm} checksum with value: {provided}\n\
                 Actual {algorithm} was: {computed}"
            ),
        )
    }

    pub(crate) fn invalid_range() -> Self {
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, 10039, "The requested range is not satisfiable")
    }

    pub(crate) fn bad_upload() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, 10048, "There was a problem with the multipart upload.")
    }

    pub(crate) fn entity_too_large() -> Self {
        Self::bad(100_100, "Your proposed upload exceeds the maximum allowed object size.")
    }

    pub(crate) fn ssec_key_missing() -> Self {
        Self::bad(
            10029,
            "The object was stored using a form of Server Side Encryption. The correct parameters must be \
             provided to retrieve the object.",
        )
    }

    pub(crate) fn ssec_key_wrong() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            10003,
            "The provided encryption key does not match the key the object was encrypted with.",
        )
    }

    pub(crate) fn ssec_not_encrypted() -> Self {
        Self::bad(10029, "The encryption parameters are not applicable to this object.")
    }

    fn bad(code: u32, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }
}

impl From<StoreError> for R2Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::QuotaReached => return Self::account_full(),
            _ => tracing::error!(%error, "R2 storage failed"),
        }
        match error {
            StoreError::DiskFull => Self::disk_full(),
            _ => Self::internal(),
        }
    }
}
