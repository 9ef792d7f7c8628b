//! From a place back to a folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::chunk::Chunk;
use super::manifest::Manifest;
use super::{Repository, made_at};
use crate::BackupError;
use crate::restore::{Restored, into_new, is_below, make_folder};

/// Packs that are read at once.
const DOWNLOADS: usize = 8;

/// The chunks that are wanted of a pack, by where they begin there, and where they go: files by their number, and the place in them.
type Wanted = BTreeMap<u32, (Chunk, Vec<(usize, u64)>)>;

impl Repository {
    /// Restores a backup, by default the last one, into `target`, which must be empty or not be there. It is there only if all of the backup was
    /// read and is what was written. Blocking.
    pub fn restore(&self, id: Option<&str>, target: &Path) -> Result<Restored, BackupError> {
        // A place of a newer Skep says so, and one with another key.
        self.owner()?;
        let id = match id {
            Some(id) => id.to_owned(),
            None => match self.backups()?.pop() {
                Some(last) => last.id,
                None => {
                    return Err(BackupError::NotABackup(format!("{} has no backup", self.place.shown())));
                }
            },
        };
        let manifest = self.manifest(&id)?;
        into_new(target, |folder| self.fill(&manifest, folder))?;
        let head = manifest.head;
        let made_at = made_at(&head.id).unwrap_or_default();
        Ok(Restored { files: manifest.files.len() as u64, made_by: head.made_by, made_at })
    }

    fn fill(&self, manifest: &Manifest, folder: &Path) -> Result<(), BackupError> {
        let (paths, wanted) = layout(manifest, folder)?;
        let packs: Vec<(u32, Wanted)> = wanted.into_iter().collect();
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
        let failure = || failed.lock().unwrap_or_else(PoisonError::into_inner);
        std::thread::scope(|scope| {
            for _ in 0..DOWNLOADS.min(packs.len()) {
                scope.spawn(|| {
                    while let Some((pack, wanted)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if failure().is_some() {
                            return;
                        }
                        if let Err(error) = self.unpack(manifest, *pack, wanted, &paths) {
                            failure().get_or_insert(error);
                        }
                    }
                });
            }
        });
        let failed = failure().take();
        failed.map_or(Ok(()), Err)
    }

    /// Reads what is wanted of a pack, and writes it to where it goes.
    fn unpack(
        &self,
        manifest: &Manifest,
        pack: u32,
        wanted: &Wanted,
        paths: &[PathBuf],
    ) -> Result<(), BackupError> {
        let damaged = |what: &str| BackupError::Damaged(format!("pack {pack} {what}"));
        let (name, size) = manifest.packs.get(&pack).ok_or_else(|| damaged("has no name"))?;
        let begin = wanted.keys().next().copied().unwrap_or_default();
        let end = wanted.values().map(|(chunk, _)| u64::from(chunk.at) + u64::from(chunk.stored)).max();
        let end = end.filter(|end| end <= size).ok_or_else(|| damaged("is shorter than what is in it"))?;
        let content = self.place.get(name, Some(u64::from(begin)..end)).map_err(|e| self.failed(e))?;
        let content = content.ok_or_else(|| damaged(&format!("({name}) is gone")))?;
        for (chunk, places) in wanted.values() {
            let from = (chunk.at - begin) as usize;
            let stored = content.get(from..from + chunk.stored as usize);
            let content = chunk.unpack(stored.ok_or_else(|| damaged("is cut off"))?, self.key.as_ref())?;
            for (file, at) in places {
                let path = &paths[*file];
                let written =
                    File::options().write(true).open(path).and_then(|to| to.write_all_at(&content, *at));
                written.map_err(BackupError::io("cannot write", path))?;
            }
        }
        Ok(())
    }
}

/// Makes all files, empty; returns their paths, and what is wanted of each pack.
fn layout(manifest: &Manifest, folder: &Path) -> Result<(Vec<PathBuf>, BTreeMap<u32, Wanted>), BackupError> {
    let (mut paths, mut wanted) = (Vec::new(), BTreeMap::<u32, Wanted>::new());
    for (number, file) in manifest.files.iter().enumerate() {
        let below = Path::new(&file.path);
        if !is_below(below) {
            return Err(BackupError::Damaged(format!("{} is no file of it", file.path)));
        }
        let path = folder.join(below);
        make_folder(path.parent().unwrap_or(folder))?;
        let made = File::options().write(true).create_new(true).mode(0o600).open(&path);
        made.map_err(BackupError::io("cannot create", &path))?;
        let mut at = 0;
        for chunk in &file.chunks {
            let of_pack = wanted.entry(chunk.pack).or_default();
            of_pack.entry(chunk.at).or_insert((*chunk, Vec::new())).1.push((number, at));
            at += u64::from(chunk.len);
        }
        if at != file.len {
            return Err(BackupError::Damaged(format!("{} is not whole", file.path)));
        }
        paths.push(path);
    }
    Ok((paths, wanted))
}
