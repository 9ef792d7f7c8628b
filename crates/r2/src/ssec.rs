//! Encryption with a key that only the caller has (SSE-C).
//!
//! A content is a random salt of 16 bytes, then pieces of 64 KiB, each sealed with AES-256-GCM under a key made of
//! the caller's key and the salt (BLAKE3's keyed hash), the piece's number as nonce and its tag behind it. A key
//! so made serves one content only, so no nonce repeats; pieces of equal size let a range start anywhere.

use std::fmt;
use std::ops::Range;

use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use bytes::{Bytes, BytesMut};
use md5::{Digest, Md5};

use crate::R2Error;
use crate::model::SsecInfo;

const SALT: u64 = 16;
const TAG: u64 = 16;
/// Plain bytes of a sealed piece.
const PIECE: u64 = 64 * 1024;

/// An AES-256 key that the caller keeps. Never stored and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SsecKey([u8; 32]);

impl fmt::Debug for SsecKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SsecKey")
    }
}

impl SsecKey {
    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, R2Error> {
        let mut key = [0; 32];
        match hex::decode_to_slice(text, &mut key) {
            Ok(()) => Ok(Self(key)),
            Err(_) => Err(R2Error::invalid_argument("SSE-C key must be 32 bytes long.")),
        }
    }

    /// The hex MD5 of the key's bytes.
    pub fn md5(&self) -> String {
        hex::encode(Md5::digest(self.0))
    }

    pub(crate) fn info(&self) -> SsecInfo {
        SsecInfo { algorithm: "AES256".into(), key_md5: self.md5() }
    }
}

/// Compares the key that came with a call with the one that the object or upload was made with.
pub(crate) fn check(stored: Option<&SsecInfo>, given: Option<&SsecKey>) -> Result<(), R2Error> {
    match (stored, given) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(R2Error::ssec_not_encrypted()),
        (Some(_), None) => Err(R2Error::ssec_key_missing()),
        (Some(stored), Some(given)) if stored.key_md5 == given.md5() => Ok(()),
        (Some(_), Some(_)) => Err(R2Error::ssec_key_wrong()),
    }
}

fn cipher(key: &SsecKey, salt: &[u8]) -> Aes256Gcm {
    Aes256Gcm::new(blake3::keyed_hash(&key.0, salt).as_bytes().into())
}

fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    nonce
}

/// Seals one content as it passes.
pub(crate) struct Sealer {
    cipher: Aes256Gcm,
    salt: Option<Bytes>,
    pending: BytesMut,
    number: u64,
}

impl Sealer {
    pub fn new(key: &SsecKey) -> Self {
        let salt = uuid::Uuid::new_v4().into_bytes();
        let salt_bytes = Bytes::copy_from_slice(&salt);
        Self { cipher: cipher(key, &salt), salt: Some(salt_bytes), pending: BytesMut::new(), number: 0 }
    }

    /// What can be written once `plain` has come.
    pub fn push(&mut self, plain: &[u8]) -> Result<Vec<Bytes>, R2Error> {
        let mut out: Vec<Bytes> = self.salt.take().into_iter().collect();
        self.pending.extend_from_slice(plain);
        while self.pending.len() as u64 > PIECE {
            let piece = self.pending.split_to(PIECE as usize);
            out.push(self.seal(&piece)?);
        }
        Ok(out)
    }

    /// What remains to be written at the end.
    pub fn finish(mut self) -> Result<Vec<Bytes>, R2Error> {
        let mut out = self.push(&[])?;
        if !self.pending.is_empty() {
            let piece = std::mem::take(&mut self.pending);
            out.push(self.seal(&piece)?);
        }
        Ok(out)
    }

    fn seal(&mut self, piece: &[u8]) -> Result<Bytes, R2Error> {
        let nonce = nonce(self.number);
        self.number += 1;
        let sealed = self.cipher.encrypt(Nonce::from_slice(&nonce), piece);
        sealed.map(Bytes::from).map_err(|_| R2Error::internal())
    }
}

/// Opens the pieces of one content.
pub(crate) struct Opener {
    cipher: Aes256Gcm,
    size: u64,
}

impl Opener {
    /// `size` is that of the plain content; `salt` its first [`Opener::SALT`] stored bytes.
    pub fn new(key: &SsecKey, salt: &[u8], size: u64) -> Self {
        Self { cipher: cipher(key, salt), size }
    }

    /// Bytes of salt at the start of a stored content.
    pub const SALT: u64 = SALT;

    /// The plain and the stored bytes of the piece that holds plain byte `offset`.
    pub fn piece(&self, offset: u64) -> (Range<u64>, Range<u64>) {
        let number = offset / PIECE;
        let start = number * PIECE;
        let plain = start..(start + PIECE).min(self.size);
        let stored = SALT + number * (PIECE + TAG);
        let len = plain.end - plain.start + TAG;
        (plain, stored..stored + len)
    }

    /// Opens the stored piece that holds plain byte `offset`; `None` if it was altered.
    pub fn open(&self, offset: u64, stored: &[u8]) -> Option<Vec<u8>> {
        self.cipher.decrypt(Nonce::from_slice(&nonce(offset / PIECE)), stored).ok()
    }
}
