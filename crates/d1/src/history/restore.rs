//! Writes an earlier state into a database: one transaction, which history follows as it does any other. So a crash
//! leaves the one state or the other, and going back can be taken back.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::TimeTravelError;
use super::rewind::Rewound;

/// A backup locks writers out for milliseconds.
const BUSY: Duration = Duration::from_secs(10);

/// Makes an earlier state the present one. Pages are written through SQLite as a table (`sqlite_dbpage`), on a
/// connection of its own: what a connection knows of the tree that it has read would be wrong afterwards. Others notice
/// the commit as they notice any.
pub(crate) fn write_back(database: &Path, state: &Rewound) -> Result<(), TimeTravelError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(database, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let failed = |error: std::io::Error| TimeTravelError::Failed(error.to_string());
    {
        let now: Vec<u8> =
            transaction.query_row("SELECT data FROM sqlite_dbpage WHERE pgno = 1", [], |row| row.get(0))?;
        let mut write = transaction.prepare("INSERT INTO sqlite_dbpage (pgno, data) VALUES (?, ?)")?;
        let mut page = Vec::new();
        for number in state.pages() {
            state.content(number, &mut page).map_err(failed)?;
            write.execute((number, &page))?;
        }
        write.execute((1, state.first_page(&now).map_err(failed)?))?;
        if state.size < state.size_now {
            // The last one written: the database ends before it.
            write.execute((state.size + 1, None::<Vec<u8>>))?;
        }
    }
    // A version that was never there, so that no connection takes a schema that it remembers for this one.
    let schema: i32 = transaction.pragma_query_value(None, "schema_version", |row| row.get(0))?;
    transaction.pragma_update(None, "schema_version", schema.wrapping_add(1))?;
    transaction.commit()?;
    Ok(())
}
