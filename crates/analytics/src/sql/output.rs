//! Answers, as they are written.
//! <https://developers.cloudflare.com/analytics/analytics-engine/sql-reference/statements/#format-clause>

use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde_json::Value as Json;

use super::types::Type;
use super::{Column, QueryError, dates, failed, invalid};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One document, with the types of the columns.
    Json,
    /// A document for each row.
    JsonEachRow,
    /// A line for each row.
    TabSeparated,
}

impl Format {
    pub(super) fn named(name: &str) -> Result<Self, QueryError> {
        match name.to_ascii_lowercase().as_str() {
            "json" => Ok(Self::Json),
            "jsoneachrow" => Ok(Self::JsonEachRow),
            "tabseparated" => Ok(Self::TabSeparated),
            _ => invalid(format!(
                "unsupported format: {name}; JSON, JSONEachRow and TabSeparated are supported"
            )),
        }
    }
}

/// An answer that is being written.
pub(super) struct Output {
    format: Format,
    text: String,
    rows: u64,
    most: usize,
    /// Whether the query says how many rows it wants.
    pub limited: bool,
}

impl Output {
    /// An answer of `most` bytes at most.
    pub fn new(format: Format, most: usize) -> Self {
        Self { format, text: String::new(), rows: 0, most, limited: false }
    }

    pub fn begin(&mut self, columns: &[Column]) {
        if self.format == Format::Json {
            let meta = columns
                .iter()
                .map(|column| serde_json::json!({ "name": column.name, "type": column.kind.to_string() }));
            let meta = Json::Array(meta.collect());
            self.text = format!("{{\"meta\":{meta},\"data\":[");
        }
    }

    /// An answer of texts alone.
    pub fn texts(&mut self, column: &Column, texts: &[String]) -> Result<(), QueryError> {
        self.begin(std::slice::from_ref(column));
        for text in texts {
            let shown = self.value(&Type::String, ValueRef::Text(text.as_bytes()));
            self.push(&[(column, shown)])?;
        }
        Ok(())
    }

    pub fn row(&mut self, columns: &[Column], row: &Row<'_>) -> Result<(), QueryError> {
        let mut shown = Vec::with_capacity(columns.len());
        for (n, column) in columns.iter().enumerate() {
            shown.push((column, self.value(&column.kind, row.get_ref(n).map_err(failed)?)));
        }
        self.push(&shown)
    }

    fn push(&mut self, shown: &[(&Column, String)]) -> Result<(), QueryError> {
        match self.format {
            Format::TabSeparated => {
                let cells: Vec<&str> = shown.iter().map(|(_, value)| value.as_str()).collect();
                self.text.push_str(&cells.join("\t"));
                self.text.push('\n');
            }
            Format::Json | Format::JsonEachRow => {
                if self.format == Format::Json && self.rows > 0 {
                    self.text.push(',');
                }
                let fields = shown
                    .iter()
                    .map(|(column, value)| format!("{}:{value}", Json::from(column.name.as_str())));
                let fields: Vec<String> = fields.collect();
                self.text.push_str(&format!("{{{}}}", fields.join(",")));
                if self.format == Format::JsonEachRow {
                    self.text.push('\n');
                }
            }
        }
        self.rows += 1;
        match self.text.len() > self.most {
            true => Err(QueryError::Limit(format!("the answer is longer than {} MiB", self.most >> 20))),
            false => Ok(()),
        }
    }

    /// The answer.
    pub fn end(mut self) -> Result<String, QueryError> {
        if self.format == Format::Json {
            self.text.push_str(&format!("],\"rows\":{}", self.rows));
            if self.limited {
                self.text.push_str(&format!(",\"rows_before_limit_at_least\":{}", self.rows));
            }
            self.text.push('}');
        }
        Ok(self.text)
    }

    /// A value of a type in this format.
    fn value(&self, kind: &Type, value: ValueRef<'_>) -> String {
        let is_json = self.format != Format::TabSeparated;
        match (kind, value) {
            (_, ValueRef::Null) => if is_json { "null" } else { "\\N" }.to_owned(),
            (Type::DateTime(_) | Type::Date, ValueRef::Integer(at)) => {
                let format = if *kind == Type::Date { "%F" } else { "%F %T" };
                let zone = dates::zone(kind.zone()).unwrap_or(jiff::tz::TimeZone::UTC);
                let shown = dates::format(at, format, &zone).unwrap_or_else(|| "1970-01-01 00:00:00".into());
                if is_json { Json::from(shown).to_string() } else { shown }
            }
            // JavaScript's numbers do not have all of these.
            (Type::Int(_, 64), ValueRef::Integer(number)) if is_json => format!("\"{number}\""),
            (Type::Int(..), ValueRef::Real(number)) => self.value(kind, ValueRef::Integer(number as i64)),
            (Type::Float, ValueRef::Integer(number)) => number.to_string(),
            (Type::Array(_), ValueRef::Text(text)) => String::from_utf8_lossy(text).into_owned(),
            (_, ValueRef::Text(text) | ValueRef::Blob(text)) if !is_json => {
                escaped(&String::from_utf8_lossy(text))
            }
            (_, value) => json(value),
        }
    }
}

/// A value as JSON; a number that JSON cannot write is `null`.
pub(super) fn json(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) if number.fract() == 0.0 && number.abs() < 1e15 => format!("{number:.0}"),
        ValueRef::Real(number) => Json::from(number).to_string(),
        ValueRef::Text(text) | ValueRef::Blob(text) => Json::from(String::from_utf8_lossy(text)).to_string(),
    }
}

/// A text in a cell of a table with tabs.
/// <https://clickhouse.com/docs/interfaces/formats/TabSeparated#data-formatting>
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\'' => out.push_str("\\'"),
            c => out.push(c),
        }
    }
    out
}
