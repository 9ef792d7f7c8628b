//! The tables of a bucket, and the statements on them.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use skep_store::{BlobId, Schema, StoreError};

use crate::model::{Meta, Object, StorageClass};
use crate::rules::Rules;

/// Keys are blobs so that any bound is a valid key: they sort by their UTF-8 bytes either way. `inline` is last,
/// so that reading the rest of a row does not touch its pages. The parts of a multipart object stay under their
/// upload's id, which the object names.
pub(crate) const SCHEMA: Schema = Schema(&[
    "
    CREATE TABLE objects(
        key BLOB PRIMARY KEY, version TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
        uploaded INTEGER NOT NULL, meta TEXT NOT NULL, upload TEXT, blob TEXT, inline BLOB
    ) STRICT;
    CREATE TABLE uploads(
        id TEXT PRIMARY KEY, key TEXT NOT NULL, state INTEGER NOT NULL, started INTEGER NOT NULL, meta TEXT NOT NULL
    ) STRICT;
    CREATE INDEX uploads_by_age ON uploads(started);
    CREATE TABLE parts(
        upload TEXT NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL, md5 BLOB NOT NULL, blob TEXT,
        inline BLOB, PRIMARY KEY(upload, number)
    ) STRICT;
",
    "CREATE TABLE rules(kind TEXT PRIMARY KEY, rules TEXT NOT NULL) STRICT, WITHOUT ROWID;",
    // What is old is found without a look at what is not.
    "CREATE INDEX objects_by_age ON objects(uploaded);",
    // Uploads that have not ended are listed by their keys.
    "CREATE INDEX uploads_by_key ON uploads(key, id) WHERE state = 0;",
]);

/// Where bytes are. Encrypted ones are larger than what they stand for.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Inline(Bytes),
    Blob(BlobId),
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    One(Place),
    /// The parts of this upload.
    Parts(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub number: u32,
    pub size: u64,
    pub md5: Vec<u8>,
    pub place: Place,
}

/// A part without its content: ten thousand small ones are 160 MB.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub number: u32,
    pub size: u64,
    pub md5: Vec<u8>,
}

/// An object's version and its files, after its row is gone.
#[derive(Debug)]
pub(crate) struct Garbage {
    pub version: String,
    pub blobs: Vec<BlobId>,
}

const HEAD: &str = "key, version, size, etag, uploaded, meta";

pub(crate) fn head(c: &Connection, key: &str) -> Result<Option<Object>, StoreError> {
    let sql = joined("SELECT ", HEAD, " FROM objects WHERE key = ?1");
    let mut statement = c.prepare_cached(&sql)?;
    Ok(statement.query_row([key.as_bytes()], object).optional()?)
}

pub(crate) fn find(c: &Connection, key: &str) -> Result<Option<(Object, Content)>, StoreError> {
    let sql = joined("SELECT ", HEAD, ", upload, blob, inline FROM objects WHERE key = ?1");
    let mut statement = c.prepare_cached(&sql)?;
    let found = statement.query_row([key.as_bytes()], |row| {
        let content = match row.get::<_, Option<String>>(6)? {
            Some(upload) => Content::Parts(upload),
            None => Content::One(place(row, 7, 8)?),
        };
        Ok((object(row)?, content))
    });
    Ok(found.optional()?)
}

