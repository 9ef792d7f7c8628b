//! The folder of all databases.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use skep_runtime::{Clock, half_of_the_cores};
use skep_store::{Quota, StoreError};
use tokio::sync::Semaphore;

use crate::apart::{Apart, Searchers};
use crate::database::D1Database;
use crate::gate::{Closed, Gate};
use crate::history::{self, Keeping, Retention};
use crate::opened::Opening;

/// Bytes of a database's id at most, so that the file's name fits every file system.
const ID: usize = 80;
/// Long queries of all databases of a store at a time, or as many as have turns; further ones wait. Bounds threads, memory and
/// temporary files.
const LONG_QUERIES: usize = 4;

/// A folder with one SQLite file per database.
#[derive(Debug)]
pub struct D1Store {
    dir: PathBuf,
    open: Mutex<HashMap<String, Weak<D1Database>>>,
    claims: Arc<Claims>,
    gate: Arc<Gate>,
    keeping: Option<Keeping>,
    quota: Arc<Quota>,
    apart: Option<Arc<Searchers>>,
    /// Turns at queries that take long.
    long: Arc<Semaphore>,
    /// Bytes of results that are not sent yet.
    results: Arc<AtomicUsize>,
}

/// All databases of a store, while none is written.
#[derive(Debug)]
pub struct Paused {
    _closed: Closed,
    _databases: Vec<Arc<D1Database>>,
}

/// Which files are open. The one who was the last to hold a database may still be closing it.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    taken: Mutex<HashSet<String>>,
    released: Condvar,
}

/// That a file is open, as long as it lives.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Arc<Claims>,
    id: String,
}

impl Claim {
    /// Waits until nobody has the file open.
    pub(crate) fn take(claims: &Arc<Claims>, id: &str) -> Self {
        let mut taken = claims.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while taken.contains(id) {
            taken = claims.released.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        taken.insert(id.to_owned());
        drop(taken);
        Self { claims: claims.clone(), id: id.to_owned() }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.claims.released.notify_all();
    }
}

impl D1Store {
    /// Opens or creates the folder. What a database was is not kept.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir)
            .map_err(|e| StoreError::io(format!("cannot create {}", dir.display()), e))?;
        let (claims, gate) = (Arc::default(), Arc::default());
        Ok(Self {
            dir: dir.to_owned(),
            open: Mutex::default(),
            claims,
            gate,
            keeping: None,
            quota: Arc::default(),
            apart: None,
            long: Arc::new(Semaphore::new(half_of_the_cores().max(LONG_QUERIES))),
            results: Arc::default(),
        })
    }

    /// What is stored in databases that are opened from now on counts towards `quota`.
    #[must_use]
    pub fn within(self, quota: Arc<Quota>) -> Self {
        Self { quota, ..self }
    }

    /// Full-text indexes of databases that are opened from now on are searched in processes of their own. Without, they are searched in
    /// this one, where nobody can stop that.
    #[must_use]
    pub fn searched_apart(self, apart: Apart) -> Self {
        Self { apart: Some(Arc::new(Searchers::new(apart))), ..self }
    }

    /// The same; what a database was is kept, for so long.
    pub fn open_with_history(dir: &Path, retention: Retention, clock: Clock) -> Result<Self, StoreError> {
        let keeping = Keeping { retention, clock, files: Arc::default() };
        Ok(Self { keeping: Some(keeping), ..Self::open(dir)? })
    }

