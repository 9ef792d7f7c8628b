//! Pieces of content, known by their hash.

use serde::{Deserialize, Serialize};

use super::seal::Key;
use crate::{BackupError, Kind};

/// The size of chunks of files that change in places: a change is stored with what is around it.
const SMALL: usize = 128 << 10;
/// The size of all other chunks.
const LARGE: usize = 4 << 20;
/// The longest chunk that is read, in bytes.
const MOST: u32 = LARGE as u32;
/// zstd's default.
const LEVEL: i32 = 3;

/// BLAKE3 of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Hash([u8; 32]);

/// Where a chunk is: the number of its pack in the manifest, where it begins there, its length there, its own length, and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u32, u32, u32, Hash)", into = "(u32, u32, u32, u32, Hash)")]
pub(super) struct Chunk {
    pub pack: u32,
    pub at: u32,
    pub stored: u32,
    pub len: u32,
    pub hash: Hash,
}

/// How long the chunks of such a file are, in bytes.
pub(super) fn size(kind: Kind) -> usize {
    match kind {
        Kind::Database | Kind::Guarded => SMALL,
        Kind::Immutable | Kind::LeftOut => LARGE,
    }
}

/// What is stored of a chunk: compressed, and sealed if there is a key.
pub(super) fn pack(hash: Hash, content: &[u8], key: Option<&Key>) -> Result<Vec<u8>, BackupError> {
    let failed = |source| BackupError::Io { what: "cannot compress".into(), source };
    let packed = zstd::bulk::compress(content, LEVEL).map_err(failed)?;
    match key {
        Some(key) => key.seal(&hash.0, packed),
        None => Ok(packed),
    }
}

impl Chunk {
    /// The content, from what is stored of it; an error if it is not what was written.
    pub fn unpack(&self, stored: &[u8], key: Option<&Key>) -> Result<Vec<u8>, BackupError> {
        let damaged = |what: &str| BackupError::Damaged(format!("a piece of it {what}"));
        if self.len > MOST {
            return Err(damaged("is too long"));
        }
        let opened;
        let packed = match key {
            Some(key) => {
                opened = key.open(&self.hash.0, stored).ok_or_else(|| damaged("is not what was written"))?;
                &opened
            }
            None => stored,
        };
        let content = zstd::bulk::decompress(packed, self.len as usize);
        let content = content.map_err(|e| damaged(&format!("cannot be read: {e}")))?;
        match content.len() == self.len as usize && Hash::of(&content) == self.hash {
            true => Ok(content),
            false => Err(damaged("is not what was written")),
        }
    }
}

impl Hash {
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }
}

impl TryFrom<String> for Hash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&text, &mut hash).map_err(|e| format!("{text} is no hash: {e}"))?;
        Ok(Self(hash))
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hex::encode(hash.0)
    }
}

impl From<(u32, u32, u32, u32, Hash)> for Chunk {
    fn from((pack, at, stored, len, hash): (u32, u32, u32, u32, Hash)) -> Self {
        Self { pack, at, stored, len, hash }
    }
}

impl From<Chunk> for (u32, u32, u32, u32, Hash) {
    fn from(chunk: Chunk) -> Self {
        (chunk.pack, chunk.at, chunk.stored, chunk.len, chunk.hash)
    }
}
