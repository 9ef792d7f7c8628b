//! A configuration as a tree that remembers where everything stands. Both formats become this.

use std::ops::Range;

use crate::diagnostic::{Diagnostic, Source};

/// A value and its place in the file, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub value: Value,
    pub span: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    String(String),
    Array(Vec<Node>),
    Object(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    pub key_span: Range<usize>,
    pub node: Node,
}

impl Node {
    /// The value of `key`, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Object(entries) => {
                entries.iter().rev().find(|entry| entry.key == key).map(|entry| &entry.node)
            }
            _ => None,
        }
    }

    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Object(entries) => entries,
            _ => &[],
        }
    }

    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(value) => value.clone().into(),
            Value::String(value) => value.clone().into(),
            Value::Array(nodes) => nodes.iter().map(Node::to_json).collect(),
            Value::Object(entries) => {
                serde_json::Value::Object(entries.iter().map(|e| (e.key.clone(), e.node.to_json())).collect())
            }
        }
    }

    /// What kind of value this is, for error texts.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        }
    }
}

/// Parses `source` by the ending of its name.
pub(crate) fn parse(source: &Source) -> Result<Node, Box<Diagnostic>> {
    match source.path.extension().is_some_and(|extension| extension == "toml") {
        true => parse_toml(source),
        false => parse_jsonc(source),
    }
}

fn parse_jsonc(source: &Source) -> Result<Node, Box<Diagnostic>> {
    use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
    let result =
        parse_to_ast(&source.text, &CollectOptions::default(), &ParseOptions::default()).map_err(|e| {
            let range = e.range();
            source
                .error(range.start..range.end, e.kind().to_string())
                .help("the file must be JSON; comments and trailing commas are allowed")
        })?;
    match result.value {
        Some(value) => Ok(from_jsonc(value)),
        None => Err(source.error(0..0, "the file is empty").help("a configuration starts with `{`").into()),
    }
}

fn from_jsonc(value: jsonc_parser::ast::Value<'_>) -> Node {
    use jsonc_parser::ast;
    use jsonc_parser::common::Ranged;
    let range = value.range();
    let span = range.start..range.end;
    let value = match value {
        ast::Value::StringLit(literal) => Value::String(literal.value.into_owned()),
        ast::Value::NumberLit(literal) => match serde_json::from_str(literal.value) {
            Ok(number) => Value::Number(number),
            Err(_) => Value::String(literal.value.to_owned()),
        },
        ast::Value::BooleanLit(literal) => Value::Bool(literal.value),
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::Array(array) => Value::Array(array.elements.into_iter().map(from_jsonc).collect()),
        ast::Value::Object(object) => Value::Object(
            object
                .properties
                .into_iter()
                .map(|property| {
                    let range = property.name.range();
                    Entry {
                        key: property.name.as_str().to_owned(),
                        key_span: range.start..range.end,
                        node: from_jsonc(property.value),
                    }
                })
                .collect(),
        ),
    };
    Node { value, span }
}

fn parse_toml(source: &Source) -> Result<Node, Box<Diagnostic>> {
    let document = toml_edit::Document::parse(source.text.as_str())
        .map_err(|e| source.error(e.span().unwrap_or(0..0), e.message().trim().to_owned()))?;
    Ok(from_table(document.as_table(), 0..source.text.len()))
}

fn from_table(table: &dyn toml_edit::TableLike, span: Range<usize>) -> Node {
    let entries = table.iter().filter_map(|(name, item)| {
        let key_span = table.key(name).and_then(|key| key.span()).unwrap_or(span.clone());
        Some(Entry { key: name.to_owned(), node: from_item(item, &key_span)?, key_span })
    });
    Node { value: Value::Object(entries.collect()), span: span.clone() }
}

/// `key_span` stands in where an implicit table has no place of its own.
fn from_item(item: &toml_edit::Item, key_span: &Range<usize>) -> Option<Node> {
    let span = item.span().unwrap_or(key_span.clone());
    Some(match item {
        toml_edit::Item::None => return None,
        toml_edit::Item::Value(value) => from_value(value, span),
        toml_edit::Item::Table(table) => from_table(table, span),
        toml_edit::Item::ArrayOfTables(tables) => {
            let nodes = tables.iter().map(|table| from_table(table, table.span().unwrap_or(span.clone())));
            Node { value: Value::Array(nodes.collect()), span: span.clone() }
        }
    })
}

fn from_value(value: &toml_edit::Value, span: Range<usize>) -> Node {
    let value = match value {
        toml_edit::Value::String(text) => Value::String(text.value().clone()),
        toml_edit::Value::Integer(number) => Value::Number((*number.value()).into()),
        toml_edit::Value::Float(number) => match serde_json::Number::from_f64(*number.value()) {
            Some(number) => Value::Number(number),
            None => Value::Null,
        },
        toml_edit::Value::Boolean(value) => Value::Bool(*value.value()),
        toml_edit::Value::Datetime(value) => Value::String(value.value().to_string()),
        toml_edit::Value::Array(values) => Value::Array(
            values.iter().map(|value| from_value(value, value.span().unwrap_or(span.clone()))).collect(),
        ),
        toml_edit::Value::InlineTable(table) => return from_table(table, span),
    };
    Node { value, span }
}
