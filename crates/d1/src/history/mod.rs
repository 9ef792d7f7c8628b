//! What a database was: the way back from its present state to each of its last days.
//!
//! After each commit its pages are read from SQLite's log (`wal.rs`), and for each page the difference to what it was
//! before (`delta.rs`) goes into a record (`record.rs`). Records are flushed into a file of their own (`file.rs`)
//! before SQLite's log is checkpointed, which from then on is our call. So whatever is not in the history file yet is
//! still in the log: a crash loses nothing, and a commit costs no flush of its own.
//!
//! Going back (`rewind.rs`) starts from the present and takes records off, newest first: no copy of the database is
//! kept, and the oldest records can be dropped or thinned at any time (`tidy.rs`).

mod delta;
mod file;
mod record;
mod restore;
mod rewind;
mod tidy;
mod wal;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_runtime::Clock;
use skep_store::StoreError;

use file::{About, Chunk, HistoryFile};
use record::{Change, Record};
use wal::{Found, Wal};

pub(crate) use file::{path_of, remove};
pub(crate) use restore::write_back;
pub(crate) use tidy::{Tidied, tidy};

/// Bytes of records that are compressed together, and at most those of a record's part.
const CHUNK: usize = 512 << 10;
/// Frames in the log after which it is checkpointed, as many as SQLite's own number.
const LOG: u32 = 1000;
/// The log is tried again after so many more frames, where a reader kept it from being checkpointed.
const AGAIN: u32 = 100;
/// So many frames of the log, 32 MiB, are kept for history while the disk is full. Then the database needs the room.
const PATIENCE: u32 = 8 * LOG;
/// After an error, history is not begun again for so long, in milliseconds.
const REST_MS: u64 = 10_000;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How far back, in milliseconds.
    pub age_ms: u64,
    /// For so long, in milliseconds, every state is kept; of older ones the last of each minute.
    pub whole_ms: u64,
    /// Bytes of a database's history at most: then it reaches less far back.
    pub bytes: u64,
}

impl Default for Retention {
    /// Cloudflare's 30 days, and a bound of the disk.
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60 * 1000;
        Self { age_ms: 30 * DAY, whole_ms: DAY, bytes: 1 << 30 }
    }
}

/// Why there is no state to go back to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeTravelError {
    /// It is no bookmark of this database.
    #[error("Bookmark {0} is invalid.")]
    Invalid(String),
    /// History does not reach back so far.
    #[error("{asked} is older than what can be restored: the history of this database begins at {oldest}.")]
    TooOld {
        /// What was asked for.
        asked: String,
        /// When the oldest state was the database's, in RFC 3339.
        oldest: String,
    },
    /// A time that is still to come.
    #[error("{0} is in the future.")]
    Future(String),
    /// History is not kept.
    #[error("No history of this database is kept.")]
    Off,
    /// What is on the disk does not fit together, or cannot be read.
    #[error("The history of this database cannot be read: {0}")]
    Failed(String),
}

impl From<StoreError> for TimeTravelError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<rusqlite::Error> for TimeTravelError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What the histories of a folder share.
#[derive(Clone, Debug)]
pub(crate) struct Keeping {
    pub retention: Retention,
    pub clock: Clock,
    /// Held while a history file is made, removed or tidied.
    pub files: Arc<Mutex<()>>,
}

impl Keeping {
    pub fn lock(&self) -> MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The history of one database, from its opening on.
#[derive(Debug)]
pub(crate) struct History {
    database: PathBuf,
    keeping: Keeping,
    wal: Wal,
    /// Nothing before the first write, so that opening a database writes nothing.
    running: Option<Running>,
    /// When it may be begun, after an error.
    rest_until_ms: u64,
    /// Frames in the log when it was last checkpointed.
    tried: u32,
}

/// History that is being kept.
#[derive(Debug)]
struct Running {
    file: HistoryFile,
    about: About,
    /// Records that are not in the file yet, and their bounds.
    pending: Vec<u8>,
    bounds: Option<Chunk>,
    /// Whether a transaction of the file is open, since records did not fit in memory.
    spilling: bool,
    /// Whether the log was read beyond what the file says.
    ahead: bool,
}

impl History {
    /// Of a database that has just been opened. What the log has beyond what is stored is read in.
    pub fn open(database: &Path, keeping: Keeping) -> Result<Self, StoreError> {
        let failed = |e| StoreError::io(format!("cannot read {}", database.display()), e);
        let wal = Wal::open(database).map_err(failed)?;
        let mut this =
            Self { database: database.to_owned(), keeping, wal, running: None, rest_until_ms: 0, tried: 0 };
        if !path_of(database).exists() {
            return Ok(this);
        }
        match this.resume() {
            Ok(true) => {}
            Err(error @ StoreError::TooNew { .. }) => return Err(error),
            Ok(false) => this.forget("the database was written without it"),
            Err(error) => this.forget(&error.to_string()),
        }
        Ok(this)
    }

