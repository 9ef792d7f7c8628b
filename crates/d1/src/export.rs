//! The whole database: as SQL, for `wrangler d1 export --local`, and as a file, for `dump()`.
//!
//! The SQL has the form that SQLite's shell prints for `.dump`, as Miniflare does.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::encode;
use crate::error::{D1Error, TOO_MUCH_MEMORY};
use crate::request::ExportOptions;
use crate::session::Session;

/// Bytes of SQL at most; it is one JSON document that the client holds in memory.
const SQL: usize = 256 << 20;
/// Pages copied between two looks for other work.
const PAGES: i32 = 1024;

/// The reply's body with the database as lines of SQL. `connection` must be allowed everything.
pub(crate) fn export(connection: &Connection, options: &ExportOptions) -> Result<Vec<u8>, D1Error> {
    let snapshot = connection.unchecked_transaction()?;
    let mut lines = Lines { out: b"{\"success\":true,\"results\":[[".to_vec(), count: 0 };
    lines.push("PRAGMA defer_foreign_keys=TRUE;")?;
    let wanted = |name: &str| options.tables.is_empty() || options.tables.iter().any(|t| t == name);
    for (name, sql) in schema(&snapshot, TABLES)? {
        if wanted(&name) {
            table(&snapshot, options, &name, &sql, &mut lines)?;
        }
    }
    if !options.no_schema {
        for (name, sql) in schema(&snapshot, THE_REST)? {
            if wanted(&name) {
                lines.push(&format!("{sql};"))?;
            }
        }
    }
    lines.out.extend_from_slice(b"]],\"meta\":{}}");
    Ok(lines.out)
}

const TABLES: &str = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql NOT NULL \
    ORDER BY tbl_name = 'sqlite_sequence', rowid";
const THE_REST: &str = "SELECT name, sql FROM sqlite_schema WHERE sql NOT NULL \
    AND type IN ('index', 'trigger', 'view') ORDER BY type COLLATE NOCASE";

struct Lines {
    out: Vec<u8>,
    count: usize,
}

impl Lines {
    fn push(&mut self, line: &str) -> Result<(), D1Error> {
        if self.count > 0 {
            self.out.push(b',');
        }
        self.count += 1;
        encode::text(&mut self.out, line);
        if self.out.len() > SQL { Err(D1Error::new(TOO_MUCH_MEMORY)) } else { Ok(()) }
    }
}

fn schema(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn table(
    connection: &Connection,
    options: &ExportOptions,
    name: &str,
    sql: &str,
    lines: &mut Lines,
) -> Result<(), D1Error> {
    let create = if name == "sqlite_sequence" {
        "DELETE FROM sqlite_sequence;".to_owned()
    } else if name.len() > 11 && name.starts_with("sqlite_stat") {
        "ANALYZE sqlite_schema;".to_owned()
    } else if sql.starts_with("CREATE VIRTUAL TABLE") {
        return Err(D1Error::new("D1 Export error: cannot export databases with Virtual Tables (fts5)"));
    } else if name.starts_with("_cf_") || name.starts_with("sqlite_") {
        return Ok(());
    } else {
        match sql.strip_prefix("CREATE TABLE ") {
            // The shell does this for names in quotes.
            Some(rest) if rest.starts_with(['\'', '"']) => format!("CREATE TABLE IF NOT EXISTS {rest};"),
            _ => format!("{sql};"),
        }
    };
    if !options.no_schema {
        lines.push(&create)?;
    }
    if options.no_data { Ok(()) } else { rows(connection, name, lines) }
}

fn rows(connection: &Connection, table: &str, lines: &mut Lines) -> Result<(), D1Error> {
    let mut info = connection.prepare("SELECT name FROM pragma_table_info(?)")?;
    let names: Vec<String> = info.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let columns: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    let head = format!("INSERT INTO {} ({}) VALUES(", quoted(table), columns.join(","));
    let mut statement =
        connection.prepare(&format!("SELECT {} FROM {}", columns.join(", "), quoted(table)))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut line = head.clone();
        for i in 0..names.len() {
            if i > 0 {
                line.push(',');
            }
            literal(&mut line, row.get_ref(i)?);
        }
        line.push_str(");");
        lines.push(&line)?;
    }
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A value as SQL. Reals keep a mark that they are reals, which JavaScript's numbers lose.
fn literal(line: &mut String, value: ValueRef<'_>) {
    use std::fmt::Write;
    let _ = match value {
        ValueRef::Null => line.write_str("NULL"),
        ValueRef::Integer(n) => write!(line, "{n}"),
        ValueRef::Real(x) if x == f64::INFINITY => line.write_str("9e999"),
        ValueRef::Real(x) if x == f64::NEG_INFINITY => line.write_str("-9e999"),
        ValueRef::Real(x) => write!(line, "{x:?}"),
        ValueRef::Text(bytes) => line.write_str(&text_literal(&String::from_utf8_lossy(bytes))),
        ValueRef::Blob(bytes) => {
            line.push_str("X'");
            bytes.iter().try_for_each(|byte| write!(line, "{byte:02x}")).and_then(|()| line.write_str("'"))
        }
    };
}

/// A text as one line: line ends are put back in by `replace()`, from a stand-in that the text does not hold.
fn text_literal(text: &str) -> String {
    let mut literal = format!("'{}'", text.replace('\'', "''"));
    for (end, usual, code) in [('\r', "\\r", 13), ('\n', "\\n", 10)] {
        if text.contains(end) {
            let mut stand_in = usual.to_owned();
            let mut n = 0;
            while text.contains(&stand_in) {
                stand_in = format!("({usual}{n})");
                n += 1;
            }
            literal = format!("replace({},'{stand_in}',char({code}))", literal.replace(end, &stand_in));
        }
    }
    literal
}

/// Copies the database into a file without a name, beside it on the disk.
pub(crate) fn copy(session: &Session, database: &Path) -> Result<std::fs::File, D1Error> {
    static COPIES: AtomicU64 = AtomicU64::new(0);
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let path = database.with_extension(format!("dump-{}-{number}", std::process::id()));
    let result = copy_to(session, &path);
    // Also after a failure; the open file lives on until it is closed.
    let _ = std::fs::remove_file(&path);
    result
}

fn copy_to(session: &Session, path: &Path) -> Result<std::fs::File, D1Error> {
    let mut target = Connection::open(path)?;
    rusqlite::backup::Backup::new(&session.connection, &mut target)?.run_to_completion(
        PAGES,
        Duration::ZERO,
        None,
    )?;
    // What we keep in the header is no part of the application's database.
    target
        .execute_batch("PRAGMA journal_mode = DELETE; PRAGMA user_version = 0; PRAGMA application_id = 0")?;
    drop(target);
    std::fs::File::open(path).map_err(|e| D1Error::new(format!("cannot read the copy: {e}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn line_ends_are_put_back_by_replace() {
        assert_eq!(text_literal("a\r\nb"), "replace(replace('a\\r\\nb','\\r',char(13)),'\\n',char(10))");
        assert_eq!(text_literal("it's"), "'it''s'");
    }

    proptest! {
        #[test]
        fn a_text_literal_is_one_line_that_sqlite_reads_back(text in "[a\\\\nr'\n\r()0é]{0,24}") {
            let literal = text_literal(&text);
            prop_assert!(!literal.contains(['\n', '\r']));
            let connection = Connection::open_in_memory().unwrap();
            let back: String = connection.query_row(&format!("SELECT {literal}"), [], |r| r.get(0)).unwrap();
            prop_assert_eq!(back, text);
        }
    }
}
