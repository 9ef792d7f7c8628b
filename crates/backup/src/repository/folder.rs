//! A folder as a place: a disk that is mounted here.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::place::{Listed, Place, PlaceError};

/// A folder. Files in it are readable by its owner alone.
#[derive(Debug)]
pub struct Folder(PathBuf);

/// What ends the name of a file that is being written.
const PARTIAL: &str = ".partial";

impl Folder {
    /// The folder at `path`, which is made when something is put there.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }
}

impl Place for Folder {
    fn shown(&self) -> String {
        self.0.display().to_string()
    }

    fn put(&self, key: &str, content: Vec<u8>) -> Result<(), PlaceError> {
        let path = self.0.join(key);
        let folder = path.parent().unwrap_or(&self.0);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let partial = self.0.join(format!("{key}{PARTIAL}"));
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        let written = file.write_all(&content).and_then(|()| file.sync_all());
        if let Err(error) = written.and_then(|()| std::fs::rename(&partial, &path)) {
            let _ = std::fs::remove_file(&partial);
            return Err(error.into());
        }
        Ok(File::open(folder)?.sync_all()?)
    }

    fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<Vec<u8>>, PlaceError> {
        let path = self.0.join(key);
        let found = match range {
            None => std::fs::read(path),
            Some(range) => File::open(path).and_then(|file| {
                let mut part = vec![0; usize::try_from(range.end - range.start).unwrap_or(usize::MAX)];
                file.read_exact_at(&mut part, range.start)?;
                Ok(part)
            }),
        };
        match found {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, PlaceError> {
        let mut found = Vec::new();
        let mut folders = vec![self.0.join(prefix)];
        while let Some(folder) = folders.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                match entry.file_type()?.is_dir() {
                    true => folders.push(entry.path()),
                    false => found.extend(self.listed(&entry.path(), entry.metadata()?.len())),
                }
            }
        }
        Ok(found)
    }

    fn remove(&self, key: &str) -> Result<(), PlaceError> {
        let path = self.0.join(key);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        // The last one takes its folder along; that others are there is no error.
        let _ = path.parent().map(std::fs::remove_dir);
        Ok(())
    }
}

impl Folder {
    fn listed(&self, path: &Path, size: u64) -> Option<Listed> {
        let key = path.strip_prefix(&self.0).ok()?.to_str()?.to_owned();
        Some(Listed { key, size })
    }
}
