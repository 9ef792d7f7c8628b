//! Things that have a folder each, and what is done to all of them now and then.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::{StoreError, folder_id, folder_name};

/// Things of one kind with a folder each, named by their ids, below one folder. No two processes may have the same one open.
#[derive(Debug)]
pub struct Folders<T> {
    dir: PathBuf,
    open: Mutex<HashMap<String, Arc<T>>>,
}

impl<T> Folders<T> {
    /// Opens or creates the folder of all.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir)
            .map_err(|e| StoreError::io(format!("cannot create {}", dir.display()), e))?;
        Ok(Self { dir: dir.to_owned(), open: Mutex::default() })
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<String, Arc<T>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one with this id, made by `make` in its folder when it is first asked for. The same id gives the same `Arc`.
    pub fn get(
        &self,
        id: &str,
        make: impl FnOnce(&Path) -> Result<T, StoreError>,
    ) -> Result<Arc<T>, StoreError> {
        let mut open = self.opened();
        if let Some(one) = open.get(id) {
            return Ok(one.clone());
        }
        let one = Arc::new(make(&self.dir.join(folder_name(id)))?);
        open.insert(id.to_owned(), one.clone());
        Ok(one)
    }

    /// The one with this id, if it has been asked for and that can be said at once: nobody is waited for who opens another.
    pub fn ready(&self, id: &str) -> Option<Arc<T>> {
        match self.open.try_lock() {
            Ok(open) => open.get(id).cloned(),
            Err(TryLockError::Poisoned(open)) => open.into_inner().get(id).cloned(),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Removes one with all that is in its folder; one that is not there is no error. Blocking. Who still holds it writes
    /// into nothing.
    pub fn remove(&self, id: &str) -> Result<(), StoreError> {
        let mut open = self.opened();
        open.remove(id);
        let folder = self.dir.join(folder_name(id));
        match std::fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(StoreError::io(format!("cannot remove {}", folder.display()), e))
            }
            _ => Ok(()),
        }
    }

    /// The folder of one.
    pub fn folder(&self, id: &str) -> PathBuf {
        self.dir.join(folder_name(id))
    }

    /// Whether one has been asked for.
    pub fn is_open(&self, id: &str) -> bool {
        self.opened().contains_key(id)
    }

    /// All that there are, asked for or not. Blocking.
    pub fn ids(&self) -> Result<BTreeSet<String>, StoreError> {
        let cannot = |e| StoreError::io(format!("cannot read {}", self.dir.display()), e);
        let mut ids: BTreeSet<String> = self.opened().keys().cloned().collect();
        for entry in std::fs::read_dir(&self.dir).map_err(cannot)? {
            ids.extend(entry.map_err(cannot)?.file_name().to_str().and_then(folder_id));
        }
        Ok(ids)
    }

    /// Those that have been asked for, with their ids.
    pub fn all(&self) -> Vec<(String, Arc<T>)> {
        self.opened().iter().map(|(id, one)| (id.clone(), one.clone())).collect()
    }
}

/// What one run of a background job did to many things. One that fails does not spare the others.
#[derive(Debug, Default)]
pub struct Upkeep {
    removed: usize,
    failed: Vec<String>,
}

impl Upkeep {
    /// Notes how many were removed from the one with this id, or why none were.
    pub fn note(&mut self, id: &str, outcome: Result<usize, impl Display>) {
        match outcome {
            Ok(count) => self.removed += count,
            Err(error) => self.failed.push(format!("{id}: {error}")),
        }
    }

    /// The job's result.
    pub fn told(self) -> Result<String, String> {
        match self.failed.is_empty() {
            true => Ok(format!("{} removed", self.removed)),
            false => Err(self.failed.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_folder_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders::open(&dir.path().join("all")).unwrap();
        let make = |path: &Path| {
            std::fs::create_dir_all(path).unwrap();
            Ok(path.to_owned())
        };
        let one = folders.get("../x", make).unwrap();
        assert!(one.is_dir() && one.parent() == Some(&dir.path().join("all")));
        let again = folders.get("../x", |_| panic!("it is open")).unwrap();
        assert!(Arc::ptr_eq(&one, &again));
        assert_eq!(folders.all().len(), 1);
        std::fs::create_dir(dir.path().join("all/other")).unwrap();
        assert_eq!(folders.ids().unwrap().into_iter().collect::<Vec<_>>(), ["../x", "other"]);
        assert!(folders.is_open("../x") && !folders.is_open("other"));
        assert!(folders.ready("../x").is_some_and(|ready| Arc::ptr_eq(&ready, &one)));
        // Not while another one is opened, however long that takes.
        let slow = |_: &Path| {
            assert!(folders.ready("../x").is_none());
            Err(StoreError::QuotaReached)
        };
        assert!(folders.get("slow", slow).is_err() && folders.ready("slow").is_none());
        assert_eq!(folders.folder("../x"), *one);
        folders.remove("../x").unwrap();
        folders.remove("../x").unwrap();
        assert!(!one.exists() && folders.all().is_empty());
    }

    #[test]
    fn one_that_fails_is_named_and_the_others_are_counted() {
        let mut upkeep = Upkeep::default();
        upkeep.note("a", Ok::<_, StoreError>(2));
        upkeep.note("b", Ok::<_, StoreError>(3));
        assert_eq!(upkeep.told(), Ok("5 removed".into()));
        let mut upkeep = Upkeep::default();
        upkeep.note("a", Err(StoreError::DiskFull));
        upkeep.note("b", Ok::<_, StoreError>(1));
        assert_eq!(upkeep.told(), Err("a: the disk is full".into()));
    }
}
