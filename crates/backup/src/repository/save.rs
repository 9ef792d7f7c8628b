//! From a snapshot to a place.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chunk::{self, Chunk, Hash};
use super::manifest::{File, Manifest, Need, Needs, Writer};
use super::offer::Offer;
use super::pack::{FULL, Outbox, Sender};
use super::seal::Key;
use super::{BACKUPS, NEEDS, PACKS, Repository, name};
use crate::snapshot::Entry;
use crate::{BackupError, Snapshot};

/// A backup that is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Its name.
    pub id: String,
    /// How many files it holds.
    pub files: u64,
    /// Their lengths together, in bytes.
    pub size: u64,
    /// What had to be stored for it, in bytes.
    pub stored: u64,
}

/// A backup that can begin: its place answers, and what is there is known.
pub struct Begun<'a> {
    repository: &'a Repository,
    id: String,
    made_by: String,
    offer: Offer,
}

impl Repository {
    /// Begins a backup of `owner` at `now`, in seconds since 1970; `made_by` is the program's version. One at a time for an owner. A snapshot
    /// is best taken after this.
    pub fn begin(&self, owner: &str, made_by: &str, now: u64) -> Result<Begun<'_>, BackupError> {
        self.claim(owner)?;
        let last = self.backups()?.pop();
        let mut begun = Begun {
            repository: self,
            id: name(now.max(last.as_ref().map_or(0, |last| last.made_at + 1))),
            made_by: made_by.to_owned(),
            offer: Offer::default(),
        };
        if let Some(last) = last {
            let there = self.place.list(PACKS).map_err(|e| self.failed(e))?;
            let there: HashMap<String, u64> = there.into_iter().map(|pack| (pack.key, pack.size)).collect();
            match self.manifest(&last.id) {
                Ok(manifest) => begun.offer = Offer::of(manifest, &there),
                // Then everything is stored once more; what cannot be read must not keep backups from being made.
                Err(error @ (BackupError::Damaged(_) | BackupError::Unknown(..))) => {
                    tracing::warn!(backup = last.id, %error, "the last backup cannot be gone on from");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(begun)
    }

    /// The manifest of a backup.
    pub(super) fn manifest(&self, id: &str) -> Result<Manifest, BackupError> {
        let content = self.get(&format!("{BACKUPS}{id}"))?;
        let content = content.ok_or_else(|| BackupError::Unknown(id.to_owned(), self.place.shown()))?;
        Manifest::read(&content)
    }
}

impl Begun<'_> {
    /// Stores a snapshot. It is in the list of backups when all of it is stored.
    pub fn save(self, snapshot: Snapshot) -> Result<Saved, BackupError> {
        let Self { repository, id, made_by, offer } = self;
        let written = Outbox::run(repository, |sender| {
            let mut saving = Saving::new(repository, &id, &made_by, &offer, sender)?;
            snapshot.each(&mut |entry| saving.entry(entry))?;
            saving.end()
        });
        let Written { manifest, needs, files, size, mut stored } = written?;
        let needs = serde_json::to_vec(&needs).map_err(|e| BackupError::Damaged(e.to_string()))?;
        stored += repository.put(&format!("{BACKUPS}{id}{NEEDS}"), needs)?;
        stored += repository.put(&format!("{BACKUPS}{id}"), manifest)?;
        Ok(Saved { id, files, size, stored })
    }
}

struct Written {
    manifest: Vec<u8>,
    needs: Needs,
    files: u64,
    size: u64,
    stored: u64,
}

/// A backup under way.
struct Saving<'a> {
    key: Option<&'a Key>,
    id: &'a str,
    offer: &'a Offer,
    sender: Sender<'a>,
    manifest: Writer,
    needs: Needs,
    /// Numbers of the packs, by their numbers in the offer.
    numbers: HashMap<u32, u32>,
    /// Chunks that this backup has stored or goes on to use, under this manifest's numbers.
    known: HashMap<Hash, Chunk>,
    /// The pack that is being filled, and its number.
    open: Option<(u32, Vec<u8>)>,
    packs: u32,
    size: u64,
    stored: u64,
}

fn cannot(source: std::io::Error) -> BackupError {
    BackupError::Io { what: "cannot pack".into(), source }
}

impl<'a> Saving<'a> {
    fn new(
        repository: &'a Repository,
        id: &'a str,
        made_by: &str,
        offer: &'a Offer,
        sender: Sender<'a>,
    ) -> Result<Self, BackupError> {
        let manifest = Writer::new(id, made_by).map_err(cannot)?;
        Ok(Self {
            key: repository.key.as_ref(),
            id,
            offer,
            sender,
            manifest,
            needs: Needs::new(),
            numbers: HashMap::new(),
            known: HashMap::new(),
            open: None,
            packs: 0,
            size: 0,
            stored: 0,
        })
    }

