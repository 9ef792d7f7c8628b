//! What is known of a statement's text, so that it is found out once.
//!
//! Also the estimates of `rows_read` and `rows_written`. The engine counts in its patched SQLite: a row
//! read at every cursor move, a row written at every table or index entry inserted and every row
//! deleted. Stock SQLite counts rows changed and the steps of full scans only. So:
//!
//! * `rows_written` = rows changed × (1 + the indexes that such a change touches) + 1 for `AUTOINCREMENT`'s own
//!   table, + 1 per row that triggers and foreign key actions change. Exact for plain `INSERT`, `UPDATE`,
//!   `DELETE`; an estimate where a trigger writes an indexed table, and for `REPLACE` and schema changes.
//! * `rows_read` = steps of full scans + rows returned × the other tables joined, at least 1 if a table is
//!   read. Exact for point reads and full scans; too low where an index range is aggregated or filtered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::StatementStatus;

use crate::expansion::Names;
use crate::guard::{Seen, Target};
use crate::session::Session;

/// Bytes of SQL text remembered per database; past it, all is forgotten and begun anew.
const REMEMBERED: usize = 1 << 20;

/// What is known of one statement.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// It changes nothing and depends on no connection: any reader can run it.
    pub reads: bool,
    /// It may take longer than a caller's thread may be held, or once has.
    pub slow: AtomicBool,
    /// It sets a switch of the connection.
    pub switches: bool,
    /// It changes the schema: what is remembered of other statements may be wrong after it.
    pub schema: bool,
    /// It asks a full-text index, where nobody looks at the clock: what a row's search takes can be hours.
    pub searches: bool,
    /// It alters a table, whose new name must be looked at.
    pub alters: bool,
    tables_read: u32,
    /// It writes a virtual table: the rows that its module writes elsewhere do not count.
    in_module: bool,
    /// Entries written for each row that it changes.
    entries_per_row: u64,
    /// Entries written once.
    entries_once: u64,
}

impl Plan {
    /// Of a statement just compiled, of which `seen` was noted.
    pub(crate) fn new(
        session: &Session,
        statement: &rusqlite::Statement<'_>,
        sql: &str,
        seen: &Seen,
    ) -> rusqlite::Result<Self> {
        let reads = statement.readonly() && !seen.writer_only && !seen.switches && !seen.schema;
        let target = seen.target.as_ref().filter(|_| !reads && !seen.schema);
        let in_module = target.map_or(Ok(false), |target| is_virtual(session, &target.table))?;
        let (entries_per_row, entries_once) = match target {
            Some(target) if !in_module => entries(session, target)?,
            _ => (1, 0),
        };
        let counts = statement.is_explain() == 0 && !seen.pragma;
        let tables = seen.tables_read.iter().filter(|name| counts && !seen.through.contains(name)).count();
        Ok(Self {
            reads,
            slow: AtomicBool::new(seen.slow),
            switches: seen.switches,
            schema: seen.schema,
            alters: seen.alters,
            searches: statement.is_explain() == 0 && searches(session, sql, seen)?,
            tables_read: u32::try_from(tables).unwrap_or(u32::MAX),
            in_module,
            entries_per_row,
            entries_once: entries_once + u64::from(seen.schema_rows),
        })
    }

    /// Whether it is known to take long.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// The estimate of rows read by a finished run that returned `rows` rows.
    pub(crate) fn rows_read(&self, statement: &rusqlite::Statement<'_>, rows: u64) -> u64 {
        let steps = statement.reset_status(StatementStatus::FullscanStep).max(0) as u64;
        let tables = u64::from(self.tables_read);
        if tables == 0 {
            return 0;
        }
        let scanned = if steps > 0 { steps + 1 } else { 0 };
        let joined = if steps > 0 { tables - 1 } else { tables };
        (scanned + rows * joined).max(1)
    }

    /// The estimate of rows written by a run that itself changed `own` of `all` changed rows.
    pub(crate) fn rows_written(&self, own: u64, all: u64) -> u64 {
        let once = if all > 0 || self.schema { self.entries_once } else { 0 };
        let others = if self.in_module { 0 } else { all.saturating_sub(own) };
        own * self.entries_per_row + others + once
    }
}

