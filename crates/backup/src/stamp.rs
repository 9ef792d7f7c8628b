//! How a file looks from outside: what has not changed looks as it did.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// A change within this time after a file's last one may not show in its time of change.
const CLOCK_TICK: Duration = Duration::from_secs(1);

/// Number, length in bytes, and time of the last change (seconds and nanoseconds since 1970) of a file, and of others that belong to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp(Vec<(u64, u64, i64, i64)>);

impl Stamp {
    pub fn of(meta: &Metadata) -> Self {
        Self(vec![(meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())])
    }

    /// Of a SQLite file and its log; `None` if they may change without showing it. An empty log, which whoever opens the file makes, is none.
    pub fn of_database(file: &Path) -> Option<Self> {
        let meta = std::fs::metadata(file).ok().filter(is_settled)?;
        let mut log = file.as_os_str().to_owned();
        log.push("-wal");
        let mut stamp = Self::of(&meta);
        match std::fs::metadata(Path::new(&log)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Ok(log) if log.len() == 0 => {}
            log => stamp.0.extend(Self::of(&log.ok().filter(is_settled)?).0),
        }
        Some(stamp)
    }
}

/// Whether a later change is sure to show.
pub(crate) fn is_settled(meta: &Metadata) -> bool {
    let age = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age > CLOCK_TICK)
}
