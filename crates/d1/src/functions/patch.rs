//! `json_patch()`: SQLite's own, looked at before. It compares each member of the patch with each of the document, so that two documents of 40,000
//! members took a minute.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Error, Result, ToSql, ffi};

use super::{Answer, plain};
use crate::error::TIMED_OUT;

/// Documents that are smaller take no time worth a look, in bytes of both.
const SMALL: usize = 32 << 10;
/// Nanoseconds that a call may take, by the estimate.
const MOST: u64 = 5_000_000_000;

/// A value that SQLite gets as it came.
struct Same<'a>(ValueRef<'a>);

impl ToSql for Same<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

/// `json_patch()`.
pub(super) fn text(document: ValueRef<'_>, patch: ValueRef<'_>) -> Result<Answer> {
    answer("SELECT json_patch(?1, ?2)", document, patch, Answer::Text)
}

/// `jsonb_patch()`.
pub(super) fn blob(document: ValueRef<'_>, patch: ValueRef<'_>) -> Result<Answer> {
    answer("SELECT jsonb_patch(?1, ?2)", document, patch, Answer::Blob)
}

fn answer(
    sql: &str,
    document: ValueRef<'_>,
    patch: ValueRef<'_>,
    make: fn(Vec<u8>) -> Answer,
) -> Result<Answer> {
    if bytes(document) + bytes(patch) > SMALL {
        let estimate = nanoseconds(
            [bytes(document), bytes(patch)].map(|bytes| bytes as u64),
            [members(document)?, members(patch)?],
        );
        if estimate > MOST {
            return Err(Error::SqliteFailure(
                ffi::Error::new(ffi::SQLITE_INTERRUPT),
                Some(TIMED_OUT.to_owned()),
            ));
        }
    }
    Ok(plain::ask(sql, &[&Same(document), &Same(patch)])?.map_or(Answer::Null, make))
}

fn bytes(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        _ => 0,
    }
}

/// How many members a document has at most.
fn members(value: ValueRef<'_>) -> Result<u64> {
    let written = match value {
        ValueRef::Text(bytes) => return Ok(colons(bytes)),
        // Its binary form.
        ValueRef::Blob(_) => plain::ask("SELECT iif(json_valid(?1, 7), json(?1), '')", &[&Same(value)])?,
        _ => return Ok(0),
    };
    Ok(written.map_or(0, |bytes| colons(&bytes)))
}

fn colons(text: &[u8]) -> u64 {
    memchr::memchr_iter(b':', text).count() as u64
}

/// How long it takes: each member of the patch is compared with those of the document and those that came before it, some 20 ns each, and what
/// is behind it is moved.
fn nanoseconds(bytes: [u64; 2], members: [u64; 2]) -> u64 {
    let [document, patch] = members;
    patch * (document + patch) * 20 + patch * (bytes[0] + bytes[1]) / 20
}