/// Whether a statement asks a full-text index: as the authorizer saw, as SQLite says how it goes about it (which does not show what triggers
/// do), or maybe in a trigger.
fn searches(session: &Session, sql: &str, seen: &Seen) -> rusqlite::Result<bool> {
    let mut modules = false;
    for table in &seen.tables_read {
        modules |= is_virtual(session, table)?;
    }
    if !modules || seen.matches || !seen.through.is_empty() {
        return Ok(modules);
    }
    session.trusted(|connection| {
        let Ok(mut explained) = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")) else {
            // It is as long as a statement may be.
            return Ok(true);
        };
        let mut rows = explained.raw_query();
        while let Some(row) = rows.next()? {
            if row.get_ref(3)?.as_str().is_ok_and(asks_an_index) {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

/// Of a line such as `SCAN t VIRTUAL TABLE INDEX 0:M2`: what `fts5` makes of a condition stands after the colon, `M` for a search.
fn asks_an_index(line: &str) -> bool {
    let Some((_, index)) = line.split_once(" VIRTUAL TABLE INDEX ") else { return false };
    index.split_once(':').is_some_and(|(_, conditions)| conditions.contains('M'))
}

fn is_virtual(session: &Session, table: &str) -> rusqlite::Result<bool> {
    session.trusted(|connection| {
        connection
            .prepare_cached("SELECT 1 FROM sqlite_schema WHERE name = ? AND sql LIKE 'CREATE VIRTUAL%'")?
            .exists([table])
    })
}

/// Entries written per row changed in `target`, and once per statement.
fn entries(session: &Session, target: &Target) -> rusqlite::Result<(u64, u64)> {
    const INDEXES: &str = "SELECT count(*) FROM pragma_index_list(?1) AS l WHERE l.origin <> 'pk' OR NOT EXISTS \
        (SELECT 1 FROM pragma_table_list WHERE schema = 'main' AND name = ?1 AND wr = 1)";
    const TOUCHED: &str = "SELECT count(*) FROM pragma_index_list(?1) AS l WHERE EXISTS \
        (SELECT 1 FROM pragma_index_info(l.name) AS i WHERE i.name = ?2 COLLATE NOCASE)";
    const SEQUENCE: &str = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1 AND sql LIKE '%AUTOINCREMENT%'";
    let ask = |sql: &str, column: Option<&str>| {
        session.trusted(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let count = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0).map(|n| n.max(0) as u64);
            match column {
                Some(column) => statement.query_row([target.table.as_str(), column], count),
                None => statement.query_row([target.table.as_str()], count),
            }
        })
    };
    if target.inserts {
        return Ok((1 + ask(INDEXES, None)?, ask(SEQUENCE, None)?));
    }
    let mut touched = 0;
    for column in &target.columns {
        touched += ask(TOUCHED, Some(column))?;
    }
    Ok((1 + touched, 0))
}

/// The plans of a database, by the text of the statement.
#[derive(Debug, Default)]
pub(crate) struct Plans(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    names: Option<Arc<Names>>,
    by_text: HashMap<Arc<str>, Arc<Plan>>,
    bytes: usize,
}

impl Plans {
    pub(crate) fn get(&self, sql: &str) -> Option<Arc<Plan>> {
        self.lock().by_text.get(sql).cloned()
    }

    /// What the database's names stand for, which `read` says if nobody knows.
    pub(crate) fn names(
        &self,
        read: impl FnOnce() -> rusqlite::Result<Names>,
    ) -> rusqlite::Result<Arc<Names>> {
        if let Some(names) = &self.lock().names {
            return Ok(names.clone());
        }
        let names = Arc::new(read()?);
        self.lock().names = Some(names.clone());
        Ok(names)
    }

    pub(crate) fn put(&self, sql: &str, plan: Arc<Plan>) {
        let mut remembered = self.lock();
        if remembered.bytes + sql.len() > REMEMBERED {
            *remembered = Remembered { names: remembered.names.take(), ..Remembered::default() };
        }
        remembered.bytes += sql.len();
        remembered.by_text.insert(Arc::from(sql), plan);
    }

    /// Forgets everything: the schema has changed.
    pub(crate) fn clear(&self) {
        *self.lock() = Remembered::default();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
