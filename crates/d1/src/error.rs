//! What went wrong with a call, in the words that applications match on.

use rusqlite::ffi;

/// Why a call failed. The text is what the application sees after `D1_ERROR: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct D1Error(pub(crate) String);

/// The text for a query past its 30 s, from Cloudflare's list of D1 errors
/// (developers.cloudflare.com/d1/observability/debug-d1).
pub(crate) const TIMED_OUT: &str =
    "D1 DB storage operation exceeded timeout which caused object to be reset.";
/// The text for a result that does not fit, from the same list.
pub(crate) const TOO_MUCH_MEMORY: &str = "D1 DB's isolate exceeded its memory limit and was reset.";

/// The text for a database of 10 GB, from the same list.
/// A statement that would become too large while it is compiled: memory, for which there is no better word of D1's.
pub(crate) const TOO_COMPLEX: &str = "statement too complex: views and common table expressions stand for too much in each other: SQLITE_ERROR";
pub(crate) const TOO_LARGE: &str = "Exceeded maximum DB size";

impl D1Error {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn closed() -> Self {
        Self::new("D1 DB is shutting down.")
    }

    /// The engine's form: `<message>[ at offset N]: <CODE>[ (extended: <CODE>)]`. `shift` is how many bytes
    /// of the caller's text lie before the statement that failed.
    pub(crate) fn from_sqlite(error: &rusqlite::Error, shift: usize) -> Self {
        let (code, message, offset) = match error {
            rusqlite::Error::SqliteFailure(code, message) => (code, message.as_deref(), None),
            rusqlite::Error::SqlInputError { error, msg, offset, .. } => {
                (error, Some(msg.as_str()), usize::try_from(*offset).ok())
            }
            other => return Self(other.to_string()),
        };
        let mut text = match message {
            Some(message) => message.to_owned(),
            None => ffi::code_to_str(code.extended_code).to_owned(),
        };
        if let Some(offset) = offset {
            text.push_str(&format!(" at offset {}", offset + shift));
        }
        let primary = code.extended_code & 0xff;
        text.push_str(": ");
        match primary_name(primary) {
            Some(name) => text.push_str(name),
            None => text.push_str(&format!("SQLITE_UNKNOWN_ERROR_CODE({primary})")),
        }
        if let Some(name) = extended_name(code.extended_code) {
            text.push_str(&format!(" (extended: {name})"));
        }
        Self(text)
    }
}

impl From<rusqlite::Error> for D1Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::from_sqlite(&error, 0)
    }
}

/// `sqlite.org/rescode.html`, the primary codes.
fn primary_name(code: i32) -> Option<&'static str> {
    const NAMES: [&str; 29] = [
        "SQLITE_OK",
        "SQLITE_ERROR",
        "SQLITE_INTERNAL",
        "SQLITE_PERM",
        "SQLITE_ABORT",
        "SQLITE_BUSY",
        "SQLITE_LOCKED",
        "SQLITE_NOMEM",
        "SQLITE_READONLY",
        "SQLITE_INTERRUPT",
        "SQLITE_IOERR",
        "SQLITE_CORRUPT",
        "SQLITE_NOTFOUND",
        "SQLITE_FULL",
        "SQLITE_CANTOPEN",
        "SQLITE_PROTOCOL",
        "SQLITE_EMPTY",
        "SQLITE_SCHEMA",
        "SQLITE_TOOBIG",
        "SQLITE_CONSTRAINT",
        "SQLITE_MISMATCH",
        "SQLITE_MISUSE",
        "SQLITE_NOLFS",
        "SQLITE_AUTH",
        "SQLITE_FORMAT",
        "SQLITE_RANGE",
        "SQLITE_NOTADB",
        "SQLITE_NOTICE",
        "SQLITE_WARNING",
    ];
    NAMES.get(usize::try_from(code).ok()?).copied()
}

