//! An HTTP/1.1 client for one unix socket, with its idle connections.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use skep_runtime::loops::here;

use crate::exchange::{Exchange, Failed, is_plain};
use crate::flow::Flow;
use crate::general::Connection;
use crate::upload::watch_upload;
use crate::{Body, BoxError, Socket, Whole};

/// The engine closes a connection that was idle for 15.0 s; one that is older than this is not used again.
const IDLE: Duration = Duration::from_secs(10);
/// Idle connections kept.
const MAX_IDLE: usize = 256;

/// A client of the server at one unix socket. Connections are reused.
///
/// A connection has no task of its own: whoever waits for its response drives it, which saves two changes of
/// task, and often of thread, per request. The exception is a request that is still being sent when its response
/// comes: the rest is sent by a task, also while nobody reads the response.
#[derive(Debug)]
pub struct UnixClient {
    path: PathBuf,
    idle: Idle<Exchange>,
    /// For requests with a body, and upgrades.
    general: Idle<Connection>,
    /// Those of the latter that are full.
    flow: Arc<Flow>,
}

/// Connections that wait for a request, the youngest on top, each with the event loop that it belongs to: it is for those who are served there.
#[derive(Debug)]
struct Idle<T>(Mutex<Vec<Waiting<T>>>);

#[derive(Debug)]
struct Waiting<T> {
    connection: Box<T>,
    since: Instant,
    home: u8,
}

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Idle<T> {
    fn all(&self) -> MutexGuard<'_, Vec<Waiting<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Box<T>> {
        let mut all = self.all();
        let here = here();
        let youngest = all.iter().rposition(|one| one.home == here)?;
        let Waiting { connection, since, .. } = all.remove(youngest);
        if since.elapsed() <= IDLE {
            return Some(connection);
        }
        // All of the others are older still.
        all.retain(|one| one.home != here);
        None
    }

    fn give_back(&self, connection: Box<T>, home: u8) {
        let mut all = self.all();
        if all.len() < MAX_IDLE {
            all.push(Waiting { connection, since: Instant::now(), home });
        }
    }
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nobody listens on the socket. The request was not sent.
    #[error("cannot connect to {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// The request, as it was.
        unsent: Box<http::Request<Body>>,
    },
    /// The connection broke; the server may have acted on the request.
    #[error("the connection was lost: {0}")]
    Lost(#[source] BoxError),
}

/// Why a request that was sent as it is got no response.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Nobody listens on the socket. The request was not sent.
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    /// The connection broke; the server may have acted on the request.
    #[error("the connection was lost: {0}")]
    Lost(#[source] BoxError),
}

impl UnixClient {
    /// A client of the server at `path`; connects when first used.
    pub fn new(path: impl Into<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            path: path.into(),
            idle: Idle::default(),
            general: Idle::default(),
            flow: Arc::default(),
        })
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends `request`, whose URI is a path and query, and returns once the response's head is there. The
    /// connection is reused when the body has been read to its end.
    pub async fn send(
        self: &Arc<Self>,
        request: http::Request<Body>,
    ) -> Result<http::Response<ClientBody>, SendError> {
        if !request.body().is_end_stream() {
            return Box::pin(self.send_general(request)).await;
        }
        let (parts, body) = request.into_parts();
        match is_plain(&parts) {
            true => self.exchange(parts, body).await,
            false => Box::pin(self.send_general(http::Request::from_parts(parts, body))).await,
        }
    }

    /// Sends a request that has no body and stays HTTP.
    async fn exchange(
        self: &Arc<Self>,
        parts: http::request::Parts,
        body: Body,
    ) -> Result<http::Response<ClientBody>, SendError> {
        loop {
            let (mut exchange, reused) = match self.open().await {
                Ok(open) => open,
                Err(source) => return Err(self.unsent(source, http::Request::from_parts(parts, body))),
            };
            match exchange.send(&parts).await {
                Ok(head) => return Ok(head.map(|()| ClientBody::of(Way::Plain(exchange), self))),
                // The server closed an idle connection before it saw the request: nothing has happened yet.
                Err(Failed::Unsent) if reused => {}
                Err(failed) => return Err(SendError::Lost(lost(failed))),
            }
        }
    }

    /// A connection for one exchange, and whether it has served one before.
    async fn open(&self) -> std::io::Result<(Box<Exchange>, bool)> {
        while let Some(mut exchange) = self.idle.take() {
            if exchange.is_idle() {
                return Ok((exchange, true));
            }
        }
        Ok((Box::new(Exchange::new(Socket::connect(&self.path).await?)), false))
    }

    /// Sends `head`, the complete head of an HTTP/1.1 request by `method` that has no body and stays HTTP. A response that comes as a
    /// whole is given to `take`, and what it makes of it is returned; otherwise, or if `take` does not want it, the response is.
    pub async fn relay<T>(
        self: &Arc<Self>,
        head: &[u8],
        method: &http::Method,
        mut take: impl FnMut(Whole<'_>) -> Option<T>,
    ) -> Result<Result<T, http::Response<ClientBody>>, RelayError> {
        loop {
            let (mut exchange, reused) = self.open().await.map_err(RelayError::Connect)?;
            match exchange.relay(head, method, &mut take).await {
                Ok(Ok(taken)) => {
                    let home = exchange.home;
                    self.idle.give_back(exchange, home);
                    return Ok(Ok(taken));
                }
                Ok(Err(head)) => return Ok(Err(head.map(|()| ClientBody::of(Way::Plain(exchange), self)))),
                // As above.
                Err(Failed::Unsent) if reused => {}
                Err(failed) => return Err(RelayError::Lost(lost(failed))),
            }
        }
    }

    async fn send_general(
        self: &Arc<Self>,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<ClientBody>, SendError> {
        loop {
            let (mut connection, reused) = match self.general.take() {
                Some(connection) => (connection, true),
                None => match Socket::connect(&self.path).await {
                    Ok(socket) => {
                        let open = Connection::open(socket.among(&self.flow)).await;
                        (Box::new(open.map_err(|error| SendError::Lost(error.into()))?), false)
                    }
                    Err(source) => return Err(self.unsent(source, request)),
                },
            };
            if !connection.ready().await && reused {
                continue;
            }
            let (watched, upload) = watch_upload(request);
            match connection.send(watched).await {
                Ok(response) if upload.is_going_on() || is_upgrade(&response) => {
                    // After an upgrade, what is left of the connection hands the socket over to whoever takes it.
                    tokio::spawn(async move { connection.finish().await });
                    return Ok(response.map(|inner| ClientBody::general(inner, None, self)));
                }
                Ok(response) => {
                    return Ok(response.map(|inner| ClientBody::general(inner, Some(connection), self)));
                }
                // As above.
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(SendError::Lost(failed.into_error().into())),
                },
            }
        }
    }

    fn unsent(&self, source: std::io::Error, request: http::Request<Body>) -> SendError {
        SendError::Connect { path: self.path.clone(), source, unsent: Box::new(request) }
    }
}

