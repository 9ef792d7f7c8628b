//! The file that history is kept in: a SQLite file beside the database's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use skep_store::{Schema, StoreError};

use super::record::Record;
use super::wal::Position;

/// How its format came about.
const SCHEMA: Schema = Schema(&["
    CREATE TABLE about (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        -- The first part of its bookmarks: when it was begun, in seconds since 1970.
        era INTEGER NOT NULL,
        -- How often the database had been opened for writing when it was read last.
        opening INTEGER NOT NULL,
        page_size INTEGER NOT NULL,
        -- The last commit that is here, and when it was made, in milliseconds since 1970.
        seq INTEGER NOT NULL, ms INTEGER NOT NULL,
        -- Its place in the database's log.
        salt1 INTEGER NOT NULL, salt2 INTEGER NOT NULL, frames INTEGER NOT NULL,
        sum1 INTEGER NOT NULL, sum2 INTEGER NOT NULL, pages INTEGER NOT NULL,
        -- The oldest state that can be gone back to, and since when it was the database's.
        base_seq INTEGER NOT NULL, base_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE chunk (
        id INTEGER PRIMARY KEY,
        first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
        first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
        -- The span in which one state stays, in milliseconds; 0 while all do.
        span INTEGER NOT NULL,
        -- Bytes before compression.
        raw INTEGER NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
    CREATE INDEX chunk_time ON chunk (first_ms, last_ms, last_seq, first_seq, span, raw);
"]);

/// How long a lock is waited for: a backup takes it for milliseconds, tidying for about as long.
const BUSY: Duration = Duration::from_secs(10);
/// Of zstd: what compresses as fast as a page is written.
const LEVEL: i32 = 1;

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub era: u32,
    pub opening: u32,
    pub page_size: usize,
    pub seq: u64,
    pub ms: u64,
    pub place: Position,
    pub base_seq: u64,
    pub base_ms: u64,
}

/// Records that are stored together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub id: i64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub first_ms: u64,
    pub last_ms: u64,
    pub span: u64,
    pub raw: usize,
}

/// The open file.
#[derive(Debug)]
pub(super) struct HistoryFile {
    pub connection: Connection,
}

/// Beside the file of the database: `x.sqlite` has `x.history.sqlite`.
pub(crate) fn path_of(database: &Path) -> PathBuf {
    database.with_extension("history.sqlite")
}

/// Removes a file. One that is not there is no error.
pub(crate) fn remove(database: &Path) -> std::io::Result<()> {
    let path = path_of(database).into_os_string();
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.clone();
        file.push(suffix);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl HistoryFile {
    /// Opens or creates the file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // 256 KiB instead of 2 MiB: there is one per database, and it is written from one end to the other.
        connection.pragma_update(None, "cache_size", -256)?;
        SCHEMA.upgrade(&mut connection, path)?;
        Ok(Self { connection })
    }

    /// What it says of itself; nothing before it has been begun.
    pub fn about(&self) -> rusqlite::Result<Option<About>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT era, opening, page_size, seq, ms, salt1, salt2, frames, sum1, sum2, pages, base_seq, base_ms \
             FROM about",
        )?;
        let about = statement.query_row([], |row| {
            Ok(About {
                era: row.get(0)?,
                opening: row.get(1)?,
                page_size: count(row, 2)? as usize,
                seq: count(row, 3)?,
                ms: count(row, 4)?,
                place: Position {
                    salts: (row.get(5)?, row.get(6)?),
                    frames: row.get(7)?,
                    sums: (row.get(8)?, row.get(9)?),
                    pages: row.get(10)?,
                },
                base_seq: count(row, 11)?,
                base_ms: count(row, 12)?,
            })
        });
        about.optional()
    }

    /// Writes what it says of itself, but for the oldest state where it is known already.
    pub fn set_about(&self, about: &About) -> rusqlite::Result<()> {
        let place = &about.place;
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO about VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET \
             opening = excluded.opening, seq = excluded.seq, ms = excluded.ms, salt1 = excluded.salt1, \
             salt2 = excluded.salt2, frames = excluded.frames, sum1 = excluded.sum1, sum2 = excluded.sum2, \
             pages = excluded.pages",
        )?;
        statement.execute(params![
            about.era,
            about.opening,
            about.page_size as i64,
            about.seq as i64,
            about.ms as i64,
            place.salts.0,
            place.salts.1,
            place.frames,
            place.sums.0,
            place.sums.1,
            place.pages,
            about.base_seq as i64,
            about.base_ms as i64,
        ])?;
        Ok(())
    }

    /// Adds records, in their order.
    pub fn add(&self, raw: &[u8], bounds: &Chunk) -> Result<(), StoreError> {
        let data =
            zstd::bulk::compress(raw, LEVEL).map_err(|e| StoreError::io("cannot compress history", e))?;
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO chunk (id, first_seq, last_seq, first_ms, last_ms, span, raw, data) \
             VALUES (nullif(?, 0), ?, ?, ?, ?, ?, ?, ?)",
        )?;
        let Chunk { id, first_seq, last_seq, first_ms, last_ms, span, .. } = *bounds;
        let numbers = [first_seq, last_seq, first_ms, last_ms, span, raw.len() as u64].map(|n| n as i64);
        let [first_seq, last_seq, first_ms, last_ms, span, raw] = numbers;
        statement.execute(params![id, first_seq, last_seq, first_ms, last_ms, span, raw, data])?;
        Ok(())
    }

    /// The chunks of a condition, with an order.
    pub fn chunks(&self, which: &str, params: impl rusqlite::Params) -> rusqlite::Result<Vec<Chunk>> {
        let sql = format!("SELECT id, first_seq, last_seq, first_ms, last_ms, span, raw FROM chunk {which}");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params, |row| {
            Ok(Chunk {
                id: row.get(0)?,
                first_seq: count(row, 1)?,
                last_seq: count(row, 2)?,
                first_ms: count(row, 3)?,
                last_ms: count(row, 4)?,
                span: count(row, 5)?,
                raw: count(row, 6)? as usize,
            })
        })?;
        rows.collect()
    }

    /// The records of a chunk.
    pub fn records(&self, chunk: &Chunk) -> Result<Vec<Record>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT data FROM chunk WHERE id = ?")?;
        let data: Vec<u8> = statement.query_row([chunk.id], |row| row.get(0))?;
        let damaged = || std::io::Error::from(std::io::ErrorKind::InvalidData);
        let raw =
            zstd::bulk::decompress(&data, chunk.raw).map_err(|e| StoreError::io("cannot read history", e))?;
        Record::take_all(&raw).ok_or_else(|| StoreError::io("cannot read history", damaged()))
    }
}

/// A number that is never negative.
fn count(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(at)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, number))
}
