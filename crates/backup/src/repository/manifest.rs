//! Which chunks the files of a backup are: lines of JSON, compressed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::chunk::Chunk;
use super::{FORMAT, made_at};
use crate::BackupError;
use crate::stamp::Stamp;

/// The longest line, in bytes: a file of a terabyte has a quarter of a million large chunks of 100 bytes each.
const LINE: u64 = 64 << 20;

/// The packs that a backup needs, by name: [`Need`].
pub(super) type Needs = BTreeMap<String, Need>;

/// A pack that is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Need {
    /// How long it is, in bytes.
    pub size: u64,
    /// How much of it is needed, in bytes.
    pub used: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Head(Head),
    Pack(Pack),
    File(File),
    End(End),
}

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Head {
    format: u32,
    /// The backup's name.
    pub id: String,
    /// The version of the program that made it.
    pub made_by: String,
}

/// The name of the pack with a number, and its length in bytes.
#[derive(Serialize, Deserialize)]
struct Pack {
    number: u32,
    name: String,
    size: u64,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct File {
    /// Below the root.
    pub path: String,
    /// In bytes.
    pub len: u64,
    /// How it looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
    /// What it is, in order.
    pub chunks: Vec<Chunk>,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
struct End {
    /// How many there are.
    files: u64,
    /// SHA-256 of all lines before.
    digest: String,
}

/// Writes a manifest.
pub(super) struct Writer {
    out: zstd::stream::write::Encoder<'static, Vec<u8>>,
    digest: Sha256,
    files: u64,
}

impl Writer {
    pub fn new(id: &str, made_by: &str) -> std::io::Result<Self> {
        let out = zstd::stream::write::Encoder::new(Vec::new(), 3)?;
        let mut this = Self { out, digest: Sha256::new(), files: 0 };
        let head = Head { format: FORMAT, id: id.to_owned(), made_by: made_by.to_owned() };
        this.line(&Line::Head(head))?;
        Ok(this)
    }

    pub fn pack(&mut self, number: u32, name: String, size: u64) -> std::io::Result<()> {
        self.line(&Line::Pack(Pack { number, name, size }))
    }

    pub fn file(&mut self, file: File) -> std::io::Result<()> {
        self.files += 1;
        self.line(&Line::File(file))
    }

    /// The manifest, and how many files are in it.
    pub fn end(mut self) -> std::io::Result<(Vec<u8>, u64)> {
        let end = End { files: self.files, digest: hex::encode(self.digest.clone().finalize()) };
        self.line(&Line::End(end))?;
        Ok((self.out.finish()?, self.files))
    }

    fn line(&mut self, line: &Line) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.digest.update(&text);
        self.out.write_all(&text)
    }
}

/// A manifest that was read.
pub(super) struct Manifest {
    pub head: Head,
    /// By number: name and length in bytes.
    pub packs: BTreeMap<u32, (String, u64)>,
    pub files: Vec<File>,
}

impl Manifest {
    /// Reads one, whole and as it was written.
    pub fn read(content: &[u8]) -> Result<Self, BackupError> {
        let damaged = |what: String| BackupError::Damaged(format!("its manifest: {what}"));
        let unpacked = zstd::stream::read::Decoder::new(content).map_err(|e| damaged(e.to_string()))?;
        let mut unpacked = BufReader::new(unpacked);
        let (mut head, mut packs, mut files) = (None, BTreeMap::new(), Vec::new());
        let (mut digest, mut text) = (Sha256::new(), Vec::new());
        loop {
            text.clear();
            let read = std::io::Read::take(&mut unpacked, LINE).read_until(b'\n', &mut text);
            read.map_err(|e| damaged(e.to_string()))?;
            match serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))? {
                Line::Head(found) if found.format > FORMAT => {
                    return Err(BackupError::TooNew { found: found.format, known: FORMAT });
                }
                Line::Head(found) => head = Some(found),
                Line::Pack(pack) => drop(packs.insert(pack.number, (pack.name, pack.size))),
                Line::File(file) => files.push(file),
                Line::End(end) => {
                    let whole =
                        end.files == files.len() as u64 && end.digest == hex::encode(digest.finalize());
                    let head = head.filter(|head| whole && made_at(&head.id).is_some());
                    let head = head.ok_or_else(|| damaged("it is not what was written".into()))?;
                    return Ok(Self { head, packs, files });
                }
            }
            digest.update(&text);
        }
    }

    /// The packs that it needs.
    pub fn needs(&self) -> Needs {
        let mut seen = std::collections::HashSet::new();
        let mut needs = Needs::new();
        for chunk in self.files.iter().flat_map(|file| &file.chunks) {
            if let Some((name, size)) = self.packs.get(&chunk.pack) {
                let need = needs.entry(name.clone()).or_default();
                need.size = *size;
                if seen.insert((chunk.pack, chunk.at)) {
                    need.used += u64::from(chunk.stored);
                }
            }
        }
        needs
    }
}
