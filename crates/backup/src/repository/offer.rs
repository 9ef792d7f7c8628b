//! What the backup before has stored that this one can go on to use.

use std::collections::{HashMap, HashSet};

use super::chunk::{Chunk, Hash};
use super::manifest::{File, Manifest, Need, Needs};
use super::pack::FULL;
use crate::stamp::Stamp;

/// Packs that are not full end each backup. So many are kept; then what they hold is stored anew, together.
const MOST_SMALL: usize = 32;
/// Less than this part of a full pack is small.
const SMALL: u64 = FULL as u64 / 4;

/// Files and chunks that are stored.
#[derive(Default)]
pub(super) struct Offer {
    files: HashMap<String, File>,
    chunks: HashMap<Hash, Chunk>,
    names: HashMap<u32, (String, u64)>,
}

impl Offer {
    /// What a backup has stored, in packs that are `there`, by name with their length. What lies in packs that are of little use is not
    /// offered: then nothing needs these any more, and they go.
    pub fn of(manifest: Manifest, there: &HashMap<String, u64>) -> Self {
        let kept = worth_keeping(&manifest.needs());
        let names = manifest.packs.into_iter();
        let names: HashMap<u32, (String, u64)> =
            names.filter(|(_, (name, size))| kept.contains(name) && there.get(name) == Some(size)).collect();
        let mut this = Self { files: HashMap::new(), chunks: HashMap::new(), names };
        for file in manifest.files {
            let good = |chunk: &&Chunk| this.names.contains_key(&chunk.pack);
            let stored: Vec<Chunk> = file.chunks.iter().filter(good).copied().collect();
            let whole = stored.len() == file.chunks.len();
            this.chunks.extend(stored.into_iter().map(|chunk| (chunk.hash, chunk)));
            if whole && file.stamp.is_some() {
                this.files.insert(file.path.clone(), file);
            }
        }
        this
    }

    /// The file at `path`, if it looks as it did.
    pub fn file(&self, path: &str, stamp: Option<&Stamp>) -> Option<&File> {
        self.files.get(path).filter(|file| stamp.is_some() && file.stamp.as_ref() == stamp)
    }

    /// The chunk of that hash and length.
    pub fn chunk(&self, hash: Hash, len: u32) -> Option<Chunk> {
        self.chunks.get(&hash).filter(|chunk| chunk.len == len).copied()
    }

    /// Name and length of the pack with that number.
    pub fn pack(&self, number: u32) -> Option<&(String, u64)> {
        self.names.get(&number)
    }
}

/// The packs of which half is needed, without the small ones where these are many.
fn worth_keeping(needs: &Needs) -> HashSet<String> {
    let small = |need: &Need| need.size < SMALL;
    let merge = needs.values().filter(|need| small(need)).count() > MOST_SMALL;
    let worth = needs.iter().filter(|(_, need)| need.used * 2 >= need.size && !(merge && small(need)));
    worth.map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_of_little_use_are_not_kept() {
        let need = |name: &str, size, used| (name.to_owned(), Need { size, used });
        let large = 4 * SMALL;
        let mut needs = Needs::from([need("half", large, large / 2), need("less", large, large / 2 - 1)]);
        assert_eq!(worth_keeping(&needs), ["half".to_owned()].into());
        needs.extend((0..MOST_SMALL).map(|n| need(&format!("small {n}"), 10, 10)));
        assert_eq!(worth_keeping(&needs).len(), 1 + MOST_SMALL);
        needs.extend([need("one more", 10, 10)]);
        assert_eq!(worth_keeping(&needs), ["half".to_owned()].into());
    }
}
