//! Secrets at rest: AES-256-GCM with a key that is kept apart from the catalog.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Why a secret cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key's file.
    #[error("cannot use the key file {path}: {reason}")]
    KeyFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Sealed by another key, or altered.
    #[error("a secret was sealed with another key, or altered")]
    Unreadable,
    /// The machine has no randomness.
    #[error("no randomness: {0}")]
    Random(String),
}

/// Seals and opens values with the keys of a file: one per line, 64 hexadecimal digits, the newest first. New
/// values are sealed with the first; all open.
pub struct Sealer {
    path: PathBuf,
    keys: RwLock<Vec<Aes256Gcm>>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("keys", &self.keys().len()).finish()
    }
}

const VERSION: u8 = 1;
const NONCE: usize = 12;

impl Sealer {
    /// Reads the key file, or makes it with a fresh key, readable by its owner alone.
    pub fn open(path: &Path) -> Result<Self, SealError> {
        let unusable = |reason: String| SealError::KeyFile { path: path.display().to_string(), reason };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let text = format!("{}\n", hex::encode(random::<32>()?));
                let made = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path);
                made.and_then(|mut file| {
                    file.write_all(text.as_bytes())?;
                    file.sync_all()
                })
                .map_err(|e| unusable(e.to_string()))?;
                text
            }
            Err(error) => return Err(unusable(error.to_string())),
        };
        let keys: Option<Vec<Aes256Gcm>> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| Aes256Gcm::new_from_slice(&hex::decode(line.trim()).ok()?).ok())
            .collect();
        match keys {
            Some(keys) if !keys.is_empty() => Ok(Self { path: path.to_owned(), keys: RwLock::new(keys) }),
            _ => Err(unusable("expected lines of 64 hexadecimal digits".into())),
        }
    }

    fn keys(&self) -> RwLockReadGuard<'_, Vec<Aes256Gcm>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a fresh key before those of the file. From here on it seals; the others still open.
    pub fn add_key(&self) -> Result<(), SealError> {
        let key = random::<32>()?;
        let cipher = Aes256Gcm::new_from_slice(&key).map_err(|_| SealError::Unreadable)?;
        let before = std::fs::read_to_string(&self.path).map_err(|e| self.unusable(&e))?;
        self.write(&format!("{}\n{before}", hex::encode(key)))?;
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(0, cipher);
        Ok(())
    }

    /// Removes all keys but the newest from the file. Until it is read again, the others still open.
    pub fn retire_keys(&self) -> Result<(), SealError> {
        let text = std::fs::read_to_string(&self.path).map_err(|e| self.unusable(&e))?;
        let first = text.lines().map(str::trim).find(|line| !line.is_empty()).ok_or(SealError::Unreadable)?;
        self.write(&format!("{first}\n"))
    }

    /// A sealed value under the newest key; `None` if that is what it is sealed with.
    pub fn reseal(&self, sealed: &str, context: &str) -> Result<Option<String>, SealError> {
        let newest: Vec<Aes256Gcm> = self.keys().first().cloned().into_iter().collect();
        if open_with(&newest, sealed, context).is_ok() {
            return Ok(None);
        }
        let value = self.open_sealed(sealed, context)?;
        self.seal(&value, context).map(Some)
    }

    fn unusable(&self, reason: &dyn std::fmt::Display) -> SealError {
        SealError::KeyFile { path: self.path.display().to_string(), reason: reason.to_string() }
    }

    /// Replaces the file: the old one or the new one is there, whole.
    fn write(&self, text: &str) -> Result<(), SealError> {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let write = || -> std::io::Result<()> {
            let _ = std::fs::remove_file(&name);
            let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&name)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&name, &self.path)?;
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|e| self.unusable(&e))
    }

    /// Seals `value` for the place `context`: moved elsewhere it does not open.
    pub fn seal(&self, value: &[u8], context: &str) -> Result<String, SealError> {
        let nonce = random::<NONCE>()?;
        let payload = Payload { msg: value, aad: context.as_bytes() };
        let key = self.keys().first().cloned().ok_or(SealError::Unreadable)?;
        let sealed = key.encrypt(Nonce::from_slice(&nonce), payload).map_err(|_| SealError::Unreadable)?;
        let mut bytes = vec![VERSION];
        bytes.extend(nonce);
        bytes.extend(sealed);
        Ok(STANDARD.encode(bytes))
    }

    /// Opens what [`Sealer::seal`] made for the same place.
    pub fn open_sealed(&self, sealed: &str, context: &str) -> Result<Vec<u8>, SealError> {
        open_with(&self.keys(), sealed, context)
    }
}

fn open_with(keys: &[Aes256Gcm], sealed: &str, context: &str) -> Result<Vec<u8>, SealError> {
    let bytes = STANDARD.decode(sealed).map_err(|_| SealError::Unreadable)?;
    let (Some(&VERSION), Some(nonce), Some(body)) =
        (bytes.first(), bytes.get(1..1 + NONCE), bytes.get(1 + NONCE..))
    else {
        return Err(SealError::Unreadable);
    };
    let payload = || Payload { msg: body, aad: context.as_bytes() };
    let opened = keys.iter().find_map(|key| key.decrypt(Nonce::from_slice(nonce), payload()).ok());
    opened.ok_or(SealError::Unreadable)
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], SealError> {
    use std::io::Read;
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|e| SealError::Random(e.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_in_its_place_with_its_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let sealer = Sealer::open(&path).unwrap();
        let sealed = sealer.seal(b"hush", "a/B").unwrap();
        assert!(!sealed.contains("hush"));
        assert_ne!(sealed, sealer.seal(b"hush", "a/B").unwrap());
        let again = Sealer::open(&path).unwrap();
        assert_eq!(again.open_sealed(&sealed, "a/B").unwrap(), b"hush");
        assert!(again.open_sealed(&sealed, "a/C").is_err());
        let other = Sealer::open(&dir.path().join("other")).unwrap();
        assert!(other.open_sealed(&sealed, "a/B").is_err());
    }

    #[test]
    fn an_old_key_still_opens_after_a_new_one_was_put_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let sealed = Sealer::open(&path).unwrap().seal(b"hush", "").unwrap();
        let old = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{}\n{old}", "0".repeat(64))).unwrap();
        assert_eq!(Sealer::open(&path).unwrap().open_sealed(&sealed, "").unwrap(), b"hush");
    }

    #[test]
    fn a_key_is_replaced_in_two_steps_and_what_is_sealed_opens_after_each() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let sealer = Sealer::open(&path).unwrap();
        let sealed = sealer.seal(b"hush", "a").unwrap();
        assert_eq!(sealer.reseal(&sealed, "a").unwrap(), None, "there is nothing newer");
        sealer.add_key().unwrap();
        assert_eq!(Sealer::open(&path).unwrap().open_sealed(&sealed, "a").unwrap(), b"hush");
        let again = sealer.reseal(&sealed, "a").unwrap().unwrap();
        assert_eq!(sealer.reseal(&again, "a").unwrap(), None);
        assert!(sealer.reseal(&sealed, "b").is_err());
        sealer.retire_keys().unwrap();
        let later = Sealer::open(&path).unwrap();
        assert_eq!(later.open_sealed(&again, "a").unwrap(), b"hush");
        assert!(later.open_sealed(&sealed, "a").is_err(), "the old key is gone");
    }

    #[test]
    fn the_key_is_for_its_owner_alone_and_a_broken_one_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        Sealer::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "nonsense").unwrap();
        assert!(Sealer::open(&path).unwrap_err().to_string().contains("key"));
    }
}
