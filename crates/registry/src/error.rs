//! Refusals, in the form of the specification.

use http::header::HeaderName;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use skep_store::StoreError;
use skep_wire::{Response, full, reply};

/// Why something was not done; nothing was changed.
#[derive(Debug, PartialEq)]
pub struct RegistryError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The specification's code.
    pub code: &'static str,
    /// For whoever asked.
    pub message: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl std::fmt::Display for RegistryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RegistryError {}

impl RegistryError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), header: None }
    }

    pub(crate) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn missing(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(crate) fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "DENIED", message)
    }

    pub(crate) fn unauthorized() -> Self {
        let message = "authentication required: `wrangler containers registries credentials` gives a name and a password";
        let challenge = HeaderValue::from_static("Basic realm=\"Skep\", charset=\"UTF-8\"");
        let header = Some((header::WWW_AUTHENTICATE, challenge));
        Self { header, ..Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message) }
    }

    pub(crate) fn no_blob() -> Self {
        Self::missing("BLOB_UNKNOWN", "blob unknown to registry")
    }

    pub(crate) fn no_manifest() -> Self {
        Self::missing("MANIFEST_UNKNOWN", "manifest unknown to registry")
    }

    pub(crate) fn no_upload() -> Self {
        Self::missing("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
    }

    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "the image registry failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "internal error")
    }

    pub(crate) fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.header = Some((name, value.into()));
        self
    }

    pub(crate) fn into_response(self) -> Response {
        let body = json!({ "errors": [{ "code": self.code, "message": self.message }] });
        let mut response = reply(self.status, full(body.to_string()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().extend(self.header);
        response
    }
}

impl From<StoreError> for RegistryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull => Self::new(StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN", error.outside()),
            // Not a fault of the server's: Docker would try it again and again.
            StoreError::QuotaReached => Self::denied(error.outside()),
            other => Self::internal(other),
        }
    }
}

impl From<rusqlite::Error> for RegistryError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::from(error).into()
    }
}
