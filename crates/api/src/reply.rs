//! Answers in the v4 API's envelope. <https://developers.cloudflare.com/fundamentals/api/>

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value as Json, json};
use skep_catalog::CatalogError;
use skep_wire::{Body, Response, full, reply};

/// A refusal: an HTTP status, Cloudflare's codes and texts.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// Code and text of each fault; at least one.
    pub errors: Vec<(u32, String)>,
    /// A header that says what to do instead: after how many seconds to ask again, or with which method.
    pub header: Option<(HeaderName, HeaderValue)>,
    /// More about the first fault, for programs.
    pub meta: Option<Box<Json>>,
}

/// What a handler comes to.
pub type Answer = Result<Response, ApiError>;

impl ApiError {
    /// One fault.
    pub fn new(status: StatusCode, code: u32, text: impl Into<String>) -> Self {
        Self { status, errors: vec![(code, text.into())], header: None, meta: None }
    }

    /// The caller's fault: 400.
    pub fn bad(code: u32, text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, text)
    }

    /// Something is not there: 404.
    pub fn not_found(code: u32, text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, text)
    }

    /// No operation has this address.
    pub fn no_route(path: &str) -> Self {
        Self::not_found(
            7003,
            format!("Could not route to {path}, perhaps your object identifier is invalid?"),
        )
    }

    /// Our own fault; the details are in the log.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "an operation of the API failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, 10002, "An internal error prevented this operation")
    }

    /// Says when to ask again.
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.header = Some((header::RETRY_AFTER, HeaderValue::from(seconds)));
        self
    }

    /// Says which methods there are.
    pub(crate) fn allow(mut self, methods: &str) -> Self {
        self.header = HeaderValue::try_from(methods).ok().map(|methods| (header::ALLOW, methods));
        self
    }

    /// Says more about the first fault.
    pub(crate) fn with_meta(mut self, meta: Json) -> Self {
        self.meta = Some(Box::new(meta));
        self
    }

    /// The envelope.
    pub fn into_response(self) -> Response {
        let mut errors: Vec<Json> =
            self.errors.iter().map(|(code, message)| json!({ "code": code, "message": message })).collect();
        if let (Some(first), Some(meta)) = (errors.first_mut(), self.meta) {
            first["meta"] = *meta;
        }
        let body = json!({ "success": false, "errors": errors, "messages": [], "result": null });
        let mut response = json_reply(self.status, &body);
        response.headers_mut().extend(self.header);
        response
    }
}

/// The text is Cloudflare's.
pub(crate) fn no_script() -> ApiError {
    ApiError::not_found(10007, "This Worker does not exist on your account.")
}

pub(crate) fn no_version(id: &str) -> ApiError {
    ApiError::not_found(100_146, format!("The version {id} could not be found."))
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Migration { code, text } => Self::bad(code, text),
            CatalogError::MigrationTag { .. } => {
                Self::new(StatusCode::PRECONDITION_FAILED, 10079, error.to_string())
            }
            CatalogError::NoScript => no_script(),
            CatalogError::NoVersion(id) => no_version(&id),
            CatalogError::Overtaken => {
                Self::bad(10215, "Another version of the Worker was uploaded meanwhile; try again.")
            }
            CatalogError::Exists(_) | CatalogError::Full(_) | CatalogError::Taken(_) => {
                Self::bad(10026, error.to_string())
            }
            CatalogError::Store(skep_store::StoreError::DiskFull) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, 10002, format!("Nothing was changed: {error}"))
            }
            CatalogError::Store(skep_store::StoreError::QuotaReached) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, 10002, format!("Nothing was stored: {error}."))
            }
            CatalogError::Invalid(_) | CatalogError::Rehearsed(_) | CatalogError::Store(_) => {
                Self::internal(error)
            }
        }
    }
}

fn json_reply(status: StatusCode, body: &Json) -> Response {
    let mut response = reply(status, full(body.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 200 with a result.
pub(crate) fn ok(result: Json) -> Answer {
    with_status(StatusCode::OK, result)
}

/// Another good status with a result.
pub(crate) fn with_status(status: StatusCode, result: Json) -> Answer {
    Ok(json_reply(status, &json!({ "success": true, "errors": [], "messages": [], "result": result })))
}

/// 200 with a result that is JSON already, however long it is, which is not looked at.
pub(crate) fn ok_text(result: Bytes) -> Response {
    const HEAD: &[u8] = br#"{"success":true,"errors":[],"messages":[],"result":"#;
    let length = HEAD.len() + result.len() + 1;
    let pieces = [Bytes::from_static(HEAD), result, Bytes::from_static(b"}")];
    let pieces = futures_util::stream::iter(pieces.map(Ok::<_, std::convert::Infallible>));
    let body = skep_wire::stream(pieces);
    content(body, length as u64, HeaderValue::from_static("application/json"))
}

/// 200 with a content of so many bytes, without an envelope.
pub(crate) fn content(body: Body, length: u64, kind: HeaderValue) -> Response {
    let mut response = reply(StatusCode::OK, body);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// A result with `result_info`.
pub(crate) fn with_info(result: Json, info: Json) -> Answer {
    let body =
        json!({ "success": true, "errors": [], "messages": [], "result": result, "result_info": info });
    Ok(json_reply(StatusCode::OK, &body))
}

/// A page of a list that is at hand as a whole, by `page` and `per_page`. Past the end it is empty.
pub(crate) fn page(all: Vec<Json>, page: u64, per_page: u64) -> Answer {
    page_of(&all, page, per_page, Json::clone)
}

/// A page of rows; those of other pages are not shown.
pub(crate) fn page_of<T>(all: &[T], number: u64, per_page: u64, shown: impl Fn(&T) -> Json) -> Answer {
    let start = usize::try_from((number - 1).saturating_mul(per_page)).unwrap_or(usize::MAX);
    let part = all.iter().skip(start).take(usize::try_from(per_page).unwrap_or(usize::MAX));
    let part: Vec<Json> = part.map(shown).collect();
    let info = page_info(part.len() as u64, all.len() as u64, number, per_page);
    with_info(Json::Array(part), info)
}

pub(crate) fn page_info(count: u64, total: u64, page: u64, per_page: u64) -> Json {
    json!({
        "count": count, "page": page, "per_page": per_page,
        "total_count": total, "total_pages": total.div_ceil(per_page),
    })
}

/// The last moment of the year 9999: later ones cannot be written.
const LATEST_MS: i64 = 253_402_300_799_999;

/// A time as the API writes it.
pub(crate) fn time(ms: i64) -> String {
    let since = std::time::Duration::from_millis(ms.clamp(0, LATEST_MS).unsigned_abs());
    humantime::format_rfc3339_micros(std::time::UNIX_EPOCH + since).to_string()
}
