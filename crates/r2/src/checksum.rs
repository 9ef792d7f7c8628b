//! Digests of what arrives: MD5 for the etag and whichever the caller gave to be compared.

use std::collections::BTreeMap;

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::R2Error;

/// A digest algorithm, with its number in the engine's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Algorithm {
    /// 16 bytes.
    Md5 = 0,
    /// 20 bytes.
    Sha1 = 1,
    /// 32 bytes.
    Sha256 = 2,
    /// 48 bytes.
    Sha384 = 3,
    /// 64 bytes.
    Sha512 = 4,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// The digest that the caller says the content has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    algorithm: Algorithm,
    digest: Vec<u8>,
}

impl Expected {
    /// A digest; an error if it has not the algorithm's length.
    pub fn new(algorithm: Algorithm, digest: Vec<u8>) -> Result<Self, R2Error> {
        if digest.len() != algorithm.len() {
            let (name, len, bytes) = (algorithm.name(), algorithm.len(), digest.len());
            return Err(R2Error::invalid_argument(format!("{name} is {len} bytes, not {bytes}")));
        }
        Ok(Self { algorithm, digest })
    }
}

enum Other {
    Sha1(Sha1),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

/// Takes the content as it passes.
pub(crate) struct Hasher {
    md5: Md5,
    other: Option<Other>,
    expected: Option<Expected>,
}

impl Hasher {
    pub fn new(expected: Option<Expected>) -> Self {
        let other = expected.as_ref().and_then(|e| match e.algorithm {
            Algorithm::Md5 => None,
            Algorithm::Sha1 => Some(Other::Sha1(Sha1::new())),
            Algorithm::Sha256 => Some(Other::Sha256(Sha256::new())),
            Algorithm::Sha384 => Some(Other::Sha384(Sha384::new())),
            Algorithm::Sha512 => Some(Other::Sha512(Sha512::new())),
        });
        Self { md5: Md5::new(), other, expected }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        match &mut self.other {
            None => {}
            Some(Other::Sha1(h)) => h.update(bytes),
            Some(Other::Sha256(h)) => h.update(bytes),
            Some(Other::Sha384(h)) => h.update(bytes),
            Some(Other::Sha512(h)) => h.update(bytes),
        }
    }

    /// The MD5, and the digests to keep; an error if the caller's is not that of the content.
    pub fn finish(self) -> Result<([u8; 16], BTreeMap<u8, String>), R2Error> {
        let md5: [u8; 16] = self.md5.finalize().into();
        let mut kept = BTreeMap::from([(Algorithm::Md5 as u8, hex::encode(md5))]);
        if let Some(expected) = self.expected {
            let computed = match self.other {
                None => md5.to_vec(),
                Some(Other::Sha1(h)) => h.finalize().to_vec(),
                Some(Other::Sha256(h)) => h.finalize().to_vec(),
                Some(Other::Sha384(h)) => h.finalize().to_vec(),
                Some(Other::Sha512(h)) => h.finalize().to_vec(),
            };
            if computed != expected.digest {
                return Err(R2Error::bad_digest(expected.algorithm.name(), &expected.digest, &computed));
            }
            kept.insert(expected.algorithm as u8, hex::encode(computed));
        }
        Ok((md5, kept))
    }
}
