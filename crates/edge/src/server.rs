//! Accepting visitors.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use skep_runtime::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, ServerConnection};

use crate::activity::{Activity, Heard};
use crate::guard::{Answer, EdgeLimits};
use crate::handler::{Router, handle};
use crate::headers::{Secured, Visitor};
use crate::traffic::{Open, Traffic};

/// A visitor that takes longer for the TLS handshake is cut off.
const TLS_LIMIT: Duration = Duration::from_secs(10);
/// The protocol of ACME's TLS-ALPN-01; no request comes over it.
const ACME_TLS: &[u8] = b"acme-tls/1";
/// How long responses may take after shutdown was asked for.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// How the edge behaves.
#[derive(Clone, Debug)]
pub struct EdgeOptions {
    /// Whether error pages show the inside: on a developer's own machine.
    pub show_errors: bool,
    /// The IANA name of this machine's time zone, for `request.cf.timezone`.
    pub timezone: String,
    /// Visitors speak TLS, with these certificates.
    pub tls: Option<Arc<ServerConfig>>,
    /// What visitors may ask for.
    pub limits: EdgeLimits,
    /// Where to count what belongs to no site.
    pub traffic: Arc<Traffic>,
}

/// Serves visitors on `listener` until `shutdown`; returns when the last response is out, or after a moment.
pub async fn serve(listener: TcpListener, router: Arc<dyn Router>, options: EdgeOptions, shutdown: Shutdown) {
    let options = Arc::new(options);
    let (busy, mut all_done) = tokio::sync::mpsc::channel::<()>(1);
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(open) = options.traffic.open(peer.ip(), &options.limits) else { continue };
                let (router, options, shutdown) = (router.clone(), options.clone(), shutdown.clone());
                let busy = busy.clone();
                tokio::spawn(async move {
                    connection(stream, peer, Arc::new(open), router, options.clone(), shutdown).await;
                    drop(busy);
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: others may free some.
                tracing::warn!(%error, "cannot accept a visitor");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    drop(busy);
    let _ = tokio::time::timeout(SHUTDOWN_GRACE, all_done.recv()).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    open: Arc<Open>,
    router: Arc<dyn Router>,
    options: Arc<EdgeOptions>,
    shutdown: Shutdown,
) {
    let _ = stream.set_nodelay(true);
    let Some(config) = &options.tls else {
        let visitor = Visitor::new(peer.ip(), &options.timezone, None).on(open);
        return http(stream, visitor, router, options, shutdown).await;
    };
    let accepted = tokio::select! {
        () = shutdown.requested() => return,
        accepted = tokio::time::timeout(TLS_LIMIT, TlsAcceptor::from(config.clone()).accept(stream)) => accepted,
    };
    match accepted {
        // An authority that looks for a challenge; the handshake was the answer (RFC 8737 §3).
        Ok(Ok(mut stream)) if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) => {
            let _ = stream.shutdown().await;
        }
        Ok(Ok(stream)) => {
            let secured = Some(secured(stream.get_ref().1));
            let visitor = Visitor::new(peer.ip(), &options.timezone, secured).on(open);
            http(stream, visitor, router, options, shutdown).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a visitor's handshake failed"),
        Err(_) => tracing::debug!("a visitor's handshake took too long"),
    }
}

/// What `request.cf` says of the connection.
fn secured(connection: &ServerConnection) -> Secured {
    let version = match connection.protocol_version() {
        Some(tokio_rustls::rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    };
    let suite = connection.negotiated_cipher_suite();
    let cipher = suite.and_then(|suite| suite.suite().as_str()).unwrap_or_default();
    // As OpenSSL writes it, which is how Cloudflare does.
    Secured { version, cipher: cipher.replace("TLS13_", "").replace('_', "-").replace("-WITH", "") }
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    visitor: Visitor,
    router: Arc<dyn Router>,
    options: Arc<EdgeOptions>,
    shutdown: Shutdown,
) {
    let visitor = Arc::new(visitor);
    let limits = options.limits;
    let activity = Arc::new(Activity::new());
    let service = {
        let activity = activity.clone();
        service_fn(move |request| {
            let (router, visitor, options) = (router.clone(), visitor.clone(), options.clone());
            let active = activity.begin();
            async move {
                let response = handle(&*router, &visitor, &options, request).await;
                Ok::<_, Infallible>(response.map(|body| Answer::new(body, active)))
            }
        })
    };
    let builder = builder(&limits);
    let stream = Heard::new(stream, activity.clone());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
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
