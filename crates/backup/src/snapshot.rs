//! All files at one moment.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::BackupError;
use crate::stamp::{Stamp, is_settled};
use crate::walk::{Kind, Layout, walk};

/// How often a writer's lock is tried, and how many times. SQLite's own waits grow to 100 ms and never meet the moment
/// between two transactions of a busy writer.
const TRY_EVERY: Duration = Duration::from_micros(50);
const TRIES: i32 = 100_000;
/// Rounds of copying guarded files before they must hold still, at most.
const ROUNDS: usize = 3;

/// A folder as it was at one moment. What it needs on the disk goes with it.
#[derive(Debug)]
pub struct Snapshot {
    root: PathBuf,
    stage: Stage,
    databases: BTreeMap<PathBuf, Pinned>,
    /// What there was at the moment.
    found: BTreeMap<PathBuf, Kind>,
}

/// A file of a snapshot.
pub(crate) struct Entry<'a> {
    /// Below the root.
    pub path: PathBuf,
    pub kind: Kind,
    /// How it looked, if a later change is sure to show in that.
    pub stamp: Option<Stamp>,
    content: Content<'a>,
}

enum Content<'a> {
    Pinned { database: Box<Pinned>, file: PathBuf, copy: PathBuf },
    Kept(&'a Path),
}

impl Entry<'_> {
    /// Where its content can be read until the next entry's is. Copies a SQLite file.
    pub fn content(self) -> Result<PathBuf, BackupError> {
        match self.content {
            Content::Kept(at) => Ok(at.to_owned()),
            Content::Pinned { database, file, copy } => {
                let _ = std::fs::remove_file(&copy);
                database.copy(&copy).map_err(BackupError::database(&file))?;
                Ok(copy)
            }
        }
    }
}

/// A SQLite file, read as it was at the moment.
#[derive(Debug)]
struct Pinned {
    /// Locks writers out.
    gate: Connection,
    /// Sees the file as it is while the gate is closed.
    reader: Connection,
    /// How the file and its log looked then, if a later change is sure to show.
    stamp: Option<Stamp>,
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
        let mut this =
            Self { root: root.to_owned(), stage, databases: BTreeMap::new(), found: BTreeMap::new() };
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
        for (path, pinned) in &mut this.databases {
            let file = root.join(path);
            pinned.pin().map_err(BackupError::database(&file))?;
            pinned.stamp = Stamp::of_database(&file);
        }
        for pinned in this.databases.values() {
            // It fails only where the lock is gone already.
            let _ = pinned.gate.execute_batch("ROLLBACK");
        }
        drop((held, settled));
        this.found = still;
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

    /// Shows every file, SQLite files first: they let go of what they keep for it as soon as they were shown.
    pub(crate) fn each(
        self,
        show: &mut dyn FnMut(Entry<'_>) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        let Self { root, stage, databases, found } = self;
        let copy = stage.path.join("copy.sqlite");
        for (path, mut database) in databases {
            let (file, stamp) = (root.join(&path), database.stamp.take());
            let content = Content::Pinned { database: Box::new(database), file, copy: copy.clone() };
            show(Entry { path, kind: Kind::Database, stamp, content })?;
        }
        for path in walk(&stage.kept(), &|_| Kind::Immutable)?.into_keys() {
            let at = stage.kept().join(&path);
            let kind = found.get(&path).copied().unwrap_or(Kind::Immutable);
            let stamp = match kind {
                Kind::Guarded => stage.copied.get(&path).cloned(),
                _ => std::fs::metadata(&at).ok().map(|meta| Stamp::of(&meta)),
            };
            show(Entry { path, kind, stamp, content: Content::Kept(&at) })?;
        }
        Ok(())
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
        Ok(Self { gate, reader, stamp: None })
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
