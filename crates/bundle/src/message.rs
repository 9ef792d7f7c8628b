//! What esbuild says about the code.

use crate::packet::Value;

/// An error or a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildMessage {
    /// What is wrong.
    pub text: String,
    /// Where.
    pub location: Option<Location>,
    /// More about it.
    pub notes: Vec<BuildMessage>,
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file, relative to the project.
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    /// In bytes, counted from 0.
    pub column: u32,
    /// In bytes.
    pub length: u32,
    /// The whole line.
    pub line_text: String,
}

impl BuildMessage {
    /// A message without a place.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), location: None, notes: Vec::new() }
    }

    pub(crate) fn read(value: &Value) -> Self {
        Self {
            text: value.text("text").to_owned(),
            location: value.get("location").and_then(Location::read),
            notes: value.list("notes").iter().map(Self::read).collect(),
        }
    }

    /// As a plugin reports it to esbuild.
    pub(crate) fn value(&self) -> Value {
        Value::map([
            ("id", Value::Text(String::new())),
            ("pluginName", Value::Text(String::new())),
            ("text", Value::Text(self.text.clone())),
            ("location", Value::Null),
            ("notes", Value::List(Vec::new())),
            ("detail", Value::Int(u32::MAX)),
        ])
    }

    /// The message with its source line, as wrangler prints it; `label` stands before it.
    pub fn render(&self, label: &str) -> String {
        let mut text = format!("{label} {}\n", self.text);
        if let Some(location) = &self.location {
            text.push('\n');
            location.render(&mut text);
        }
        for note in &self.notes {
            text.push_str("\n  ");
            text.push_str(&note.text.replace('\n', "\n  "));
            text.push('\n');
            if let Some(location) = &note.location {
                text.push('\n');
                location.render(&mut text);
            }
        }
        text
    }
}

impl Location {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            file: value.get("file").map(|_| value.text("file").to_owned())?,
            line: value.int("line")?,
            column: value.int("column")?,
            length: value.int("length")?,
            line_text: value.text("lineText").to_owned(),
        })
    }

    fn render(&self, text: &mut String) {
        let Self { file, line, column, .. } = self;
        let number = line.to_string();
        let before = self.line_text.get(..*column as usize).unwrap_or(&self.line_text);
        let blank: String = before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let from = before.len();
        let marked = self.line_text.get(from..from + self.length as usize).map_or(0, |s| s.chars().count());
        let mark = if marked < 2 { "^".to_owned() } else { "~".repeat(marked) };
        let margin = " ".repeat(number.len());
        let line_text = &self.line_text;
        text.push_str(&format!("    {file}:{line}:{column}:\n      {number} │ {line_text}\n"));
        text.push_str(&format!("      {margin} ╵ {blank}{mark}\n"));
    }
}
