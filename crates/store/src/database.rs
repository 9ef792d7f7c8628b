//! One SQLite file: one writer thread, readers on the caller's thread. It sleeps while nobody uses it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

use rusqlite::{Connection, OpenFlags, Transaction};

use crate::StoreError;
use crate::awake::{self, Sleeper};
use crate::writer::Writer;

/// Statements that stay prepared per connection.
const STATEMENT_CACHE: usize = 64;
/// Reader connections kept for reuse; more may exist for a moment under load.
const IDLE_READERS: usize = 8;

/// The steps that bring a file from any earlier format to the newest. Step `n` (from 0) leads from format
/// `n` to `n + 1`; steps are only ever added at the end. The format is SQLite's `user_version`.
#[derive(Clone, Copy, Debug)]
pub struct Schema(pub &'static [&'static str]);

/// A SQLite file in WAL mode with `synchronous=FULL`.
///
/// Writes are queued to one thread, which puts all that wait into one transaction: they share the flush
/// to disk. Reads run at once on the caller's thread and see every acknowledged write.
///
/// What nobody uses has neither the thread nor an open file (`awake.rs`). The next one who uses it opens it again, for about a millisecond.
#[derive(Debug)]
pub struct Database {
    core: Arc<Core>,
}

struct Core {
    path: PathBuf,
    schema: Schema,
    prepare: fn(&Connection) -> rusqlite::Result<()>,
    open: Mutex<Open>,
    used: AtomicU64,
    /// Whether it was used since somebody looked after it.
    is_used: AtomicBool,
}

/// What an open file takes.
#[derive(Default)]
struct Open {
    /// `None`: it sleeps, and there are no readers.
    writer: Option<Arc<Writer>>,
    readers: Vec<Connection>,
    /// Reads that are under way.
    reading: usize,
    /// The thread of before, which closes the file.
    closing: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens or creates the file at `path` and upgrades it to `schema`.
    pub fn open(path: &Path, schema: Schema) -> Result<Self, StoreError> {
        Self::open_with(path, schema, |_| Ok(()))
    }

    /// As [`Database::open`]; `prepare` is run on the writer's connection whenever there is a new one (switches, functions, limits).
    pub fn open_with(
        path: &Path,
        schema: Schema,
        prepare: fn(&Connection) -> rusqlite::Result<()>,
    ) -> Result<Self, StoreError> {
        Self::make(path, schema, prepare, |_| {})
    }

    /// As [`Database::open`]; `first` is run on the writer's first connection.
    pub fn open_first(
        path: &Path,
        schema: Schema,
        first: impl FnOnce(&Connection),
    ) -> Result<Self, StoreError> {
        Self::make(path, schema, |_| Ok(()), first)
    }

    fn make(
        path: &Path,
        schema: Schema,
        prepare: fn(&Connection) -> rusqlite::Result<()>,
        first: impl FnOnce(&Connection),
    ) -> Result<Self, StoreError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|e| StoreError::io(format!("cannot create {}", parent.display()), e))?;
        }
        let core = Arc::new(Core {
            path: path.to_owned(),
            schema,
            prepare,
            open: Mutex::default(),
            used: AtomicU64::new(awake::now()),
            is_used: AtomicBool::new(true),
        });
        core.wake(&mut core.lock(), OpenFlags::default(), first)?;
        Ok(Self { core })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.core.path
    }

    /// Whether it was used since it was last [`Database::looked_after`].
    pub fn is_used(&self) -> bool {
        self.core.is_used.load(Ordering::Relaxed)
    }

    /// Whoever looks after all databases now and then says that he has done so, and need not come again before it is used.
    pub fn looked_after(&self) {
        self.core.is_used.store(false, Ordering::Relaxed);
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
        // Held until the answer is there: it does not go to sleep before.
        let writer = self.core.awake()?.writer.clone().ok_or(StoreError::Closed)?;
        writer.run(job).await
    }

    /// Runs `query` at once on this thread, on a connection that can only read.
    pub fn read<T, E: From<StoreError>>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut reading = Reading::begin(&self.core)?;
        let result = query(reading.connection()?);
        reading.is_whole = true;
        result
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is open, which is opened first if it is not.
    fn awake(self: &Arc<Self>) -> Result<MutexGuard<'_, Open>, StoreError> {
        let mut open = self.lock();
        self.used.store(awake::now(), Ordering::Relaxed);
        self.is_used.store(true, Ordering::Relaxed);
        if open.writer.is_none() {
            // What was removed meanwhile stays removed.
            self.wake(&mut open, OpenFlags::default() - OpenFlags::SQLITE_OPEN_CREATE, |_| {})?;
        }
        Ok(open)
    }

    fn wake(
        self: &Arc<Self>,
        open: &mut Open,
        flags: OpenFlags,
        first: impl FnOnce(&Connection),
    ) -> Result<(), StoreError> {
        if let Some(closing) = open.closing.take() {
            let _ = closing.join();
        }
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        self.schema.upgrade(&mut connection, &self.path)?;
        (self.prepare)(&connection)?;
        first(&connection);
        open.writer = Some(Arc::new(Writer::start(&self.path, connection)?));
        let this: Weak<Self> = Arc::downgrade(self);
        awake::has_woken(this);
        Ok(())
    }

    fn new_reader(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        Ok(connection)
    }
}

