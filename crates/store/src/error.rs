//! What can go wrong with storage.

use std::path::PathBuf;

/// A storage failure. Nothing was stored when one is returned from a write.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk has no room (`ENOSPC`, `EDQUOT`, `SQLITE_FULL` or `SQLITE_IOERR_SHMSIZE`).
    #[error("the disk is full")]
    DiskFull,
    /// The account stores all that it may ([`crate::Quota`]).
    #[error("the account's storage limit is reached")]
    QuotaReached,
    /// The file was written by a newer Skep.
    #[error("{} has format {found}, this version reads up to {known}; use a newer Skep", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The format version that it carries.
        found: i64,
        /// The newest format version that this code knows.
        known: i64,
    },
    /// The database refused.
    #[error("{0}")]
    Sqlite(rusqlite::Error),
    /// The file system refused.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The writer thread is gone: the database is being closed.
    #[error("the database is closed")]
    Closed,
}

impl StoreError {
    /// Wraps an I/O error with what was being done; a full disk is told apart.
    pub fn io(context: impl Into<String>, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io { context: context.into(), source },
        }
    }
}

impl StoreError {
    /// What an application may know of it; the log has the rest.
    pub fn outside(&self) -> &'static str {
        match self {
            Self::DiskFull => "Insufficient storage: the disk is full",
            Self::QuotaReached => "Insufficient storage: the account's storage limit is reached",
            _ => "Internal storage error",
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        if is_disk_full(&error) { Self::DiskFull } else { Self::Sqlite(error) }
    }
}

/// Whether SQLite found no room. Where the index of its log cannot grow, it calls that an I/O error.
pub(crate) fn is_disk_full(error: &rusqlite::Error) -> bool {
    let extended = error.sqlite_error().map(|error| error.extended_code);
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull))
        || extended == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}
