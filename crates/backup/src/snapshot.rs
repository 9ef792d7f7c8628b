//! All files at one moment.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::BackupError;
use crate::walk::{Kind, Layout, walk};

/// How often a writer's lock is tried, and how many times. SQLite's own waits grow to 100 ms and never meet the moment
/// between two transactions of a busy writer.
const TRY_EVERY: Duration = Duration::from_micros(50);
const TRIES: i32 = 100_000;
/// A change within this time after a file's last one may not show in its time of change.
const CLOCK_TICK: Duration = Duration::from_secs(1);
/// Rounds of copying guarded files before they must hold still, at most.
const ROUNDS: usize = 3;

/// A folder as it was at one moment. What it needs on the disk goes with it.
#[derive(Debug)]
pub struct Snapshot {
    root: PathBuf,
    stage: Stage,
    databases: BTreeMap<PathBuf, Pinned>,
}

/// A SQLite file, read as it was at the moment.
#[derive(Debug)]
struct Pinned {
    /// Locks writers out.
    gate: Connection,
    /// Sees the file as it is while the gate is closed.
    reader: Connection,
}

/// How a guarded file looked when it was copied.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    changed: (i64, i64),
}

/// A folder for copies and links, removed when it is dropped.
#[derive(Debug)]
struct Stage {
    path: PathBuf,
    copied: BTreeMap<PathBuf, Stamp>,
}

impl Snapshot {
    /// Takes a snapshot of `root`. `stage` is a folder that is made for it, best on the same file system. `hold_still`
    /// makes the writers of guarded files pause for as long as its result lives; `settle`, which is called before the first
    /// file is locked, does the same for writers whose files must be at one point together. Blocking.
    ///
    /// Writers of SQLite files wait for some milliseconds; they need a busy time-out, and `BEGIN IMMEDIATE`.
    pub fn take(
        root: &Path,
        stage: &Path,
        layout: Layout<'_>,
        settle: &mut dyn FnMut() -> Box<dyn Any>,
        hold_still: &mut dyn FnMut() -> Box<dyn Any>,
    ) -> Result<Self, BackupError> {
        let _ = std::fs::remove_dir_all(stage);
        let stage = Stage { path: stage.to_owned(), copied: BTreeMap::new() };
        std::fs::create_dir_all(stage.kept()).map_err(BackupError::io("cannot create", &stage.path))?;
        let mut this = Self { root: root.to_owned(), stage, databases: BTreeMap::new() };
        // What can be done before the moment: most files do not change meanwhile.
        for round in 1.. {
            let found = walk(root, layout)?;
            this.open(&found)?;
            if this.keep(&found)? == 0 || round == ROUNDS {
                break;
            }
        }
        let settled = settle();
        let still = this.close_gates(layout)?;
        let held = hold_still();
        this.keep(&still)?;
        this.stage.forget_gone(&still)?;
        for (path, pinned) in &this.databases {
            pinned.pin().map_err(BackupError::database(&root.join(path)))?;
        }
        for pinned in this.databases.values() {
            // It fails only where the lock is gone already.
            let _ = pinned.gate.execute_batch("ROLLBACK");
        }
        drop((held, settled));
        Ok(this)
    }

    /// Closes the gate of every SQLite file, also of those that are made meanwhile; returns what there is then.
    fn close_gates(&mut self, layout: Layout<'_>) -> Result<BTreeMap<PathBuf, Kind>, BackupError> {
        let mut closed: Vec<PathBuf> = Vec::new();
        loop {
            for (path, pinned) in &self.databases {
                if !closed.contains(path) {
                    let close = pinned.gate.execute_batch("BEGIN IMMEDIATE");
                    close.map_err(BackupError::database(&self.root.join(path)))?;
                }
            }
            closed = self.databases.keys().cloned().collect();
            let found = walk(&self.root, layout)?;
            self.open(&found)?;
            if self.databases.len() == closed.len() {
                return Ok(found);
            }
        }
    }

    /// Opens the SQLite files that are not open yet.
    fn open(&mut self, found: &BTreeMap<PathBuf, Kind>) -> Result<(), BackupError> {
        self.databases.retain(|path, _| found.contains_key(path));
        for (path, _) in found.iter().filter(|(_, kind)| **kind == Kind::Database) {
            if !self.databases.contains_key(path) {
                let file = self.root.join(path);
                let pinned = Pinned::open(&file).map_err(BackupError::database(&file))?;
                self.databases.insert(path.clone(), pinned);
            }
        }
        Ok(())
    }

