//! The SQL that D1 speaks: the engine's own lists of functions, PRAGMAs and modules.

/// The engine's words for `BEGIN`, `COMMIT`, `ROLLBACK`, `SAVEPOINT` and `RELEASE`.
pub(crate) const NO_TRANSACTIONS: &str = "To execute a transaction, please use the \
state.storage.transaction() or state.storage.transactionSync() APIs instead of the SQL BEGIN TRANSACTION or \
SAVEPOINT statements. The JavaScript API is safer because it will automatically roll back on exceptions, and \
because it interacts correctly with Durable Objects' automatic atomic write coalescing.";

/// The functions that SQL may call (workerd `util/sqlite.c++`); sorted.
pub(crate) const FUNCTIONS: &[&str] = &[
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
/// Functions that take little time whatever they are given. A call of any other one may take as long as thousands of steps of a
/// statement, and nobody looks at the clock meanwhile.
pub(crate) const QUICK_FUNCTIONS: &[&str] = &[
    "abs",
    "avg",
    "coalesce",
    "count",
    "date",
    "datetime",
    "dense_rank",
    "ifnull",
    "iif",
    "julianday",
    "max",
    "min",
    "nullif",
    "random",
    "rank",
    "round",
    "row_number",
    "sign",
    "sum",
    "time",
    "total",
    "typeof",
    "unixepoch",
];

/// Functions whose answer is the writing connection's.
pub(crate) const WRITER_FUNCTIONS: &[&str] = &["changes", "last_insert_rowid", "total_changes"];
/// PRAGMAs that switch something in the connection.
pub(crate) const SWITCHES: &[&str] = &[
    "case_sensitive_like",
    "defer_foreign_keys",
    "foreign_keys",
    "ignore_check_constraints",
    "legacy_alter_table",
    "recursive_triggers",
    "reverse_unordered_selects",
];
/// The modules that virtual tables may have, in any case.
pub(crate) const MODULES: &[&str] = &["fts5", "fts5vocab", "rtree", "rtree_i32"];

/// The pages of the file as a table: there for going back in time, for an application not at all.
pub(crate) const PAGES: &str = "sqlite_dbpage";
/// What an application hears of it.
pub(crate) const NO_PAGES: &str = "no such table: sqlite_dbpage: SQLITE_ERROR";

/// Whether an application may use a name: `_cf_` is reserved.
pub(crate) fn allowed_name(name: &str) -> bool {
    !name.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("_cf_"))
}

/// Whether a PRAGMA's value is a boolean. The engine compares beginnings, so `truely` passes there and here.
pub(crate) fn is_boolean(value: &str) -> bool {
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
