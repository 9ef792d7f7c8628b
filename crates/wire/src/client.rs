//! An HTTP/1.1 client for one unix socket, with its idle connections.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use crate::exchange::{Exchange, Failed, is_plain};
use crate::{Body, BoxError, BoxFuture, Socket};

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
}

/// Connections that wait for a request, the youngest on top.
#[derive(Debug)]
struct Idle<T>(Mutex<Vec<(Box<T>, Instant)>>);

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Idle<T> {
    fn all(&self) -> MutexGuard<'_, Vec<(Box<T>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Box<T>> {
        let mut all = self.all();
        let (connection, since) = all.pop()?;
        if since.elapsed() <= IDLE {
            return Some(connection);
        }
        // All below are older still.
        all.clear();
        None
    }

    fn give_back(&self, connection: Box<T>) {
        let mut all = self.all();
        if all.len() < MAX_IDLE {
            all.push((connection, Instant::now()));
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

impl UnixClient {
    /// A client of the server at `path`; connects when first used.
    pub fn new(path: impl Into<PathBuf>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), idle: Idle::default(), general: Idle::default() })
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
            let (mut exchange, reused) = match self.idle.take() {
                Some(mut exchange) => match exchange.is_idle() {
                    true => (exchange, true),
                    false => continue,
                },
                None => match Socket::connect(&self.path).await {
                    Ok(socket) => (Box::new(Exchange::new(socket)), false),
                    Err(source) => {
                        return Err(self.unsent(source, http::Request::from_parts(parts, body)));
                    }
                },
            };
            match exchange.send(&parts).await {
                Ok(head) => return Ok(head.map(|()| ClientBody::of(Way::Plain(exchange), self))),
                // The server closed an idle connection before it saw the request: nothing has happened yet.
                Err(Failed::Unsent) if reused => {}
                Err(Failed::Unsent) => {
                    return Err(SendError::Lost(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()));
                }
                Err(Failed::Lost(error)) => return Err(SendError::Lost(error.into())),
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
                        let open = Connection::open(socket).await;
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

fn is_upgrade(response: &http::Response<Incoming>) -> bool {
    response.status() == http::StatusCode::SWITCHING_PROTOCOLS
}

/// Knows whether a request's body is still alive, which it is until all of it was sent.
struct Upload(Option<Arc<()>>);

impl Upload {
    fn is_going_on(&self) -> bool {
        self.0.as_ref().is_some_and(|alive| Arc::strong_count(alive) > 1)
    }
}

fn watch_upload(request: http::Request<Body>) -> (http::Request<Body>, Upload) {
    if request.body().is_end_stream() {
        return (request, Upload(None));
    }
    let alive = Arc::new(());
    let held = alive.clone();
    let watched = request.map(|inner| Body::new(Watched { inner, _held: held }));
    (watched, Upload(Some(alive)))
}

/// A body that holds something for as long as it lives.
struct Watched {
    inner: Body,
    _held: Arc<()>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = crate::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, crate::BoxError>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// One connection: it moves only while somebody polls it.
struct Connection {
    sender: SendRequest<Body>,
    /// None when the connection is over. What a driver that is done still holds must go with it: a request that
    /// it never took is given back only then.
    driver: Option<Driver>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("over", &self.driver.is_none()).finish_non_exhaustive()
    }
}

impl Connection {
    async fn open(stream: Socket) -> Result<Self, hyper::Error> {
        let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(Box::pin(connection.with_upgrades())) })
    }

    /// Reads and writes as far as possible. What this brings about wakes nobody: look after it.
    fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// Resolves when a request may be sent, with false if the connection is over.
    async fn ready(&mut self) -> bool {
        poll_fn(|cx| {
            self.drive(cx);
            match self.sender.is_ready() {
                true => Poll::Ready(true),
                false if self.driver.is_none() => Poll::Ready(false),
                false => Poll::Pending,
            }
        })
        .await
    }

    async fn send(&mut self, request: http::Request<Body>) -> Sent {
        let response = self.sender.try_send_request(request);
        let mut response = std::pin::pin!(response);
        poll_fn(|cx| {
            drive(&mut self.driver, cx);
            // Only the driver can complete it, and has just had its turn: no need to be woken by it.
            response.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    async fn finish(mut self) {
        if let Some(driver) = self.driver.take() {
            let _ = driver.await;
        }
    }

    /// Whether the response is over for both sides, so that the next request may follow.
    fn is_reusable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
        *driver = None;
    }
}

/// hyper's half of a connection; its type has no public name.
type Driver = BoxFuture<'static, Result<(), hyper::Error>>;
type Sent = Result<http::Response<Incoming>, TrySendError<http::Request<Body>>>;

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
            Some(Way::Plain(exchange)) if exchange.is_reusable() => self.client.idle.give_back(exchange),
            Some(Way::General { inner, ended, connection: Some(connection) })
                if ended || inner.is_end_stream() =>
            {
                let mut connection = connection;
                if connection.is_reusable() {
                    self.client.general.give_back(connection);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Request, Response, Service, bind_unix, empty, full, read_all, reply, serve_unix};

    struct Echo;
    impl Service for Echo {
        fn call(&self, request: Request) -> BoxFuture<'_, Response> {
            Box::pin(async move { reply(http::StatusCode::OK, full(request.uri().path().to_owned())) })
        }
    }

    #[tokio::test]
    async fn a_connection_is_reused_and_a_restarted_server_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let client = UnixClient::new(&path);
        for round in 0..2 {
            let (trigger, shutdown) = skep_runtime::Shutdown::new();
            let listener = bind_unix(&path).unwrap();
            let server = tokio::spawn(serve_unix(listener, Arc::new(Echo), shutdown));
            for n in 0..3 {
                let request = http::Request::get(format!("/{round}/{n}")).body(empty()).unwrap();
                let response = client.send(request).await.unwrap();
                assert_eq!(read_all(response.into_body(), 100).await.unwrap(), format!("/{round}/{n}"));
                assert_eq!(client.idle.all().len(), 1);
            }
            trigger.trigger();
            server.await.unwrap();
        }
    }

    /// Answers at once, with as many bytes as the path says, in pieces.
    struct Pieces;
    impl Service for Pieces {
        fn call(&self, request: Request) -> BoxFuture<'_, Response> {
            Box::pin(async move {
                let count: usize = request.uri().path()[1..].parse().unwrap();
                let piece = Bytes::from(vec![b'x'; 1000]);
                let pieces = (0..count).map(move |_| Ok::<_, std::io::Error>(piece.clone()));
                reply(http::StatusCode::OK, crate::stream(futures_util::stream::iter(pieces)))
            })
        }
    }

    fn serve(service: impl Service) -> (tempfile::TempDir, Arc<UnixClient>, skep_runtime::ShutdownTrigger) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (trigger, shutdown) = skep_runtime::Shutdown::new();
        tokio::spawn(serve_unix(bind_unix(&path).unwrap(), Arc::new(service), shutdown));
        (dir, UnixClient::new(path), trigger)
    }

    fn get(path: &str) -> http::Request<Body> {
        http::Request::get(path).body(empty()).unwrap()
    }

    #[tokio::test]
    async fn a_long_response_arrives_whole_and_its_connection_serves_the_next() {
        let (_dir, client, _trigger) = serve(Pieces);
        for count in [5000, 0, 1, 2000] {
            let response = client.send(get(&format!("/{count}"))).await.unwrap();
            let body = read_all(response.into_body(), 10_000_000).await.unwrap();
            assert_eq!(body.len(), count * 1000);
            assert_eq!(client.idle.all().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_response_that_nobody_reads_to_its_end_costs_its_connection() {
        let (_dir, client, _trigger) = serve(Pieces);
        drop(client.send(get("/5000")).await.unwrap());
        assert_eq!(client.idle.all().len(), 0);
        assert_eq!(client.send(get("/1")).await.unwrap().status(), 200);
    }

    #[tokio::test]
    async fn a_connection_whose_request_is_not_all_sent_is_not_used_again() {
        let (_dir, client, _trigger) = serve(Echo);
        let never = crate::stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let response = client.send(http::Request::post("/a").body(never).unwrap()).await.unwrap();
        assert_eq!(read_all(response.into_body(), 100).await.unwrap(), "/a");
        assert_eq!(client.general.all().len(), 0);
        assert_eq!(client.send(get("/b")).await.unwrap().status(), 200);
    }

    /// Answers without end, and says elsewhere how long the request's body was.
    struct Counts(tokio::sync::mpsc::UnboundedSender<usize>);
    impl Service for Counts {
        fn call(&self, request: Request) -> BoxFuture<'_, Response> {
            let count = self.0.clone();
            Box::pin(async move {
                tokio::spawn(async move {
                    let body = read_all(request.into_body(), 100_000_000).await.unwrap();
                    count.send(body.len()).unwrap();
                });
                let endless =
                    std::iter::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1000])));
                reply(http::StatusCode::OK, crate::stream(futures_util::stream::iter(endless)))
            })
        }
    }

    #[tokio::test]
    async fn a_request_is_sent_to_its_end_also_while_nobody_reads_the_response() {
        let (count, mut counted) = tokio::sync::mpsc::unbounded_channel();
        let (_dir, client, _trigger) = serve(Counts(count));
        let pieces = (0..1000).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'y'; 10_000])));
        let body = crate::stream(futures_util::stream::iter(pieces));
        let _unread = client.send(http::Request::post("/").body(body).unwrap()).await.unwrap();
        assert_eq!(counted.recv().await, Some(10_000_000));
    }

    #[tokio::test]
    async fn a_request_that_found_nobody_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let client = UnixClient::new(dir.path().join("nobody"));
        let request = http::Request::post("/a").header("x", "y").body(full("content")).unwrap();
        let Err(SendError::Connect { unsent, .. }) = client.send(request).await else { panic!("sent") };
        assert_eq!(
            (unsent.uri().path(), &unsent.headers()["x"]),
            ("/a", &http::HeaderValue::from_static("y"))
        );
        assert_eq!(read_all(unsent.into_body(), 100).await.unwrap(), "content");
    }
}
