//! What SQL may do: the engine's own lists, asked by SQLite while it compiles a statement.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// The engine's words for `BEGIN`, `COMMIT`, `ROLLBACK`, `SAVEPOINT` and `RELEASE`.
pub(crate) const NO_TRANSACTIONS: &str = "To execute a transaction, please use the \
state.storage.transaction() or state.storage.transactionSync() APIs instead of the SQL BEGIN TRANSACTION or \
SAVEPOINT statements. The JavaScript API is safer because it will automatically roll back on exceptions, and \
because it interacts correctly with Durable Objects' automatic atomic write coalescing.";

/// The functions that SQL may call (workerd `util/sqlite.c++`); sorted.
const FUNCTIONS: &[&str] = &[
    "->",
    "->>",
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "avg",
    "bm25",
    "ceil",
    "changes",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "cos",
    "cosh",
    "count",
    "cume_dist",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "degrees",
    "dense_rank",
    "exp",
    "first_value",
    "floor",
    "format",
    "glob",
    "group_concat",
    "hex",
    "highlight",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_length",
    "json_each",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_insert",
    "json_object",
    "json_patch",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_set",
    "json_tree",
    "json_type",
    "json_valid",
    "jsonb",
    "jsonb_array",
    "jsonb_extract",
    "jsonb_group_array",
    "jsonb_group_object",
    "jsonb_insert",
    "jsonb_object",
    "jsonb_patch",
    "jsonb_remove",
    "jsonb_replace",
    "jsonb_set",
    "julianday",
    "lag",
    "last_insert_rowid",
    "last_value",
    "lead",
    "length",
    "like",
    "likelihood",
    "likely",
    "ln",
    "load_extension",
    "log",
    "log2",
    "lower",
    "ltrim",
    "match",
    "max",
    "max_scalar",
    "min",
    "min_scalar",
    "mod",
    "nth_value",
    "ntile",
    "nullif",
    "octet_length",
    "percent_rank",
    "pi",
    "pow",
    "printf",
    "quote",
    "radians",
    "random",
    "randomblob",
    "rank",
    "replace",
    "round",
    "row_number",
    "rtreecheck",
    "rtrim",
    "sign",
    "sin",
    "sinh",
    "snippet",
    "soundex",
    "sqlite_drop_column",
    "sqlite_rename_column",
    "sqlite_rename_quotefix",
    "sqlite_rename_table",
    "sqlite_rename_test",
    "sqrt",
    "strftime",
    "string_agg",
    "substr",
    "substring",
    "sum",
    "tan",
    "tanh",
    "time",
    "timediff",
    "total",
    "total_changes",
    "trim",
    "trunc",
    "typeof",
    "unhex",
    "unicode",
    "unixepoch",
    "unlikely",
    "upper",
    "zeroblob",
];
/// Functions whose answer is the writing connection's.
const WRITER_FUNCTIONS: &[&str] = &["changes", "last_insert_rowid", "total_changes"];
/// PRAGMAs that switch something in the connection.
const SWITCHES: &[&str] = &[
    "case_sensitive_like",
    "defer_foreign_keys",
    "foreign_keys",
    "ignore_check_constraints",
    "legacy_alter_table",
    "recursive_triggers",
    "reverse_unordered_selects",
];
const MODULES: &[&str] = &["fts5", "fts5vocab", "rtree", "rtree_i32"];

/// What a statement was seen to touch while it was compiled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
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

/// Whether an application may use a name: `_cf_` is reserved.
pub(crate) fn allowed_name(name: &str) -> bool {
    !name.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("_cf_"))
}

fn decide(context: &AuthContext<'_>, seen: &mut Seen) -> bool {
    let database = match context.action {
        AuthAction::AlterTable { database_name, .. } | AuthAction::Detach { database_name } => {
            Some(database_name)
        }
        _ => context.database_name,
    };
    match database {
        None | Some("main") => {}
        Some("temp") => {
            return match context.action {
                AuthAction::Read { table_name, .. } | AuthAction::Update { table_name, .. } => {
                    allowed_name(table_name)
                }
                _ => false,
            };
        }
        Some(_) => return false,
    }
    let direct = context.accessor.is_none();
    if let Some(name) = context.accessor
        && !seen.through.iter().any(|known| known == name)
    {
        seen.through.push(name.to_owned());
    }
    match context.action {
        AuthAction::Select | AuthAction::Recursive => true,
        AuthAction::Analyze { .. } => true,
        AuthAction::Read { table_name, .. } => {
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
        AuthAction::CreateTable { table_name: name } | AuthAction::CreateView { view_name: name } => {
            seen.schema = true;
            seen.schema_rows += 2;
            allowed_name(name)
        }
        AuthAction::DropTable { table_name: name } | AuthAction::DropView { view_name: name } => {
            seen.schema = true;
            allowed_name(name)
        }
        AuthAction::Reindex { index_name } => allowed_name(index_name),
        AuthAction::AlterTable { table_name, .. } => {
            seen.schema = true;
            seen.alters = true;
            allowed_name(table_name)
        }
        AuthAction::CreateIndex { index_name: name, table_name }
        | AuthAction::CreateTrigger { trigger_name: name, table_name } => {
            seen.schema = true;
            seen.schema_rows += 1;
            allowed_name(name) && allowed_name(table_name)
        }
        AuthAction::DropIndex { index_name: name, table_name }
        | AuthAction::DropTrigger { trigger_name: name, table_name } => {
            seen.schema = true;
            allowed_name(name) && allowed_name(table_name)
        }
        AuthAction::CreateVtable { table_name, module_name }
        | AuthAction::DropVtable { table_name, module_name } => {
            seen.schema = true;
            MODULES.iter().any(|m| m.eq_ignore_ascii_case(module_name)) && allowed_name(table_name)
        }
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
            seen.refused = Some(NO_TRANSACTIONS);
            false
        }
        AuthAction::Function { function_name } => {
            seen.writer_only |= WRITER_FUNCTIONS.contains(&function_name);
            FUNCTIONS.binary_search(&function_name).is_ok()
        }
        AuthAction::Pragma { pragma_name, pragma_value } => decide_pragma(pragma_name, pragma_value, seen),
        _ => false,
    }
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

/// The engine compares beginnings, so `truely` passes there and here.
fn is_boolean(value: &str) -> bool {
    let bytes = value.as_bytes();
    let bare = match bytes {
        [quote @ (b'\'' | b'"'), inner @ .., last] if last == quote => inner,
        _ => bytes,
    };
    let begins = |word: &str| bare.get(..word.len()).is_some_and(|b| b.eq_ignore_ascii_case(word.as_bytes()));
    ["true", "false", "yes", "no", "on", "off", "1", "0"].into_iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_functions_is_sorted() {
        assert!(FUNCTIONS.is_sorted());
    }

    #[test]
    fn the_reserved_prefix_is_told_in_any_case() {
        assert!(!allowed_name("_CF_x"));
        assert!(allowed_name("_cf"));
        assert!(allowed_name("é_cf_"));
    }
}
