//! One request to one answer, over connections that are kept.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use url::Url;

use super::body::{Arriving, Body, LOST};
use super::connect::{Connector, only};
use super::proxy::Proxies;

/// Idle connections kept per server.
const MAX_IDLE: usize = 16;
/// A server, a proxy or a load balancer has long ended a connection that was idle for so long.
const IDLE: Duration = Duration::from_secs(20);

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// It was never sent.
    #[error("cannot connect to {host}: {source}")]
    Connect {
        /// The server.
        host: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It was sent, at least in part: the server may have acted on it.
    #[error("the connection to {host} was lost: {text}")]
    Lost {
        /// The server.
        host: String,
        /// How.
        text: String,
    },
    /// As [`Self::Lost`], but nothing broke.
    #[error("{host} has not answered for {after:?}")]
    TimedOut {
        /// The server.
        host: String,
        /// The time-out.
        after: Duration,
    },
    /// The request cannot be written, or its answer cannot be taken: another attempt comes to the same.
    #[error("{0}")]
    Invalid(String),
}

impl TransportError {
    /// As [`Self::Lost`], by an error and what caused it: hyper says the useful part last.
    pub(crate) fn lost(url: &Url, error: &(dyn std::error::Error + 'static)) -> Self {
        let text = causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
        Self::Lost { host: host(url), text }
    }
}

/// What `work` with the server of `url` comes to, if that takes no longer than `time`.
pub(crate) async fn within<T>(
    url: &Url,
    time: Duration,
    work: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    let late = || Err(TransportError::TimedOut { host: host(url), after: time });
    tokio::time::timeout(time, work).await.unwrap_or_else(|_| late())
}

type Sender = SendRequest<Body>;

/// An HTTP client.
#[derive(Default)]
pub struct Transport {
    connector: Connector,
    proxies: Proxies,
    idle: Arc<Idle>,
}

/// Connections that rest, by server.
#[derive(Default)]
struct Idle(Mutex<HashMap<String, Vec<(Sender, tokio::time::Instant)>>>);

impl Transport {
    /// A client that uses `proxies`.
    pub fn new(proxies: Proxies) -> Self {
        Self { proxies, ..Self::default() }
    }

    /// A client that trusts the certificates in a file (PEM) instead of the machine's.
    pub fn with_authorities(proxies: Proxies, file: &Path) -> Result<Self, String> {
        Ok(Self::trusting(proxies, only(file)?))
    }

    pub(crate) fn trusting(proxies: Proxies, config: tokio_rustls::rustls::ClientConfig) -> Self {
        Self { connector: Connector::trusting(config), proxies, idle: Arc::default() }
    }

    /// Sends `request` to `url` and reads the whole answer, at most `limit` bytes of body, within `time`.
    pub async fn send(
        &self,
        url: &Url,
        request: Request<impl Into<Body>>,
        limit: usize,
        time: Duration,
    ) -> Result<Response<Bytes>, TransportError> {
        within(url, time, self.exchange(url, request.map(Into::into), limit)).await
    }

    /// As [`Self::send`], but the body of a success is read while it arrives, and `time` is for what comes before it. Where
    /// the server does not tell how long it is, it must be `length`.
    pub(crate) async fn open(
        &self,
        url: &Url,
        request: Request<Body>,
        length: u64,
        limit: usize,
        time: Duration,
    ) -> Result<Response<Body>, TransportError> {
        within(url, time, async {
            let (response, sender) = self.begin(url, request).await?;
            if !response.status().is_success() {
                return Ok(self.collect(url, response, sender, limit).await?.map(Body::from));
            }
            let told = response.body().size_hint().exact();
            Ok(response.map(|body| Body::arriving(told.unwrap_or(length), body, sender)))
        })
        .await
    }

    /// As [`Self::send`], but whatever the answer is, its body is read while it arrives, however long it is and takes.
    pub async fn begin_answer(
        &self,
        url: &Url,
        request: Request<impl Into<Body>>,
    ) -> Result<Response<Arriving>, TransportError> {
        let (response, sender) = self.begin(url, request.map(Into::into)).await?;
        let (idle, key) = (self.idle.clone(), url.origin().ascii_serialization());
        Ok(response.map(|body| Arriving::new(body, sender, Box::new(move |sender| idle.keep(key, sender)))))
    }