/// The extended codes that a statement can meet; the primary ones have no name here.
fn extended_name(code: i32) -> Option<&'static str> {
    Some(match code {
        ffi::SQLITE_ABORT_ROLLBACK => "SQLITE_ABORT_ROLLBACK",
        ffi::SQLITE_BUSY_RECOVERY => "SQLITE_BUSY_RECOVERY",
        ffi::SQLITE_BUSY_SNAPSHOT => "SQLITE_BUSY_SNAPSHOT",
        ffi::SQLITE_BUSY_TIMEOUT => "SQLITE_BUSY_TIMEOUT",
        ffi::SQLITE_CONSTRAINT_CHECK => "SQLITE_CONSTRAINT_CHECK",
        ffi::SQLITE_CONSTRAINT_COMMITHOOK => "SQLITE_CONSTRAINT_COMMITHOOK",
        ffi::SQLITE_CONSTRAINT_DATATYPE => "SQLITE_CONSTRAINT_DATATYPE",
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "SQLITE_CONSTRAINT_FOREIGNKEY",
        ffi::SQLITE_CONSTRAINT_FUNCTION => "SQLITE_CONSTRAINT_FUNCTION",
        ffi::SQLITE_CONSTRAINT_NOTNULL => "SQLITE_CONSTRAINT_NOTNULL",
        ffi::SQLITE_CONSTRAINT_PINNED => "SQLITE_CONSTRAINT_PINNED",
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY => "SQLITE_CONSTRAINT_PRIMARYKEY",
        ffi::SQLITE_CONSTRAINT_ROWID => "SQLITE_CONSTRAINT_ROWID",
        ffi::SQLITE_CONSTRAINT_TRIGGER => "SQLITE_CONSTRAINT_TRIGGER",
        ffi::SQLITE_CONSTRAINT_UNIQUE => "SQLITE_CONSTRAINT_UNIQUE",
        ffi::SQLITE_CONSTRAINT_VTAB => "SQLITE_CONSTRAINT_VTAB",
        ffi::SQLITE_CORRUPT_INDEX => "SQLITE_CORRUPT_INDEX",
        ffi::SQLITE_CORRUPT_SEQUENCE => "SQLITE_CORRUPT_SEQUENCE",
        ffi::SQLITE_CORRUPT_VTAB => "SQLITE_CORRUPT_VTAB",
        ffi::SQLITE_ERROR_MISSING_COLLSEQ => "SQLITE_ERROR_MISSING_COLLSEQ",
        ffi::SQLITE_ERROR_RETRY => "SQLITE_ERROR_RETRY",
        ffi::SQLITE_ERROR_SNAPSHOT => "SQLITE_ERROR_SNAPSHOT",
        ffi::SQLITE_IOERR_FSTAT => "SQLITE_IOERR_FSTAT",
        ffi::SQLITE_IOERR_FSYNC => "SQLITE_IOERR_FSYNC",
        ffi::SQLITE_IOERR_LOCK => "SQLITE_IOERR_LOCK",
        ffi::SQLITE_IOERR_NOMEM => "SQLITE_IOERR_NOMEM",
        ffi::SQLITE_IOERR_READ => "SQLITE_IOERR_READ",
        ffi::SQLITE_IOERR_SHORT_READ => "SQLITE_IOERR_SHORT_READ",
        ffi::SQLITE_IOERR_TRUNCATE => "SQLITE_IOERR_TRUNCATE",
        ffi::SQLITE_IOERR_WRITE => "SQLITE_IOERR_WRITE",
        ffi::SQLITE_LOCKED_VTAB => "SQLITE_LOCKED_VTAB",
        ffi::SQLITE_READONLY_DBMOVED => "SQLITE_READONLY_DBMOVED",
        ffi::SQLITE_READONLY_DIRECTORY => "SQLITE_READONLY_DIRECTORY",
        ffi::SQLITE_READONLY_RECOVERY => "SQLITE_READONLY_RECOVERY",
        _ => return None,
    })
}
