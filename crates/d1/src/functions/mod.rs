//! Functions of SQL in place of SQLite's own, where those take the square of what they are given.
//!
//! Nobody looks at the clock while a function runs: `replace()` of two texts of a megabyte compared them for half a minute, `trim()` with as many
//! characters for hours. These give the same for every value, of any type and whatever its bytes are, and take the time of reading it. SQLite's own
//! `LIKE`, `GLOB`, `printf()`, `strftime()`, sums and what makes, reads or changes JSON were measured with the largest values: half a second at most.

mod find;
mod patch;
mod plain;
#[cfg(test)]
mod tests;
mod trim;
mod unhex;

use std::borrow::Cow;

use rusqlite::ffi;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Error, Result};

/// By which SQLite knows that a text is JSON.
const JSON: u32 = b'J' as u32;

/// What one of these functions gives.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Null,
    Integer(i64),
    /// Of any bytes, as SQLite's texts are.
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl ToSql for Answer {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(bytes) => ValueRef::Text(bytes),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Puts them in place of SQLite's on a connection. A text is never longer than `most` bytes.
pub(crate) fn install(connection: &Connection, most: usize) -> Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    let put = |name: &str, count: i32, function: fn(&Context<'_>, usize) -> Result<Answer>| {
        connection.create_scalar_function(name, count, flags, move |context| function(context, most))
    };
    put("replace", 3, replace)?;
    put("instr", 2, |context, _| find::instr(context.get_raw(0), context.get_raw(1)))?;
    put("trim", 2, |context, _| trimmed(context, trim::Ends { left: true, right: true }))?;
    put("ltrim", 2, |context, _| trimmed(context, trim::Ends { left: true, right: false }))?;
    put("rtrim", 2, |context, _| trimmed(context, trim::Ends { left: false, right: true }))?;
    put("unhex", 2, unhex)?;
    put("jsonb_patch", 2, |context, _| patch::blob(context.get_raw(0), context.get_raw(1)))?;
    let flags = flags | FunctionFlags::SQLITE_RESULT_SUBTYPE;
    connection.create_scalar_function("json_patch", 2, flags, |context| {
        let patched = patch::text(context.get_raw(0), context.get_raw(1))?;
        let subtype = matches!(patched, Answer::Text(_)).then_some(JSON);
        Ok((patched, subtype))
    })
}

fn replace(context: &Context<'_>, most: usize) -> Result<Answer> {
    let Some(text) = text_of(context.get_raw(0))? else { return Ok(Answer::Null) };
    let Some(pattern) = text_of(context.get_raw(1))? else { return Ok(Answer::Null) };
    if matches!(pattern.first(), None | Some(0)) {
        return Ok(Answer::Text(text.into_owned()));
    }
    let Some(by) = text_of(context.get_raw(2))? else { return Ok(Answer::Null) };
    find::replace(&text, &pattern, &by, most).map(Answer::Text).ok_or_else(too_large)
}

fn trimmed(context: &Context<'_>, ends: trim::Ends) -> Result<Answer> {
    let Some(text) = text_of(context.get_raw(0))? else { return Ok(Answer::Null) };
    let Some(characters) = text_of(context.get_raw(1))? else { return Ok(Answer::Null) };
    Ok(Answer::Text(trim::trim(&text, &characters, ends).to_vec()))
}

fn unhex(context: &Context<'_>, _: usize) -> Result<Answer> {
    let Some(digits) = text_of(context.get_raw(0))? else { return Ok(Answer::Null) };
    let Some(between) = text_of(context.get_raw(1))? else { return Ok(Answer::Null) };
    Ok(unhex::unhex(&digits, &between).map_or(Answer::Null, Answer::Blob))
}

/// A value as SQLite makes it a text; `None` is NULL.
fn text_of(value: ValueRef<'_>) -> Result<Option<Cow<'_, [u8]>>> {
    Ok(Some(match value {
        ValueRef::Null => return Ok(None),
        ValueRef::Integer(number) => Cow::Owned(number.to_string().into_bytes()),
        ValueRef::Real(number) => Cow::Owned(plain::real(number)?),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Cow::Borrowed(bytes),
    }))
}

fn too_large() -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_TOOBIG), None)
}