    /// Goes on where the file ends; whether it is of this database as it is.
    fn resume(&mut self) -> Result<bool, StoreError> {
        let file = HistoryFile::open(&path_of(&self.database))?;
        let Some(about) = file.about()? else { return Ok(false) };
        let failed = |e| StoreError::io("cannot read the log of a database", e);
        if about.page_size != self.wal.page_size
            || self.wal.seek(about.place).map_err(failed)? == Found::Nothing
        {
            return Ok(false);
        }
        if self.opening().map_err(failed)? != about.opening {
            return Ok(false);
        }
        self.running = Some(Running::new(file, about));
        // Nobody knows when these commits were made: not after the log was written last.
        let written = self.wal.written_ms().unwrap_or_else(|| self.keeping.clock.now_ms());
        self.read_log(written)?;
        Ok(true)
    }

    /// Begins, if it has not begun yet. An error does not keep the database from being written.
    pub fn begin(&mut self) {
        if self.running.is_some() || self.keeping.clock.now_ms() < self.rest_until_ms {
            return;
        }
        if let Err(error) = self.begin_anew() {
            self.forget(&error.to_string());
        }
    }

    fn begin_anew(&mut self) -> Result<(), StoreError> {
        let failed = |e| StoreError::io("cannot read the log of a database", e);
        let keeping = self.keeping.clone();
        let _lock = keeping.lock();
        remove(&self.database).map_err(|e| StoreError::io("cannot remove old history", e))?;
        self.wal.skip_to_end().map_err(failed)?;
        let file = HistoryFile::open(&path_of(&self.database))?;
        let now = self.keeping.clock.now_ms();
        let about = About {
            era: u32::try_from(now / 1000).unwrap_or(u32::MAX),
            opening: self.opening().map_err(failed)?,
            page_size: self.wal.page_size,
            seq: 0,
            ms: now,
            place: self.wal.at,
            base_seq: 0,
            base_ms: now,
        };
        file.set_about(&about)?;
        self.running = Some(Running::new(file, about));
        Ok(())
    }

    /// Gives history up: the database comes first. It begins anew after a while.
    fn forget(&mut self, why: &str) {
        tracing::error!(database = %self.database.display(), why, "the history of a D1 database is lost, and begins anew");
        self.running = None;
        self.rest_until_ms = self.keeping.clock.now_ms() + REST_MS;
        let _lock = self.keeping.lock();
        if let Err(error) = remove(&self.database) {
            tracing::error!(%error, "old history of a D1 database cannot be removed");
        }
    }

    /// Era and number of the last commit, where history is kept.
    pub fn now(&self) -> Option<(u32, u64)> {
        self.running.as_ref().map(|running| (running.about.era, running.about.seq))
    }

    /// Reads what was committed. Between transactions only.
    pub fn follow(&mut self) {
        if let Err(error) = self.read_log(self.keeping.clock.now_ms()) {
            self.forget(&error.to_string());
        }
    }

    fn read_log(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let failed = |e| StoreError::io("cannot read the log of a database", e);
        let Some(running) = &mut self.running else {
            while let Some(commit) = self.wal.next().map_err(failed)? {
                self.wal.advance(commit);
            }
            return Ok(());
        };
        while let Some(commit) = self.wal.next().map_err(failed)? {
            let about = &mut running.about;
            about.seq += 1;
            about.ms = about.ms.max(now_ms);
            let (seq, before, after) = (about.seq, self.wal.at.pages, commit.end.pages);
            let record =
                Record { first: seq, last: seq, ms: about.ms, before, after, pages: BTreeMap::new() };
            let gone = (after..before).map(|page| (page + 1, None));
            let kept = commit.pages.iter().filter(|(page, _)| **page <= before.min(after));
            let kept = kept.map(|(page, frame)| (*page, Some(*frame)));
            let mut part = record.clone();
            let mut size = 0;
            for (page, frame) in kept.chain(gone) {
                let Some(change) = change(&self.wal, page, frame).map_err(failed)? else { continue };
                size += change.size();
                part.pages.insert(page, change);
                if size > CHUNK {
                    running.push(&std::mem::replace(&mut part, record.clone()))?;
                    size = 0;
                }
            }
            running.push(&part)?;
            self.wal.advance(commit);
            running.ahead = true;
        }
        if running.spilling {
            self.flush()?;
        }
        Ok(())
    }

