//! The database of one namespace.
//!
//! Rows of `entries` are small and in key order, so that a page of a list is one short scan whatever the values
//! weigh; inline values are in `contents`, one more step away.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use skep_store::{BlobId, Schema, StoreError};

/// Expired rows that one page of a list steps over before it ends early: bounds its cost while the background
/// removal has not come by yet.
const MAX_DEAD: usize = 10_000;

pub(crate) const SCHEMA: Schema = Schema(&["
CREATE TABLE entries(
    key BLOB PRIMARY KEY,
    content INTEGER,          -- contents.id, or
    blob TEXT,                -- the content file's name
    size INTEGER NOT NULL,    -- bytes of the value
    expires INTEGER,          -- seconds since the Unix epoch; gone from then on
    metadata TEXT             -- JSON
) STRICT, WITHOUT ROWID;
CREATE TABLE contents(id INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE INDEX entries_by_expiry ON entries(expires) WHERE expires IS NOT NULL;
CREATE UNIQUE INDEX entries_by_blob ON entries(blob) WHERE blob IS NOT NULL;
"]);

/// A key as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The key.
    pub name: String,
    /// Seconds since the Unix epoch from which it is gone.
    pub expiration: Option<u64>,
    /// JSON.
    pub metadata: Option<String>,
}

/// Where a value is.
#[derive(Debug)]
pub(crate) enum Place {
    Inline(Bytes),
    Blob(BlobId),
}

#[derive(Debug)]
pub(crate) struct Row {
    pub place: Place,
    pub size: u64,
    pub expires: Option<u64>,
    pub metadata: Option<String>,
}

/// The entry of `key` that is alive at `now` (seconds).
pub(crate) fn get(db: &Connection, key: &str, now: u64) -> Result<Option<Row>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT e.size, e.expires, e.metadata, e.blob, c.value
         FROM entries e LEFT JOIN contents c ON c.id = e.content WHERE e.key = ?1",
    )?;
    let mut rows = query.query([key.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let expires = seconds(row, 1)?;
    if expires.is_some_and(|at| at <= now) {
        return Ok(None);
    }
    let place = match row.get_ref(3)?.as_str_or_null().map_err(rusqlite::Error::from)? {
        Some(name) => Place::Blob(BlobId::parse(name).ok_or_else(|| damaged("a file name"))?),
        None => match row.get_ref(4)?.as_blob_or_null().map_err(rusqlite::Error::from)? {
            Some(value) => Place::Inline(Bytes::copy_from_slice(value)),
            None => return Err(damaged("a value")),
        },
    };
    Ok(Some(Row { place, size: row.get::<_, i64>(0)?.unsigned_abs(), expires, metadata: row.get(2)? }))
}

/// Stores an entry in place of any other of its key; returns the file that nothing names any more.
pub(crate) fn put(db: &Transaction<'_>, key: &str, row: &Row) -> Result<Option<BlobId>, StoreError> {
    let (old_content, old_blob) = find(db, key.as_bytes())?.unwrap_or_default();
    let (content, blob) = match (&row.place, old_content) {
        (Place::Inline(value), Some(id)) => {
            db.prepare_cached("UPDATE contents SET value = ?2 WHERE id = ?1")?
                .execute(params![id, &value[..]])?;
            (Some(id), None)
        }
        (Place::Inline(value), None) => {
            db.prepare_cached("INSERT INTO contents(value) VALUES (?1)")?.execute([&value[..]])?;
            (Some(db.last_insert_rowid()), None)
        }
        (Place::Blob(blob), old) => {
            remove_content(db, old)?;
            (None, Some(blob.as_str()))
        }
    };
    db.prepare_cached(
        "INSERT OR REPLACE INTO entries(key, content, blob, size, expires, metadata) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        key.as_bytes(),
        content,
        blob,
        row.size as i64,
        row.expires.map(|at| at as i64),
        row.metadata
    ])?;
    Ok(old_blob)
}

/// Removes an entry; returns the file that nothing names any more. A key that is not there is no error.
pub(crate) fn delete(db: &Transaction<'_>, key: &[u8]) -> Result<Option<BlobId>, StoreError> {
    let Some((content, blob)) = find(db, key)? else { return Ok(None) };
    remove_content(db, content)?;
    db.prepare_cached("DELETE FROM entries WHERE key = ?")?.execute([key])?;
    Ok(blob)
}

/// Removes at most `limit` entries that are expired at `now`; returns how many, and their files.
pub(crate) fn remove_expired(
    db: &Transaction<'_>,
    now: u64,
    limit: usize,
) -> Result<(usize, Vec<BlobId>), StoreError> {
    let keys = db
        .prepare_cached("SELECT key FROM entries WHERE expires <= ?1 ORDER BY expires LIMIT ?2")?
        .query_map(params![now as i64, limit as i64], |row| row.get(0))?
        .collect::<Result<Vec<Vec<u8>>, _>>()?;
    let mut blobs = Vec::new();
    for key in &keys {
        blobs.extend(delete(db, key)?);
    }
    Ok((keys.len(), blobs))
}

/// At most `limit` keys alive at `now`, from `from` on and before `below`; and where to go on, if there are more.
pub(crate) fn list(
    db: &Connection,
    (from, below): (&[u8], &[u8]),
    limit: usize,
    now: u64,
) -> Result<(Vec<KeyInfo>, Option<Vec<u8>>), StoreError> {
    let mut query = db.prepare_cached(
        "SELECT key, expires, metadata FROM entries WHERE key >= ?1 AND key < ?2 ORDER BY key",
    )?;
    let mut rows = query.query([from, below])?;
    let mut keys: Vec<KeyInfo> = Vec::new();
    let mut dead = 0;
    while let Some(row) = rows.next()? {
        let expiration = seconds(row, 1)?;
        let key = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        if expiration.is_some_and(|at| at <= now) {
            dead += 1;
            if dead == MAX_DEAD {
                return Ok((keys, Some(key.to_vec())));
            }
        } else if keys.len() == limit {
            let last = keys.last().map(|key| key.name.clone().into_bytes());
            return Ok((keys, last));
        } else {
            let name = std::str::from_utf8(key).map_err(|_| damaged("a key"))?.to_owned();
            keys.push(KeyInfo { name, expiration, metadata: row.get(2)? });
        }
    }
    Ok((keys, None))
}

/// The files that rows name.
pub(crate) fn blobs<C: FromIterator<BlobId>>(db: &Connection) -> Result<C, StoreError> {
    let mut query = db.prepare("SELECT blob FROM entries WHERE blob IS NOT NULL")?;
    let names = query.query_map([], |row| row.get::<_, String>(0))?;
    names.map(|name| BlobId::parse(&name?).ok_or_else(|| damaged("a file name"))).collect()
}

/// Whether a row names the file.
pub(crate) fn names_blob(db: &Connection, blob: &BlobId) -> Result<bool, StoreError> {
    Ok(db.prepare_cached("SELECT 1 FROM entries WHERE blob = ?")?.exists([blob.as_str()])?)
}

type Found = (Option<i64>, Option<BlobId>);

fn find(db: &Transaction<'_>, key: &[u8]) -> Result<Option<Found>, StoreError> {
    let found = db
        .prepare_cached("SELECT content, blob FROM entries WHERE key = ?")?
        .query_row([key], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?)))
        .optional()?;
    Ok(found.map(|(content, blob)| (content, blob.as_deref().and_then(BlobId::parse))))
}

fn remove_content(db: &Transaction<'_>, id: Option<i64>) -> Result<(), StoreError> {
    if let Some(id) = id {
        db.prepare_cached("DELETE FROM contents WHERE id = ?")?.execute([id])?;
    }
    Ok(())
}

/// A moment; none lies before the epoch or past what SQLite's integers hold.
fn seconds(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(i64::unsigned_abs))
}

fn damaged(what: &str) -> StoreError {
    StoreError::io("the database is damaged", std::io::Error::other(format!("{what} is not what was stored")))
}
