//! The folder of all databases.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use skep_store::StoreError;

use crate::database::D1Database;

/// Bytes of a database's id at most, so that the file's name fits every file system.
const ID: usize = 80;

/// A folder with one SQLite file per database.
#[derive(Debug)]
pub struct D1Store {
    dir: PathBuf,
    open: Mutex<HashMap<String, Weak<D1Database>>>,
}

impl D1Store {
    /// Opens or creates the folder.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir)
            .map_err(|e| StoreError::io(format!("cannot create {}", dir.display()), e))?;
        Ok(Self { dir: dir.to_owned(), open: Mutex::default() })
    }

    /// The database of that id, created if there is none. While anyone holds it, the same id gives the same
    /// database; once nobody does, its file is closed.
    pub fn database(&self, id: &str) -> Result<Arc<D1Database>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = open.get(id).and_then(Weak::upgrade) {
            return Ok(database);
        }
        let database = Arc::new(D1Database::open(&self.dir.join(file_name(id)?))?);
        open.retain(|_, database| database.strong_count() > 0);
        open.insert(id.to_owned(), Arc::downgrade(&database));
        Ok(database)
    }

    /// Removes a database with all that is in it; one that is not there is no error. Blocking. Who still holds it
    /// writes into nothing.
    pub fn remove(&self, id: &str) -> Result<(), StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(id);
        let path = self.dir.join(file_name(id)?);
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

#[cfg(test)]
mod tests {
    use super::*;

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