    /// Stores what is known. From then on the log up to here may be checkpointed.
    fn flush(&mut self) -> Result<(), StoreError> {
        let opening = self.opening().map_err(|e| StoreError::io("cannot read a database", e))?;
        let place = self.wal.at;
        let Some(running) = &mut self.running else { return Ok(()) };
        if running.ahead {
            (running.about.opening, running.about.place) = (opening, place);
            running.store()?;
        }
        Ok(())
    }

    /// Stores what is known; if that fails, history is given up. A full disk is waited out for a while: what is not
    /// stored is still in the log.
    pub fn settle(&mut self) {
        self.follow();
        match self.flush() {
            Ok(()) => {}
            Err(StoreError::DiskFull) if self.wal.at.frames < PATIENCE => {
                self.running = None;
                if !self.resume().is_ok_and(|ours| ours) {
                    self.forget("the disk is full");
                }
            }
            Err(error) => self.forget(&error.to_string()),
        }
    }

    /// Whether something is known that is not stored.
    pub fn is_ahead(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.ahead)
    }

    /// Whether the log has become long enough to be checkpointed.
    pub fn wants_checkpoint(&mut self) -> bool {
        let frames = self.wal.at.frames;
        if frames < self.tried {
            self.tried = 0;
        }
        frames >= LOG && frames >= self.tried + AGAIN
    }

    /// Notes that the log was checkpointed, as far as readers let it be.
    pub fn checkpointed(&mut self) {
        self.tried = self.wal.at.frames;
    }

    /// How often the database has been opened for writing, as its header says.
    fn opening(&self) -> std::io::Result<u32> {
        let mut page = vec![0; self.wal.page_size];
        self.wal.page(1, &mut page)?;
        Ok(u32::from_be_bytes([page[60], page[61], page[62], page[63]]))
    }
}

impl Running {
    fn new(file: HistoryFile, about: About) -> Self {
        Self { file, about, pending: Vec::new(), bounds: None, spilling: false, ahead: false }
    }

    fn push(&mut self, record: &Record) -> Result<(), StoreError> {
        record.put(&mut self.pending);
        let bounds = self.bounds.get_or_insert(Chunk {
            id: 0,
            first_seq: record.first,
            last_seq: record.last,
            first_ms: record.ms,
            last_ms: record.ms,
            span: 0,
            raw: 0,
        });
        (bounds.last_seq, bounds.last_ms) = (record.last, record.ms);
        if self.pending.len() >= CHUNK {
            if !self.spilling {
                self.file.connection.execute_batch("BEGIN IMMEDIATE")?;
                self.spilling = true;
            }
            self.add_pending()?;
        }
        Ok(())
    }

    fn add_pending(&mut self) -> Result<(), StoreError> {
        if let Some(bounds) = self.bounds.take() {
            self.file.add(&self.pending, &bounds)?;
            self.pending.clear();
        }
        Ok(())
    }

    fn store(&mut self) -> Result<(), StoreError> {
        if !self.spilling {
            self.file.connection.execute_batch("BEGIN IMMEDIATE")?;
            self.spilling = true;
        }
        self.add_pending()?;
        self.file.set_about(&self.about)?;
        self.file.connection.execute_batch("COMMIT")?;
        self.spilling = false;
        self.ahead = false;
        Ok(())
    }
}

/// What leads back from a page as a commit wrote it, or took it away, to what it was.
fn change(wal: &Wal, page: u32, frame: Option<u32>) -> std::io::Result<Option<Change>> {
    let mut old = vec![0; wal.page_size];
    let mut new = old.clone();
    wal.page(page, &mut old)?;
    let Some(frame) = frame else {
        return Ok(Some(Change::Anew { delta: delta::between(&new, &old) }));
    };
    wal.frame(frame, &mut new)?;
    let delta = delta::between(&new, &old);
    Ok((!delta.is_empty()).then(|| Change::Back { crc: crc32fast::hash(&new), delta }))
}
