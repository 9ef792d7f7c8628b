//! Accepting visitors.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use skep_runtime::{Shutdown, loops};
use skep_wire::Entered;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, ServerConnection};

use crate::connection::http;
use crate::guard::EdgeLimits;
use crate::handler::Router;
use crate::headers::{Secured, Visitor};
use crate::places::Places;
use crate::traffic::Traffic;

/// A visitor that takes longer for the TLS handshake is cut off.
const TLS_LIMIT: Duration = Duration::from_secs(10);
/// The protocol of ACME's TLS-ALPN-01; no request comes over it.
const ACME_TLS: &[u8] = b"acme-tls/1";
/// How long responses may take after shutdown was asked for.
pub(crate) const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// How the edge behaves.
#[derive(Clone, Debug)]
pub struct EdgeOptions {
    /// Whether error pages show the inside: on a developer's own machine.
    pub show_errors: bool,
    /// The IANA name of this machine's time zone, for `request.cf.timezone`.
    pub timezone: String,
    /// Where visitors are; `None` if nobody knows.
    pub places: Option<Arc<Places>>,
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
    let (busy, mut all_done) = mpsc::channel::<()>(1);
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(open) = options.traffic.open(peer.ip(), &options.limits) else { continue };
                let (router, options, shutdown) = (router.clone(), options.clone(), shutdown.clone());
                let accepted =
                    Accepted { peer, open: Arc::new(open), router, options, shutdown, busy: busy.clone() };
                match loops::place() {
                    None => drop(tokio::spawn(accepted.serve(stream))),
                    Some(elsewhere) => accepted.send(stream, &elsewhere),
                }
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

/// What serves one visitor.
struct Accepted {
    peer: SocketAddr,
    open: Arc<Entered>,
    router: Arc<dyn Router>,
    options: Arc<EdgeOptions>,
    shutdown: Shutdown,
    busy: mpsc::Sender<()>,
}

impl Accepted {
    /// To another event loop.
    fn send(self, stream: TcpStream, to: &Handle) {
        let unwatched = stream.into_std();
        to.spawn(async move {
            match unwatched.and_then(TcpStream::from_std) {
                Ok(stream) => self.serve(stream).await,
                Err(error) => tracing::warn!(%error, "cannot watch a visitor's connection"),
            }
        });
    }

    async fn serve(self, stream: TcpStream) {
        let Self { peer, open, router, options, shutdown, busy } = self;
        let _ = stream.set_nodelay(true);
        let Some(config) = &options.tls else {
            let visitor =
                Visitor::new(peer.ip(), &options.timezone, None, options.places.as_deref()).on(open);
            return http(stream, visitor, router, options, shutdown, busy).await;
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
                let places = options.places.as_deref();
                let visitor = Visitor::new(peer.ip(), &options.timezone, secured, places).on(open);
                http(stream, visitor, router, options, shutdown, busy).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "a visitor's handshake failed"),
            Err(_) => tracing::debug!("a visitor's handshake took too long"),
        }
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
