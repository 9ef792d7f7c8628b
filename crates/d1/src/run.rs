//! Runs the statements of a call on one connection and writes the reply's body.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rusqlite::{CachedStatement, ErrorCode};
use skep_runtime::Backlog;

use crate::encode;
use crate::error::{D1Error, TIMED_OUT, TOO_COMPLEX, TOO_LARGE, TOO_MUCH_MEMORY};
use crate::expansion::{Names, Size};
use crate::held::Output;
use crate::plan::{Plan, Plans};
use crate::request::{ResultsFormat, Statement};
use crate::session::{Exempt, Patience, Session};
use crate::turns::{SEARCHES, Turn};
use crate::writer::{Search, Stage};
use crate::{limit, split};

/// What `meta.served_by` says.
const SERVED_BY: &str = "skep.db";

/// PRAGMAs that change nothing, not even in their connection.
const READING_PRAGMAS: &[&str] = &[
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// What the database as a whole reports in every `meta`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The row id of the last insert, of any call.
    pub last_row_id: i64,
    /// Bytes of data.
    pub size: i64,
}

/// Why a call did not get to its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The call failed.
    Failed(D1Error),
    /// It does more than read; nothing has been changed.
    NeedsWriter,
    /// It takes longer than the caller's thread may be held; nothing has been changed.
    TooLong,
    /// It asks a full-text index, which is done in a process of its own; nothing has been changed.
    Apart,
}

/// What becomes of a statement that asks a full-text index: how long that takes has no bound, and nobody looks at the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Searches<'a> {
    /// It runs: whoever waits for it can do without this process.
    Here,
    /// The call ends with [`Stop::Apart`].
    Apart,
    /// It runs when no other one does, and the thread may be left behind in it.
    InTurn(&'a Stage),
}

impl From<D1Error> for Stop {
    fn from(error: D1Error) -> Self {
        Self::Failed(error)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Bytes of a result that is made on the caller's thread.
const INLINE_BYTES: usize = 256 << 10;

/// What a call did besides its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Effects {
    /// The schema may have changed.
    pub schema: bool,
    /// Switches of the connection were set.
    pub switches: bool,
}

/// Runs statements on one connection.
pub(crate) struct Runner<'a> {
    pub session: &'a Session,
    pub plans: &'a Plans,
    pub format: ResultsFormat,
    pub patience: Patience,
    pub searches: Searches<'a>,
    /// Called when a statement begins.
    pub begins: &'a dyn Fn(),
    /// Whether the connection may write, and is inside a transaction.
    pub writes: bool,
    /// Whether the call has one statement, so that what takes long is known.
    pub alone: bool,
    pub facts: Facts,
    pub effects: Effects,
    /// What the database's results take.
    pub results: &'a Arc<Backlog>,
}

impl<'a> Runner<'a> {
    /// Runs every statement; the result is the JSON array of the reply.
    pub(crate) fn run(&mut self, statements: &[Statement]) -> Result<Output, Stop> {
        let mut out = Output::new(self.results);
        out.bytes.reserve(512);
        out.bytes.push(b'[');
        for (i, statement) in statements.iter().enumerate() {
            if i > 0 {
                out.bytes.push(b',');
            }
            self.one(statement, &mut out)?;
        }
        out.bytes.push(b']');
        Ok(out)
    }

    /// A text may hold several statements; the last one has the parameters and gives the result.
    fn one(&mut self, statement: &Statement, out: &mut Output) -> Result<(), Stop> {
        (self.begins)();
        let mut sql = statement.sql.as_str();
        let total_before = self.session.connection.total_changes();
        if !split::is_single(sql) {
            if !self.writes {
                return Err(Stop::NeedsWriter);
            }
            loop {
                let (head, tail) = split::first(sql);
                // What follows the last statement may be a comment: here as on Cloudflare, unlike Miniflare.
                if split::is_blank(tail) {
                    sql = head;
                    break;
                }
                self.prelude(head)?;
                sql = tail;
            }
        }
        let (plan, mut prepared) = self.prepare(sql)?;
        let _turn = self.turn(&plan)?;
        if prepared.parameter_count() != statement.params.len() {
            return Err(D1Error::new("Wrong number of parameter bindings for SQL query.").into());
        }
        for (i, param) in statement.params.iter().enumerate() {
            prepared.raw_bind_parameter(i + 1, param)?;
        }
        let started = Instant::now();
        let own_before = self.session.connection.total_changes();
        out.bytes.extend_from_slice(b"{\"success\":true,\"results\":");
        let rows = self.step(&plan, &mut prepared, out)?;
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        let read = plan.rows_read(&prepared, rows);
        finish(prepared, &plan);
        self.after(&plan)?;
        let total = self.session.connection.total_changes();
        let written =
            plan.rows_written(self.session.connection.changes().min(total - own_before), total - own_before);
        self.meta(&mut out.bytes, milliseconds, total - total_before, read, written)
    }

