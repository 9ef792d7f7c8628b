//! A certificate with its key, checked.

use std::sync::Arc;

use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::ring::sign;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::name::HostName;
use crate::validity::validity;

/// What a TLS listener shows for a name, and until when it may.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub pair: Arc<CertifiedKey>,
    pub times: Times,
}

/// When it is valid, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub from: u64,
    pub until: u64,
}

impl Times {
    /// When a third of its life is left.
    pub fn renew_at(self) -> u64 {
        self.until - (self.until - self.from) / 3
    }
}

impl Certificate {
    /// Reads a chain and its key (PEM), which have to belong together and to `name`.
    pub fn read(name: &HostName, chain: &str, key: &str) -> Result<Self, String> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| format!("the chain is not PEM: {e}"))?;
        let first = chain.first().ok_or("the chain is empty")?;
        let parsed = ParsedCertificate::try_from(first).map_err(|e| format!("it cannot be read: {e}"))?;
        let server = ServerName::try_from(name.as_str()).map_err(|e| e.to_string())?;
        verify_server_name(&parsed, &server).map_err(|_| format!("it is not for {name}"))?;
        let (from, until) = validity(first).ok_or("its dates cannot be read")?;
        let key =
            PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| format!("its key is not PEM: {e}"))?;
        let key = sign::any_supported_type(&key).map_err(|e| format!("its key cannot be used: {e}"))?;
        let pair = CertifiedKey::new(chain, key);
        pair.keys_match().map_err(|_| "its key is another one".to_owned())?;
        Ok(Self { pair: Arc::new(pair), times: Times { from, until } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_belongs_to_its_name_and_its_key() {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let read = |name: &str, chain: &str, key: &str| {
            Certificate::read(&HostName::parse(name).unwrap(), chain, key).map(|c| c.times)
        };
        assert!(read("a.example", &chain, &key).unwrap().until > 0);
        assert_eq!(read("b.example", &chain, &key).unwrap_err(), "it is not for b.example");
        assert_eq!(read("a.example", &chain, &other).unwrap_err(), "its key is another one");
        assert_eq!(read("a.example", "", &key).unwrap_err(), "the chain is empty");
        assert_eq!(Times { from: 1000, until: 4000 }.renew_at(), 3000);
    }
}
