//! What SQL may do: decided while SQLite compiles a statement, by the lists of `dialect.rs`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use crate::dialect::{
    FUNCTIONS, MODULES, NO_PAGES, NO_TRANSACTIONS, PAGES, QUICK_FUNCTIONS, SWITCHES, WRITER_FUNCTIONS,
    allowed_name, is_boolean,
};

/// What a statement was seen to touch while it was compiled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// A function may take long.
    pub slow: bool,
    /// The reason to give instead of SQLite's own message.
    pub refused: Option<&'static str>,
    /// The answer depends on the writing connection.
    pub writer_only: bool,
    /// A switch of the connection is set.
    pub switches: bool,
    /// Tables are created, altered or dropped.
    pub schema: bool,
    /// The table is renamed or changed, so that its new name must be looked at afterwards.
    pub alters: bool,
    /// Rows of the schema table that creating things writes.
    pub schema_rows: u32,
    /// The table that the statement itself writes, and how.
    pub target: Option<Target>,
    /// Tables and views read, each once.
    pub tables_read: Vec<String>,
    /// A full-text index is asked, by `MATCH` or by the column that stands for it.
    pub matches: bool,
    /// Views and triggers that the statement goes through.
    pub through: Vec<String>,
    /// A PRAGMA, whose own reading is not counted.
    pub pragma: bool,
}

/// The table that a statement writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub table: String,
    /// The columns that an `UPDATE` sets; empty for `INSERT` and `DELETE`.
    pub columns: Vec<String>,
    pub inserts: bool,
}

/// Shared between a connection and its authorizer.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    trusted: AtomicBool,
    compiled: AtomicBool,
    seen: Mutex<Seen>,
}

impl Guard {
    /// Installs the lists on a connection.
    pub(crate) fn install(connection: &rusqlite::Connection) -> rusqlite::Result<Arc<Self>> {
        let guard = Arc::new(Self::default());
        let ask = guard.clone();
        connection.authorizer(Some(move |context: AuthContext<'_>| ask.authorize(&context)))?;
        Ok(guard)
    }

    /// Lets our own statements through (or no longer).
    pub(crate) fn set_trusted(&self, trusted: bool) {
        self.trusted.store(trusted, Ordering::Relaxed);
    }

    /// Forgets what was seen, before a statement is compiled.
    pub(crate) fn reset(&self) {
        self.compiled.store(false, Ordering::Relaxed);
        *self.lock() = Seen::default();
    }

    /// Whether anything was compiled since the reset.
    pub(crate) fn compiled(&self) -> bool {
        self.compiled.load(Ordering::Relaxed)
    }

    /// What was seen since the reset.
    pub(crate) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// The reason for the last refusal, if it has one of its own.
    pub(crate) fn refused(&self) -> Option<&'static str> {
        self.lock().refused
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn authorize(&self, context: &AuthContext<'_>) -> Authorization {
        if self.trusted.load(Ordering::Relaxed) {
            return Authorization::Allow;
        }
        self.compiled.store(true, Ordering::Relaxed);
        let mut seen = self.lock();
        match decide(context, &mut seen) {
            true => Authorization::Allow,
            false => Authorization::Deny,
        }
    }
}

fn decide(context: &AuthContext<'_>, seen: &mut Seen) -> bool {
    if let Some(name) = context.accessor
        && !seen.through.iter().any(|known| known == name)
    {
        seen.through.push(name.to_owned());
    }
    if names_pages(&context.action) {
        seen.refused = Some(NO_PAGES);
        return false;
    }
    // For these two SQLite passes the database elsewhere.
    let database = match context.action {
        AuthAction::AlterTable { database_name, .. } | AuthAction::Detach { database_name } => {
            Some(database_name)
        }
        _ => context.database_name,
    };
    match (database, context.action) {
        (None | Some("main"), action) => decide_schema(action, seen)
            .unwrap_or_else(|| decide_use(action, context.accessor.is_none(), seen)),
        (Some("temp"), AuthAction::Read { table_name, .. } | AuthAction::Update { table_name, .. }) => {
            allowed_name(table_name)
        }
        _ => false,
    }
}

fn names_pages(action: &AuthAction<'_>) -> bool {
    match action {
        AuthAction::Read { table_name, .. }
        | AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. } => table_name.eq_ignore_ascii_case(PAGES),
        _ => false,
    }
}

/// What reads and writes rows, and everything else that leaves the schema alone.
fn decide_use(action: AuthAction<'_>, direct: bool, seen: &mut Seen) -> bool {
    match action {
        AuthAction::Select | AuthAction::Recursive | AuthAction::Analyze { .. } => true,
        AuthAction::Reindex { index_name } => allowed_name(index_name),
        AuthAction::Read { table_name, column_name } => {
            seen.matches |= column_name.eq_ignore_ascii_case(table_name);
            if !seen.tables_read.iter().any(|t| t == table_name) && !table_name.starts_with("sqlite_stat") {
                seen.tables_read.push(table_name.to_owned());
            }
            allowed_name(table_name)
        }
        AuthAction::Insert { table_name } => {
            note_target(seen, direct, table_name, None, true);
            allowed_name(table_name)
        }
        AuthAction::Delete { table_name } => {
            note_target(seen, direct, table_name, None, false);
            allowed_name(table_name)
        }
        AuthAction::Update { table_name, column_name } => {
            note_target(seen, direct, table_name, Some(column_name), false);
            allowed_name(table_name)
        }
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
            seen.refused = Some(NO_TRANSACTIONS);
            false
        }
        AuthAction::Function { function_name } => {
            seen.writer_only |= WRITER_FUNCTIONS.contains(&function_name);
            seen.matches |= function_name.eq_ignore_ascii_case("match");
            seen.slow |= !QUICK_FUNCTIONS.iter().any(|quick| function_name.eq_ignore_ascii_case(quick));
            FUNCTIONS.binary_search(&function_name).is_ok()
        }
        AuthAction::Pragma { pragma_name, pragma_value } => decide_pragma(pragma_name, pragma_value, seen),
        _ => false,
    }
}

