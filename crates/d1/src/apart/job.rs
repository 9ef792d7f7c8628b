//! What such a process is told, and what it answers. It and Skep are one binary, so this needs no versions.
//!
//! A call is the length of a JSON text, in eight bytes (little endian), and the text. The answer is a byte for each statement that begins
//! ([`BEGINS`]), then one that says how it ended, and after [`DONE`] and [`FAILED`] a length and so many bytes.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::request::{Param, ResultsFormat, Statement};
use crate::run::Facts;

/// A statement begins: it has time of its own.
pub(super) const BEGINS: u8 = b'b';
/// The reply's body follows.
pub(super) const DONE: u8 = b'd';
/// The error's text follows.
pub(super) const FAILED: u8 = b'f';
/// The schema has changed meanwhile: it would write now.
pub(super) const WRITES: u8 = b'w';

/// A call.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Whether rows are lists.
    rows: bool,
    statements: Vec<(String, Vec<Value>)>,
    last_row_id: i64,
    size: i64,
}

/// A parameter. JSON's own numbers would lose what is infinite.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Value {
    Null,
    Bits(u64),
    Text(String),
    Blob(Vec<u8>),
}

impl Job {
    pub fn new(statements: &[Statement], format: ResultsFormat, facts: Facts) -> Self {
        let value = |param: &Param| match param {
            Param::Null => Value::Null,
            Param::Number(number) => Value::Bits(number.to_bits()),
            Param::Text(text) => Value::Text(text.clone()),
            Param::Blob(bytes) => Value::Blob(bytes.clone()),
        };
        let statements =
            statements.iter().map(|one| (one.sql.clone(), one.params.iter().map(value).collect()));
        Self {
            rows: format == ResultsFormat::RowsAndColumns,
            statements: statements.collect(),
            last_row_id: facts.last_row_id,
            size: facts.size,
        }
    }

    pub fn taken_apart(self) -> (Vec<Statement>, ResultsFormat, Facts) {
        let param = |value| match value {
            Value::Null => Param::Null,
            Value::Bits(bits) => Param::Number(f64::from_bits(bits)),
            Value::Text(text) => Param::Text(text),
            Value::Blob(bytes) => Param::Blob(bytes),
        };
        let statements = self
            .statements
            .into_iter()
            .map(|(sql, params)| Statement { sql, params: params.into_iter().map(param).collect() });
        let format = if self.rows { ResultsFormat::RowsAndColumns } else { ResultsFormat::Objects };
        (statements.collect(), format, Facts { last_row_id: self.last_row_id, size: self.size })
    }

    /// As it is sent.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 8];
        serde_json::to_writer(&mut bytes, self)?;
        let length = (bytes.len() as u64 - 8).to_le_bytes();
        bytes[..8].copy_from_slice(&length);
        Ok(bytes)
    }

    /// The next one; `None` where nobody asks any more.
    pub fn read(mut from: impl Read) -> io::Result<Option<Self>> {
        let mut length = [0; 8];
        match from.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let mut text = Vec::new();
        from.take(u64::from_le_bytes(length)).read_to_end(&mut text)?;
        Ok(Some(serde_json::from_slice(&text)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_call_comes_across_as_it_is(
            statements in prop::collection::vec((any::<String>(), any::<f64>(), any::<String>(), any::<Vec<u8>>()), 0..4),
            rows: bool, last_row_id: i64, size: i64,
        ) {
            let statements: Vec<Statement> = statements.into_iter().map(|(sql, number, text, bytes)| {
                let params = vec![Param::Null, Param::Number(number), Param::Text(text), Param::Blob(bytes)];
                Statement { sql, params }
            }).collect();
            let format = if rows { ResultsFormat::RowsAndColumns } else { ResultsFormat::Objects };
            let facts = Facts { last_row_id, size };
            let sent = Job::new(&statements, format, facts).to_bytes().unwrap();
            let read = Job::read(sent.as_slice()).unwrap().unwrap().taken_apart();
            prop_assert_eq!(read, (statements, format, facts));
            prop_assert!(Job::read(&sent[..sent.len() - 1]).is_err() && Job::read(&[][..]).unwrap().is_none());
        }
    }

    #[test]
    fn numbers_that_json_has_not_are_sent() {
        let statement = Statement { sql: String::new(), params: vec![Param::Number(f64::INFINITY)] };
        let sent = Job::new(std::slice::from_ref(&statement), ResultsFormat::Objects, Facts::default());
        let read = Job::read(sent.to_bytes().unwrap().as_slice()).unwrap().unwrap();
        assert_eq!(read.taken_apart().0, [statement]);
    }
}
