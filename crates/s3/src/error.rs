//! What is answered to a request that is refused, with R2's codes and texts
//! (<https://developers.cloudflare.com/r2/api/error-codes/>).

use http::StatusCode;
use http::header::{self, HeaderValue};
use skep_r2::R2Error;
use skep_wire::{Response, full, reply};

use crate::xml::Xml;

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct S3Error {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    /// What else is said, by the names of elements.
    pub more: Vec<(&'static str, String)>,
}

impl S3Error {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), more: Vec::new() }
    }

    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
    }

    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequest", message)
    }

    /// Also for what may be there and is nobody's business.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub fn access_denied() -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied")
    }

    pub fn not_implemented(what: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", format!("{what} not implemented"))
    }

    pub fn header_not_implemented(name: &str, value: &str) -> Self {
        Self::not_implemented(&format!("Header '{name}' with value '{value}'"))
    }

    pub fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "RouteNotFound", "No route matches this url.")
    }

    pub fn no_such_bucket() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist.")
    }

    pub fn no_such_key() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.")
    }

    pub fn no_such_upload() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NoSuchUpload", "The specified multipart upload does not exist.")
    }

    pub fn invalid_part() -> Self {
        let text = "One or more of the specified parts could not be found.";
        Self::new(StatusCode::BAD_REQUEST, "InvalidPart", text)
    }

    pub fn precondition_failed() -> Self {
        let text = "At least one of the pre-conditions you specified did not hold.";
        Self::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", text)
    }

    pub fn invalid_range() -> Self {
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", "The requested range is not satisfiable")
    }

    pub fn invalid_max_keys() -> Self {
        let text = "MaxKeys params must be positive integer <= 1000.";
        Self::new(StatusCode::BAD_REQUEST, "InvalidMaxKeys", text)
    }

    pub fn malformed_xml() -> Self {
        let text =
            "The XML you provided was not well formed or did not validate against our published schema.";
        Self::new(StatusCode::BAD_REQUEST, "MalformedXML", text)
    }

    pub fn invalid_digest() -> Self {
        let text = "The checksum or Content-MD5 you specified is not valid.";
        Self::new(StatusCode::BAD_REQUEST, "InvalidDigest", text)
    }

    pub fn bad_digest(name: &str, given: &str, computed: &str) -> Self {
        let text = format!(
            "The {name} checksum you specified did not match what we received.\n\
             You provided a {name} checksum with value: {given}\nActual {name} was: {computed}"
        );
        Self::new(StatusCode::BAD_REQUEST, "BadDigest", text)
    }

    pub fn missing_length() -> Self {
        let text = "You must provide the Content-Length HTTP header.";
        Self::new(StatusCode::LENGTH_REQUIRED, "MissingContentLength", text)
    }

    pub fn incomplete_body() -> Self {
        let text = "You did not provide the number of bytes specified by the Content-Length HTTP header.";
        Self::new(StatusCode::BAD_REQUEST, "IncompleteBody", text)
    }

    pub fn too_large() -> Self {
        let text = "Your proposed upload exceeds the maximum allowed object size.";
        Self::new(StatusCode::BAD_REQUEST, "EntityTooLarge", text)
    }

    pub fn internal() -> Self {
        let text = "We encountered an internal error. Please try again.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", text)
    }

    /// The answer.
    pub fn response(&self) -> Response {
        let mut xml = Xml::default();
        xml.open("Error");
        xml.text("Code", self.code);
        xml.text("Message", &self.message);
        for (name, value) in &self.more {
            xml.text(name, value);
        }
        xml.close("Error");
        let mut response = reply(self.status, full(xml.finish()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        response
    }
}

impl From<R2Error> for S3Error {
    fn from(error: R2Error) -> Self {
        let (status, code) = match error.code() {
            10003 => (StatusCode::FORBIDDEN, "AccessDenied"),
            10007 => return Self::no_such_key(),
            10011 => (StatusCode::BAD_REQUEST, "EntityTooSmall"),
            10012 => (StatusCode::BAD_REQUEST, "MetadataTooLarge"),
            10013 => (StatusCode::BAD_REQUEST, "IncompleteBody"),
            10020 => (StatusCode::BAD_REQUEST, "InvalidObjectName"),
            10022 => (StatusCode::BAD_REQUEST, "InvalidMaxKeys"),
            10024 => return Self::no_such_upload(),
            10025 | 10048 => (StatusCode::BAD_REQUEST, "InvalidPart"),
            10029 => (StatusCode::BAD_REQUEST, "InvalidArgument"),
            10031 => (StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
            10037 => (StatusCode::BAD_REQUEST, "BadDigest"),
            10039 => (StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"),
            10043 => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            skep_r2::OBJECT_LOCKED => (StatusCode::FORBIDDEN, "ObjectLockedByBucketPolicy"),
            100_100 => (StatusCode::BAD_REQUEST, "EntityTooLarge"),
            // Its status says more: a full account is one of them.
            _ => (error.status(), "InternalError"),
        };
        Self::new(status, code, error.message())
    }
}