    /// Links immutable files and copies guarded ones that have changed; returns how many it copied.
    fn keep(&mut self, found: &BTreeMap<PathBuf, Kind>) -> Result<usize, BackupError> {
        let mut copied = 0;
        for (path, kind) in found {
            let from = self.root.join(path);
            let done = match kind {
                Kind::Immutable => self.stage.link(&from, path),
                Kind::Guarded => self.stage.copy(&from, path).map(|fresh| copied += usize::from(fresh)),
                Kind::Database | Kind::LeftOut => continue,
            };
            match done {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                done => done.map_err(BackupError::io("cannot copy", &from))?,
            }
        }
        Ok(copied)
    }

    /// Every file: its path below the root, and where its content can be read. Copies SQLite files as it gets to them.
    pub(crate) fn files(&self) -> impl Iterator<Item = Result<(PathBuf, PathBuf), BackupError>> {
        let databases = self.databases.iter().map(|(path, pinned)| {
            let copy = self.stage.path.join("copy.sqlite");
            let _ = std::fs::remove_file(&copy);
            pinned.copy(&copy).map_err(BackupError::database(&self.root.join(path)))?;
            Ok((path.clone(), copy))
        });
        let kept: Vec<_> = match walk(&self.stage.kept(), &|_| Kind::Immutable) {
            Ok(kept) => {
                kept.into_keys().map(|path| Ok((path.clone(), self.stage.kept().join(path)))).collect()
            }
            Err(error) => vec![Err(error)],
        };
        databases.chain(kept)
    }
}

impl Pinned {
    fn open(file: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let gate = Connection::open_with_flags(file, flags)?;
        gate.busy_handler(Some(|tries| {
            std::thread::sleep(TRY_EVERY);
            tries < TRIES
        }))?;
        let reader = Connection::open_with_flags(file, flags)?;
        // The last one to close a file would end its log, which is not ours.
        for connection in [&gate, &reader] {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        }
        Ok(Self { gate, reader })
    }

    /// From here on the reader sees the file as it is now.
    fn pin(&self) -> rusqlite::Result<()> {
        self.reader.execute_batch("BEGIN")?;
        // A read begins with the first query.
        self.reader.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
    }

    fn copy(&self, to: &Path) -> rusqlite::Result<()> {
        let mut copy = Connection::open(to)?;
        let backup = rusqlite::backup::Backup::new(&self.reader, &mut copy)?;
        backup.run_to_completion(4096, Duration::ZERO, None)?;
        drop(backup);
        copy.pragma_update(None, "journal_mode", "WAL")?;
        copy.close().map_err(|(_, error)| error)
    }
}

impl Stage {
    fn kept(&self) -> PathBuf {
        self.path.join("kept")
    }

    fn place(&self, path: &Path) -> std::io::Result<PathBuf> {
        let to = self.kept().join(path);
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(to)
    }

    fn link(&self, from: &Path, path: &Path) -> std::io::Result<()> {
        let to = self.kept().join(path);
        if to.exists() {
            return Ok(());
        }
        let to = self.place(path)?;
        match std::fs::hard_link(from, &to) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(e),
            // Another file system, or one without links.
            Err(_) => std::fs::copy(from, &to).map(drop),
        }
    }

    /// Copies a file unless it looks as it did when it was copied last; whether it did.
    fn copy(&mut self, from: &Path, path: &Path) -> std::io::Result<bool> {
        let meta = std::fs::metadata(from)?;
        let stamp = Stamp::of(&meta);
        if self.copied.get(path) == Some(&stamp) {
            return Ok(false);
        }
        let to = self.place(path)?;
        std::fs::copy(from, &to)?;
        match is_settled(&meta) {
            true => drop(self.copied.insert(path.to_owned(), stamp)),
            false => drop(self.copied.remove(path)),
        }
        Ok(true)
    }

    /// Removes copies of guarded files that are gone.
    fn forget_gone(&mut self, still: &BTreeMap<PathBuf, Kind>) -> Result<(), BackupError> {
        let kept = walk(&self.kept(), &|_| Kind::Immutable)?;
        for path in kept.keys().filter(|path| !still.contains_key(*path)) {
            let copy = self.kept().join(path);
            std::fs::remove_file(&copy).map_err(BackupError::io("cannot remove", &copy))?;
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self { inode: meta.ino(), len: meta.len(), changed: (meta.mtime(), meta.mtime_nsec()) }
    }
}

/// Whether a later change is sure to show.
fn is_settled(meta: &Metadata) -> bool {
    let age = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age > CLOCK_TICK)
}
