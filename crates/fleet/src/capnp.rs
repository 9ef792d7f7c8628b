//! The engine's configuration language: Cap'n Proto text.

use std::fmt::Write;

/// A value in a configuration file.
#[derive(Clone, Debug, Hash, PartialEq)]
pub(crate) enum Value {
    /// A quoted string.
    Text(String),
    /// The content of a file beside the configuration.
    Embed(String),
    /// A bare word: a number, `true`, `void`.
    Bare(&'static str),
    /// `[…]`
    List(Vec<Value>),
    /// `(name = value, …)`
    Struct(Vec<(&'static str, Value)>),
}

pub(crate) fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

pub(crate) fn list(values: impl IntoIterator<Item = Value>) -> Value {
    Value::List(values.into_iter().collect())
}

/// A struct value from its fields.
pub(crate) fn fields<const N: usize>(fields: [(&'static str, Value); N]) -> Value {
    Value::Struct(fields.into())
}

/// A whole configuration file whose root struct is `config`.
pub(crate) fn document(config: &Value) -> String {
    let mut out =
        String::from("using Workerd = import \"/workerd/workerd.capnp\";\n\nconst config :Workerd.Config = ");
    write_value(&mut out, config, 0);
    out.push_str(";\n");
    out
}

fn write_value(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Text(text) => write_text(out, text),
        Value::Embed(file) => {
            out.push_str("embed ");
            write_text(out, file);
        }
        Value::Bare(word) => out.push_str(word),
        Value::List(values) => write_items(out, depth, ('[', ']'), values, |out, item| {
            write_value(out, item, depth + 1);
        }),
        Value::Struct(fields) => write_items(out, depth, ('(', ')'), fields, |out, (name, item)| {
            let _ = write!(out, "{name} = ");
            write_value(out, item, depth + 1);
        }),
    }
}

/// Items on lines of their own where they hold others, else on one line.
fn write_items<T>(
    out: &mut String,
    depth: usize,
    (open, close): (char, char),
    items: &[T],
    mut write_item: impl FnMut(&mut String, &T),
) {
    let start = out.len();
    out.push(open);
    for (n, item) in items.iter().enumerate() {
        out.push_str(if n == 0 { "" } else { ", " });
        write_item(out, item);
    }
    out.push(close);
    let indent = depth * 2;
    if items.len() < 2 || (out.len() - start + indent <= 110 && !out[start..].contains('\n')) {
        return;
    }
    out.truncate(start);
    out.push(open);
    for item in items {
        let _ = write!(out, "\n{:width$}", "", width = indent + 2);
        write_item(out, item);
        out.push(',');
    }
    out.pop();
    out.push(close);
}

/// A string literal. Escapes as `capnp` reads them: C's, with `\xNN` for other control bytes.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_cannot_leave_its_quotes() {
        let mut out = String::new();
        write_text(&mut out, "a\"b\\c\nd\u{1}é");
        assert_eq!(out, r#""a\"b\\c\nd\x01é""#);
    }

    #[test]
    fn long_lists_are_broken_into_lines() {
        let long = list((0..20).map(|n| text(format!("item number {n}"))));
        let short = fields([("name", text("a")), ("on", Value::Bare("true"))]);
        let document = document(&fields([("services", long), ("one", short)]));
        assert!(document.contains("one = (name = \"a\", on = true)"), "{document}");
        assert!(document.lines().all(|line| line.len() < 130), "{document}");
    }
}