    /// Runs a statement that others follow in the same text; its rows are not wanted.
    fn prelude(&mut self, sql: &str) -> Result<(), Stop> {
        let (plan, mut prepared) = self.prepare(sql)?;
        if prepared.parameter_count() != 0 {
            return Err(D1Error::new(
                "When executing multiple SQL statements in a single call, only the last statement can have parameters.",
            )
            .into());
        }
        let _turn = self.turn(&plan)?;
        self.start_timer();
        // As the engine does, one step only: an INSERT … RETURNING has done all of its work by then.
        let first = prepared.raw_query().next().map(|_| ());
        first.map_err(|e| self.failed(&plan, &e))?;
        finish(prepared, &plan);
        self.after(&plan)
    }

    fn prepare(&mut self, sql: &str) -> Result<(Arc<Plan>, CachedStatement<'a>), Stop> {
        // VACUUM INTO counts as reading for SQLite, yet writes a file anywhere.
        if !self.writes && !may_read(sql) {
            return Err(Stop::NeedsWriter);
        }
        let shift = sql.len() - sql.trim_start().len();
        let known = self.plans.get(sql);
        if !self.writes && known.as_ref().is_some_and(|plan| !plan.reads) {
            return Err(Stop::NeedsWriter);
        }
        if known.as_ref().is_some_and(|plan| self.goes_apart(plan)) {
            return Err(Stop::Apart);
        }
        self.start_timer();
        if known.is_none() {
            let names = self.plans.names(|| self.session.trusted(Names::of));
            let names = names.map_err(|error| self.own_failed(error))?;
            match names.size(sql) {
                Size::Small => {}
                Size::Large if self.patience != Patience::Inline => {}
                Size::Large => return Err(Stop::TooLong),
                Size::TooLarge => return Err(D1Error::new(TOO_COMPLEX).into()),
            }
        }
        let session = self.session;
        let (guard, connection) = (&session.guard, &session.connection);
        guard.reset();
        let refused = |error: rusqlite::Error| match (guard.refused(), error) {
            (Some(reason), _) => D1Error::new(reason).into(),
            (None, rusqlite::Error::MultipleStatement) => {
                D1Error::new("A prepared SQL statement must contain only one statement.").into()
            }
            (None, error) => {
                self.interrupted(&error).unwrap_or_else(|| D1Error::from_sqlite(&error, shift).into())
            }
        };
        let mut text = Cow::Borrowed(sql);
        let prepared = match connection.prepare_cached(sql) {
            Ok(prepared) => prepared,
            Err(error) => {
                let limited = limit::rewrite(sql).filter(|_| is_syntax_error(&error));
                let limited = limited.ok_or_else(|| refused(error))?;
                if !self.writes {
                    return Err(Stop::NeedsWriter);
                }
                guard.reset();
                text = Cow::Owned(limited);
                connection.prepare_cached(&text).map_err(refused)?
            }
        };
        let plan = match known {
            Some(plan) => plan,
            None => {
                if !guard.compiled() {
                    // It was still compiled from before its plan was forgotten; see again what it touches.
                    connection.prepare(&text).map_err(refused)?;
                }
                if prepared.expanded_sql().is_none() {
                    return Err(D1Error::new("SQL code did not contain a statement.").into());
                }
                let plan = Plan::new(session, &prepared, &text, &guard.seen());
                let plan = Arc::new(plan.map_err(|error| self.own_failed(error))?);
                self.plans.put(sql, plan.clone());
                plan
            }
        };
        self.effects.switches |= plan.switches;
        if !self.writes && !plan.reads {
            return Err(Stop::NeedsWriter);
        }
        if self.goes_apart(&plan) {
            return Err(Stop::Apart);
        }
        if self.patience == Patience::Inline && plan.is_slow() {
            return Err(Stop::TooLong);
        }
        Ok((plan, prepared))
    }

