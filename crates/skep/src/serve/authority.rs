//! Skep's local certificate authority: it issues a certificate for every name that a visitor asks for.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use skep_edge::rustls::crypto::ring::sign;
use skep_edge::rustls::pki_types::PrivateKeyDer;
use skep_edge::rustls::server::{ClientHello, ResolvesServerCert};
use skep_edge::rustls::sign::CertifiedKey;

/// Certificates that are kept; a visitor who asks for ever new names gets them issued anew.
const MAX_KEPT: usize = 1000;
/// A certificate is good for a year.
const RENEW_AFTER: Duration = Duration::from_secs(300 * 24 * 60 * 60);
/// The name in the certificate of a visitor who gives none in the handshake.
const FALLBACK: &str = "localhost";

/// Where the authority's own certificate is.
pub fn certificate(data: &Path) -> PathBuf {
    data.join("tls/ca.pem")
}

/// Issues certificates for names of this machine.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    issued: Mutex<HashMap<String, (Arc<CertifiedKey>, Instant)>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads the authority in `data`, or makes one.
    pub fn open(data: &Path) -> Result<Self, String> {
        let folder = data.join("tls");
        let (cert, key) = (certificate(data), folder.join("ca-key.pem"));
        let failed = |e: &dyn std::fmt::Display| format!("cannot use {}: {e}", folder.display());
        if !cert.exists() {
            std::fs::create_dir_all(&folder).map_err(|e| failed(&e))?;
            let pair = KeyPair::generate().map_err(|e| failed(&e))?;
            let made = params().and_then(|params| params.self_signed(&pair)).map_err(|e| failed(&e))?;
            write(&key, &pair.serialize_pem(), 0o600).map_err(|e| failed(&e))?;
            write(&cert, &made.pem(), 0o644).map_err(|e| failed(&e))?;
        }
        let pair = std::fs::read_to_string(&key).map_err(|e| failed(&e))?;
        let pair = KeyPair::from_pem(&pair).map_err(|e| failed(&e))?;
        let issuer = Issuer::new(params().map_err(|e| failed(&e))?, pair);
        Ok(Self { issuer, issued: Mutex::default() })
    }

    fn issue(&self, name: &str) -> Result<Arc<CertifiedKey>, String> {
        let pair = KeyPair::generate().map_err(|e| e.to_string())?;
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(|e| e.to_string())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Browsers accept 398 days at most.
        let (year, month, day) = today();
        params.not_before = rcgen::date_time_ymd(year, month, day);
        params.not_after = rcgen::date_time_ymd(year + 1, month, day.min(28));
        let made = params.signed_by(&pair, &self.issuer).map_err(|e| e.to_string())?;
        let key = PrivateKeyDer::try_from(pair.serialize_der()).map_err(|e| e.to_owned())?;
        let key = sign::any_ecdsa_type(&key).map_err(|e| e.to_string())?;
        Ok(Arc::new(CertifiedKey::new(vec![made.der().clone()], key)))
    }
}

/// The authority's own certificate.
fn params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Skep local authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2036, 1, 1);
    Ok(params)
}

/// Year, month and day in UTC.
fn today() -> (i32, u8, u8) {
    let today = crate::dates::today();
    let mut parts = today.split('-');
    let mut part = || parts.next().and_then(|part| part.parse::<u16>().ok()).unwrap_or(1);
    (i32::from(part()), part() as u8, part() as u8)
}

fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or(FALLBACK).to_ascii_lowercase();
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, since)) = issued.get(&name)
            && since.elapsed() < RENEW_AFTER
        {
            return Some(known.clone());
        }
        match self.issue(&name) {
            Ok(made) => {
                if issued.len() >= MAX_KEPT {
                    issued.clear();
                }
                issued.insert(name, (made.clone(), Instant::now()));
                Some(made)
            }
            Err(error) => {
                tracing::warn!(name, error, "a certificate could not be issued");
                None
            }
        }
    }
}
