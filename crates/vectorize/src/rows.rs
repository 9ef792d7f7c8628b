//! The database of one index.
//!
//! What a search reads of every vector, its numbers and their length, is in a table of its own, by namespace: the first part
//! of a row's number is the namespace's, so that a search within one is a range. Pages are large enough to hold a whole vector,
//! so that its numbers are compared where the page lies.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::{Map, Value as Json};
use skep_store::{Schema, StoreError};

use crate::filter::{Indexed, Property, PropertyKind};
use crate::limits::{MAX_NAMESPACES, MAX_VECTORS};
use crate::metric::{Metric, loaded, norm, stored};
use crate::vector::Vector;

/// Bytes of a page: rows of 1536 numbers fill it five times, of 768 ten times, and little of it is left over.
const PAGE: u32 = 32 << 10;
/// Places of a namespace: 2^44.
const PLACES: u32 = 44;

pub(crate) const SCHEMA: Schema = Schema(&["
CREATE TABLE about(
    dimensions INTEGER NOT NULL,  -- 0: as those of the first vector
    metric TEXT NOT NULL,
    made INTEGER NOT NULL,        -- 0: it came with its first vector; then all metadata is indexed
    vectors INTEGER NOT NULL,     -- how many
    mutation TEXT NOT NULL,       -- the last one
    processed INTEGER NOT NULL    -- when, in milliseconds since the Unix epoch
) STRICT;
CREATE TABLE property(name TEXT PRIMARY KEY, kind TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE namespace(
    number INTEGER PRIMARY KEY,   -- the first part of the slots of its vectors
    name TEXT NOT NULL UNIQUE,
    next INTEGER NOT NULL,        -- the second part of the next one's
    vectors INTEGER NOT NULL
) STRICT;
CREATE TABLE vector(slot INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, metadata TEXT) STRICT;
CREATE TABLE numbers(slot INTEGER PRIMARY KEY, norm REAL NOT NULL, content BLOB NOT NULL) STRICT;
INSERT INTO namespace VALUES (0, '', 0, 0);
"]);

/// What an index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Numbers of each vector; 0: as many as the first one has.
    pub dimensions: usize,
    /// How they are compared.
    pub metric: Metric,
}

/// What is known of an index.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub shape: Shape,
    pub made: bool,
    pub vectors: u64,
    pub mutation: String,
    pub processed_ms: i64,
}

/// A mutation on its way in.
#[derive(Clone, Debug)]
pub(crate) struct Mutation {
    pub id: String,
    pub at_ms: i64,
}

/// Makes an empty file whose pages have the right size; one that is there keeps its own.
pub(crate) fn prepare(path: &Path) -> Result<(), StoreError> {
    if path.metadata().is_ok_and(|found| found.len() > 0) {
        return Ok(());
    }
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "page_size", PAGE)?;
    Ok(connection.pragma_update(None, "journal_mode", "WAL")?)
}

/// Says what the index is; once.
pub(crate) fn begin(t: &Connection, shape: Shape, made: bool, mutation: &Mutation) -> Result<(), StoreError> {
    t.execute(
        "INSERT INTO about SELECT ?1, ?2, ?3, 0, ?4, ?5 WHERE NOT EXISTS (SELECT 1 FROM about)",
        params![shape.dimensions as i64, shape.metric.name(), made, mutation.id, mutation.at_ms],
    )?;
    Ok(())
}

/// Changes what an index is that nobody has made; its dimensions only while it is empty.
pub(crate) fn reshape(t: &Connection, shape: Shape) -> Result<(), StoreError> {
    t.execute(
        "UPDATE about SET metric = ?2, dimensions = CASE vectors WHEN 0 THEN ?1 ELSE dimensions END WHERE made = 0",
        params![shape.dimensions as i64, shape.metric.name()],
    )?;
    Ok(())
}

pub(crate) fn about(c: &Connection) -> Result<About, StoreError> {
    let mut query =
        c.prepare_cached("SELECT dimensions, metric, made, vectors, mutation, processed FROM about")?;
    let (about, metric) = query.query_row([], |row| {
        let shape = Shape { dimensions: whole(row, 0)? as usize, metric: Metric::Cosine };
        let metric: String = row.get(1)?;
        let about = About {
            shape,
            made: row.get(2)?,
            vectors: whole(row, 3)?,
            mutation: row.get(4)?,
            processed_ms: row.get(5)?,
        };
        Ok((about, metric))
    })?;
    let metric = Metric::parse(&metric).ok_or_else(|| damaged("the metric"))?;
    Ok(About { shape: Shape { metric, ..about.shape }, ..about })
}

fn whole(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.unsigned_abs())
}

