//! `--https`: the operator's own certificate, those of an ACME authority, or those of Skep's local one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use skep_acme::ACME_TLS;
use skep_edge::rustls::ServerConfig;
use skep_edge::rustls::client::verify_server_name;
use skep_edge::rustls::crypto::ring::{default_provider, sign};
use skep_edge::rustls::pki_types::pem::PemObject;
use skep_edge::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use skep_edge::rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use skep_edge::rustls::sign::CertifiedKey;

use super::acme::Wanted;
use super::authority::Authority;
use crate::args::ServeArgs;

/// How often the operator's files are looked at for a renewed certificate.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Shows a certificate for the name that a visitor asks for.
#[derive(Debug)]
pub struct Certificates {
    /// Goes first, where it is for the name.
    own: Option<Arc<Own>>,
    acme: Option<Arc<Wanted>>,
    /// Where nothing else is there.
    authority: Option<Authority>,
}

impl Certificates {
    /// Skep's own authority stands in where the operator has no certificate.
    pub fn new(data: &Path, own: Option<Arc<Own>>, acme: Option<Arc<Wanted>>) -> Result<Self, String> {
        let authority = own.is_none().then(|| Authority::open(data)).transpose()?;
        Ok(Self { own, acme, authority })
    }

    /// The TLS side of `--https`.
    pub fn config(self) -> Result<Arc<ServerConfig>, String> {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder =
            builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?.with_no_client_auth();
        let mut protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if self.acme.is_some() {
            protocols.push(ACME_TLS.to_vec());
        }
        let mut config = builder.with_cert_resolver(Arc::new(self));
        config.alpn_protocols = protocols;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(wanted) = &self.acme {
            let name = hello.server_name().map(str::to_ascii_lowercase);
            if hello.alpn().is_some_and(|protocols| protocols.eq([ACME_TLS])) {
                return wanted.acme.challenges().certificate(&name?);
            }
            if let Some(certificate) = name.and_then(|name| wanted.certificate(&name)) {
                return Some(certificate);
            }
        }
        match (&self.own, &self.authority) {
            (Some(own), _) => Some(own.current()),
            (None, Some(authority)) => authority.resolve(hello),
            (None, None) => None,
        }
    }
}

/// The operator's own certificate, if there is one.
pub fn own(args: &ServeArgs) -> Result<Option<Arc<Own>>, String> {
    match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => Own::open(cert.clone(), key.clone()).map(|own| Some(Arc::new(own))),
        _ => Ok(None),
    }
}

/// The operator's certificate; a renewed one is taken up without a restart.
#[derive(Debug)]
pub struct Own {
    cert: PathBuf,
    key: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: Arc<CertifiedKey>,
    /// When the files were written that `current` was read from.
    written: [Option<SystemTime>; 2],
    looked: Instant,
}

impl Own {
    fn open(cert: PathBuf, key: PathBuf) -> Result<Self, String> {
        let written = [&cert, &key].map(|file| modified(file));
        let state = State { current: read(&cert, &key)?, written, looked: Instant::now() };
        Ok(Self { cert, key, state: Mutex::new(state) })
    }

    fn look(&self, state: &mut State) {
        let written = [&self.cert, &self.key].map(|file| modified(file));
        if written == state.written {
            return;
        }
        // While only one of the two has been replaced they do not belong together: the next look finds both.
        match read(&self.cert, &self.key) {
            Ok(current) => {
                tracing::info!(file = %self.cert.display(), "the certificate was renewed");
                (state.current, state.written) = (current, written);
            }
            Err(error) => tracing::warn!(error, "the changed certificate is not used; the earlier one stays"),
        }
    }
}

impl Own {
    /// Whether it is for `name`.
    pub fn is_for(&self, name: &str) -> bool {
        let current = self.current();
        let parsed = current.cert.first().and_then(|first| ParsedCertificate::try_from(first).ok());
        let server = ServerName::try_from(name);
        parsed.zip(server.ok()).is_some_and(|(parsed, server)| verify_server_name(&parsed, &server).is_ok())
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            self.look(&mut state);
        }
        state.current.clone()
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

/// A chain and its key, which must belong together.
fn read(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, String> {
    let unusable = |path: &Path, e: &dyn std::fmt::Display| format!("cannot use {}: {e}", path.display());
    let chain = CertificateDer::pem_file_iter(cert).map_err(|e| unusable(cert, &e))?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|e| unusable(cert, &e))?;
    if chain.is_empty() {
        return Err(unusable(cert, &"it has no certificate (PEM, `-----BEGIN CERTIFICATE-----`)"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key, &e))?;
    let pair = CertifiedKey::new(chain, sign::any_supported_type(&private).map_err(|e| unusable(key, &e))?);
    pair.keys_match().map_err(|_| unusable(key, &format!("it is not the key of {}", cert.display())))?;
    Ok(Arc::new(pair))
}
