//! The database of one worker's caches.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use skep_store::{BlobId, Schema, StoreError};

use crate::key::Key;

/// Bodies are in a table of their own, so that noting a use does not rewrite them. `usage` is kept by triggers: its
/// sum costs nothing however much is stored.
pub(crate) const SCHEMA: Schema = Schema(&["
CREATE TABLE entries(
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    head BLOB NOT NULL,         -- HTTP/1.1 text
    blob TEXT,                  -- the content file's name; without one the body is in contents
    size INTEGER NOT NULL,      -- bytes of the body
    age INTEGER NOT NULL,       -- seconds old when stored
    stored INTEGER NOT NULL,    -- milliseconds since the Unix epoch, as are the next two
    expires INTEGER NOT NULL,
    used INTEGER NOT NULL
) STRICT;
CREATE TABLE contents(id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE INDEX entries_by_expiry ON entries(expires);
CREATE INDEX entries_by_use ON entries(used);
CREATE UNIQUE INDEX entries_by_blob ON entries(blob) WHERE blob IS NOT NULL;
CREATE TABLE usage(bytes INTEGER NOT NULL) STRICT;
INSERT INTO usage VALUES (0);
CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN
    UPDATE usage SET bytes = bytes + new.size + length(new.head);
END;
CREATE TRIGGER entry_removed AFTER DELETE ON entries BEGIN
    UPDATE usage SET bytes = bytes - old.size - length(old.head);
    DELETE FROM contents WHERE id = old.id;
END;
"]);

/// Where a body is.
#[derive(Debug)]
pub(crate) enum Place {
    Inline(Bytes),
    Blob(BlobId),
}

/// An entry to store.
#[derive(Debug)]
pub(crate) struct NewRow {
    pub key: Key,
    pub head: Vec<u8>,
    pub place: Place,
    pub size: u64,
    pub age: u64,
    pub now: u64,
    pub expires: u64,
}

/// An entry found.
#[derive(Debug)]
pub(crate) struct Row {
    pub id: i64,
    pub head: Vec<u8>,
    pub place: Place,
    pub size: u64,
    pub age: u64,
    pub stored: u64,
    pub used: u64,
}

/// The entry of `key` that is fresh at `now` (milliseconds).
pub(crate) fn get(db: &Connection, key: &Key, now: u64) -> Result<Option<Row>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT e.id, e.head, e.blob, e.size, e.age, e.stored, e.used, c.body
         FROM entries e LEFT JOIN contents c ON c.id = e.id WHERE e.key = ?1 AND e.expires > ?2",
    )?;
    let mut rows = query.query(params![key, now as i64])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let place = match row.get::<_, Option<String>>(2)? {
        Some(name) => Place::Blob(BlobId::parse(&name).ok_or_else(damaged)?),
        None => {
            let body = row.get_ref(7)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
            Place::Inline(Bytes::copy_from_slice(body.ok_or_else(damaged)?))
        }
    };
    let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    Ok(Some(Row {
        id: row.get(0)?,
        head: row.get(1)?,
        place,
        size: number(3)?,
        age: number(4)?,
        stored: number(5)?,
        used: number(6)?,
    }))
}

/// Stores an entry in place of any other of its key; returns the file that nothing names any more.
pub(crate) fn put(db: &Transaction<'_>, row: &NewRow) -> Result<Option<BlobId>, StoreError> {
    let replaced = delete(db, &row.key, 0)?;
    let blob = match &row.place {
        Place::Inline(_) => None,
        Place::Blob(id) => Some(id.as_str()),
    };
    db.prepare_cached(
        "INSERT INTO entries(key, head, blob, size, age, stored, expires, used)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6)",
    )?
    .execute(params![
        row.key,
        row.head,
        blob,
        row.size as i64,
        row.age as i64,
        row.now as i64,
        row.expires as i64
    ])?;
    if let Place::Inline(body) = &row.place {
        db.prepare_cached("INSERT INTO contents(id, body) VALUES (?, ?)")?
            .execute(params![db.last_insert_rowid(), &body[..]])?;
    }
    Ok(replaced.and_then(|removed| removed.blob))
}

/// What a removal found.
#[derive(Debug)]
pub(crate) struct Removed {
    /// Whether it was fresh at the time asked for.
    pub fresh: bool,
    /// The file that nothing names any more.
    pub blob: Option<BlobId>,
}

/// Removes the entry of `key`, fresh at `now` or not.
pub(crate) fn delete(db: &Transaction<'_>, key: &Key, now: u64) -> Result<Option<Removed>, StoreError> {
    Ok(db
        .prepare_cached("DELETE FROM entries WHERE key = ?1 RETURNING expires > ?2, blob")?
        .query_row(params![key, now as i64], |row| {
            Ok(Removed { fresh: row.get(0)?, blob: blob_id(row.get(1)?) })
        })
        .optional()?)
}

/// Removes at most `limit` entries that are stale at `now`; returns how many, and their files.
pub(crate) fn remove_stale(
    db: &Transaction<'_>,
    now: u64,
    limit: usize,
) -> Result<(usize, Vec<BlobId>), StoreError> {
    let blobs = db
        .prepare_cached(
            "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE expires <= ?1 ORDER BY expires LIMIT ?2)
             RETURNING blob",
        )?
        .query_map(params![now as i64, limit as i64], |row| Ok(blob_id(row.get(0)?)))?
        .collect::<Result<Vec<_>, _>>()?;
    Ok((blobs.len(), blobs.into_iter().flatten().collect()))
}

/// Removes the least recently used entries, at most `limit`, until no more than `target` bytes are left; returns
/// how many, and their files.
pub(crate) fn evict(
    db: &Transaction<'_>,
    target: u64,
    limit: usize,
) -> Result<(usize, Vec<BlobId>), StoreError> {
    let mut oldest = db.prepare_cached(
        "DELETE FROM entries WHERE id = (SELECT id FROM entries ORDER BY used LIMIT 1) RETURNING blob",
    )?;
    let (mut count, mut blobs) = (0, Vec::new());
    while count < limit && usage(db)? > target {
        match oldest.query_row([], |row| Ok(blob_id(row.get(0)?))).optional()? {
            Some(blob) => blobs.extend(blob),
            None => break,
        }
        count += 1;
    }
    Ok((count, blobs))
}

/// Removes the least recently used entries that were used no later than `until`, at most `limit`, until `wanted` bytes are gone; returns
/// how many, and their files.
pub(crate) fn shed(
    db: &Transaction<'_>,
    until: u64,
    wanted: u64,
    limit: usize,
) -> Result<(usize, Vec<BlobId>), StoreError> {
    let mut oldest = db.prepare_cached(
        "DELETE FROM entries WHERE id = (SELECT id FROM entries WHERE used <= ?1 ORDER BY used LIMIT 1)
         RETURNING size + length(head), blob",
    )?;
    let (mut count, mut gone, mut blobs) = (0, 0, Vec::new());
    while count < limit && gone < wanted {
        let until = i64::try_from(until).unwrap_or(i64::MAX);
        let removed = oldest.query_row([until], |row| Ok((row.get::<_, i64>(0)?, blob_id(row.get(1)?))));
        let Some((bytes, blob)) = removed.optional()? else { break };
        gone += bytes.unsigned_abs();
        blobs.extend(blob);
        count += 1;
    }
    Ok((count, blobs))
}

/// When the entry was used that was used longest ago, in milliseconds.
pub(crate) fn oldest(db: &Connection) -> Result<Option<u64>, StoreError> {
    let mut query = db.prepare_cached("SELECT used FROM entries ORDER BY used LIMIT 1")?;
    Ok(query.query_row([], |row| row.get::<_, i64>(0)).optional()?.map(i64::unsigned_abs))
}

/// The size of a page, and how many are empty.
fn empty(db: &Connection) -> Result<(u64, u64), StoreError> {
    let number = |pragma: &str| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    Ok((number("page_size")?.unsigned_abs(), number("freelist_count")?.unsigned_abs()))
}

/// Bytes that are taken on the disk, about: those of all heads and bodies, and of the room in the file that others have left.
pub(crate) fn held(db: &Connection) -> Result<u64, StoreError> {
    let (size, count) = empty(db)?;
    Ok(usage(db)? + size * count)
}

/// Gives at most `pages` empty ones back to the file system; says whether there are more.
pub(crate) fn shrink(db: &Transaction<'_>, pages: u32) -> Result<bool, StoreError> {
    let (_, before) = empty(db)?;
    let mut vacuum = db.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    let (_, left) = empty(db)?;
    Ok(left > 0 && left < before)
}

/// Sees to it that a file can shrink. New ones are made anew for it, while they are empty; so are those of an earlier Skep, once.
pub(crate) fn prepare(db: &Connection) -> rusqlite::Result<()> {
    const INCREMENTAL: i64 = 2;
    // NORMAL: a commit waits for no flush. A power cut may lose the last ones, never damage the file.
    db.pragma_update(None, "synchronous", "NORMAL")?;
    // Nothing else counts what the log keeps once its content is in the database.
    db.pragma_update(None, "journal_size_limit", 1 << 20)?;
    if db.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0))? != INCREMENTAL {
        db.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
        db.execute_batch("VACUUM")?;
    }
    Ok(())
}