/// What conditions are about: etag and upload time.
pub(crate) fn state(c: &Connection, key: &str) -> Result<Option<(String, i64)>, StoreError> {
    let mut statement = c.prepare_cached("SELECT etag, uploaded FROM objects WHERE key = ?1")?;
    Ok(statement.query_row([key.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// Whether there is an object that must not be changed.
pub(crate) fn locked(c: &Connection, rules: &Rules, key: &str, now: i64) -> Result<bool, StoreError> {
    if rules.locks.is_empty() {
        return Ok(false);
    }
    Ok(state(c, key)?.is_some_and(|(_, uploaded)| rules.locked(key, uploaded, now)))
}

/// A place in the order of age: what comes after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct After {
    /// Milliseconds since 1970.
    pub ms: i64,
    /// Among those of the same time.
    pub row: i64,
}

/// An object as lifecycle rules see it.
#[derive(Debug)]
pub(crate) struct Aged {
    pub row: i64,
    pub key: String,
    pub uploaded: i64,
    pub class: StorageClass,
}

const CLASS: &str = "coalesce(meta ->> '$.storageClass', 'Standard')";

/// Objects that were stored after a place and not after `until`, oldest first.
pub(crate) fn aged(c: &Connection, after: After, until: i64, limit: usize) -> Result<Vec<Aged>, StoreError> {
    let sql = joined(
        "SELECT rowid, key, uploaded, ",
        CLASS,
        " FROM objects WHERE (uploaded, rowid) > (?1, ?2) AND uploaded <= ?3 ORDER BY uploaded, rowid LIMIT ?4",
    );
    let mut statement = c.prepare_cached(&sql)?;
    let rows = statement.query_map(params![after.ms, after.row, until, limit as i64], |row| {
        let key: Vec<u8> = row.get(1)?;
        let key = String::from_utf8(key).map_err(|e| corrupt(1, e))?;
        Ok(Aged { row: row.get(0)?, key, uploaded: row.get(2)?, class: class(row, 3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// When an object was stored, and its class.
pub(crate) fn age(c: &Connection, key: &str) -> Result<Option<(i64, StorageClass)>, StoreError> {
    let sql = joined("SELECT uploaded, ", CLASS, " FROM objects WHERE key = ?1");
    let mut statement = c.prepare_cached(&sql)?;
    Ok(statement.query_row([key.as_bytes()], |row| Ok((row.get(0)?, class(row, 1)?))).optional()?)
}

/// Gives an object another class; it is the same version.
pub(crate) fn set_class(c: &Connection, key: &str, class: StorageClass) -> Result<(), StoreError> {
    let sql = "UPDATE objects SET meta = json_set(meta, '$.storageClass', ?2) WHERE key = ?1";
    c.prepare_cached(sql)?.execute(params![key.as_bytes(), class.name()])?;
    Ok(())
}

fn class(row: &Row<'_>, column: usize) -> rusqlite::Result<StorageClass> {
    let name: String = row.get(column)?;
    StorageClass::named(&name).ok_or_else(|| corrupt(column, std::fmt::Error))
}

/// Calls `each` with the objects from key `from` on and before key `to`, and the size of their metadata, until it
/// says to stop.
pub(crate) fn scan(
    c: &Connection,
    from: &[u8],
    to: &[u8],
    mut each: impl FnMut(Object, usize) -> std::ops::ControlFlow<()>,
) -> Result<(), StoreError> {
    let sql = joined("SELECT ", HEAD, " FROM objects WHERE key >= ?1 AND key < ?2 ORDER BY key");
    let mut statement = c.prepare_cached(&sql)?;
    let mut rows = statement.query(params![from, to])?;
    while let Some(row) = rows.next()? {
        let meta_len = row.get_ref(5)?.as_str().map_or(0, str::len);
        if each(object(row)?, meta_len).is_break() {
            break;
        }
    }
    Ok(())
}

pub(crate) fn insert(c: &Connection, object: &Object, content: &Content) -> Result<(), StoreError> {
    let (upload, blob, inline) = match content {
        Content::Parts(upload) => (Some(upload.as_str()), None, None),
        Content::One(Place::Blob(id)) => (None, Some(id.as_str()), None),
        Content::One(Place::Inline(bytes)) => (None, None, Some(bytes.as_ref())),
    };
    let meta = Meta::of(object);
    c.prepare_cached(
        "INSERT INTO objects(key, version, size, etag, uploaded, meta, upload, blob, inline) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        object.name.as_bytes(),
        object.version,
        object.size as i64,
        object.etag,
        object.uploaded,
        json(&meta)?,
        upload,
        blob,
        inline
    ])?;
    Ok(())
}

/// Removes an object; what it leaves behind is to be removed once the transaction is on the disk.
pub(crate) fn remove(c: &Connection, key: &str) -> Result<Option<Garbage>, StoreError> {
    let mut statement =
        c.prepare_cached("DELETE FROM objects WHERE key = ?1 RETURNING version, upload, blob")?;
    let removed = statement
        .query_row([key.as_bytes()], |row| {
            Ok((row.get(0)?, row.get::<_, Option<String>>(1)?, blob_id(row, 2)?))
        })
        .optional()?;
    let Some((version, upload, blob)) = removed else { return Ok(None) };
    let mut blobs: Vec<BlobId> = blob.into_iter().collect();
    if let Some(upload) = upload {
        blobs.extend(remove_parts(c, &upload)?);
    }
    Ok(Some(Garbage { version, blobs }))
}

pub(crate) fn parts(c: &Connection, upload: &str) -> Result<Vec<Part>, StoreError> {
    let mut statement = c.prepare_cached(
        "SELECT number, size, md5, blob, inline FROM parts WHERE upload = ?1 ORDER BY number",
    )?;
    let rows = statement.query_map([upload], |row| {
        Ok(Part {
            number: row.get(0)?,
            size: row.get::<_, i64>(1)?.max(0) as u64,
            md5: row.get(2)?,
            place: place(row, 3, 4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn listed(c: &Connection, upload: &str) -> Result<Vec<Listed>, StoreError> {
    let mut statement =
        c.prepare_cached("SELECT number, size, md5 FROM parts WHERE upload = ?1 ORDER BY number")?;
    let rows = statement.query_map([upload], |row| {
        Ok(Listed { number: row.get(0)?, size: row.get::<_, i64>(1)?.max(0) as u64, md5: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn insert_part(c: &Connection, upload: &str, part: &Part) -> Result<(), StoreError> {
    let (blob, inline) = match &part.place {
        Place::Blob(id) => (Some(id.as_str()), None),
        Place::Inline(bytes) => (None, Some(bytes.as_ref())),
    };
    c.prepare_cached(
        "INSERT INTO parts(upload, number, size, md5, blob, inline) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![upload, part.number, part.size as i64, part.md5, blob, inline])?;
    Ok(())
}

pub(crate) fn remove_part(c: &Connection, upload: &str, number: u32) -> Result<Option<BlobId>, StoreError> {
    let mut statement =
        c.prepare_cached("DELETE FROM parts WHERE upload = ?1 AND number = ?2 RETURNING blob")?;
    let removed = statement.query_row(params![upload, number], |row| blob_id(row, 0)).optional()?;
    Ok(removed.flatten())
}

pub(crate) fn remove_parts(c: &Connection, upload: &str) -> Result<Vec<BlobId>, StoreError> {
    let mut statement = c.prepare_cached("DELETE FROM parts WHERE upload = ?1 RETURNING blob")?;
    let rows = statement.query_map([upload], |row| blob_id(row, 0))?;
    Ok(rows.filter_map(Result::transpose).collect::<Result<_, _>>()?)
}

/// Every file that a row names.
pub(crate) fn all_blobs(c: &Connection) -> Result<std::collections::HashSet<BlobId>, StoreError> {
    let mut statement = c.prepare(
        "SELECT blob FROM objects WHERE blob IS NOT NULL UNION ALL SELECT blob FROM parts WHERE blob IS NOT NULL",
    )?;
    let rows = statement.query_map([], |row| blob_id(row, 0))?;
    Ok(rows.filter_map(Result::transpose).collect::<Result<_, _>>()?)
}

pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::io("cannot write metadata", e.into()))
}

fn object(row: &Row<'_>) -> rusqlite::Result<Object> {
    let key: Vec<u8> = row.get(0)?;
    let meta: Meta = from_json(row, 5)?;
    Ok(Object {
        name: String::from_utf8(key).map_err(|e| corrupt(0, e))?,
        version: row.get(1)?,
        size: row.get::<_, i64>(2)?.max(0) as u64,
        etag: row.get(3)?,
        uploaded: row.get(4)?,
        http_fields: Some(meta.http_fields),
        custom_fields: Some(meta.custom_fields),
        range: None,
        checksums: meta.checksums,
        storage_class: meta.storage_class,
        ssec: meta.ssec,
    })
}

pub(crate) fn from_json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|e| corrupt(column, e))
}

fn place(row: &Row<'_>, blob: usize, inline: usize) -> rusqlite::Result<Place> {
    match blob_id(row, blob)? {
        Some(id) => Ok(Place::Blob(id)),
        None => Ok(Place::Inline(Bytes::from(row.get::<_, Vec<u8>>(inline)?))),
    }
}

fn blob_id(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<BlobId>> {
    let Some(text) = row.get::<_, Option<String>>(column)? else { return Ok(None) };
    BlobId::parse(&text).map(Some).ok_or_else(|| corrupt(column, std::fmt::Error))
}

fn corrupt(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Null, Box::new(error))
}

fn joined(a: &str, b: &str, c: &str) -> String {
    [a, b, c].concat()
}