    fn entry(&mut self, entry: Entry<'_>) -> Result<(), BackupError> {
        let path = entry.path.to_str().ok_or_else(|| BackupError::Name(entry.path.clone()))?.to_owned();
        let (kind, stamp) = (entry.kind, entry.stamp.clone());
        let file = match self.offer.file(&path, stamp.as_ref()) {
            Some(file) => {
                let chunks = file.chunks.iter().map(|chunk| self.reuse(*chunk)).collect::<Result<_, _>>()?;
                File { chunks, ..file.clone() }
            }
            None => {
                let (len, chunks) = self.chunks(&entry.content()?, chunk::size(kind))?;
                File { path, len, stamp, chunks }
            }
        };
        self.size += file.len;
        self.manifest.file(file).map_err(cannot)
    }

    /// The content of a file as chunks, and its length.
    fn chunks(&mut self, at: &Path, size: usize) -> Result<(u64, Vec<Chunk>), BackupError> {
        let mut content = std::fs::File::open(at).map_err(BackupError::io("cannot read", at))?;
        let (mut len, mut chunks, mut piece) = (0, Vec::new(), Vec::with_capacity(size));
        loop {
            piece.clear();
            let read = (&mut content).take(size as u64).read_to_end(&mut piece);
            match read.map_err(BackupError::io("cannot read", at))? {
                0 => return Ok((len, chunks)),
                read => len += read as u64,
            }
            self.sender.go_on()?;
            chunks.push(self.chunk(&piece)?);
        }
    }

    fn chunk(&mut self, content: &[u8]) -> Result<Chunk, BackupError> {
        let (hash, len) = (Hash::of(content), content.len() as u32);
        if let Some(known) = self.known.get(&hash) {
            return Ok(*known);
        }
        if let Some(offered) = self.offer.chunk(hash, len) {
            return self.reuse(offered);
        }
        let packed = chunk::pack(hash, content, self.key)?;
        let chunk = self.store(hash, len, &packed)?;
        self.known.insert(hash, chunk);
        Ok(chunk)
    }

    /// A chunk of the offer under this manifest's numbers.
    fn reuse(&mut self, offered: Chunk) -> Result<Chunk, BackupError> {
        if let Some(known) = self.known.get(&offered.hash) {
            return Ok(*known);
        }
        let gone = || BackupError::Damaged("a pack that was offered has no name".into());
        let (name, size) = self.offer.pack(offered.pack).ok_or_else(gone)?.clone();
        let number = match self.numbers.get(&offered.pack) {
            Some(number) => *number,
            None => {
                let number = self.number();
                self.numbers.insert(offered.pack, number);
                self.manifest.pack(number, name.clone(), size).map_err(cannot)?;
                number
            }
        };
        let need = self.needs.entry(name).or_insert(Need { size, used: 0 });
        need.used += u64::from(offered.stored);
        let chunk = Chunk { pack: number, ..offered };
        self.known.insert(chunk.hash, chunk);
        Ok(chunk)
    }

    fn number(&mut self) -> u32 {
        self.packs += 1;
        self.packs - 1
    }

    fn store(&mut self, hash: Hash, len: u32, packed: &[u8]) -> Result<Chunk, BackupError> {
        let (number, mut pack) = match self.open.take() {
            Some(open) => open,
            None => (self.number(), Vec::with_capacity(FULL)),
        };
        let chunk = Chunk { pack: number, at: pack.len() as u32, stored: packed.len() as u32, len, hash };
        pack.extend_from_slice(packed);
        match pack.len() >= FULL {
            true => self.close(number, pack)?,
            false => self.open = Some((number, pack)),
        }
        Ok(chunk)
    }

    fn close(&mut self, number: u32, pack: Vec<u8>) -> Result<(), BackupError> {
        let (name, size) = (format!("{PACKS}{}/{number}", self.id), pack.len() as u64);
        self.needs.insert(name.clone(), Need { size, used: size });
        self.stored += size;
        self.manifest.pack(number, name.clone(), size).map_err(cannot)?;
        self.sender.send(name, pack)
    }

    fn end(mut self) -> Result<Written, BackupError> {
        if let Some((number, pack)) = self.open.take() {
            self.close(number, pack)?;
        }
        let (manifest, files) = self.manifest.end().map_err(cannot)?;
        Ok(Written { manifest, needs: self.needs, files, size: self.size, stored: self.stored })
    }
}