/// Keeps the dimensions that the first vector has.
pub(crate) fn set_dimensions(t: &Transaction<'_>, dimensions: usize) -> Result<(), StoreError> {
    t.execute("UPDATE about SET dimensions = ?", [dimensions as i64])?;
    Ok(())
}

/// Notes that a mutation is done, and how many vectors there are more or less.
pub(crate) fn done(t: &Transaction<'_>, mutation: &Mutation, change: i64) -> Result<(), StoreError> {
    t.prepare_cached("UPDATE about SET vectors = vectors + ?1, mutation = ?2, processed = ?3")?
        .execute(params![change, mutation.id, mutation.at_ms])?;
    Ok(())
}

/// The metadata indexes, by name.
pub(crate) fn properties(c: &Connection) -> Result<Vec<Property>, StoreError> {
    let mut query = c.prepare_cached("SELECT name, kind FROM property ORDER BY name")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| {
        let (property_name, kind) = row?;
        let index_type = PropertyKind::parse(&kind).ok_or_else(|| damaged("the kind of a property"))?;
        Ok(Property { property_name, index_type })
    })
    .collect()
}

/// What is indexed.
pub(crate) fn indexed(c: &Connection, about: &About) -> Result<Indexed, StoreError> {
    Ok(if about.made { Indexed::Properties(properties(c)?) } else { Indexed::All })
}

pub(crate) fn set_property(t: &Transaction<'_>, property: &Property) -> Result<(), StoreError> {
    t.execute(
        "INSERT OR REPLACE INTO property VALUES (?, ?)",
        params![property.property_name, property.index_type.name()],
    )?;
    Ok(())
}

/// False if it is not there.
pub(crate) fn remove_property(t: &Transaction<'_>, name: &str) -> Result<bool, StoreError> {
    Ok(t.execute("DELETE FROM property WHERE name = ?", [name])? > 0)
}

/// What does not fit any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Vectors,
    Namespaces,
}

/// Whether there is room for these vectors, and their namespaces.
pub(crate) fn room_for(
    t: &Transaction<'_>,
    about: &About,
    vectors: &[Vector],
) -> Result<Option<Full>, StoreError> {
    if about.vectors + vectors.len() as u64 > MAX_VECTORS {
        let mut new = 0;
        for vector in vectors {
            new += u64::from(slot_of(t, &vector.id)?.is_none());
        }
        if about.vectors + new > MAX_VECTORS {
            return Ok(Some(Full::Vectors));
        }
    }
    let count: i64 = t.query_row("SELECT count(*) FROM namespace WHERE number > 0", [], |row| row.get(0))?;
    let named: std::collections::BTreeSet<&str> =
        vectors.iter().filter_map(|vector| vector.namespace.as_deref()).collect();
    let mut new = 0;
    for name in named {
        new += u64::from(namespace(t, name)?.is_none());
    }
    let over = new > 0 && count.unsigned_abs() + new > MAX_NAMESPACES;
    Ok(over.then_some(Full::Namespaces))
}

fn slot_of(c: &Connection, id: &str) -> Result<Option<i64>, StoreError> {
    let mut query = c.prepare_cached("SELECT slot FROM vector WHERE id = ?")?;
    Ok(query.query_row([id], |row| row.get(0)).optional()?)
}

fn namespace(c: &Connection, name: &str) -> Result<Option<i64>, StoreError> {
    let mut query = c.prepare_cached("SELECT number FROM namespace WHERE name = ?")?;
    Ok(query.query_row([name], |row| row.get(0)).optional()?)
}

/// Keeps a vector, in place of the one with its id if it may; returns whether there is one more.
pub(crate) fn put(t: &Transaction<'_>, vector: &Vector, replace: bool) -> Result<bool, StoreError> {
    let old = slot_of(t, &vector.id)?;
    if old.is_some() && !replace {
        return Ok(false);
    }
    let name = vector.namespace.as_deref().unwrap_or_default();
    let number = match namespace(t, name)? {
        Some(number) => number,
        None => {
            t.prepare_cached("INSERT INTO namespace(name, next, vectors) VALUES (?, 0, 0)")?
                .execute([name])?;
            t.last_insert_rowid()
        }
    };
    let slot = match old {
        Some(slot) if slot >> PLACES == number => slot,
        other => {
            if let Some(slot) = other {
                remove_slot(t, slot)?;
            }
            let next: i64 = t
                .prepare_cached(
                    "UPDATE namespace SET next = next + 1, vectors = vectors + 1 WHERE number = ? RETURNING next - 1",
                )?
                .query_row([number], |row| row.get(0))?;
            number << PLACES | next
        }
    };
    let metadata = vector.metadata.as_ref().map(serde_json::to_string).transpose();
    let metadata = metadata.map_err(|error| StoreError::io("metadata", std::io::Error::other(error)))?;
    t.prepare_cached("INSERT OR REPLACE INTO vector(slot, id, metadata) VALUES (?, ?, ?)")?
        .execute(params![slot, vector.id, metadata])?;
    t.prepare_cached("INSERT OR REPLACE INTO numbers(slot, norm, content) VALUES (?, ?, ?)")?
        .execute(params![slot, norm(&vector.values), stored(&vector.values)])?;
    Ok(old.is_none())
}

