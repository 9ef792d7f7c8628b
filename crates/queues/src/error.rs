//! Why a send is refused, as the engine tells the application.

use http::{HeaderValue, StatusCode};
use skep_store::StoreError;
use skep_wire::{Response, full, reply};

use crate::settings::{MAX_BATCH_BYTES, MAX_BATCH_COUNT, MAX_DELAY_SECS, MAX_MESSAGE_BYTES};

/// A refused or failed call of a producer. The text is what the application reads; codes are Cloudflare's:
/// <https://developers.cloudflare.com/queues/reference/error-codes/>.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// A batch's delay is not a number of seconds within a day.
    #[error("batch delay {0} is invalid: it must be an integer from 0 to {MAX_DELAY_SECS}")]
    BatchDelay(String),
    /// A message's delay is not a number of seconds within a day.
    #[error("message delay {0} is invalid: it must be an integer from 0 to {MAX_DELAY_SECS}")]
    MessageDelay(String),
    /// A content type that is none of the four.
    #[error(
        "message content type {0} is invalid; if specified, must be one of 'text', 'json', 'bytes', or 'v8'"
    )]
    ContentType(String),
    /// A message that is too large; its bytes.
    #[error("message length of {0} bytes exceeds limit of {MAX_MESSAGE_BYTES}")]
    MessageSize(usize),
    /// A message of a batch that is too large; its bytes.
    #[error(
        "message in batch has length {0} bytes which exceeds single message size limit of {MAX_MESSAGE_BYTES}"
    )]
    BatchMessageSize(usize),
    /// A batch that is too large; its bytes.
    #[error("batch size of {0} bytes exceeds limit of {MAX_BATCH_BYTES} bytes")]
    BatchSize(usize),
    /// A batch of too many messages.
    #[error("batch message count of {0} exceeds limit of {MAX_BATCH_COUNT}")]
    BatchCount(usize),
    /// A batch of none.
    #[error("a batch must hold at least one message")]
    BatchEmpty,
    /// The JSON of a batch is not what it should be.
    #[error("request body does not match the expected schema: {0}")]
    Schema(String),
    /// The body of a batch is not JSON.
    #[error("request body is not valid JSON: {0}")]
    NotJson(String),
    /// The queue or the account holds all it may.
    #[error("queue storage limit exceeded")]
    QueueFull,
    /// The machine's disk is full.
    #[error("queue storage limit exceeded: the disk is full")]
    DiskFull,
    /// The call's body did not arrive.
    #[error("the client disconnected during the request")]
    Disconnected,
    /// No such call.
    #[error("no such operation on a queue")]
    NoSuchCall,
    /// Anything else; what happened is in the log.
    #[error("Unknown Internal Error")]
    Internal,
}

impl QueueError {
    /// The HTTP status. Applications older than 2026-03-12 see its reason phrase and no more.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::MessageSize(_) | Self::BatchMessageSize(_) | Self::BatchSize(_) | Self::BatchCount(_) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::QueueFull => StatusCode::TOO_MANY_REQUESTS,
            Self::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            Self::NoSuchCall => StatusCode::NOT_FOUND,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Cloudflare's number for it.
    pub fn code(&self) -> u32 {
        match self {
            Self::Disconnected => 10201,
            Self::BatchDelay(_) => 10202,
            Self::MessageDelay(_) | Self::ContentType(_) => 10203,
            Self::MessageSize(_) | Self::BatchMessageSize(_) => 10204,
            Self::BatchSize(_) => 10205,
            Self::BatchCount(_) | Self::BatchEmpty => 10206,
            Self::Schema(_) => 10207,
            Self::NotJson(_) => 10208,
            Self::QueueFull | Self::DiskFull => 10251,
            Self::NoSuchCall | Self::Internal => 15000,
        }
    }

    pub(crate) fn response(&self) -> Response {
        let cause = self.to_string();
        let mut response = reply(self.status(), full(cause.clone()));
        let clean: Vec<u8> = cause.bytes().map(|b| if b >= b' ' && b != 0x7f { b } else { b'?' }).collect();
        let headers = response.headers_mut();
        headers.insert("cf-queues-error-code", HeaderValue::from(self.code()));
        if let Ok(value) = HeaderValue::from_bytes(&clean) {
            headers.insert("cf-queues-error-cause", value);
        }
        response
    }
}

impl From<StoreError> for QueueError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull => Self::DiskFull,
            StoreError::QuotaReached => Self::QueueFull,
            error => {
                tracing::error!(%error, "a queue's storage failed");
                Self::Internal
            }
        }
    }
}
