//! TLS with a database, as `sslmode` has it.

use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::connect::Verdict;
use crate::messages::ssl_request;
use crate::{Failure, Origin, Tls};

/// A connection with or without TLS.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Makes what believes a certificate.
type MakeVerifier = fn() -> Result<Arc<dyn ServerCertVerifier>, String>;

/// Makes connections secret. The machine's certificates are read when they are first asked about.
#[derive(Default)]
pub(crate) struct Connectors {
    any: OnceLock<Result<TlsConnector, String>>,
    chain: OnceLock<Result<TlsConnector, String>>,
    full: OnceLock<Result<TlsConnector, String>>,
}

impl Connectors {
    /// Asks the server for TLS, and does it.
    pub async fn secure(
        &self,
        mut stream: TcpStream,
        verdict: Verdict,
        origin: &Origin,
    ) -> Result<Box<dyn Io>, Failure> {
        let broken = |error: std::io::Error| Failure::Other(format!("the database broke off: {error}"));
        stream.write_all(&ssl_request()).await.map_err(broken)?;
        match stream.read_u8().await.map_err(broken)? {
            b'S' => {}
            b'N' if origin.tls == Tls::Unsaid && verdict == Verdict::Private => return Ok(Box::new(stream)),
            b'N' => return Err(Failure::NoTls),
            // What it says is not passed on: whatever listens there need not be a database.
            _ => return Err(Failure::Other("the server does not speak PostgreSQL's protocol".into())),
        }
        let (cell, verifier): (_, MakeVerifier) = match origin.tls {
            Tls::Unsaid => (&self.any, || Ok(Arc::new(Lenient { inner: None, provider: provider() }))),
            Tls::Require | Tls::VerifyCa => (&self.chain, || {
                let inner = Some(webpki()?);
                Ok(Arc::new(Lenient { inner, provider: provider() }))
            }),
            Tls::VerifyFull => (&self.full, || Ok(webpki()?)),
        };
        let connector = cell.get_or_init(|| connector(verifier()?)).clone().map_err(Failure::Tls)?;
        let host = origin.host.trim_matches(['[', ']']);
        let name = match (ServerName::try_from(host.to_owned()), origin.tls) {
            (Ok(name), _) => name,
            (Err(error), Tls::VerifyFull) => return Err(Failure::Tls(error.to_string())),
            // A name with an underscore, in a network of one's own; no certificate is for it.
            (Err(_), _) => ServerName::from(stream.peer_addr().map_err(broken)?.ip()),
        };
        let secure = connector.connect(name, stream).await;
        Ok(Box::new(secure.map_err(|e| Failure::Tls(e.to_string()))?))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn connector(verifier: Arc<dyn ServerCertVerifier>) -> Result<TlsConnector, String> {
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let config = config.map_err(|e| e.to_string())?;
    let mut config = config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Who is believed: the machine's authorities.
fn webpki() -> Result<Arc<WebPkiServerVerifier>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err("no certificate authorities were found on this machine: install ca-certificates".into());
    }
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    built.map_err(|e| e.to_string())
}

/// Believes who holds a certificate's key: of any certificate, or of one that `inner` accepts but for its name.
#[derive(Debug)]
struct Lenient {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // The chain was looked at before the name.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
