//! What is too old, or too much.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::OptionalExtension;
use skep_store::StoreError;

use super::file::{Chunk, HistoryFile};
use super::record::{Record, thin};
use super::{CHUNK, Retention};

/// Of what is thinned, the last state of each minute stays, which is what Cloudflare promises.
const SPAN_MS: u64 = 60_000;
/// Where there is too much, what is older than this is thinned, too.
const YOUNG_MS: u64 = 10 * 60 * 1000;
/// Bytes of records that are thinned at a time.
const RUN: usize = 8 * CHUNK;

/// What tidying did to a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tidied {
    /// Chunks dropped.
    pub dropped: usize,
    /// Chunks thinned.
    pub thinned: usize,
    /// Bytes that are left.
    pub bytes: u64,
}

/// Tidies a history that may be in use. Blocking; the lock keeps files from being made or removed, and is taken for
/// some milliseconds at a time.
pub(crate) fn tidy(
    path: &Path,
    files: &Mutex<()>,
    retention: &Retention,
    now_ms: u64,
) -> Result<Tidied, StoreError> {
    let mut tidied = Tidied::default();
    let step = |step: &dyn Fn(&HistoryFile) -> Result<usize, StoreError>| {
        let _lock = files.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have been removed since the folder was listed.
        if !path.exists() {
            return Ok(0);
        }
        let file = HistoryFile::open(path)?;
        if file.about()?.is_none() {
            return Ok(0);
        }
        file.connection.execute_batch("BEGIN IMMEDIATE")?;
        let done = step(&file)?;
        file.connection.execute_batch("COMMIT")?;
        Ok::<_, StoreError>(done)
    };
    let before = |age: u64| now_ms.saturating_sub(age) as i64;
    tidied.dropped += step(&|file| drop_first(file, &format!("last_ms < {}", before(retention.age_ms))))?;
    let thin_older = |age: u64| {
        let mut thinned = 0;
        loop {
            match step(&|file| thin_run(file, before(age)))? {
                0 => return Ok::<_, StoreError>(thinned),
                some => thinned += some,
            }
        }
    };
    tidied.thinned += thin_older(retention.whole_ms)?;
    if step(&|file| Ok(usize::from(size(file)? > retention.bytes)))? > 0 {
        tidied.thinned += thin_older(YOUNG_MS.min(retention.whole_ms))?;
        tidied.dropped += step(&|file| drop_beyond(file, retention.bytes))?;
    }
    if tidied.dropped + tidied.thinned > 0 {
        let _lock = files.lock().unwrap_or_else(PoisonError::into_inner);
        if path.exists() {
            let file = HistoryFile::open(path)?;
            let mut statement = file.connection.prepare("PRAGMA incremental_vacuum")?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
        }
    }
    tidied.bytes = step(&|file| Ok(size(file)? as usize))? as u64;
    Ok(tidied)
}

/// Bytes of all records.
fn size(file: &HistoryFile) -> Result<u64, StoreError> {
    let sum: i64 =
        file.connection
            .query_row("SELECT coalesce(sum(length(data)), 0) FROM chunk", [], |row| row.get(0))?;
    Ok(sum.unsigned_abs())
}

/// Drops the oldest chunks, those of a condition, and notes where history begins then.
fn drop_first(file: &HistoryFile, which: &str) -> Result<usize, StoreError> {
    let last = format!("SELECT id, last_seq, last_ms FROM chunk WHERE {which} ORDER BY id DESC LIMIT 1");
    let last =
        file.connection.query_row(&last, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    let Some((id, seq, ms)): Option<(i64, i64, i64)> = last else { return Ok(0) };
    // Parts of one commit may be in several chunks: they go together.
    let dropped = file.connection.execute("DELETE FROM chunk WHERE id <= ? OR last_seq <= ?", [id, seq])?;
    file.connection.execute("UPDATE about SET base_seq = ?, base_ms = ?", [seq, ms])?;
    Ok(dropped)
}

/// Drops the oldest chunks until the rest has no more bytes than that.
fn drop_beyond(file: &HistoryFile, bytes: u64) -> Result<usize, StoreError> {
    let mut over = size(file)?.saturating_sub(bytes);
    let mut statement = file.connection.prepare("SELECT id, length(data) FROM chunk ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut last = None;
    while over > 0
        && let Some(row) = rows.next()?
    {
        last = Some(row.get::<_, i64>(0)?);
        over = over.saturating_sub(row.get::<_, i64>(1)?.unsigned_abs());
    }
    drop(rows);
    last.map_or(Ok(0), |last| drop_first(file, &format!("id <= {last}")))
}

/// Thins the oldest chunks that are not thinned yet and older than that; returns how many.
fn thin_run(file: &HistoryFile, before_ms: i64) -> Result<usize, StoreError> {
    let mut run: Vec<Chunk> = Vec::new();
    let mut raw = 0;
    for chunk in file.chunks("WHERE span = 0 AND last_ms < ? ORDER BY id LIMIT 4096", [before_ms])? {
        raw += chunk.raw;
        if !run.is_empty() && raw > RUN {
            break;
        }
        run.push(chunk);
    }
    let (Some(first), Some(last)) = (run.first().copied(), run.last().copied()) else { return Ok(0) };
    let mut records: Vec<Record> = Vec::new();
    for chunk in &run {
        records.extend(file.records(chunk)?);
    }
    let page_size = file.about()?.map_or(0, |about| about.page_size);
    let damaged = || StoreError::io("cannot read history", std::io::ErrorKind::InvalidData.into());
    let thinned = thin(records, SPAN_MS, page_size).ok_or_else(damaged)?;
    let mut bytes = Vec::new();
    thinned.iter().for_each(|record| record.put(&mut bytes));
    file.connection.execute("DELETE FROM chunk WHERE id BETWEEN ? AND ?", [first.id, last.id])?;
    let bounds =
        Chunk { last_seq: last.last_seq, last_ms: last.last_ms, span: SPAN_MS, raw: bytes.len(), ..first };
    file.add(&bytes, &bounds)?;
    Ok(run.len())
}