/// What changes the schema; `None` for anything else.
fn decide_schema(action: AuthAction<'_>, seen: &mut Seen) -> Option<bool> {
    let (allowed, rows) = match action {
        AuthAction::CreateTable { table_name: name } | AuthAction::CreateView { view_name: name } => {
            (allowed_name(name), 2)
        }
        AuthAction::DropTable { table_name: name } | AuthAction::DropView { view_name: name } => {
            (allowed_name(name), 0)
        }
        AuthAction::AlterTable { table_name, .. } => {
            seen.alters = true;
            (allowed_name(table_name), 0)
        }
        AuthAction::CreateIndex { index_name: name, table_name }
        | AuthAction::CreateTrigger { trigger_name: name, table_name } => {
            (allowed_name(name) && allowed_name(table_name), 1)
        }
        AuthAction::DropIndex { index_name: name, table_name }
        | AuthAction::DropTrigger { trigger_name: name, table_name } => {
            (allowed_name(name) && allowed_name(table_name), 0)
        }
        AuthAction::CreateVtable { table_name, module_name }
        | AuthAction::DropVtable { table_name, module_name } => {
            let known = MODULES.iter().any(|m| m.eq_ignore_ascii_case(module_name));
            (known && allowed_name(table_name), 0)
        }
        _ => return None,
    };
    seen.schema = true;
    seen.schema_rows += rows;
    Some(allowed)
}

/// Remembers the first table that the statement itself writes; what triggers write is counted apart.
fn note_target(seen: &mut Seen, direct: bool, table: &str, column: Option<&str>, inserts: bool) {
    if !direct || table.starts_with("sqlite_master") {
        return;
    }
    match &mut seen.target {
        None => {
            let columns = column.map(str::to_owned).into_iter().collect();
            seen.target = Some(Target { table: table.to_owned(), columns, inserts });
        }
        Some(target) if target.table == table && !target.inserts => {
            target.columns.extend(column.map(str::to_owned));
        }
        Some(_) => {}
    }
}

fn decide_pragma(name: &str, value: Option<&str>, seen: &mut Seen) -> bool {
    seen.pragma = true;
    match name {
        "table_list" => return true,
        "table_info" | "table_xinfo" | "foreign_key_list" | "index_info" | "index_list" | "index_xinfo" => {
            return value.is_some_and(allowed_name);
        }
        "foreign_key_check" => return value.is_none_or(allowed_name),
        "quick_check" => return value.is_none_or(|v| v.parse::<u32>().is_ok() || allowed_name(v)),
        "page_size" => return value.is_none(),
        _ => {}
    }
    seen.writer_only = true;
    match name {
        "data_version" => value.is_none(),
        "optimize" => {
            seen.schema = true;
            value.is_none_or(|v| v.parse::<i32>().is_ok())
        }
        name if SWITCHES.contains(&name) => {
            seen.switches |= value.is_some();
            value.is_none_or(is_boolean)
        }
        _ => false,
    }
}
