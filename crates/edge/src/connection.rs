//! One connection of a visitor: plain requests as they come, all else through hyper.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use skep_runtime::Shutdown;
use skep_runtime::loops::{self, Member};
use skep_wire::{Asked, Next, Parts, SendFile, Serving};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;

use crate::activity::{Activity, Heard};
use crate::guard::{Answer, EdgeLimits};
use crate::handler::{Begun, Handled, Router, handle};
use crate::headers::Visitor;
use crate::server::{EdgeOptions, SHUTDOWN_GRACE};

/// What all requests of a connection share.
struct Connection {
    visitor: Visitor,
    router: Arc<dyn Router>,
    options: Arc<EdgeOptions>,
    activity: Arc<Activity>,
    /// Whoever waits for all connections to end sees that this one has when it is dropped.
    _open: mpsc::Sender<()>,
}

/// What a visitor speaks over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether another event loop can watch it.
    const MOVES: bool;

    /// The socket, if it is nothing else.
    fn into_tcp(self) -> std::io::Result<TcpStream>;

    /// The socket, if what is written into it is what the visitor reads.
    fn as_tcp(&mut self) -> Option<&mut TcpStream>;
}

impl Stream for TcpStream {
    const MOVES: bool = true;

    fn into_tcp(self) -> std::io::Result<TcpStream> {
        Ok(self)
    }

    fn as_tcp(&mut self) -> Option<&mut TcpStream> {
        Some(self)
    }
}

/// What is known of the session does not come out of it again.
impl Stream for TlsStream<TcpStream> {
    const MOVES: bool = false;

    fn into_tcp(self) -> std::io::Result<TcpStream> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn as_tcp(&mut self) -> Option<&mut TcpStream> {
        None
    }
}

/// What comes after plain requests.
enum End {
    Over,
    /// Something that is no plain request.
    Other,
    /// Its next request is to be served by another event loop.
    Elsewhere(Handle),
}

/// Serves a visitor's connection to its end.
pub(crate) async fn http<S: Stream>(
    stream: S,
    visitor: Visitor,
    router: Arc<dyn Router>,
    options: Arc<EdgeOptions>,
    shutdown: Shutdown,
    open: mpsc::Sender<()>,
) {
    let activity = Arc::new(Activity::new());
    let stream = Heard::new(stream, activity.clone());
    let connection = Arc::new(Connection { visitor, router, options, activity, _open: open });
    // Bodies of visitors come as slowly as they like: hyper's.
    serve(connection, Serving::new(stream, 0), shutdown).await;
}

async fn serve<S: Stream>(connection: Arc<Connection>, mut serving: Serving<Heard<S>>, shutdown: Shutdown) {
    let member = S::MOVES.then(Member::join);
    let end = connection.plain(&mut serving, &shutdown).await;
    drop(member);
    match end {
        Ok(End::Other) => connection.general(serving.into_rest(), shutdown).await,
        Ok(End::Over) => {
            // A visitor that does not even take the good-bye.
            let _ = tokio::time::timeout(SHUTDOWN_GRACE, serving.close()).await;
        }
        Ok(End::Elsewhere(to)) => go(connection, serving.into_parts(), shutdown, &to),
        Err(error) => tracing::debug!(%error, "a visitor's connection ended early"),
    }
}

/// Takes a connection to another event loop, which is the one that watches it then.
fn go<S: Stream>(connection: Arc<Connection>, parts: Parts<Heard<S>>, shutdown: Shutdown, to: &Handle) {
    let unwatched = parts.try_map(|heard| heard.try_map(|stream| stream.into_tcp()?.into_std()));
    to.spawn(async move {
        let watch = |parts: Parts<Heard<std::net::TcpStream>>| {
            parts.try_map(|heard| heard.try_map(TcpStream::from_std))
        };
        match unwatched.and_then(watch) {
            Ok(parts) => serve(connection, Serving::from_parts(parts), shutdown).await,
            Err(error) => tracing::warn!(%error, "cannot watch a visitor's connection"),
        }
    });
}