fn lost(failed: Failed) -> BoxError {
    match failed {
        Failed::Unsent => std::io::Error::from(std::io::ErrorKind::BrokenPipe).into(),
        Failed::Lost(error) => error.into(),
    }
}

fn is_upgrade(response: &http::Response<Incoming>) -> bool {
    response.status() == http::StatusCode::SWITCHING_PROTOCOLS
}

/// A response's body. When it has been read to its end its connection serves the next request; dropped
/// before that, the connection is closed.
#[derive(Debug)]
pub struct ClientBody {
    /// `None` once the connection was given back.
    way: Option<Way>,
    client: Arc<UnixClient>,
}

/// How a response comes.
#[derive(Debug)]
enum Way {
    Plain(Box<Exchange>),
    General {
        inner: Incoming,
        /// A body of unknown length says only by its last frame that it is over.
        ended: bool,
        connection: Option<Box<Connection>>,
    },
}

impl ClientBody {
    fn of(way: Way, client: &Arc<UnixClient>) -> Self {
        Self { way: Some(way), client: client.clone() }
    }

    fn general(inner: Incoming, connection: Option<Box<Connection>>, client: &Arc<UnixClient>) -> Self {
        Self::of(Way::General { inner, ended: false, connection }, client)
    }
}

impl http_body::Body for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let (inner, ended, connection) = match &mut self.way {
            Some(Way::Plain(exchange)) => {
                return exchange
                    .poll_piece(cx)
                    .map(|piece| Some(piece?.map(Frame::data).map_err(Into::into)));
            }
            Some(Way::General { inner, ended, connection }) => (inner, ended, connection),
            None => return Poll::Ready(None),
        };
        let mut inner = Pin::new(inner);
        let frame = match connection {
            None => inner.poll_frame(cx),
            Some(connection) => {
                // The first time says that more is wanted, the second gets it. Only the driver brings any.
                let mut nobody = Context::from_waker(Waker::noop());
                let mut frame = inner.as_mut().poll_frame(&mut nobody);
                if frame.is_pending() {
                    connection.drive(cx);
                    frame = inner.poll_frame(&mut nobody);
                }
                frame
            }
        };
        *ended |= matches!(frame, Poll::Ready(None));
        frame.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        match &self.way {
            Some(Way::Plain(exchange)) => exchange.is_over(),
            Some(Way::General { inner, .. }) => inner.is_end_stream(),
            None => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.way {
            Some(Way::Plain(exchange)) => {
                exchange.left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Some(Way::General { inner, .. }) => inner.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        match self.way.take() {
            Some(Way::Plain(exchange)) if exchange.is_reusable() => {
                let home = exchange.home;
                self.client.idle.give_back(exchange, home);
            }
            Some(Way::General { inner, ended, connection: Some(connection) })
                if ended || inner.is_end_stream() =>
            {
                let mut connection = connection;
                if connection.is_reusable() {
                    let home = connection.home;
                    self.client.general.give_back(connection, home);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
