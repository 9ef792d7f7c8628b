//! Calls of the v4 API.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Collected};
use serde_json::Value as Json;
use url::Url;

use crate::envelope::{self, Envelope};
use crate::error::{ApiError, ApiErrorKind};
use crate::form::Form;
use crate::http::{Body, Proxies, Transport, TransportError, within};
use crate::retry::{Attempt, RetryPolicy, is_idempotent};
use crate::stream::AssetForm;

/// The longest answer in an envelope.
const MAX_ANSWER: usize = 64 << 20;
/// Until a call without a body is answered. A server that starts the uploaded code takes its time.
const TIME: Duration = Duration::from_secs(120);
/// The slowest upload that is waited for, in bytes per second.
const SLOWEST: u64 = 64 * 1024;

/// A client of one API with one token.
pub struct Client {
    transport: Transport,
    base: Url,
    token: HeaderValue,
    policy: RetryPolicy,
    /// The account, as it stands in paths.
    pub account: String,
}

/// A call that is not made yet.
pub struct Call<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    headers: HeaderMap,
    content: Content,
    repeatable: bool,
    limit: usize,
}

/// What a call sends, as often as it has to.
enum Content {
    Bytes(Bytes),
    /// Made anew for each attempt, so many bytes long.
    Made(Arc<dyn Fn() -> Body + Send + Sync>, u64),
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Made(_, length) => *length,
        }
    }

    fn body(&self) -> Body {
        match self {
            Self::Bytes(bytes) => bytes.clone().into(),
            Self::Made(make, _) => make(),
        }
    }
}

/// What `length` bytes may take beside the time for a call without a body.
fn slow(length: u64) -> Duration {
    Duration::from_secs(length / SLOWEST)
}

