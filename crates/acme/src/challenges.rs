//! What the node answers while an authority looks whether a name leads to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use tokio_rustls::rustls::crypto::ring::sign;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::name::HostName;

/// Where HTTP-01 looks (RFC 8555 §8.3).
pub const WELL_KNOWN: &str = "/.well-known/acme-challenge/";
/// The protocol that TLS-ALPN-01 asks for in the handshake, and nothing else does (RFC 8737 §3).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// The challenges that are open. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Challenges(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    /// Answers by token.
    http: HashMap<String, String>,
    tls: HashMap<HostName, Arc<CertifiedKey>>,
}

impl Challenges {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is at a path, if a challenge is.
    pub fn answer(&self, path: &str) -> Option<String> {
        self.open().http.get(path.strip_prefix(WELL_KNOWN)?).cloned()
    }

    /// What is shown for `name` in a handshake that asks for [`ACME_TLS`] alone.
    pub fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.open().tls.get(name.to_ascii_lowercase().as_str()).cloned()
    }

    /// Answers an HTTP-01 challenge until the result is dropped.
    pub(crate) fn over_http(&self, token: &str, answer: &str) -> Published {
        self.open().http.insert(token.to_owned(), answer.to_owned());
        Published { challenges: self.clone(), what: What::Token(token.to_owned()) }
    }

    /// Answers a TLS-ALPN-01 challenge until the result is dropped.
    pub(crate) fn over_tls(&self, name: &HostName, digest: &[u8]) -> Result<Published, String> {
        let made = proof(name, digest)?;
        self.open().tls.insert(name.clone(), Arc::new(made));
        Ok(Published { challenges: self.clone(), what: What::Name(name.clone()) })
    }
}

/// RFC 8737 §3: for the name alone, by nobody, with the digest in a critical extension.
fn proof(name: &HostName, digest: &[u8]) -> Result<CertifiedKey, String> {
    if digest.len() != 32 {
        return Err("a digest has 32 bytes".into());
    }
    let mut params = CertificateParams::new(vec![name.to_string()]).map_err(|e| e.to_string())?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let pair = KeyPair::generate().map_err(|e| e.to_string())?;
    let made = params.self_signed(&pair).map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::try_from(pair.serialize_der()).map_err(|e| e.to_owned())?;
    let key = sign::any_ecdsa_type(&key).map_err(|e| e.to_string())?;
    Ok(CertifiedKey::new(vec![made.der().clone()], key))
}

/// A challenge that is answered; dropped, it is not any more.
#[derive(Debug)]
pub(crate) struct Published {
    challenges: Challenges,
    what: What,
}

#[derive(Debug)]
enum What {
    Token(String),
    Name(HostName),
}

impl Drop for Published {
    fn drop(&mut self) {
        let mut open = self.challenges.open();
        match &self.what {
            What::Token(token) => drop(open.http.remove(token)),
            What::Name(name) => drop(open.tls.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_answered_while_it_is_open() {
        let (challenges, name) = (Challenges::default(), HostName::parse("a.example").unwrap());
        let over_http = challenges.over_http("token", "token.thumb");
        let over_tls = challenges.over_tls(&name, &[7; 32]).unwrap();
        let path = "/.well-known/acme-challenge/token";
        assert_eq!(challenges.answer(path).as_deref(), Some("token.thumb"));
        assert_eq!(challenges.answer("/.well-known/acme-challenge/other"), None);
        assert_eq!(challenges.answer("/token"), None);
        assert!(
            challenges.certificate("A.example").is_some() && challenges.certificate("b.example").is_none()
        );
        assert!(challenges.over_tls(&name, &[7; 31]).is_err());
        drop((over_http, over_tls));
        assert!(challenges.answer(path).is_none() && challenges.certificate("a.example").is_none());
    }
}
