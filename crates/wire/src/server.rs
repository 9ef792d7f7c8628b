//! A unix-socket HTTP/1.1 server for one cell.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, header};
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use skep_runtime::{Backlog, Shutdown};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;

use crate::inbox::Inbox;
use crate::unread::{BOUNDS, counted};
use crate::{Asked, BoxError, Crowd, CrowdLimits, Next, Service, Serving, Socket, empty, full};

/// How long an idle connection is kept, up to twice as long: longer than the engine keeps its own (about 10 s), so that it
/// is never us who closes a connection that a call is about to use.
const IDLE: Duration = Duration::from_secs(60);
/// Bodies of calls that are read whole before the call is looked at.
const SMALL: usize = 64 << 10;

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {}: {source}", path.display())]
pub struct ServeError {
    path: PathBuf,
    source: std::io::Error,
}

/// Opens a socket at `path` that only this user may use, replacing a stale one.
pub fn bind_unix(path: &Path) -> Result<UnixListener, ServeError> {
    let listen = || {
        if path.exists() {
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        // As many as a process has requests: they wait while it has enough connections.
        rustix::net::listen(&listener, 4096)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    listen().map_err(|source| ServeError { path: path.to_owned(), source })
}

/// Serves `service` on `listener` until `shutdown`.
pub async fn serve_unix(listener: UnixListener, service: Arc<dyn Service>, shutdown: Shutdown) {
    while let Some(stream) = accept(&listener, &shutdown).await {
        tokio::spawn(connection(stream, None, service.clone(), shutdown.clone()));
    }
}

/// The next connection; `None` at `shutdown`.
pub(crate) async fn accept(listener: &UnixListener, shutdown: &Shutdown) -> Option<Socket> {
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, _)| Socket::try_from(stream)) {
            Ok(stream) => return Some(stream),
            Err(error) => pause(&error).await,
        }
    }
}

/// After a connection could not be accepted: out of file descriptors, mostly, and others may free some.
async fn pause(error: &std::io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// How long a client may read nothing of what it is sent, in milliseconds; then the connection is closed.
const READS_NOTHING_MS: u32 = 100_000;

/// Serves `service` on `listener` until `shutdown`; connections may be upgraded. The peer's [`SocketAddr`] is
/// among the extensions of each request. Connections beyond `limits` are closed at once; one without a request is after [`IDLE`],
/// whatever came of its head.
pub async fn serve_tcp(
    listener: TcpListener,
    service: Arc<dyn Service>,
    limits: CrowdLimits,
    shutdown: Shutdown,
) {
    let crowd = Arc::new(Crowd::default());
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(entered) = crowd.enter(peer.ip(), limits) else { continue };
                let _ = stream.set_nodelay(true);
                // Answers have room of the node's memory: who reads nothing of his gives it back.
                let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, READS_NOTHING_MS);
                let served = connection(stream, Some(peer), service.clone(), shutdown.clone());
                tokio::spawn(async move {
                    served.await;
                    drop(entered);
                });
            }
            Err(error) => pause(&error).await,
        }
    }
}

async fn connection<S>(stream: S, peer: Option<SocketAddr>, service: Arc<dyn Service>, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut serving = Serving::new(stream, SMALL);
    match plain(&mut serving, peer, &*service, &shutdown, None, None, || false).await {
        Ok(End::Other) => general(serving.into_rest(), peer, service, shutdown, None, || false).await,
        Ok(End::Over | End::Elsewhere(_)) => serving.close().await,
        Err(error) => tracing::debug!(%error, "a connection ended early"),
    }
}

/// How [`plain`] ends.
pub(crate) enum End {
    /// Nothing more is to be answered.
    Over,
    /// Something for [`general`] has come.
    Other,
    /// It is to go on elsewhere, with this request if there is one.
    Elsewhere(Option<Box<http::Request<Bytes>>>),
}

/// Answers plain requests, `first` before those that come, until something else has come or `misplaced` says, of something that has
/// come, that it is not to be answered here. While too much of what was answered is `unread`, nothing more is.
pub(crate) async fn plain<S: AsyncRead + AsyncWrite + Unpin>(
    serving: &mut Serving<S>,
    peer: Option<SocketAddr>,
    service: &dyn Service,
    shutdown: &Shutdown,
    mut first: Option<Box<http::Request<Bytes>>>,
    unread: Option<&Arc<Backlog>>,
    misplaced: impl Fn() -> bool,
) -> std::io::Result<End> {
    let mut stop = pin!(shutdown.requested());
    let mut timer = pin!(tokio::time::sleep(IDLE));
    let mut used = false;
    loop {
        let next = match first.take() {
            Some(request) => Next::Request(request),
            None => loop {
                tokio::select! {
                    biased;
                    next = serving.next() => break next?,
                    () = &mut stop => return Ok(End::Over),
                    () = timer.as_mut() => {}
                }
                // The timer fires early rather than being set anew for each request.
                if !std::mem::take(&mut used) {
                    return Ok(End::Over);
                }
                timer.as_mut().reset(Instant::now() + IDLE);
            },
        };
        let request = match next {
            Next::Request(request) if misplaced() => return Ok(End::Elsewhere(Some(request))),
            Next::Request(request) => request,
            Next::Other if misplaced() => return Ok(End::Elsewhere(None)),
            Next::Other => return Ok(End::Other),
            Next::Over => return Ok(End::Over),
        };
        let asked = Asked::by(&request);
        let mut request = request.map(|body| if body.is_empty() { empty() } else { full(body) });
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        if let Some(unread) = unread.filter(|unread| unread.is_over(BOUNDS)) {
            let mut wait = pin!(unread.ready(BOUNDS));
            if serving.unless_gone(wait.as_mut()).await.is_none() {
                return Ok(End::Over);
            }
        }
        let mut call = service.call(request);
        let Some(response) = serving.unless_gone(Pin::new(&mut call)).await else { return Ok(End::Over) };
        let mut response = counted(response, unread);
        let asked = if shutdown.is_requested() { asked.last() } else { asked };
        if !serving.answer(asked, &mut response).await? {
            return Ok(End::Over);
        }
        used = true;
    }
}

/// What a head has to fit into, and what is read ahead of a body that nobody takes yet.
const BUFFER: usize = 256 << 10;

/// What a cell has in this process's memory.
#[derive(Clone)]
pub(crate) struct Holds {
    /// Answers that it has not read.
    pub unread: Arc<Backlog>,
    /// Bodies that are read whole.
    pub inbox: Inbox,
}

/// Answers whatever comes; after a request for which `misplaced` says so, the peer is to open another connection.
pub(crate) async fn general(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Option<SocketAddr>,
    service: Arc<dyn Service>,
    shutdown: Shutdown,
    holds: Option<Holds>,
    misplaced: impl Fn() -> bool + Clone,
) {
    let handler = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (service, misplaced, holds) = (service.clone(), misplaced.clone(), holds.clone());
        async move {
            let mut request = request.map(|body| body.map_err(|e| Box::new(e) as BoxError).boxed_unsync());
            if let Some(peer) = peer {
                request.extensions_mut().insert(peer);
            }
            if let Some(Holds { unread, inbox }) = &holds {
                unread.ready(BOUNDS).await;
                request.extensions_mut().insert(inbox.clone());
            }
            let unread = holds.as_ref().map(|holds| &holds.unread);
            let mut response = counted(service.call(request).await, unread);
            if misplaced() && response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), handler)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}