    async fn exchange(
        &self,
        url: &Url,
        request: Request<Body>,
        limit: usize,
    ) -> Result<Response<Bytes>, TransportError> {
        let (response, sender) = self.begin(url, request).await?;
        self.collect(url, response, sender, limit).await
    }

    async fn collect(
        &self,
        url: &Url,
        response: Response<Incoming>,
        sender: Sender,
        limit: usize,
    ) -> Result<Response<Bytes>, TransportError> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, limit).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => TransportError::Invalid(format!("{} answers with more than {limit} bytes", host(url))),
            false => TransportError::lost(url, error.as_ref()),
        })?;
        let body = body.to_bytes();
        self.idle.keep(url.origin().ascii_serialization(), sender);
        Ok(Response::from_parts(head, body))
    }

    /// Sends `request`; the head of the answer, and what the connection is used again by.
    async fn begin(
        &self,
        url: &Url,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, Sender), TransportError> {
        let mut request = self.prepared(url, request)?;
        let key = url.origin().ascii_serialization();
        loop {
            let (mut sender, reused) = match self.idle.take(&key) {
                Some(sender) => (sender, true),
                None => (self.connect(url).await?, false),
            };
            if sender.ready().await.is_err() && reused {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                // The server ended an idle connection before it saw the request: nothing has happened yet.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(failed(url, &error.into_error())),
                },
            }
        }
    }

    /// The request with its target and its host, as the server or the proxy wants them.
    fn prepared(&self, url: &Url, request: Request<Body>) -> Result<Request<Body>, TransportError> {
        let invalid = |text: String| TransportError::Invalid(format!("{url}: {text}"));
        let (mut head, body) = request.into_parts();
        let own = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let proxy = self.proxies.of(url).filter(|_| url.scheme() == "http");
        let target = match proxy {
            Some(_) => format!("{}{own}", url.origin().ascii_serialization()),
            None => own.to_owned(),
        };
        head.uri = target.parse::<Uri>().map_err(|e| invalid(e.to_string()))?;
        if !head.headers.contains_key(HOST) {
            let value = HeaderValue::from_str(&host(url)).map_err(|e| invalid(e.to_string()))?;
            head.headers.insert(HOST, value);
        }
        if let Some(login) = proxy.and_then(|proxy| proxy.authorization.as_ref()) {
            let value = HeaderValue::from_str(login).map_err(|e| invalid(e.to_string()))?;
            head.headers.insert(PROXY_AUTHORIZATION, value);
        }
        Ok(Request::from_parts(head, body))
    }

    async fn connect(&self, url: &Url) -> Result<Sender, TransportError> {
        let failed = |source| TransportError::Connect { host: host(url), source };
        let stream = self.connector.connect(url, self.proxies.of(url)).await.map_err(failed)?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| failed(std::io::Error::other(error)))?;
        tokio::spawn(async move {
            // Whoever waits for an answer is told of the error too.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

impl Idle {
    fn take(&self, key: &str) -> Option<Sender> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(key)?;
        while let Some((sender, since)) = kept.pop() {
            if since.elapsed() < IDLE && !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn keep(&self, key: String, sender: Sender) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(key).or_default();
        if kept.len() < MAX_IDLE && !sender.is_closed() {
            kept.push((sender, tokio::time::Instant::now()));
        }
    }
}

/// Why a request was not answered: what it was to carry, or what it was carried by.
fn failed(url: &Url, error: &hyper::Error) -> TransportError {
    let is_lost = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == LOST)
    };
    match error.is_user() && !causes(error).any(is_lost) {
        true => TransportError::Invalid(innermost(error).to_string()),
        false => TransportError::lost(url, error),
    }
}

/// An error, and what it came from, and what that came from.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// What an error came from in the end.
fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    causes(error).last().unwrap_or(error)
}

/// `host:port`, without the port if it is the scheme's own.
fn host(url: &Url) -> String {
    url[url::Position::BeforeHost..url::Position::AfterPort].to_owned()
}