    fn goes_apart(&self, plan: &Plan) -> bool {
        plan.searches && matches!(self.searches, Searches::Apart)
    }

    /// Waits for the turn that a statement needs, if it needs one.
    fn turn(&self, plan: &Plan) -> Result<Option<(Exempt<'a>, Search<'a>, Turn<'static>)>, Stop> {
        let Searches::InTurn(stage) = self.searches else { return Ok(None) };
        if !plan.searches {
            return Ok(None);
        }
        let turn = SEARCHES.turn(self.session.database(), self.session.query_time);
        let turn = turn.ok_or_else(|| D1Error::new(TIMED_OUT))?;
        // A turn of long queries would be kept from all databases by one that does not end.
        Ok(Some((self.session.exempt(), stage.search(), turn)))
    }

    /// Runs a bound statement to its end and writes its rows; returns how many.
    fn step(&self, plan: &Plan, prepared: &mut CachedStatement<'_>, out: &mut Output) -> Result<u64, Stop> {
        self.start_timer();
        let mut table: Option<Table> = None;
        let mut count = 0;
        let most = if self.patience == Patience::Inline { INLINE_BYTES } else { usize::MAX };
        let mut rows = prepared.raw_query();
        while let Some(row) = rows.next().map_err(|e| self.failed(plan, &e))? {
            // Not before the first step: it compiles the statement anew if the schema has changed.
            let table = table.get_or_insert_with(|| Table::begin(row.as_ref(), self.format, &mut out.bytes));
            comma(&mut out.bytes, count > 0);
            table.row(row, &mut out.bytes, most)?;
            out.note()?;
            count += 1;
        }
        drop(rows);
        table.unwrap_or_else(|| Table::begin(prepared, self.format, &mut out.bytes)).end(&mut out.bytes);
        Ok(count)
    }

    /// What has to happen once a statement has run.
    fn after(&mut self, plan: &Plan) -> Result<(), Stop> {
        if !plan.schema {
            return Ok(());
        }
        self.effects.schema = true;
        self.plans.clear();
        let reserved = || self.session.trusted(reserved_name_exists).map_err(|error| self.own_failed(error));
        if plan.alters && reserved()? {
            // The engine's SQLite tells its authorizer the new name of a table; the stock one does not.
            return Err(D1Error::new("not authorized: SQLITE_AUTH").into());
        }
        Ok(())
    }

    /// Each query has its own time, but the caller's thread is held by all of a call's together.
    fn start_timer(&self) {
        if self.patience == Patience::Full {
            self.session.start_timer(Patience::Full);
        }
    }

    fn failed(&self, plan: &Plan, error: &rusqlite::Error) -> Stop {
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) && self.session.at_capacity() {
            return D1Error::new(TOO_LARGE).into();
        }
        if error.sqlite_error_code() == Some(ErrorCode::OutOfMemory) {
            return D1Error::new(TOO_MUCH_MEMORY).into();
        }
        let stop = self.interrupted(error);
        if let Some(Stop::TooLong) = stop {
            plan.slow.store(self.alone && !self.session.was_late(), Ordering::Relaxed);
        }
        stop.unwrap_or_else(|| D1Error::from_sqlite(error, 0).into())
    }

    /// A statement of ours failed that was for one of the application's: that one's clock runs meanwhile.
    fn own_failed(&self, error: rusqlite::Error) -> Stop {
        self.interrupted(&error).unwrap_or_else(|| error.into())
    }

    /// Why a statement was stopped, if it was, while it was compiled or when it ran.
    fn interrupted(&self, error: &rusqlite::Error) -> Option<Stop> {
        let interrupted = error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted);
        if !(interrupted && self.session.timed_out()) {
            return None;
        }
        Some(match self.patience {
            Patience::Full if self.session.was_greedy() => D1Error::new(TOO_MUCH_MEMORY).into(),
            Patience::Full => D1Error::new(TIMED_OUT).into(),
            Patience::Inline => Stop::TooLong,
        })
    }

    fn meta(
        &mut self,
        out: &mut Vec<u8>,
        milliseconds: f64,
        changes: u64,
        read: u64,
        written: u64,
    ) -> Result<(), Stop> {
        let before = self.facts;
        if self.writes {
            self.facts.last_row_id = self.session.connection.last_insert_rowid();
            if changes > 0 || self.effects.schema {
                self.facts.size = self.session.size()?;
            }
        }
        let changed = changes > 0 || self.facts != before;
        out.extend_from_slice(b",\"meta\":{\"served_by\":\"");
        out.extend_from_slice(SERVED_BY.as_bytes());
        out.extend_from_slice(
            b"\",\"served_by_primary\":true,\"total_attempts\":1,\"timings\":{\"sql_duration_ms\":",
        );
        encode::real(out, milliseconds);
        out.extend_from_slice(b"},\"duration\":");
        encode::real(out, milliseconds);
        let numbers = [
            (",\"changes\":", i64::try_from(changes).unwrap_or(i64::MAX)),
            (",\"last_row_id\":", self.facts.last_row_id),
            (",\"size_after\":", self.facts.size),
            (",\"rows_read\":", i64::try_from(read).unwrap_or(i64::MAX)),
            (",\"rows_written\":", i64::try_from(written).unwrap_or(i64::MAX)),
        ];
        for (name, number) in numbers {
            out.extend_from_slice(name.as_bytes());
            encode::integer(out, number);
        }
        out.extend_from_slice(b",\"changed_db\":");
        out.extend_from_slice(if changed { b"true" } else { b"false" });
        out.extend_from_slice(b"}}");
        Ok(())
    }
}

