//! What can go wrong.

use std::path::{Path, PathBuf};

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
