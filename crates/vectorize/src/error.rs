//! What can go wrong, in Cloudflare's words and with its codes where they are known.

use ::http::StatusCode;
use skep_store::StoreError;

use crate::limits::{
    DIMENSIONS, MAX_ID_BYTES, MAX_METADATA_BYTES, MAX_NAMESPACE_BYTES, MAX_NAMESPACES, MAX_PROPERTIES,
    MAX_TOP_K, MAX_TOP_K_FULL, MAX_UPLOAD, MAX_VECTORS,
};

/// Why an operation was refused or failed; nothing was stored. The text is what an application sees.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum VectorizeError {
    #[error("vectorize.index.not_found - Index name \"{0}\"")]
    NoIndex(String),
    #[error("metadata index for property \"{0}\" not found")]
    NoProperty(String),
    #[error("invalid query vector, expected {expected} dimensions, and got {got} dimensions")]
    QueryDimensions { expected: usize, got: usize },
    #[error("invalid query vector, the index has no vector with the id \"{0}\"")]
    NoVector(String),
    #[error("too many vectors in payload; max count is {max}, got {got}")]
    TooManyVectors { max: usize, got: usize },
    #[error("too many ids in payload; max id count is {max}, got {got}")]
    TooManyIds { max: usize, got: usize },
    #[error("id too long; max is {MAX_ID_BYTES} bytes, got {0} bytes")]
    IdTooLong(usize),
    #[error("namespace too long; max is {MAX_NAMESPACE_BYTES} bytes, got {0} bytes")]
    NamespaceTooLong(usize),
    #[error("invalid vector for id=\"{id}\", expected {expected} dimensions, and got {got} dimensions")]
    Dimensions { id: String, expected: usize, got: usize },
    #[error(
        "invalid vector for id=\"{id}\", expected {} to {} dimensions, and got {got} dimensions",
        DIMENSIONS.start(), DIMENSIONS.end()
    )]
    NoDimensions { id: String, got: usize },
    #[error(
        "oversized metadata for vector id=\"{id}\"; the compact JSON representation of the metadata must not exceed \
         {MAX_METADATA_BYTES} bytes, got {got} bytes"
    )]
    MetadataTooLong { id: String, got: usize },
    #[error(
        "failed to parse {operation} vectors request in ndjson format: line Some({line}) was not expected format"
    )]
    Line { operation: &'static str, line: usize },
    #[error("failed to parse {0} vectors request: it is longer than {MAX_UPLOAD} bytes")]
    TooLong(&'static str),
    #[error("max top K is {MAX_TOP_K}, but got {0}")]
    TopK(u64),
    #[error(
        "with returnValues=true or returnMetadata=all, max top K is {MAX_TOP_K_FULL}, but got {0}; for a top K up to \
         {MAX_TOP_K}, retry with returnValues=false and returnMetadata=indexed"
    )]
    TopKFull(u64),
    #[error("Failed to parse the request body as JSON: {0}")]
    Json(String),
    #[error("too many metadata indexes; max count is {MAX_PROPERTIES}")]
    TooManyProperties,
    #[error("too many vectors in index; max count is {MAX_VECTORS}")]
    IndexFull,
    #[error("too many namespaces in index; max count is {MAX_NAMESPACES}")]
    TooManyNamespaces,
    #[error("The vectors were not received in full")]
    Interrupted(#[source] skep_wire::BoxError),
    #[error("Not Found")]
    NotFound,
    #[error("{}", .0.outside())]
    Store(#[from] StoreError),
}

impl VectorizeError {
    /// Cloudflare's code. Those of the texts on dimensions, ids, metadata, lines, top K and JSON, of an index and of a
    /// metadata index that is not there were seen in its answers; the others are the nearest of them.
    pub fn code(&self) -> Option<u32> {
        Some(match self {
            Self::NoIndex(_) => 3000,
            Self::NoProperty(_) => 40005,
            Self::QueryDimensions { .. } | Self::NoVector(_) | Self::TooManyVectors { .. } => 40006,
            Self::TooManyIds { .. } => 40007,
            Self::IdTooLong(_) => 40008,
            Self::NamespaceTooLong(_) => 40009,
            Self::Dimensions { .. } | Self::NoDimensions { .. } => 40012,
            Self::MetadataTooLong { .. } => 40016,
            Self::Line { .. } | Self::TooLong(_) => 40023,
            Self::TopK(_) | Self::TopKFull(_) => 40025,
            Self::Json(_) | Self::TooManyProperties | Self::IndexFull | Self::TooManyNamespaces => 40026,
            Self::Interrupted(_) | Self::NotFound | Self::Store(_) => return None,
        })
    }

    /// The HTTP status that goes with it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Store(StoreError::DiskFull | StoreError::QuotaReached) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
