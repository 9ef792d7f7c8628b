//! A request on its way to its handler.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use skep_catalog::{Account, Catalog, CatalogError, Origin, Script, Token};
use skep_wire::{Body, Held, ReadError, Response, read_all};

use crate::Api;
use crate::aside::aside;
use crate::bodies::{SMALL, Seat, beginning, broken_off, rejoined};
use crate::description::schema::fault;
use crate::platform::Tenant;
use crate::reply::{ApiError, no_script};
use crate::router::Operation;

/// A JSON body is not longer than this.
const MAX_JSON: usize = 16 << 20;
/// A document may take so many times as much memory as its text.
const JSON: usize = 16;
/// Entries of a page at most.
pub(crate) const MAX_PAGE: u64 = 1000;

/// Which way round a list is.
pub(crate) const DIRECTIONS: [&str; 2] = ["asc", "desc"];

/// A request with what its address and its token say.
pub(crate) struct Call {
    pub api: Arc<Api>,
    pub operation: &'static Operation,
    pub token: Token,
    /// Values of the path's parameters, decoded, in order.
    pub params: Vec<String>,
    pub head: Parts,
    /// Taken by whoever reads it. The lock is never held: it makes calls shareable between threads.
    pub body: Mutex<Body>,
    /// The room that its body takes.
    pub seat: Option<Seat>,
}

impl Call {
    /// The account of the token; the address names the same one.
    pub fn account(&self) -> Result<Account, ApiError> {
        let accounts = self.api.registry.accounts()?;
        let found = accounts.into_iter().find(|account| account.id == self.token.account);
        found.ok_or_else(|| ApiError::new(StatusCode::FORBIDDEN, 10000, "Authentication error"))
    }

    pub fn tenant(&self) -> Result<Arc<dyn Tenant>, ApiError> {
        self.api.platform.tenant(&self.token.account).map_err(ApiError::internal)
    }

    /// Changes the account's catalog once the host names are its own.
    pub async fn claim<F>(
        &self,
        names: Vec<String>,
        change: impl FnOnce(Arc<dyn Tenant>) -> F,
    ) -> Result<Result<(), CatalogError>, ApiError>
    where
        F: Future<Output = Result<(), CatalogError>> + Send + 'static,
    {
        let change = Box::pin(change(self.tenant()?));
        Ok(self.api.platform.claim(&self.token.account, names, change).await)
    }

    /// Parameter `n` after the account.
    pub fn param(&self, n: usize) -> &str {
        self.params.get(n).map_or("", String::as_str)
    }

    pub fn now_ms(&self) -> i64 {
        self.api.now_ms()
    }