/// The results of one statement while they are written.
struct Table {
    names: Vec<String>,
    /// For objects: which column is written at each place.
    objects: Option<Vec<Option<usize>>>,
}

impl Table {
    fn begin(statement: &rusqlite::Statement<'_>, format: ResultsFormat, out: &mut Vec<u8>) -> Self {
        let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        if format == ResultsFormat::Objects {
            out.push(b'[');
            return Self { objects: Some(encode::object_columns(&names)), names };
        }
        out.extend_from_slice(b"{\"columns\":[");
        for (i, name) in names.iter().enumerate() {
            comma(out, i > 0);
            encode::text(out, name);
        }
        out.extend_from_slice(b"],\"rows\":[");
        Self { names, objects: None }
    }

    fn row(&self, row: &rusqlite::Row<'_>, out: &mut Vec<u8>, most: usize) -> Result<(), Stop> {
        let Some(columns) = &self.objects else {
            out.push(b'[');
            for i in 0..self.names.len() {
                comma(out, i > 0);
                encode::value(out, row.get_ref(i)?)?;
                within(out, most)?;
            }
            out.push(b']');
            return Ok(());
        };
        out.push(b'{');
        for (i, (name, from)) in self.names.iter().zip(columns).enumerate() {
            let Some(from) = from else { continue };
            comma(out, i > 0);
            encode::text(out, name);
            out.push(b':');
            encode::value(out, row.get_ref(*from)?)?;
            within(out, most)?;
        }
        out.push(b'}');
        Ok(())
    }

    fn end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.objects.is_some() { b"]" } else { b"]}" });
    }
}

/// Whether a statement of this beginning can be one that only reads. Few PRAGMAs are even compiled on a
/// reader: SQLite sets its switches while it compiles them, also behind `EXPLAIN`.
pub(crate) fn may_read(sql: &str) -> bool {
    let (word, rest) = split::first_word(sql);
    let is = |text: &str| word.eq_ignore_ascii_case(text);
    if is("select") || is("with") || is("values") {
        return true;
    }
    if is("explain") {
        return !sql.as_bytes().windows(6).any(|w| w.eq_ignore_ascii_case(b"pragma"));
    }
    let (pragma, _) = split::first_word(rest);
    is("pragma") && READING_PRAGMAS.iter().any(|known| known.eq_ignore_ascii_case(pragma))
}

fn is_syntax_error(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqlInputError { msg, .. } if msg.ends_with("syntax error"))
}

/// Gives a statement back to the cache, unless it has to be compiled each time to have its effect.
fn finish(prepared: CachedStatement<'_>, plan: &Plan) {
    if plan.switches {
        prepared.discard();
    }
}

fn reserved_name_exists(connection: &rusqlite::Connection) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM sqlite_schema WHERE tbl_name LIKE '\\_cf\\_%' ESCAPE '\\'")?
        .exists([])
}

/// A result that is larger is not made here.
fn within(out: &[u8], most: usize) -> Result<(), Stop> {
    if out.len() > most { Err(Stop::TooLong) } else { Ok(()) }
}

fn comma(out: &mut Vec<u8>, wanted: bool) {
    if wanted {
        out.push(b',');
    }
}
