//! Cloudflare's SQL API of Analytics Engine: a dialect of ClickHouse's, over the points in SQLite.
//! <https://developers.cloudflare.com/analytics/analytics-engine/sql-reference/>
//!
//! A query is parsed, checked and typed, and written anew as SQL of SQLite ([`select`], [`expression`], [`calls`]), with functions of our own where
//! SQLite has none or means something else ([`scalar`], [`aggregates`]). Nothing of what was asked reaches SQLite as it was.

mod aggregates;
mod calls;
mod dates;
mod expression;
mod output;
mod scalar;
mod select;
mod statement;
mod types;

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

pub use output::Format;
use output::Output;
use statement::Statement;
use types::Type;

/// A query runs so long at most.
const TIME: Duration = Duration::from_secs(10);
/// How willingly it leaves the processor to others, setpriority(2).
const NICE: i32 = 10;
/// What a query's expressions may take, in bytes: they are as deep as it is long.
const STACK: usize = 32 << 20;
/// Steps of SQLite between two looks at the clock.
const LOOK: i32 = 10_000;
/// The longest answer, in bytes.
const ANSWER: usize = 32 << 20;

/// An answer of the SQL API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// How it is written.
    pub format: Format,
    /// It.
    pub body: String,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It is not understood, or asks for what is not there.
    #[error("Input was invalid: {0}")]
    Invalid(String),
    /// It took too long, or would take too much.
    #[error("Query exceeded a limit: {0}")]
    Limit(String),
    /// The database.
    #[error(transparent)]
    Database(rusqlite::Error),
}

fn invalid<T>(what: impl Into<String>) -> Result<T, QueryError> {
    Err(QueryError::Invalid(what.into()))
}

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    name: String,
    kind: Type,
}

/// Answers a query about the points in `file`, at `now` in seconds since 1970. Blocking.
pub(crate) fn answer(file: &Path, query: &str, now: i64) -> Result<Answered, QueryError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("analytics-query".into()).stack_size(STACK);
        let answered = thread.spawn_scoped(scope, || {
            // Of this thread alone; where it cannot be had, the query competes with everybody.
            let _ = rustix::process::setpriority_process(None, NICE);
            answer_here(file, query, now)
        });
        let no_thread = |e: std::io::Error| QueryError::Limit(format!("there is no thread for it: {e}"));
        let answered = answered.map_err(no_thread)?.join();
        answered.unwrap_or_else(|_| Err(QueryError::Limit("it could not be answered".into())))
    })
}

fn answer_here(file: &Path, query: &str, now: i64) -> Result<Answered, QueryError> {
    let (statement, format) = statement::parse(query)?;
    let column = |name: &str| Column { name: name.to_owned(), kind: Type::String };
    let mut output = Output::new(format, ANSWER);
    match statement {
        Statement::Timezone => output.texts(&column("timezone"), &["Etc/UTC".to_owned()])?,
        Statement::Timezones => output.texts(&column("timezone"), &dates::zones())?,
        Statement::Tables => {
            let db = open(file)?;
            let sql = "SELECT DISTINCT dataset AS c0 FROM points ORDER BY 1";
            run(&db, sql, &[Column { name: "dataset".to_owned(), kind: Type::String }], &mut output)?;
        }
        Statement::Select(query) => {
            let selected = select::translate(&query, now)?;
            output.limited = selected.limited;
            run(&open(file)?, &selected.sql, &selected.columns, &mut output)?;
        }
    }
    Ok(Answered { format, body: output.end()? })
}

/// A connection for one query.
fn open(file: &Path) -> Result<Connection, QueryError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(file, flags).and_then(|db| {
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        // Expressions nest as deep as a query has them, and no deeper than the stack takes.
        db.set_limit(Limit::SQLITE_LIMIT_EXPR_DEPTH, 1000)?;
        scalar::register(&db)?;
        aggregates::register(&db)?;
        let begun = Instant::now();
        db.progress_handler(LOOK, Some(move || begun.elapsed() > TIME))?;
        Ok(db)
    });
    opened.map_err(QueryError::Database)
}

fn run(db: &Connection, sql: &str, columns: &[Column], output: &mut Output) -> Result<(), QueryError> {
    let mut statement = db.prepare(sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    output.begin(columns);
    while let Some(row) = rows.next().map_err(failed)? {
        output.row(columns, row)?;
    }
    Ok(())
}

/// What SQLite says, for whoever asked.
fn failed(error: rusqlite::Error) -> QueryError {
    use rusqlite::ErrorCode::{OperationInterrupted, OutOfMemory, TooBig};
    match &error {
        rusqlite::Error::SqliteFailure(code, message) => match code.code {
            OperationInterrupted => QueryError::Limit(format!("it took longer than {} s", TIME.as_secs())),
            OutOfMemory | TooBig => QueryError::Limit("it needs too much memory".into()),
            // Our functions', and of sums that have no room.
            rusqlite::ErrorCode::Unknown => QueryError::Invalid(message.clone().unwrap_or_default()),
            _ => QueryError::Database(error),
        },
        _ => QueryError::Database(error),
    }
}

#[cfg(test)]
mod tests;