/// `bearer` as a header's value.
fn bearer(token: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "the API token has characters that no token has".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

impl Client {
    /// A client of the API at `base`, such as `https://api.cloudflare.com/client/v4`.
    pub fn new(
        base: &str,
        token: &str,
        account: &str,
        proxies: Proxies,
        policy: RetryPolicy,
    ) -> Result<Self, String> {
        let base =
            Url::parse(base.trim_end_matches('/')).map_err(|e| format!("the API's URL \"{base}\": {e}"))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(format!("the API's URL \"{base}\" is neither http nor https"));
        }
        if account.is_empty() || !account.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            return Err(format!("\"{account}\" is not the id of an account"));
        }
        let token = bearer(token.trim())?;
        Ok(Self { transport: Transport::new(proxies), base, token, policy, account: account.to_owned() })
    }

    /// What is called.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The transport, for requests to other servers than the API.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// A call of `path` below the API's base, `{account}` standing for the account's path.
    pub fn call(&self, method: Method, path: impl AsRef<str>) -> Call<'_> {
        let repeatable = is_idempotent(&method);
        let path = path.as_ref().replace("{account}", &format!("/accounts/{}", self.account));
        Call {
            client: self,
            method,
            path,
            headers: HeaderMap::new(),
            content: Content::Bytes(Bytes::new()),
            repeatable,
            limit: MAX_ANSWER,
        }
    }

    /// `GET`
    pub async fn get(&self, path: impl AsRef<str>) -> Result<Envelope, ApiError> {
        self.call(Method::GET, path).send().await
    }

    /// `GET` of what may not be there; `codes` say so beside HTTP's 404.
    pub async fn find(&self, path: impl AsRef<str>, codes: &[u64]) -> Result<Option<Json>, ApiError> {
        match self.get(path).await {
            Ok(envelope) => Ok(Some(envelope.result)),
            Err(error) if error.is_missing(codes) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Call<'_> {
    /// A JSON body.
    pub fn json(mut self, body: &Json) -> Self {
        self.content = Content::Bytes(body.to_string().into());
        self.header("content-type", "application/json")
    }

    /// A form as body.
    pub fn form(mut self, form: Form) -> Self {
        let (content_type, body) = form.finish();
        self.content = Content::Bytes(body);
        self.header("content-type", &content_type)
    }

    /// A form of files, read while they are sent.
    pub(crate) fn assets(mut self, form: AssetForm) -> Self {
        let (content_type, open, length) = form.finish();
        self.content = Content::Made(open, length);
        self.header("content-type", &content_type)
    }

    /// A body as it is.
    pub fn raw(self, content_type: &str, body: Bytes) -> Self {
        self.content(body).header("content-type", content_type)
    }

    /// A body whose type is said elsewhere.
    pub(crate) fn content(mut self, body: Bytes) -> Self {
        self.content = Content::Bytes(body);
        self
    }

    /// A header; a value that no header can have is left out.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// Another token than the client's.
    pub fn bearer(mut self, token: &str) -> Self {
        if let Ok(value) = bearer(token) {
            self.headers.insert(AUTHORIZATION, value);
        }
        self
    }

    /// The longest answer that is taken, in bytes.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Doing it twice is like doing it once, though the method does not say so.
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Makes the call, again where that is safe and may help.
    pub async fn send(self) -> Result<Envelope, ApiError> {
        let (answer, attempts) = self.whole().await?;
        let (head, body) = answer.into_parts();
        let ray = head.headers.get("cf-ray").and_then(|ray| ray.to_str().ok()).map(str::to_owned);
        envelope::read(head.status, &body, ray).map_err(|kind| self.error(attempts, kind))
    }

    /// As [`Self::send`], for an answer of raw bytes; an error is in the envelope all the same.
    pub async fn bytes(self) -> Result<Bytes, ApiError> {
        self.answer().await.map(Response::into_body)
    }

    /// As [`Self::bytes`], with the headers.
    pub async fn answer(self) -> Result<Response<Bytes>, ApiError> {
        let (answer, attempts) = self.whole().await?;
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(self.error(attempts, envelope::refusal(answer.status(), answer.body(), None))),
        }
    }

    /// The answer, piece by piece into what `begin` makes, once for each attempt. It has `length` bytes, and need not fit
    /// into memory.
    pub(crate) async fn save<S>(
        self,
        length: u64,
        begin: impl Fn() -> Result<S, String>,
        write: impl Fn(&mut S, &[u8]) -> Result<(), String>,
    ) -> Result<S, ApiError> {
        let saved = self.attempts(async |url, time| {
            let mut body = self.open(length).await?;
            let all = async {
                let mut sink = begin().map_err(TransportError::Invalid)?;
                while let Some(frame) = body.frame().await {
                    let frame = frame.map_err(|error| TransportError::lost(url, &error))?;
                    let piece = frame.into_data().unwrap_or_default();
                    write(&mut sink, &piece).map_err(TransportError::Invalid)?;
                }
                Ok(Response::new(sink))
            };
            Ok(within(url, time + slow(length), all).await)
        });
        saved.await.map(|(answer, _)| answer.into_body())
    }

    /// Makes the call with the answer to `source` as its body, `length` bytes, sent on as they arrive. An error may be that of
    /// `source`. Where either connection is lost, both calls are made again.
    pub(crate) async fn pipe(self, source: &Call<'_>, length: u64) -> Result<Envelope, ApiError> {
        let (answer, attempts) = self
            .attempts(async |url, time| {
                let body = source.open(length).await?;
                let request = self.request(body);
                Ok(self.client.transport.send(url, request, self.limit, time + slow(length)).await)
            })
            .await?;
        envelope::read(answer.status(), answer.body(), None).map_err(|kind| self.error(attempts, kind))
    }

    /// The body of the answer, as it arrives; an error is in the envelope all the same.
    async fn open(&self, length: u64) -> Result<Body, ApiError> {
        let (answer, attempts) = self
            .attempts(async |url, time| {
                let request = self.request(self.content.body());
                Ok(self.client.transport.open(url, request, length, self.limit, time).await)
            })
            .await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer.into_body());
        }
        let text = answer.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
        Err(self.error(attempts, envelope::refusal(status, &text, None)))
    }

    /// The last attempt's answer, and how many there were.
    async fn whole(&self) -> Result<(Response<Bytes>, u32), ApiError> {
        let once = async |url: &Url, time| {
            let request = self.request(self.content.body());
            Ok(self.client.transport.send(url, request, self.limit, time).await)
        };
        self.attempts(once).await
    }

    /// Makes attempts by `once`, which gets what the call is sent to and its time. The last one's answer, and how many there
    /// were; an error in place of an attempt ends it.
    async fn attempts<T>(
        &self,
        once: impl AsyncFn(&Url, Duration) -> Result<Result<Response<T>, TransportError>, ApiError>,
    ) -> Result<(Response<T>, u32), ApiError> {
        let url = format!("{}{}", self.client.base.as_str().trim_end_matches('/'), self.path);
        let url = Url::parse(&url)
            .map_err(|e| self.error(0, ApiErrorKind::Transport(TransportError::Invalid(e.to_string()))))?;
        let time = TIME + slow(self.content.len());
        let mut attempt = 1;
        loop {
            let sent = once(&url, time).await?;
            let came_to = match &sent {
                Ok(answer) => Attempt::Answered(answer.status(), answer.headers()),
                Err(error) => Attempt::Failed(error),
            };
            let jitter = f64::from(uuid::Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX);
            let delay =
                self.client.policy.delay(attempt, &came_to, self.repeatable, jitter, SystemTime::now());
            match (delay, sent) {
                (None, Ok(answer)) => return Ok((answer, attempt)),
                (None, Err(error)) => return Err(self.error(attempt, ApiErrorKind::Transport(error))),
                (Some(delay), _) => {
                    tracing::info!(method = %self.method, path = self.path, attempt, ?delay, "again");
                    tokio::time::sleep(delay).await;
                }
            }
            attempt += 1;
        }
    }

    fn request(&self, body: Body) -> Request<Body> {
        let is_empty = body.left() == 0;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        if !headers.contains_key(AUTHORIZATION) {
            headers.insert(AUTHORIZATION, self.client.token.clone());
        }
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("skep/", env!("CARGO_PKG_VERSION"))));
        if is_empty {
            headers.remove(CONTENT_TYPE);
        }
        request
    }

    fn error(&self, attempts: u32, kind: ApiErrorKind) -> ApiError {
        ApiError { method: self.method.clone(), path: self.path.clone(), attempts, kind }
    }
}
