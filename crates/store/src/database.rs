//! One SQLite file: one writer thread, readers on the caller's thread.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, Transaction};

use crate::StoreError;
use crate::writer::Writer;

/// Statements that stay prepared per connection.
const STATEMENT_CACHE: usize = 64;
/// Reader connections kept for reuse; more may exist for a moment under load.
const IDLE_READERS: usize = 8;

/// The steps that bring a file from any earlier format to the newest. Step `n` (from 0) leads from format
/// `n` to `n + 1`; steps are only ever added at the end. The format is SQLite's `user_version`.
#[derive(Clone, Copy, Debug)]
pub struct Schema(pub &'static [&'static str]);

/// An open SQLite file in WAL mode with `synchronous=FULL`.
///
/// Writes are queued to one thread, which puts all that wait into one transaction: they share the flush
/// to disk. Reads run at once on the caller's thread and see every acknowledged write.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    writer: Writer,
    readers: Mutex<Vec<Connection>>,
}

impl Database {
    /// Opens or creates the file at `path` and upgrades it to `schema`.
    pub fn open(path: &Path, schema: Schema) -> Result<Self, StoreError> {
        Self::open_with(path, schema, |_| Ok(()))
    }

    /// As [`Database::open`]; `prepare` is run once on the writer's connection (functions, hooks, limits).
    pub fn open_with(
        path: &Path,
        schema: Schema,
        prepare: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<Self, StoreError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|e| StoreError::io(format!("cannot create {}", parent.display()), e))?;
        }
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        schema.upgrade(&mut connection, path)?;
        prepare(&connection)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Writer::start(path, connection)?,
            readers: Mutex::default(),
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `job` on the writer thread and resolves when what it wrote is on the disk. If `job` fails,
    /// nothing of it is kept; other writes of the same group are not touched.
    ///
    /// Use `prepare_cached`; do not commit, roll back or hold the thread for long.
    pub async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.writer.run(job).await
    }

    /// Runs `query` at once on this thread, on a connection that can only read.
    pub fn read<T, E: From<StoreError>>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let connection = self.take_reader()?;
        let result = query(&connection);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < IDLE_READERS {
            readers.push(connection);
        }
        result
    }

    fn take_reader(&self) -> Result<Connection, StoreError> {
        if let Some(connection) = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(connection);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        Ok(connection)
    }
}

impl Schema {
    /// Brings the file at `path`, open as `connection`, to the newest format.
    pub fn upgrade(self, connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
        let known = self.0.len() as i64;
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found > known {
            return Err(StoreError::TooNew { path: path.to_owned(), found, known });
        }
        for (step, sql) in self.0.iter().enumerate().skip(found.max(0) as usize) {
            let transaction = connection.transaction()?;
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "user_version", step as i64 + 1)?;
            transaction.commit()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: Schema = Schema(&["CREATE TABLE t(k TEXT PRIMARY KEY, v INTEGER) STRICT"]);
    const V2: Schema = Schema(&[V1.0[0], "ALTER TABLE t ADD COLUMN note TEXT"]);

    fn count(db: &Database) -> i64 {
        db.read(|c| Ok::<_, StoreError>(c.query_row("SELECT count(*) FROM t", [], |r| r.get(0))?)).unwrap()
    }

    async fn put(db: &Database, key: &str) -> Result<(), StoreError> {
        let key = key.to_owned();
        db.write(move |t| {
            t.prepare_cached("INSERT INTO t(k, v) VALUES (?, 1)")?.execute([key])?;
            Ok(())
        })
        .await
    }

    #[tokio::test]
    async fn a_failed_write_keeps_nothing_and_spares_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("a.sqlite"), V1).unwrap();
        let results = futures_util_join(&db, &["a", "b", "a", "c"]).await;
        assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 3);
        assert_eq!(count(&db), 3);
    }

    async fn futures_util_join(db: &Database, keys: &[&str]) -> Vec<Result<(), StoreError>> {
        let (a, b, c, d) =
            tokio::join!(put(db, keys[0]), put(db, keys[1]), put(db, keys[2]), put(db, keys[3]));
        vec![a, b, c, d]
    }

    #[tokio::test]
    async fn an_old_file_is_upgraded_and_a_newer_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        let db = Database::open(&path, V1).unwrap();
        put(&db, "a").await.unwrap();
        drop(db);
        let db = Database::open(&path, V2).unwrap();
        assert_eq!(count(&db), 1);
        drop(db);
        assert!(matches!(Database::open(&path, V1), Err(StoreError::TooNew { found: 2, known: 1, .. })));
    }

    #[tokio::test]
    async fn a_panicking_write_fails_alone() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("a.sqlite"), V1).unwrap();
        let failed: Result<(), _> = db.write(|_| panic!("a bug")).await;
        assert!(failed.is_err());
        put(&db, "a").await.unwrap();
        assert_eq!(count(&db), 1);
    }
}