    /// The database of that id, created if there is none. While anyone holds it, the same id gives the same
    /// database; once nobody does, its file is closed.
    pub fn database(&self, id: &str) -> Result<Arc<D1Database>, StoreError> {
        let mut open = self.opened();
        if let Some(database) = open.get(id).and_then(Weak::upgrade) {
            return Ok(database);
        }
        let path = self.dir.join(file_name(id)?);
        let database = Arc::new(D1Database::open(Opening {
            path,
            id: id.to_owned(),
            keeping: self.keeping.clone(),
            gate: self.gate.clone(),
            quota: self.quota.clone(),
            apart: self.apart.clone(),
            all_long: self.long.clone(),
            all_results: self.results.clone(),
            claims: self.claims.clone(),
        })?);
        open.retain(|_, database| database.strong_count() > 0);
        open.insert(id.to_owned(), Arc::downgrade(&database));
        Ok(database)
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<String, Weak<D1Database>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops all writes until the result is dropped, with all histories stored as far as the databases go: files that
    /// are read meanwhile fit together. Blocking, for as long as the longest transaction that runs.
    pub fn pause(&self) -> Option<Paused> {
        self.keeping.as_ref()?;
        // What a crash left behind in a log is stored when its database is opened.
        let mut databases = self.with_log();
        databases.extend(self.opened().values().filter_map(Weak::upgrade));
        // Most of it while they still write.
        databases.iter().for_each(|database| database.settle());
        let closed = self.gate.close();
        databases.extend(self.opened().values().filter_map(Weak::upgrade));
        databases.iter().for_each(|database| database.settle());
        Some(Paused { _closed: closed, _databases: databases })
    }

    /// Tidies all histories, one after the other. Blocking. Says what it did.
    pub fn tidy(&self) -> Result<String, StoreError> {
        self.tidy_to(u64::MAX)
    }

    /// The same, down to so many bytes of each database's. Blocking.
    pub fn tidy_to(&self, bytes: u64) -> Result<String, StoreError> {
        let Some(Keeping { retention, clock, files }) = &self.keeping else {
            return Ok("no history is kept".into());
        };
        let retention = &Retention { bytes: retention.bytes.min(bytes), ..*retention };
        let (mut count, mut all) = (0, history::Tidied::default());
        for path in self.files(".history.sqlite")? {
            let tidied = history::tidy(&path, files, retention, clock.now_ms())?;
            count += 1;
            all.dropped += tidied.dropped;
            all.thinned += tidied.thinned;
            all.bytes += tidied.bytes;
        }
        let history::Tidied { dropped, thinned, bytes } = all;
        Ok(format!("{count} histories of {bytes} bytes; {dropped} pieces dropped, {thinned} thinned"))
    }

    /// The files whose name ends like that.
    fn files(&self, end: &str) -> Result<Vec<PathBuf>, StoreError> {
        let failed = |e| StoreError::io(format!("cannot list {}", self.dir.display()), e);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(end)) {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// Databases whose log holds something.
    fn with_log(&self) -> Vec<Arc<D1Database>> {
        let held = |path: &PathBuf| path.metadata().is_ok_and(|meta| meta.len() > 0);
        let logs = self.files(".sqlite-wal").unwrap_or_default().into_iter().filter(held);
        let id = |path: PathBuf| id_of(path.file_name()?.to_str()?.strip_suffix("-wal")?);
        logs.filter_map(id).filter_map(|id| self.database(&id).ok()).collect()
    }

    /// Removes a database with all that is in it; one that is not there is no error. Blocking. Who still holds it
    /// writes into nothing.
    pub fn remove(&self, id: &str) -> Result<(), StoreError> {
        let path = self.dir.join(file_name(id)?);
        // What it has still to write is waited for without the lock, which every call of the account takes.
        let _open = loop {
            let mut open = self.opened();
            let Some(removed) = open.remove(id) else { break open };
            drop(open);
            drop(removed);
        };
        {
            let _lock = self.keeping.as_ref().map(Keeping::lock);
            history::remove(&path)
                .map_err(|e| StoreError::io(format!("cannot remove {}", path.display()), e))?;
        }
        for suffix in ["", "-wal", "-shm"] {
            let mut file = path.clone().into_os_string();
            file.push(suffix);
            match std::fs::remove_file(&file) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::io(format!("cannot remove {}", path.display()), e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A file name that no other id has: what is not a letter, digit, `-` or `_` is written as `%` and hexadecimal.
fn file_name(id: &str) -> Result<String, StoreError> {
    if id.is_empty() || id.len() > ID {
        let reason = std::io::Error::from(std::io::ErrorKind::InvalidInput);
        return Err(StoreError::io(format!("a database id has 1 to {ID} bytes"), reason));
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let mut name = String::with_capacity(id.len() + 7);
    for byte in id.bytes() {
        if plain(byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    name.push_str(".sqlite");
    Ok(name)
}

/// The id that has a file name; `None` if none has.
fn id_of(name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = name.strip_suffix(".sqlite")?.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    let id = String::from_utf8(bytes).ok()?;
    (file_name(&id).ok()? == name).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_leads_back_to_its_id() {
        for id in ["a", "../x/É", "0b1c-_", "a.b"] {
            assert_eq!(id_of(&file_name(id).unwrap()).as_deref(), Some(id));
        }
        assert_eq!(id_of("a.history.sqlite"), None);
        assert_eq!(id_of("%2.sqlite"), None);
    }

    #[test]
    fn one_id_is_one_database_and_its_file_stays_in_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let store = D1Store::open(dir.path()).unwrap();
        let a = store.database("../x/É").unwrap();
        assert!(Arc::ptr_eq(&a, &store.database("../x/É").unwrap()));
        assert!(!Arc::ptr_eq(&a, &store.database("../x/é").unwrap()));
        assert!(dir.path().join("%2e%2e%2fx%2f%c3%89.sqlite").exists());
        assert!(store.database("").is_err());
        assert!(store.database(&"x".repeat(81)).is_err());
    }

    #[test]
    fn names_that_differ_in_case_are_two_files_everywhere() {
        assert_ne!(file_name("DB").unwrap().to_lowercase(), file_name("db").unwrap().to_lowercase());
    }
}
