//! The body of a call: one statement or a list, each with its parameters.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use serde::Deserialize;
use serde::de::{self, SeqAccess, Visitor};

use crate::error::D1Error;
use crate::split;

/// The pseudo-statement with which `wrangler d1 export --local` asks for the database as SQL.
const EXPORT: &str = "PRAGMA miniflare_d1_export(?,?,?);";

/// A bound parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Param {
    /// `NULL`.
    Null,
    /// Every number: JavaScript has one kind, so SQLite sees `REAL`, as on Cloudflare.
    Number(f64),
    /// `TEXT`.
    Text(String),
    /// `BLOB`; in JSON an array of byte values.
    Blob(Vec<u8>),
}

/// One statement of a call.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Statement {
    /// The SQL text.
    pub sql: String,
    /// Its parameters, by position.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub params: Vec<Param>,
}

impl Statement {
    /// A statement without parameters.
    pub fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), params: Vec::new() }
    }
}

/// In which form rows are returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultsFormat {
    /// `{"columns": [...], "rows": [[...]]}`: keeps columns of the same name apart.
    RowsAndColumns,
    /// A list of objects; what `NONE` and every unknown name ask for too.
    Objects,
}

impl ResultsFormat {
    /// From the query string of the request.
    pub(crate) fn from_query(query: Option<&str>) -> Self {
        let asked = query.unwrap_or("").split('&').find_map(|pair| pair.strip_prefix("resultsFormat="));
        match asked {
            Some("ROWS_AND_COLUMNS") => Self::RowsAndColumns,
            _ => Self::Objects,
        }
    }
}

/// What a body asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Asked {
    /// Statements to run.
    Run(Vec<Statement>),
    /// The database as SQL.
    Export(ExportOptions),
}

/// Which parts of the database to write as SQL.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportOptions {
    pub no_schema: bool,
    pub no_data: bool,
    /// These tables only; empty for all.
    pub tables: Vec<String>,
}

/// Reads a body.
pub(crate) fn parse(body: &[u8]) -> Result<Asked, D1Error> {
    let parsed = match body.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'[') => serde_json::from_slice(body),
        _ => serde_json::from_slice(body).map(|statement| vec![statement]),
    };
    let statements: Vec<Statement> =
        parsed.map_err(|error| D1Error::new(format!("Malformed D1 request: {error}")))?;
    if let [only] = statements.as_slice()
        && only.sql == EXPORT
        && only.params.len() >= 2
    {
        return Ok(Asked::Export(export_options(&only.params)));
    }
    Ok(Asked::Run(statements))
}

/// Leaves out what is only a comment; nothing left is an error.
pub(crate) fn without_comments(mut statements: Vec<Statement>) -> Result<Vec<Statement>, D1Error> {
    statements.retain(|statement| !split::is_blank(&statement.sql));
    if statements.is_empty() {
        return Err(D1Error::new("No SQL statements detected."));
    }
    Ok(statements)
}

fn export_options(params: &[Param]) -> ExportOptions {
    let truthy = |param: Option<&Param>| match param {
        Some(Param::Number(n)) => *n != 0.0,
        Some(Param::Text(text)) => !text.is_empty(),
        Some(Param::Blob(_)) => true,
        Some(Param::Null) | None => false,
    };
    let name = |param: &Param| match param {
        Param::Text(text) => Some(text.clone()),
        _ => None,
    };
    ExportOptions {
        no_schema: truthy(params.first()),
        no_data: truthy(params.get(1)),
        tables: params.iter().skip(2).filter_map(name).collect(),
    }
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Param>, D::Error> {
    Ok(Option::<Vec<Param>>::deserialize(deserializer)?.unwrap_or_default())
}

impl ToSql for Param {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Number(n) => ValueRef::Real(*n),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl<'de> Deserialize<'de> for Param {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParamVisitor)
    }
}

struct ParamVisitor;

impl<'de> Visitor<'de> for ParamVisitor {
    type Value = Param;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a number, a string, null or an array of bytes")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Param, E> {
        Ok(Param::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Param, E> {
        Ok(Param::Number(f64::from(u8::from(value))))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Param, E> {
        Ok(Param::Number(value as f64))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Param, E> {
        Ok(Param::Number(value as f64))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Param, E> {
        Ok(Param::Number(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Param, E> {
        Ok(Param::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Param, E> {
        Ok(Param::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Param, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element::<u8>()? {
            bytes.push(byte);
        }
        Ok(Param::Blob(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_is_one_statement_or_a_list() {
        let one = parse(br#"{"sql":"SELECT ?","params":[1,"x",null,[255]]}"#).unwrap();
        let params = vec![Param::Number(1.0), Param::Text("x".into()), Param::Null, Param::Blob(vec![255])];
        assert_eq!(one, Asked::Run(vec![Statement { sql: "SELECT ?".into(), params }]));
        let list = parse(br#" [{"sql":"SELECT 1","params":null}]"#).unwrap();
        assert_eq!(list, Asked::Run(vec![Statement::new("SELECT 1")]));
    }

    #[test]
    fn comments_are_no_statements() {
        let list = ["-- c", "  -- d\n", "/* e */;", "SELECT 1", ""].map(Statement::new).to_vec();
        assert_eq!(without_comments(list).unwrap(), [Statement::new("SELECT 1")]);
        let nothing = without_comments(vec![Statement::new("-- c")]).unwrap_err();
        assert_eq!(nothing.to_string(), "No SQL statements detected.");
    }

    #[test]
    fn what_is_no_parameter_is_refused() {
        for bad in
            [r#"[{"sql":"x","params":[{}]}]"#, r#"{"sql":"x","params":[[256]]}"#, r#"{"sql":1}"#, "{}", ""]
        {
            assert!(
                parse(bad.as_bytes()).unwrap_err().to_string().starts_with("Malformed D1 request"),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_export_statement_is_recognised() {
        let asked =
            parse(br#"[{"sql":"PRAGMA miniflare_d1_export(?,?,?);","params":[1,0,"a","b"]}]"#).unwrap();
        let tables = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(asked, Asked::Export(ExportOptions { no_schema: true, no_data: false, tables }));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn arbitrary_shapes_are_read_or_refused(body in r#"[\[\]{}",:0-9a-z -]{0,40}"#) {
            let _ = parse(format!(r#"[{{"sql":"SELECT 1","params":[{body}]}}]"#).as_bytes());
        }
    }
}
