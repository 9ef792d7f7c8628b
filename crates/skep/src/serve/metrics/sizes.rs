//! How much is stored.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::runner::Runner;

/// What an account keeps: what it is called, and where it is in the account's folder.
const STORES: [(&str, &[&str]); 10] = [
    ("kv", &["kv"]),
    ("r2", &["r2"]),
    ("d1", &["d1"]),
    ("queues", &["queues"]),
    ("cache", &["cache"]),
    ("analytics", &["analytics"]),
    ("logs", &["logs"]),
    ("durable_objects", &["do"]),
    ("code_and_assets", &["content"]),
    ("catalog", &["catalog.sqlite", "catalog.sqlite-wal"]),
];

/// Sizes are measured anew after so long, and so rarely that it takes at most a fiftieth of the time.
const FRESH: Duration = Duration::from_secs(2);
const SHARE: u32 = 50;

/// Bytes by account and store, measured now and then.
#[derive(Debug, Default)]
pub struct Sizes(Mutex<Option<Measured>>);

#[derive(Debug)]
struct Measured {
    at: Instant,
    took: Duration,
    sizes: Vec<(String, &'static str, u64)>,
}

impl Sizes {
    /// Bytes by account and store, not long ago. Blocking.
    pub fn of<'a>(&self, accounts: impl Iterator<Item = &'a Runner>) -> Vec<(String, &'static str, u64)> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = last.as_ref().filter(|known| known.at.elapsed() < FRESH.max(known.took * SHARE))
        {
            return known.sizes.clone();
        }
        let start = Instant::now();
        let mut sizes = Vec::new();
        for runner in accounts {
            let dir = &runner.tenant.stores.dir;
            for (name, places) in STORES {
                let bytes = places.iter().map(|place| bytes_below(&dir.join(place))).sum();
                sizes.push((runner.tenant.id.clone(), name, bytes));
            }
        }
        *last = Some(Measured { at: Instant::now(), took: start.elapsed(), sizes: sizes.clone() });
        sizes
    }
}

/// Bytes in a file or in all files of a folder. What cannot be read, or goes away meanwhile, does not count.
fn bytes_below(path: &Path) -> u64 {
    let mut total = 0;
    files_below(path, |_, len| total += len);
    total
}

/// Shows a file, or all files of a folder, with their lengths.
pub fn files_below(path: &Path, mut show: impl FnMut(&Path, u64)) {
    let Ok(found) = path.symlink_metadata() else { return };
    if !found.is_dir() {
        if found.is_file() {
            show(path, found.len());
        }
        return;
    }
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) if found.is_file() => show(&entry.path(), found.len()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_all_folders_count_and_links_do_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/c"), [0; 700]).unwrap();
        std::fs::write(dir.path().join("d"), [0; 30]).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/loop")).unwrap();
        assert_eq!(bytes_below(dir.path()), 730);
        assert_eq!(bytes_below(&dir.path().join("d")), 30);
        assert_eq!(bytes_below(&dir.path().join("none")), 0);
    }
}