    /// The last value of a query parameter.
    pub fn query(&self, name: &str) -> Option<String> {
        let query = self.head.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key == name)
            .last()
            .map(|(_, value)| value.into_owned())
    }

    /// A query parameter that is one of `choices`.
    pub fn choice(&self, name: &str, choices: &[&'static str]) -> Result<Option<&'static str>, ApiError> {
        let Some(text) = self.query(name) else { return Ok(None) };
        let found = choices.iter().copied().find(|choice| *choice == text);
        let wrong = || ApiError::bad(10001, format!("'{name}' must be one of {}", choices.join(", ")));
        found.map(Some).ok_or_else(wrong)
    }

    /// Whether a list is asked for from its end.
    pub fn descending(&self) -> Result<bool, ApiError> {
        Ok(self.choice("direction", &DIRECTIONS)? == Some("desc"))
    }

    /// `page` (from 1) and `per_page`.
    pub fn page(&self, default: u64) -> Result<(u64, u64), ApiError> {
        let number = |name: &str, default: u64, max: u64| match self.query(name) {
            None => Ok(default),
            Some(text) => match text.parse() {
                Ok(value) if value >= 1 && value <= max => Ok(value),
                _ => Err(ApiError::bad(10001, format!("'{name}' must be a number from 1 to {max}"))),
            },
        };
        Ok((number("page", 1, u64::from(u32::MAX))?, number("per_page", default, MAX_PAGE)?))
    }

    /// The body; what is left is empty.
    pub fn take_body(&mut self) -> Body {
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(body, skep_wire::empty())
    }

    /// The whole body.
    pub async fn bytes(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        self.bytes_as(limit, 1).await
    }

    /// The same of a body that will take `times` as much memory.
    async fn bytes_as(&mut self, limit: usize, times: usize) -> Result<Bytes, ApiError> {
        let mut body = self.take_body();
        if self.seat.is_none() {
            let announced = self.header("content-length").and_then(|text| text.parse().ok());
            let size = match announced {
                Some(size) => size,
                None => {
                    // It may become as long as it may be, unless it is small: many clients send all that they send in chunks.
                    let (first, rest) = beginning(body, SMALL / times).await?;
                    let more = rest.is_some();
                    body = rejoined(first, rest);
                    if more { limit } else { 0 }
                }
            };
            let size = size.min(limit).saturating_mul(times);
            self.seat = self.api.bodies.seat(&self.token.account, size).await?;
        }
        read_all(body, limit).await.map_err(|error| match error {
            ReadError::TooLarge(_) => ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                10027,
                format!("The request is longer than {limit} bytes"),
            ),
            ReadError::Broken(error) => broken_off(error),
        })
    }

    /// Waits for room for `bytes` that are read for this call, in place of that of its body, which must have been read; held as long as the
    /// call.
    pub async fn take_room(&mut self, bytes: usize) -> Result<(), ApiError> {
        // Who kept one and waited for more could wait for himself.
        self.seat = None;
        self.seat = self.api.bodies.seat(&self.token.account, bytes).await?;
        Ok(())
    }

    /// An answer that has the call's room until it is sent.
    pub fn in_room(&mut self, answer: Response) -> Response {
        let seat = self.seat.take();
        answer.map(|body| Held::new(body, seat).boxed_unsync())
    }

    /// The body as JSON, whatever its content type says: wrangler sends `text/plain`. What is in it has the types that
    /// the description says; a refusal has the `code`.
    pub async fn document(&mut self, limit: usize, code: u32) -> Result<Json, ApiError> {
        self.document_as(limit, code, Ok).await
    }

    /// The same, made something else.
    async fn document_as<T: Send + 'static>(
        &mut self,
        limit: usize,
        code: u32,
        change: fn(Json) -> serde_json::Result<T>,
    ) -> Result<T, ApiError> {
        let bytes = self.bytes_as(limit, JSON).await?;
        let (size, about) = (bytes.len(), self.operation.about);
        let read = move || {
            let unparsed = |why: &str| malformed(code, why);
            let document = serde_json::from_slice(&bytes).map_err(|error| unparsed(&error.to_string()))?;
            let wrong = about().json_body().and_then(|schema| fault(schema, &document));
            match wrong {
                None => change(document).map_err(|error| unparsed(&error.to_string())),
                Some((at, what)) if at.is_empty() => Err(unparsed(&format!("it {what}"))),
                Some((at, what)) => Err(unparsed(&format!("{} {what}", at.trim_start_matches('.')))),
            }
        };
        aside(size, read).await?
    }

    /// The body as what JSON says.
    pub async fn json<T: DeserializeOwned + Send + 'static>(&mut self) -> Result<T, ApiError> {
        self.json_within(MAX_JSON, malformed_code(self.operation.path)).await
    }

    /// The same with another limit and code.
    pub async fn json_within<T: DeserializeOwned + Send + 'static>(
        &mut self,
        limit: usize,
        code: u32,
    ) -> Result<T, ApiError> {
        self.document_as(limit, code, serde_json::from_value).await
    }

    /// The body as JSON that need not be there: null.
    pub async fn any_json(&mut self) -> Result<Json, ApiError> {
        let bytes = self.bytes_as(MAX_JSON, JSON).await?;
        if bytes.is_empty() {
            return Ok(Json::Null);
        }
        self.body = skep_wire::full(bytes).into();
        self.document(MAX_JSON, malformed_code(self.operation.path)).await
    }

    /// Who makes what this request makes.
    pub fn origin(&self) -> Origin {
        let agent = self.head.headers.get(http::header::USER_AGENT);
        let agent = agent.and_then(|v| v.to_str().ok()).unwrap_or_default().to_lowercase();
        let source = match () {
            () if agent.starts_with("wrangler") => "wrangler",
            () if agent.contains("terraform") => "terraform",
            () => "api",
        };
        Origin { source: source.into(), author: self.token.id.clone() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What R2 says of a body that it cannot read, also where the JSON is sound and a value is not
/// (wrangler's tests have it for a wrong storage class).
pub(crate) const R2_MALFORMED: u32 = 10040;

/// The code for a body that cannot be read: some products have their own.
fn malformed_code(path: &str) -> u32 {
    match path.strip_prefix("/accounts/:account/").and_then(|rest| rest.split('/').next()) {
        Some("r2") => R2_MALFORMED,
        Some("d1") => 7400,
        _ => 10026,
    }
}

pub(crate) fn malformed(code: u32, why: &str) -> ApiError {
    match code {
        R2_MALFORMED => ApiError::bad(code, format!("The JSON you provided was not well formed. ({why})")),
        _ => ApiError::bad(code, format!("Could not parse the request body: {why}")),
    }
}

pub(crate) fn script_of(catalog: &Catalog, name: &str) -> Result<Script, ApiError> {
    catalog.script(name)?.ok_or_else(no_script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_cannot_be_read_has_the_code_of_its_product() {
        let code = |path: &str| malformed_code(path);
        assert_eq!(code("/accounts/:account/r2/buckets"), 10040);
        assert_eq!(code("/accounts/:account/d1/database"), 7400);
        assert_eq!(code("/accounts/:account/queues"), 10026);
        assert_eq!(code("/zones/:zone/workers/routes"), 10026);
    }
}
