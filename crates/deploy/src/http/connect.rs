//! A connection: TCP, through a proxy if there is one, with TLS if the URL says so.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::proxy::Proxy;

/// Until a connection with TLS is there.
const CONNECT: Duration = Duration::from_secs(15);
/// The longest head of a proxy's answer.
const MAX_HEAD: usize = 16 * 1024;

/// A byte stream to a server.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Makes connections. The machine's certificates are read when the first `https` URL is met.
#[derive(Default)]
pub(crate) struct Connector {
    tls: OnceLock<Result<TlsConnector, String>>,
}

impl Connector {
    /// Trusts `config` instead of the machine's certificates.
    pub fn trusting(config: ClientConfig) -> Self {
        Self { tls: OnceLock::from(Ok(TlsConnector::from(Arc::new(config)))) }
    }

    /// A connection for requests to `url`; for plain HTTP through a proxy it ends at the proxy.
    pub async fn connect(&self, url: &Url, proxy: Option<&Proxy>) -> io::Result<Stream> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection after {CONNECT:?}"));
        tokio::time::timeout(CONNECT, self.open(url, proxy)).await.map_err(late)?
    }

    async fn open(&self, url: &Url, proxy: Option<&Proxy>) -> io::Result<Stream> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_or_known_default().unwrap_or(443);
        // Every name below localhost is this machine (RFC 6761); not every resolver knows.
        let here = if host.ends_with(".localhost") { "localhost" } else { host };
        let (to, at) = proxy.map_or((here, port), |proxy| (proxy.host.as_str(), proxy.port));
        let mut stream = TcpStream::connect((to, at)).await.map_err(|error| match proxy {
            Some(_) => io::Error::new(error.kind(), format!("the proxy {to}:{at}: {error}")),
            None => error,
        })?;
        stream.set_nodelay(true)?;
        if url.scheme() != "https" {
            return Ok(Stream::Plain(stream));
        }
        if let Some(proxy) = proxy {
            tunnel(&mut stream, proxy, url.host_str().unwrap_or_default(), port).await?;
        }
        let connector = self.tls.get_or_init(|| native().map(|config| TlsConnector::from(Arc::new(config))));
        let connector = connector.as_ref().map_err(|text| io::Error::other(text.clone()))?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Stream::Tls(Box::new(connector.connect(name, stream).await?)))
    }
}

/// The machine's certificates; `SSL_CERT_FILE` and `SSL_CERT_DIR` say others.
fn native() -> Result<ClientConfig, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(format!(
            "no certificate authorities were found on this machine: install ca-certificates, or name a file in \
             SSL_CERT_FILE {}",
            why.join("; ")
        ));
    }
    Ok(trusting(roots))
}

fn trusting(roots: RootCertStore) -> ClientConfig {
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// The certificates in a file (PEM), and no others.
pub(crate) fn only(file: &Path) -> Result<ClientConfig, String> {
    let found = CertificateDer::pem_file_iter(file).map_err(|e| e.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in found {
        roots.add(certificate.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    }
    match roots.is_empty() {
        true => Err("it has no certificate (PEM, `-----BEGIN CERTIFICATE-----`)".into()),
        false => Ok(trusting(roots)),
    }
}

/// `CONNECT`: what follows on `stream` goes to the server.
async fn tunnel(stream: &mut TcpStream, proxy: &Proxy, host: &str, port: u16) -> io::Result<()> {
    let login = proxy.authorization.as_ref().map(|value| format!("Proxy-Authorization: {value}\r\n"));
    let request =
        format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{}\r\n", login.unwrap_or_default());
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    // Byte by byte: what comes after the head is not ours. It is short, and comes once per connection.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD {
            return Err(io::Error::other("the proxy's answer is too long"));
        }
        head.push(stream.read_u8().await?);
    }
    let line = String::from_utf8_lossy(head.split(|b| *b == b'\r').next().unwrap_or_default()).into_owned();
    match line.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        _ => Err(io::Error::other(format!("the proxy refused the connection to {host}:{port}: {line}"))),
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
