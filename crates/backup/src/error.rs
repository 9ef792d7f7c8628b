//! What can go wrong.

use std::path::{Path, PathBuf};

use crate::PlaceError;

/// Why there is no archive, or nothing was restored from it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or a stream cannot be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A SQLite file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// A place does not do what it should.
    #[error("{place}: {source}")]
    Place {
        /// The place.
        place: String,
        /// What it says.
        source: PlaceError,
    },
    /// The backups in a place are not of this owner.
    #[error("{0} has the backups of another node: name a folder or prefix of its own for those of this one")]
    Others(String),
    /// A key is needed to read what is in a place.
    #[error("the backups in {0} are encrypted: name the file with their key with --backup-key")]
    Sealed(String),
    /// No key is needed there.
    #[error(
        "the backups in {0} are not encrypted: go without --backup-key, or name a place of its own for those that are"
    )]
    NotSealed(String),
    /// Another key is needed there.
    #[error("the backups in {0} are encrypted with another key than the one that --backup-key names")]
    OtherKey(String),
    /// A place has no backup of that name.
    #[error("{1} has no backup {0}: `skep backups` lists those that there are")]
    Unknown(String, String),
    /// A file's name cannot be written down.
    #[error("the name of {} is no UTF-8", .0.display())]
    Name(PathBuf),
    /// It is not an archive of Skep.
    #[error("this is not a backup of Skep: {0}")]
    NotABackup(String),
    /// A newer Skep made the archive.
    #[error("the backup has format {found}, this Skep knows formats up to {known}: use a newer one")]
    TooNew {
        /// The archive's.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// The archive is not whole, or not what was written.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// Restoring would mix two states.
    #[error("{} is not empty: restore into a folder that is not there yet", .0.display())]
    NotEmpty(PathBuf),
}

impl BackupError {
    pub(crate) fn io(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let what = format!("{what} {}", path.display());
        move |source| Self::Io { what, source }
    }

    pub(crate) fn database(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Database { path, source }
    }
}
