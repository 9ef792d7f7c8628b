//! One consistent archive of a folder, taken while it is in use.
//!
//! The folder holds three kinds of files: SQLite files of this program, immutable files (each is written under a new
//! name, never changed), and *guarded* files that another process writes, which can be made to hold still. The archive
//! shows all of them at one moment: every SQLite file is locked against writers for as long as it takes to begin a read
//! of each, no longer; what is read is then copied at leisure.
//!
//! A snapshot becomes an archive, or one of many backups in a [`Place`], which stores only what is new ([`Repository`]).
//!
//! Knows nothing of what the files mean, and no network. Entry points: [`Snapshot::take`], [`Snapshot::write`], [`restore`],
//! [`Repository`].

mod archive;
mod error;
mod repository;
mod restore;
mod snapshot;
mod stamp;
mod walk;

pub use error::BackupError;
pub use repository::{Backup, Begun, Folder, Key, Listed, Place, PlaceError, Pruned, Repository, Saved};
pub use restore::{Restored, restore};
pub use snapshot::Snapshot;
pub use walk::{Kind, Layout};

/// The format of an archive: a tar file with [`HEAD`] first, then the files below [`FILES`], then [`END`].
const FORMAT: u32 = 1;
/// The first entry: [`archive::Head`] as JSON.
const HEAD: &str = "skep-backup.json";
/// The folder of the files.
const FILES: &str = "data";
/// The last entry: [`archive::End`] as JSON. An archive without it is not whole.
const END: &str = "skep-backup-end.json";

#[cfg(test)]
mod tests;
