//! A certificate authority for one container: what it sends by TLS and its worker wants to see ends here, as if here were the server.
//! Its key is in memory, and goes with the container; the container trusts it if it says so itself.
//! <https://developers.cloudflare.com/containers/platform-details/outbound-traffic/>

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Where a container finds the authority's certificate, below its root folder.
pub(crate) const PLACE: &str = "etc/cloudflare/certs/cloudflare-containers-ca.crt";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long certificates are good for: that of the authority, and those of servers. Clocks may differ by a day.
const AUTHORITY: Duration = DAY.saturating_mul(3650);
const SERVER: Duration = DAY.saturating_mul(7);
/// Certificates of servers that are kept, and for how long. More names than that get theirs anew.
const MOST: usize = 256;
const KEPT: Duration = DAY;
/// The longest name that a subject has, RFC 5280, A.1. A longer one is among the names alone.
const LONGEST_SUBJECT: usize = 64;

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    servers: Mutex<HashMap<String, (Instant, Arc<ServerConfig>)>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    pub fn new() -> Result<Self, String> {
        let said = |error: rcgen::Error| format!("no certificate authority can be made: {error}");
        let key = KeyPair::generate().map_err(said)?;
        let mut params = valid(Vec::new(), AUTHORITY).map_err(said)?;
        params.distinguished_name.push(DnType::CommonName, "Skep container authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(said)?;
        Ok(Self { issuer: Issuer::new(params, key), certificate, servers: Mutex::default() })
    }

    /// Its certificate, as text.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// What a server by this name, or at this address, has.
    pub fn server(&self, name: &str) -> Result<Arc<ServerConfig>, String> {
        let name = name.to_ascii_lowercase();
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, known)) = servers.get(&name)
            && since.elapsed() < KEPT
        {
            return Ok(known.clone());
        }
        let made = self.issue(&name).map_err(|why| format!("there is no certificate for {name}: {why}"))?;
        if servers.len() >= MOST {
            servers.clear();
        }
        servers.insert(name, (Instant::now(), made.clone()));
        Ok(made)
    }

    fn issue(&self, name: &str) -> Result<Arc<ServerConfig>, String> {
        let said = |error: rcgen::Error| error.to_string();
        let key = KeyPair::generate().map_err(said)?;
        let mut params = valid(vec![name.to_owned()], SERVER).map_err(said)?;
        if name.len() <= LONGEST_SUBJECT {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let made = params.signed_by(&key, &self.issuer).map_err(said)?;
        let chain = vec![made.der().clone(), self.certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?;
        // No protocol is agreed on: all speak HTTP/1.1 then, as the engine does.
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key));
        config.map(Arc::new).map_err(|error| error.to_string())
    }
}

/// A certificate for names, from yesterday on.
fn valid(names: Vec<String>, period: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let at = |moment: Duration| rcgen::date_time_ymd(1970, 1, 1) + moment;
    params.not_before = at(now.saturating_sub(DAY));
    params.not_after = at(now + period);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    /// Whether a client that trusts `authority` takes what `other` has for `name`.
    async fn trusts(authority: &Authority, other: &Authority, name: &str, asked: &str) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(1 << 16);
        let server = TlsAcceptor::from(other.server(name).unwrap()).accept(far);
        let client = TlsConnector::from(Arc::new(client))
            .connect(ServerName::try_from(asked.to_owned()).unwrap(), near);
        let (client, _) = tokio::join!(client, server);
        client.is_ok()
    }

    #[tokio::test]
    async fn who_trusts_the_authority_trusts_its_servers_and_no_others() {
        let (own, other) = (Authority::new().unwrap(), Authority::new().unwrap());
        let long = format!("{}.{}.example", "a".repeat(60), "b".repeat(60));
        for name in ["one.example", "a_b.example", "9.9.9.9", &long] {
            assert!(trusts(&own, &own, name, name).await, "{name}");
            assert!(!trusts(&own, &other, name, name).await, "{name} of another container's");
        }
        assert!(!trusts(&own, &own, "one.example", "two.example").await);
        assert!(Arc::ptr_eq(&own.server("one.example").unwrap(), &own.server("ONE.example").unwrap()));
    }

    #[test]
    fn no_more_names_are_kept_than_may_be() {
        let own = Authority::new().unwrap();
        for n in 0..MOST + 10 {
            own.server(&format!("{n}.example")).unwrap();
        }
        assert!(own.servers.lock().unwrap().len() <= MOST);
    }

    proptest! {
        #[test]
        fn no_name_is_too_strange(name in "[a-zA-Z0-9._:\\[\\]-]{1,80}") {
            let own = Authority::new().unwrap();
            prop_assert!(own.server(&name).is_ok(), "{name}");
        }
    }
}
