//! From a snapshot to a stream.

use std::io::{Read, Write};
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{BackupError, END, FILES, FORMAT, HEAD, Snapshot};

/// What an archive says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    /// [`FORMAT`]
    pub format: u32,
    /// The version of the program that made it.
    pub made_by: String,
    /// When, in seconds since 1970.
    pub made_at: u64,
}

/// What an archive says at its end.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    /// How many files are in it.
    pub files: u64,
    /// SHA-256 over path, length and SHA-256 of each file, in their order.
    pub digest: String,
}

/// The digest of an archive, while it is written or read.
#[derive(Default)]
pub(crate) struct Tally {
    files: u64,
    digest: Sha256,
}

impl Tally {
    pub fn add(&mut self, path: &[u8], len: u64, content: &[u8]) {
        self.files += 1;
        self.digest.update((path.len() as u64).to_le_bytes());
        self.digest.update(path);
        self.digest.update(len.to_le_bytes());
        self.digest.update(content);
    }

    pub fn end(self) -> End {
        End { files: self.files, digest: hex::encode(self.digest.finalize()) }
    }
}

/// Reads through, keeping the length and the digest of what passes.
pub(crate) struct Measured<R> {
    pub inner: R,
    pub len: u64,
    pub digest: Sha256,
}

impl<R> Measured<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, len: 0, digest: Sha256::new() }
    }
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.len += read as u64;
        self.digest.update(&buffer[..read]);
        Ok(read)
    }
}

impl Snapshot {
    /// Writes the archive: a tar stream. `made_by` is the program's version. Returns how many files it holds. Blocking.
    pub fn write(self, out: impl Write, made_by: &str) -> Result<u64, BackupError> {
        let cannot = |source| BackupError::Io { what: "cannot write the archive".into(), source };
        let made_at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut tar = tar::Builder::new(out);
        let head = Head { format: FORMAT, made_by: made_by.to_owned(), made_at };
        json_entry(&mut tar, HEAD, made_at, &head).map_err(cannot)?;
        let mut tally = Tally::default();
        self.each(&mut |entry| {
            let path = entry.path.clone();
            let at = entry.content()?;
            let content = std::fs::File::open(&at).map_err(BackupError::io("cannot read", &at))?;
            let len = content.metadata().map_err(BackupError::io("cannot read", &at))?.len();
            let mut content = Measured::new(content);
            let mut header = header(len, made_at);
            tar.append_data(&mut header, Path::new(FILES).join(&path), &mut content).map_err(cannot)?;
            tally.add(path.as_os_str().as_encoded_bytes(), content.len, &content.digest.finalize());
            Ok(())
        })?;
        let end = tally.end();
        json_entry(&mut tar, END, made_at, &end).map_err(cannot)?;
        tar.into_inner().and_then(|mut out| out.flush()).map_err(cannot)?;
        Ok(end.files)
    }
}

fn header(len: u64, made_at: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(len);
    header.set_mode(0o600);
    header.set_mtime(made_at);
    header
}

fn json_entry(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    made_at: u64,
    value: &impl Serialize,
) -> std::io::Result<()> {
    let text = serde_json::to_vec(value)?;
    tar.append_data(&mut header(text.len() as u64, made_at), name, text.as_slice())
}