/// Removes a vector; false if it is not there.
pub(crate) fn remove(t: &Transaction<'_>, id: &str) -> Result<bool, StoreError> {
    let Some(slot) = slot_of(t, id)? else { return Ok(false) };
    remove_slot(t, slot)?;
    Ok(true)
}

fn remove_slot(t: &Transaction<'_>, slot: i64) -> Result<(), StoreError> {
    t.prepare_cached("DELETE FROM vector WHERE slot = ?")?.execute([slot])?;
    t.prepare_cached("DELETE FROM numbers WHERE slot = ?")?.execute([slot])?;
    let number = slot >> PLACES;
    t.prepare_cached("UPDATE namespace SET vectors = vectors - 1 WHERE number = ?")?.execute([number])?;
    t.prepare_cached("DELETE FROM namespace WHERE number = ? AND number > 0 AND vectors = 0")?
        .execute([number])?;
    Ok(())
}

/// The slots of a namespace's vectors; `None` is all of them. Empty where there is no such namespace.
pub(crate) fn slots(c: &Connection, name: Option<&str>) -> Result<Option<(i64, i64)>, StoreError> {
    let Some(name) = name else { return Ok(Some((0, i64::MAX))) };
    Ok(namespace(c, name)?.map(|number| (number << PLACES, (number << PLACES) + (1 << PLACES) - 1)))
}

/// Shows the numbers of every vector in the range, with their length, in the order of slots.
pub(crate) fn scan(
    c: &Connection,
    (first, last): (i64, i64),
    mut show: impl FnMut(i64, f64, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut query =
        c.prepare_cached("SELECT slot, norm, content FROM numbers WHERE slot BETWEEN ? AND ? ORDER BY slot")?;
    let mut rows = query.query([first, last])?;
    while let Some(row) = rows.next()? {
        let content = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        show(row.get(0)?, row.get(1)?, content)?;
    }
    Ok(())
}

/// The metadata of a vector.
pub(crate) fn metadata(c: &Connection, slot: i64) -> Result<Option<Map<String, Json>>, StoreError> {
    let mut query = c.prepare_cached("SELECT metadata FROM vector WHERE slot = ?")?;
    let text: Option<String> = query.query_row([slot], |row| row.get(0))?;
    text.map(|text| serde_json::from_str(&text).map_err(|_| damaged("metadata"))).transpose()
}

/// The numbers of a vector.
pub(crate) fn values(c: &Connection, slot: i64) -> Result<Vec<f32>, StoreError> {
    let mut query = c.prepare_cached("SELECT content FROM numbers WHERE slot = ?")?;
    let mut rows = query.query([slot])?;
    let row = rows.next()?.ok_or_else(|| damaged("a vector"))?;
    Ok(loaded(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?))
}

/// The numbers of the vector with an id.
pub(crate) fn values_of(c: &Connection, id: &str) -> Result<Option<Vec<f32>>, StoreError> {
    slot_of(c, id)?.map(|slot| values(c, slot)).transpose()
}

/// The id and the namespace of a vector.
pub(crate) fn name_of(c: &Connection, slot: i64) -> Result<(String, Option<String>), StoreError> {
    let mut query = c.prepare_cached("SELECT id FROM vector WHERE slot = ?")?;
    let id = query.query_row([slot], |row| row.get(0))?;
    let mut query = c.prepare_cached("SELECT name FROM namespace WHERE number = ? AND number > 0")?;
    Ok((id, query.query_row([slot >> PLACES], |row| row.get(0)).optional()?))
}

/// The vector with an id.
pub(crate) fn get(c: &Connection, id: &str) -> Result<Option<Vector>, StoreError> {
    let Some(slot) = slot_of(c, id)? else { return Ok(None) };
    let (id, namespace) = name_of(c, slot)?;
    Ok(Some(Vector { id, namespace, values: values(c, slot)?, metadata: metadata(c, slot)? }))
}

/// At most `limit` ids after one, in their order.
pub(crate) fn ids(c: &Connection, after: &str, limit: usize) -> Result<Vec<String>, StoreError> {
    let mut query = c.prepare_cached("SELECT id FROM vector WHERE id > ? ORDER BY id LIMIT ?")?;
    let rows = query.query_map(params![after, limit as i64], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn damaged(what: &str) -> StoreError {
    StoreError::io("the database is damaged", std::io::Error::other(format!("{what} is not what was stored")))
}