impl Connection {
    /// Answers requests without a body.
    async fn plain<S: Stream>(
        &self,
        serving: &mut Serving<Heard<S>>,
        shutdown: &Shutdown,
    ) -> std::io::Result<End> {
        let limits = &self.options.limits;
        let mut stop = pin!(shutdown.requested());
        let mut over = pin!(self.activity.over(limits.idle_time, limits.head_time));
        loop {
            let next = tokio::select! {
                biased;
                next = serving.next() => next?,
                () = &mut stop => return Ok(End::Over),
                () = &mut over => return Ok(End::Over),
            };
            let request = match next {
                Next::Request(request) => request.map(|_| None),
                Next::Other => return Ok(End::Other),
                Next::Over => return Ok(End::Over),
            };
            let asked = Asked::by(&request);
            let active = self.activity.begin();
            let last = || !asked.keeps() || shutdown.is_requested();
            let handled = match Begun::new(&*self.router, &self.visitor, &self.options, request) {
                Ok(begun) => {
                    let work = pin!(begun.answer_plain(last));
                    let Some(handled) = serving.unless_gone(work).await else { return Ok(End::Over) };
                    handled
                }
                Err(response) => Handled::Response(*response),
            };
            let more = match handled {
                Handled::Whole(whole) => {
                    serving.send(&whole.text).await?;
                    drop(active);
                    !whole.is_last
                }
                Handled::Response(response) => {
                    let mut response = response.map(|body| Answer::new(body, active));
                    let asked = if shutdown.is_requested() { asked.last() } else { asked };
                    match response.extensions_mut().remove::<SendFile>() {
                        Some(file) if serving.is_tcp() => {
                            serving.answer_file(asked, &mut response, &file).await?
                        }
                        _ => serving.answer(asked, &mut response).await?,
                    }
                }
            };
            if !more {
                return Ok(End::Over);
            }
            match S::MOVES {
                true => {
                    if let Some(to) = loops::turn() {
                        return Ok(End::Elsewhere(to));
                    }
                }
                false => loops::note(),
            }
        }
    }

    /// Serves whatever comes.
    async fn general<S>(self: Arc<Self>, stream: S, shutdown: Shutdown)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.options.limits;
        let activity = self.activity.clone();
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let this = self.clone();
            let active = this.activity.begin();
            loops::note();
            async move {
                let response = handle(&*this.router, &this.visitor, &this.options, request.map(Some)).await;
                Ok::<_, Infallible>(response.map(|body| Answer::new(body, active)))
            }
        });
        let builder = builder(&limits);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let result = tokio::select! {
            biased;
            result = connection.as_mut() => result,
            () = shutdown.requested() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = activity.over(limits.idle_time, limits.head_time) => {
                connection.as_mut().graceful_shutdown();
                // A visitor that does not even take the good-bye.
                tokio::time::timeout(SHUTDOWN_GRACE, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = result {
            tracing::debug!(error, "a visitor's connection ended early");
        }
    }
}

fn builder(limits: &EdgeLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // The whole head has to fit; hyper wants at least 8 KiB.
    let head = (limits.headers + limits.url + LINE).max(8 << 10);
    // hyper's own time for a head begins when the connection begins to rest.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(head);
    if limits.header_count != HYPERS_HEADERS {
        builder.http1().max_headers(limits.header_count);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        // Streams that a visitor begins and takes back at once (CVE-2023-44487): after so many it is cut off.
        .max_pending_accept_reset_streams(MAX_TAKEN_BACK)
        .max_local_error_reset_streams(MAX_ERRORS);
    builder
}

/// A request's line without the URL.
const LINE: usize = 1 << 10;
/// As many headers as hyper reads without a buffer of their own.
const HYPERS_HEADERS: usize = 100;
/// Streams of a connection that were taken back before they were looked at.
const MAX_TAKEN_BACK: usize = 20;
/// Streams of a connection that were in error.
const MAX_ERRORS: usize = 100;
