//! The folder of sockets and generated files of one Skep process.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// A private folder, removed when dropped. One that a killed process left behind is removed by the next.
#[derive(Debug)]
pub(crate) struct RunDir {
    dir: tempfile::TempDir,
    // Held open: its lock says that we live.
    _lock: File,
}

const PREFIX: &str = "skep-";
const LOCK: &str = "lock";

impl RunDir {
    /// Makes a folder below `$XDG_RUNTIME_DIR` or the temporary folder: its path is short, because the path of
    /// a unix socket is at most 107 bytes.
    pub(crate) fn create() -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let base = runtime.filter(|dir| dir.is_dir() && dir.as_os_str().len() < 40);
        let base = base.unwrap_or_else(std::env::temp_dir);
        remove_stale(&base);
        // mkdtemp: mode 0700.
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&base)?;
        let unlocked = dir.path().join("lock.new");
        let lock = File::create(&unlocked)?;
        lock.lock()?;
        std::fs::rename(&unlocked, dir.path().join(LOCK))?;
        Ok(Self { dir, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn remove_stale(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX)
            && let Ok(lock) = File::open(entry.path().join(LOCK))
            && !matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_folder_is_kept_and_a_dead_one_removed() {
        let base = tempfile::tempdir().unwrap();
        for name in ["skep-dead", "skep-live"] {
            std::fs::create_dir(base.path().join(name)).unwrap();
            File::create(base.path().join(name).join(LOCK)).unwrap();
        }
        let held = File::open(base.path().join("skep-live").join(LOCK)).unwrap();
        held.lock().unwrap();
        remove_stale(base.path());
        assert!(base.path().join("skep-live").exists());
        assert!(!base.path().join("skep-dead").exists());
    }
}
