//! Which files there are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::BackupError;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not part of the archive.
    LeftOut,
    /// A SQLite file in WAL mode that this program writes.
    Database,
    /// A file that another process writes, which holds still on request.
    Guarded,
    /// A file that is never changed under its name.
    Immutable,
}

/// Says what a file or folder is, by its path below the root. A folder that is [`Kind::LeftOut`] is not looked into.
pub type Layout<'a> = &'a dyn Fn(&Path) -> Kind;

/// All files below `root` that belong in the archive, by their path below it.
pub(crate) fn walk(root: &Path, layout: Layout<'_>) -> Result<BTreeMap<PathBuf, Kind>, BackupError> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let entries = match std::fs::read_dir(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && path != root => continue,
            entries => entries.map_err(BackupError::io("cannot list", &path))?,
        };
        for entry in entries {
            let entry = entry.map_err(BackupError::io("cannot list", &path))?;
            let below = folder.join(entry.file_name());
            let kind = layout(&below);
            let file_type = entry.file_type().map_err(BackupError::io("cannot look at", &path))?;
            match kind {
                Kind::LeftOut => {}
                _ if file_type.is_dir() => folders.push(below),
                // Sockets are left out, and links, which we never make.
                _ if file_type.is_file() => drop(found.insert(below, kind)),
                _ => {}
            }
        }
    }
    Ok(found)
}
