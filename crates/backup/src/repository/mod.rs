//! Many backups in one place, each of which stores only what the ones before it have not stored.
//!
//! Content is cut into chunks that are known by their hash; chunks are compressed and put into packs. A backup is a manifest, which says of each
//! file which chunks it is. What a place holds, below its prefix:
//!
//! * `skep-backup.json`: [`Marker`]: the format, and whose backups these are;
//! * `packs/<backup>/<n>`: chunks, stored by that backup for itself and later ones;
//! * `backups/<backup>.packs`: the packs that a backup needs, [`manifest::Needs`];
//! * `backups/<backup>`: its manifest, [`manifest`]. It is written last: a backup whose manifest is there is whole.
//!
//! Where a key is given, chunks and all but the marker are sealed with it ([`Key`]): the place sees lengths and times, and whose backups these are.
//!
//! A backup is named by the second of its beginning, so that names sort as time does.

mod chunk;
mod fetch;
mod folder;
mod manifest;
mod offer;
mod pack;
mod place;
mod prune;
mod save;
mod seal;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::BackupError;
pub use folder::Folder;
pub use place::{Listed, Place, PlaceError};
pub use prune::Pruned;
pub use save::{Begun, Saved};
pub use seal::Key;

/// The format of a place.
const FORMAT: u32 = 1;
const MARKER: &str = "skep-backup.json";
const BACKUPS: &str = "backups/";
const PACKS: &str = "packs/";
/// What ends the name of a backup's list of packs.
const NEEDS: &str = ".packs";

/// What a place says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    /// [`FORMAT`]
    format: u32,
    /// Whose backups these are.
    owner: String,
    /// Where they are sealed: nothing, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check: Option<String>,
}

/// A place with backups.
pub struct Repository {
    place: Arc<dyn Place>,
    key: Option<Key>,
    is_over: Box<dyn Fn() -> bool + Send + Sync>,
}

/// A backup in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its name, by which [`Repository::restore`] knows it.
    pub id: String,
    /// When, in seconds since 1970.
    pub made_at: u64,
    /// The size of its manifest, in bytes.
    pub size: u64,
}

impl Repository {
    /// The backups in `place`, sealed with `key` if there is one. Asks nothing of it yet.
    pub fn new(place: Arc<dyn Place>, key: Option<Key>) -> Self {
        Self { place, key, is_over: Box::new(|| false) }
    }

    /// The same, but a backup under way is given up as soon as `is_over`.
    #[must_use]
    pub fn until(self, is_over: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { is_over: Box::new(is_over), ..self }
    }

    /// The backups that are whole, the oldest first. Blocking, as everything here.
    pub fn backups(&self) -> Result<Vec<Backup>, BackupError> {
        let listed = self.place.list(BACKUPS).map_err(|e| self.failed(e))?;
        let backups = listed.into_iter().filter_map(|listed| {
            let id = listed.key.strip_prefix(BACKUPS)?.to_owned();
            Some(Backup { made_at: made_at(&id)?, id, size: listed.size })
        });
        let mut backups: Vec<Backup> = backups.collect();
        backups.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(backups)
    }

    /// Whose backups these are; `None` where none are yet. An error if the key is not theirs.
    pub fn owner(&self) -> Result<Option<String>, BackupError> {
        let Some(text) = self.place.get(MARKER, None).map_err(|e| self.failed(e))? else {
            return Ok(None);
        };
        let marker: Marker = serde_json::from_slice(&text)
            .map_err(|e| BackupError::NotABackup(format!("{MARKER} in {}: {e}", self.place.shown())))?;
        if marker.format > FORMAT {
            return Err(BackupError::TooNew { found: marker.format, known: FORMAT });
        }
        let shown = || self.place.shown();
        match (&self.key, &marker.check) {
            (None, None) => Ok(Some(marker.owner)),
            (None, Some(_)) => Err(BackupError::Sealed(shown())),
            (Some(_), None) => Err(BackupError::NotSealed(shown())),
            (Some(key), Some(check)) => {
                let check = hex::decode(check).ok().and_then(|check| key.open(MARKER.as_bytes(), &check));
                check.map(|_| Some(marker.owner)).ok_or_else(|| BackupError::OtherKey(shown()))
            }
        }
    }

    /// Makes sure that these are the backups of `owner`, or of nobody yet.
    fn claim(&self, owner: &str) -> Result<(), BackupError> {
        match self.owner()? {
            Some(found) if found == owner => Ok(()),
            Some(_) => Err(BackupError::Others(self.place.shown())),
            None => {
                let check = self.key.as_ref().map(|key| key.seal(MARKER.as_bytes(), Vec::new()));
                let check = check.transpose()?.map(hex::encode);
                let marker = Marker { format: FORMAT, owner: owner.to_owned(), check };
                let text = serde_json::to_vec(&marker).map_err(|e| BackupError::Damaged(e.to_string()))?;
                self.place.put(MARKER, text).map_err(|e| self.failed(e))
            }
        }
    }

    /// Stores a piece as a whole, sealed; returns its length.
    fn put(&self, key: &str, content: Vec<u8>) -> Result<u64, BackupError> {
        let content = match &self.key {
            Some(own) => own.seal(key.as_bytes(), content)?,
            None => content,
        };
        let len = content.len() as u64;
        self.place.put(key, content).map_err(|e| self.failed(e))?;
        Ok(len)
    }

    /// What [`Self::put`] stored.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, BackupError> {
        let found = self.place.get(key, None).map_err(|e| self.failed(e))?;
        match (found, &self.key) {
            (Some(sealed), Some(own)) => {
                let opened = own.open(key.as_bytes(), &sealed);
                opened.map(Some).ok_or_else(|| BackupError::Damaged(format!("{key} is not what was written")))
            }
            (found, _) => Ok(found),
        }
    }

    fn failed(&self, error: PlaceError) -> BackupError {
        BackupError::Place { place: self.place.shown(), source: error }
    }
}

/// The name of a backup that begins at `at`, in seconds since 1970.
fn name(at: u64) -> String {
    let time = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_secs(at));
    time.to_string().replace(['-', ':'], "")
}

/// When the backup of that name began; `None` for what is none.
fn made_at(id: &str) -> Option<u64> {
    let digits = id.strip_suffix('Z')?.split_once('T').map(|(day, time)| format!("{day}{time}"))?;
    if digits.len() != 14 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &digits[..4],
        &digits[4..6],
        &digits[6..8],
        &digits[8..10],
        &digits[10..12],
        &digits[12..]
    );
    let at = humantime::parse_rfc3339(&text).ok()?;
    at.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests;
