//! TLS from threads: what a server shows, and what a client sees.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use skep_edge::rustls::client::WebPkiServerVerifier;
use skep_edge::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use skep_edge::rustls::crypto::ring::default_provider;
use skep_edge::rustls::pki_types::pem::PemObject;
use skep_edge::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use skep_edge::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, StreamOwned,
};

use super::der;
use crate::harness::PATIENCE;

/// A connection with TLS.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Not rustls' own check: it refuses certificates with an extension that it does not know, and acmeIdentifier is critical.
fn signed(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let key = der::public_key(certificate);
    let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_ASN1, key);
    let verified = public.verify(message, signature.signature()).is_ok();
    match verified && signature.scheme == SignatureScheme::ECDSA_NISTP256_SHA256 {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(Error::General("the signature is wrong".into())),
    }
}

/// Takes any certificate; the server has to have its key.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signed(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// Shakes hands with a port of this machine as a visitor of `name`. Without `root` any certificate will do.
pub fn connect(port: u16, name: &str, protocol: &[u8], root: Option<&str>) -> Result<Tls, String> {
    let verifier: Arc<dyn ServerCertVerifier> = match root {
        None => Arc::new(Anyone),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
                .build()
                .unwrap()
        }
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|e| e.to_string())?;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|e| e.to_string())?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// The certificate that the server has shown (DER).
pub fn shown(tls: &Tls) -> Vec<u8> {
    tls.conn.peer_certificates().unwrap()[0].to_vec()
}

/// One request on a connection that is kept.
pub fn get(tls: &mut Tls, name: &str, path: &str) -> Result<String, String> {
    write!(tls, "GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n").map_err(|e| e.to_string())?;
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let head = text.split_once("\r\n\r\n");
        let length = |head: &str| {
            let lower = head.to_lowercase();
            lower.split("content-length: ").nth(1)?.split("\r\n").next()?.parse::<usize>().ok()
        };
        if let Some((head, body)) = head
            && length(head).is_some_and(|length| body.len() >= length)
        {
            return Ok(text);
        }
        match tls.read(&mut buffer) {
            Ok(0) => return Err(format!("closed after {text:?}")),
            Ok(n) => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
            Err(error) => return Err(error.to_string()),
        }
    }
}