impl Sleeper for Core {
    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn is_awake(&self) -> bool {
        // Who is being opened or asked right now is.
        self.open.try_lock().map_or(true, |open| open.writer.is_some())
    }

    fn sleep(&self) -> bool {
        let Ok(mut open) = self.open.try_lock() else { return false };
        if open.reading > 0 {
            return false;
        }
        match open.writer.take().map(Arc::try_unwrap) {
            None => return true,
            Some(Err(in_use)) => {
                open.writer = Some(in_use);
                return false;
            }
            // The last one to close the file takes its log over, so it is the thread, and nobody waits for it.
            Some(Ok(writer)) => {
                open.readers.clear();
                open.closing = writer.end();
            }
        }
        true
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.readers.clear();
        self.writer = None;
        if let Some(closing) = self.closing.take() {
            let _ = closing.join();
        }
    }
}

/// A read that is under way.
struct Reading<'a> {
    core: &'a Core,
    connection: Option<Connection>,
    /// The query has come to its end, and its connection can be used again.
    is_whole: bool,
}

impl<'a> Reading<'a> {
    fn begin(core: &'a Arc<Core>) -> Result<Self, StoreError> {
        let mut open = core.awake()?;
        open.reading += 1;
        let connection = open.readers.pop();
        drop(open);
        let mut this = Self { core, connection, is_whole: false };
        if this.connection.is_none() {
            this.connection = Some(core.new_reader()?);
        }
        Ok(this)
    }

    fn connection(&self) -> Result<&Connection, StoreError> {
        self.connection.as_ref().ok_or(StoreError::Closed)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut open = self.core.lock();
        open.reading -= 1;
        if self.is_whole && open.readers.len() < IDLE_READERS {
            open.readers.extend(self.connection.take());
        }
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
    async fn who_sleeps_has_nothing_open_and_wakes_up_when_it_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        let db = Database::open(&path, V1).unwrap();
        put(&db, "a").await.unwrap();
        assert_eq!(count(&db), 1);
        let is_open = || {
            let files = std::fs::read_dir("/proc/self/fd").unwrap();
            files
                .flatten()
                .any(|file| std::fs::read_link(file.path()).is_ok_and(|open| open.starts_with(&dir)))
        };
        assert!(is_open() && db.core.is_awake());
        assert!(db.core.sleep());
        assert!(!db.core.is_awake());
        db.core.lock().closing.take().unwrap().join().unwrap();
        assert!(!is_open());
        assert_eq!(count(&db), 1);
        assert!(db.core.sleep());
        put(&db, "b").await.unwrap();
        assert_eq!(count(&db), 2);
    }

    #[tokio::test]
    async fn who_is_in_use_does_not_sleep() {
        let dir = tempfile::tempdir().unwrap();
        let db = Arc::new(Database::open(&dir.path().join("a.sqlite"), V1).unwrap());
        db.read(|_| {
            assert!(!db.core.sleep(), "it is being read");
            Ok::<_, StoreError>(())
        })
        .unwrap();
        let (begun, hears) = std::sync::mpsc::channel();
        let (go_on, waits) = std::sync::mpsc::channel();
        let written = db.clone();
        let write = tokio::task::spawn_blocking(move || {
            futures_executor(written.write(move |_| {
                begun.send(()).unwrap();
                waits.recv().unwrap();
                Ok(())
            }))
        });
        hears.recv().unwrap();
        assert!(!db.core.sleep(), "it is being written");
        go_on.send(()).unwrap();
        write.await.unwrap().unwrap();
        assert!(db.core.sleep());
    }

    fn futures_executor<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[tokio::test]
    async fn nothing_is_lost_while_it_falls_asleep_all_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let db = Arc::new(Database::open(&dir.path().join("a.sqlite"), V1).unwrap());
        let over = Arc::new(AtomicBool::new(false));
        let (sleeper, stop) = (db.clone(), over.clone());
        let sleeps = std::thread::spawn(move || {
            let mut slept = 0;
            while !stop.load(Ordering::SeqCst) || slept == 0 {
                slept += usize::from(sleeper.core.is_awake() && sleeper.core.sleep());
                std::thread::yield_now();
            }
        });
        for n in 0..200 {
            put(&db, &n.to_string()).await.unwrap();
            assert_eq!(count(&db), n + 1);
        }
        over.store(true, Ordering::SeqCst);
        sleeps.join().unwrap();
        assert_eq!(count(&db), 200);
    }

    #[tokio::test]
    async fn what_was_removed_while_it_slept_stays_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("one");
        let db = Database::open(&folder.join("a.sqlite"), V1).unwrap();
        assert!(db.core.sleep());
        db.core.lock().closing.take().unwrap().join().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(put(&db, "a").await.is_err());
        assert!(!folder.exists());
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
