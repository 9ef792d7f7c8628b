//! From a stream back to a folder.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::archive::{End, Head, Measured, Tally};
use crate::{BackupError, END, FILES, FORMAT, HEAD};

/// The longest description at the beginning or the end of an archive, in bytes.
const DESCRIPTION: u64 = 64 << 10;

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// How many files.
    pub files: u64,
    /// The version of the program that made the archive.
    pub made_by: String,
    /// When, in seconds since 1970.
    pub made_at: u64,
}

/// Restores an archive into `target`, which must be empty or not be there. It is there only if all of the archive was
/// read and is what was written. Blocking.
pub fn restore(archive: impl Read, target: &Path) -> Result<Restored, BackupError> {
    into_new(target, |folder| unpack(archive, folder))
}

/// Makes `target`, which must be empty or not be there, of what `fill` puts into a folder, if it succeeds.
pub(crate) fn into_new<T>(
    target: &Path,
    fill: impl FnOnce(&Path) -> Result<T, BackupError>,
) -> Result<T, BackupError> {
    match std::fs::read_dir(target) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        entries => {
            let mut entries = entries.map_err(BackupError::io("cannot list", target))?;
            if entries.next().is_some() {
                return Err(BackupError::NotEmpty(target.to_owned()));
            }
        }
    }
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".restoring-{}", std::process::id()));
    let partial = Partial(target.with_file_name(name));
    make_folder(&partial.0)?;
    let filled = fill(&partial.0)?;
    let cannot = BackupError::io("cannot flush", &partial.0);
    File::open(&partial.0).and_then(|folder| Ok(rustix::fs::syncfs(folder)?)).map_err(cannot)?;
    if target.exists() {
        std::fs::remove_dir(target).map_err(BackupError::io("cannot replace", target))?;
    }
    std::fs::rename(&partial.0, target).map_err(BackupError::io("cannot make", target))?;
    Ok(filled)
}

/// Removed unless it became the target.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn unpack(archive: impl Read, folder: &Path) -> Result<Restored, BackupError> {
    let damaged = |e: std::io::Error| BackupError::Damaged(e.to_string());
    let mut tar = tar::Archive::new(archive);
    let mut entries = tar.entries().map_err(damaged)?;
    let first = entries.next().ok_or_else(|| BackupError::NotABackup("it is empty".into()))?;
    let mut first = first.map_err(|e| BackupError::NotABackup(e.to_string()))?;
    if first.path_bytes() != HEAD.as_bytes() {
        return Err(BackupError::NotABackup(format!("it does not begin with {HEAD}")));
    }
    let head: Head = description(&mut first)?;
    if head.format > FORMAT {
        return Err(BackupError::TooNew { found: head.format, known: FORMAT });
    }
    let mut tally = Tally::default();
    for entry in entries {
        let mut entry = entry.map_err(damaged)?;
        if entry.path_bytes() == END.as_bytes() {
            let end: End = description(&mut entry)?;
            if end != tally.end() {
                return Err(BackupError::Damaged("its content is not what was written".into()));
            }
            return Ok(Restored { files: end.files, made_by: head.made_by, made_at: head.made_at });
        }
        let name = entry.path().map_err(damaged)?.into_owned();
        let path = below(&name).filter(|_| entry.header().entry_type().is_file());
        let path =
            path.ok_or_else(|| BackupError::Damaged(format!("{} is no file of it", name.display())))?;
        let to = folder.join(path);
        let mut content = Measured::new(&mut entry);
        write(&mut content, &to)?;
        tally.add(path.as_os_str().as_encoded_bytes(), content.len, &sha2::Digest::finalize(content.digest));
    }
    Err(BackupError::Damaged("it ends early".into()))
}

/// The path below the folder of the files; `None` if it leads elsewhere.
fn below(name: &Path) -> Option<&Path> {
    let path = name.strip_prefix(FILES).ok()?;
    is_below(path).then_some(path)
}

/// Whether a path leads to a file below where it begins.
pub(crate) fn is_below(path: &Path) -> bool {
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    plain && path.file_name().is_some()
}

fn description<T: DeserializeOwned>(entry: &mut impl Read) -> Result<T, BackupError> {
    let mut text = Vec::new();
    entry.take(DESCRIPTION).read_to_end(&mut text).map_err(|e| BackupError::Damaged(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| BackupError::Damaged(e.to_string()))
}

fn write(content: &mut impl Read, to: &Path) -> Result<(), BackupError> {
    if let Some(folder) = to.parent() {
        make_folder(folder)?;
    }
    let mut options = File::options();
    let made = options.write(true).create_new(true).mode(0o600).open(to);
    let mut file = made.map_err(BackupError::io("cannot create", to))?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = content.read(&mut buffer).map_err(|e| BackupError::Damaged(e.to_string()))?;
        if read == 0 {
            return Ok(());
        }
        let written = std::io::Write::write_all(&mut file, &buffer[..read]);
        written.map_err(BackupError::io("cannot write", to))?;
    }
}

pub(crate) fn make_folder(path: &Path) -> Result<(), BackupError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(BackupError::io("cannot create", path))
}
