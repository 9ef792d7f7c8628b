//! SQLite's own functions, where ours have the same name: each thread asks a database of its own that is empty.

use std::cell::OnceCell;

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result, ToSql};

use crate::session::LENGTH;

thread_local! {
    static PLAIN: OnceCell<Connection> = const { OnceCell::new() };
}

/// The one text or BLOB that a statement without tables gives.
pub(super) fn ask(sql: &str, values: &[&dyn ToSql]) -> Result<Option<Vec<u8>>> {
    PLAIN.with(|plain| {
        let connection = match plain.get() {
            Some(connection) => connection,
            None => {
                let made = Connection::open_in_memory()?;
                made.set_limit(Limit::SQLITE_LIMIT_LENGTH, LENGTH)?;
                plain.get_or_init(|| made)
            }
        };
        connection.prepare_cached(sql)?.query_row(values, |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes.to_vec()),
                _ => None,
            })
        })
    })
}

/// A number as SQLite writes it.
pub(super) fn real(number: f64) -> Result<Vec<u8>> {
    Ok(ask("SELECT CAST(?1 AS TEXT)", &[&number])?.unwrap_or_default())
}
