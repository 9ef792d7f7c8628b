//! The database of all datasets.

use std::fmt::Write;
use std::sync::LazyLock;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, ToSql, Transaction, params, params_from_iter};
use skep_store::{Schema, StoreError};

use crate::point::{COLUMNS, Point};

/// Nanoseconds that a point is kept: three months.
const KEEP: i64 = 92 * 24 * 3600 * 1_000_000_000;
/// Points past their time that each write removes: more than it adds, so that they do not pile up, and few, so that
/// no write pays for many.
const REMOVE: i64 = 4;

pub(crate) const SCHEMA: Schema = Schema(&["
CREATE TABLE points(
    id INTEGER PRIMARY KEY,
    dataset TEXT NOT NULL,
    timestamp INTEGER NOT NULL,   -- nanoseconds since the Unix epoch
    index1 BLOB NOT NULL,
    blob1 BLOB, blob2 BLOB, blob3 BLOB, blob4 BLOB, blob5 BLOB, blob6 BLOB, blob7 BLOB, blob8 BLOB, blob9 BLOB,
    blob10 BLOB, blob11 BLOB, blob12 BLOB, blob13 BLOB, blob14 BLOB, blob15 BLOB, blob16 BLOB, blob17 BLOB,
    blob18 BLOB, blob19 BLOB, blob20 BLOB,
    -- NULL stands for NaN, which SQLite does not store
    double1 REAL, double2 REAL, double3 REAL, double4 REAL, double5 REAL, double6 REAL, double7 REAL, double8 REAL,
    double9 REAL, double10 REAL, double11 REAL, double12 REAL, double13 REAL, double14 REAL, double15 REAL,
    double16 REAL, double17 REAL, double18 REAL, double19 REAL, double20 REAL
) STRICT;
CREATE INDEX points_by_time ON points(dataset, timestamp);
"]);

/// `timestamp, index1, blob1, …, double20`.
static NAMES: LazyLock<String> = LazyLock::new(|| {
    let mut names = "timestamp, index1".to_owned();
    for kind in ["blob", "double"] {
        for n in 1..=COLUMNS {
            let _ = write!(names, ", {kind}{n}");
        }
    }
    names
});
static INSERT: LazyLock<String> = LazyLock::new(|| {
    let marks = ", ?".repeat(2 + 2 * COLUMNS);
    format!("INSERT INTO points(dataset, {}) VALUES (?{marks})", *NAMES)
});
static RECENT: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT {} FROM points WHERE dataset = ? ORDER BY timestamp DESC, id DESC LIMIT ?", *NAMES)
});

/// Adds a point, and removes some that are past their time by that point's own clock.
pub(crate) fn add(db: &Transaction<'_>, dataset: &str, point: &Point) -> Result<(), StoreError> {
    let head: [&dyn ToSql; 3] = [&dataset, &point.timestamp, &point.index1];
    let blobs = point.blobs.iter().map(|blob| blob as &dyn ToSql);
    let doubles = point.doubles.map(OrNan);
    let doubles = doubles.iter().map(|double| double as &dyn ToSql);
    db.prepare_cached(&INSERT)?.execute(params_from_iter(head.into_iter().chain(blobs).chain(doubles)))?;
    db.prepare_cached(
        "DELETE FROM points WHERE id IN (
             SELECT id FROM points WHERE dataset = ?1 AND timestamp < ?2 ORDER BY timestamp LIMIT ?3)",
    )?
    .execute(params![dataset, point.timestamp.saturating_sub(KEEP), REMOVE])?;
    Ok(())
}

/// The newest points of a dataset, newest first.
pub(crate) fn recent(db: &Connection, dataset: &str, limit: usize) -> Result<Vec<Point>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut query = db.prepare_cached(&RECENT)?;
    let points = query.query_map(params![dataset, limit], point)?;
    Ok(points.collect::<Result<_, _>>()?)
}

fn point(row: &Row<'_>) -> rusqlite::Result<Point> {
    let mut point = Point {
        timestamp: row.get(0)?,
        index1: row.get(1)?,
        blobs: [const { None }; COLUMNS],
        doubles: [0.0; COLUMNS],
    };
    for (n, blob) in point.blobs.iter_mut().enumerate() {
        *blob = row.get(2 + n)?;
    }
    for (n, double) in point.doubles.iter_mut().enumerate() {
        *double = row.get::<_, Option<f64>>(2 + COLUMNS + n)?.unwrap_or(f64::NAN);
    }
    Ok(point)
}

struct OrNan(f64);

impl ToSql for OrNan {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = if self.0.is_nan() { ValueRef::Null } else { ValueRef::Real(self.0) };
        Ok(ToSqlOutput::Borrowed(value))
    }
}
