//! Backups that their place cannot read: AES-256-GCM, with a key that is kept elsewhere.

use std::path::Path;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::BackupError;

/// What the key of a file is made into, so that it is used for nothing else.
const PURPOSE: &[&[u8]] = &[b"skep backups, format 1"];

/// The key of the backups in a place.
pub struct Key {
    aead: LessSafeKey,
    random: SystemRandom,
}

impl Key {
    /// The key in a file: the first line, 64 hexadecimal digits.
    pub fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file)
            .map_err(|e| format!("cannot read the key of backups in {}: {e}", file.display()))?;
        let line = text.lines().next().unwrap_or_default().trim();
        let mut bytes = [0; 32];
        match hex::decode_to_slice(line, &mut bytes) {
            Ok(()) => Self::new(&bytes).map_err(|e| format!("{}: {e}", file.display())),
            Err(_) => Err(format!(
                "{} is no key of backups: its first line has to be 64 hexadecimal digits, as `openssl rand -hex 32` makes them",
                file.display()
            )),
        }
    }

    pub(super) fn new(bytes: &[u8; 32]) -> Result<Self, ring::error::Unspecified> {
        let derived = Salt::new(HKDF_SHA256, &[]).extract(bytes);
        let key: UnboundKey = derived.expand(PURPOSE, &AES_256_GCM)?.into();
        Ok(Self { aead: LessSafeKey::new(key), random: SystemRandom::new() })
    }

    /// Seals `content` for the place `context`: moved elsewhere it does not open. A nonce, what is sealed, and a tag.
    pub(super) fn seal(&self, context: &[u8], mut content: Vec<u8>) -> Result<Vec<u8>, BackupError> {
        let failed = |_| BackupError::Io {
            what: "cannot encrypt".into(),
            source: std::io::Error::other("no randomness, or too much content"),
        };
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(failed)?;
        let once = Nonce::assume_unique_for_key(nonce);
        self.aead.seal_in_place_append_tag(once, Aad::from(context), &mut content).map_err(failed)?;
        Ok([nonce.as_slice(), &content].concat())
    }

    /// What was sealed for `context`; `None` if it is not that, or another key's.
    pub(super) fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, content) = sealed.split_at_checked(NONCE_LEN)?;
        let (once, mut content) = (Nonce::try_assume_unique_for_key(nonce).ok()?, content.to_vec());
        let len = self.aead.open_in_place(once, Aad::from(context), &mut content).ok()?.len();
        content.truncate(len);
        Some(content)
    }
}