/// Notes that the entries `ids` were used at `now`.
pub(crate) fn touch(db: &Transaction<'_>, ids: &[i64], now: u64) -> Result<(), StoreError> {
    let mut update = db.prepare_cached("UPDATE entries SET used = ?2 WHERE id = ?1")?;
    for id in ids {
        update.execute(params![id, now as i64])?;
    }
    Ok(())
}

/// Bytes of all heads and bodies.
pub(crate) fn usage(db: &Connection) -> Result<u64, StoreError> {
    let bytes: i64 = db.prepare_cached("SELECT bytes FROM usage")?.query_row([], |row| row.get(0))?;
    Ok(bytes.max(0) as u64)
}

/// The files that rows name.
pub(crate) fn blobs<C: FromIterator<BlobId>>(db: &Connection) -> Result<C, StoreError> {
    let mut query = db.prepare("SELECT blob FROM entries WHERE blob IS NOT NULL")?;
    let names = query.query_map([], |row| row.get::<_, String>(0))?;
    names.map(|name| BlobId::parse(&name?).ok_or_else(damaged)).collect()
}

fn blob_id(name: Option<String>) -> Option<BlobId> {
    name.as_deref().and_then(BlobId::parse)
}

fn damaged() -> StoreError {
    StoreError::io("the cache's database is damaged", std::io::Error::other("an entry has no body"))
}
