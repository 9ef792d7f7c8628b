//! Errors that show where and what.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Note,
    /// Probably not what was meant.
    Warning,
    /// The configuration cannot be used.
    Error,
}

/// One thing to say about a file. `Display` shows it as `rustc` does: message, place, line, caret, help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The file.
    pub path: PathBuf,
    /// Where in the file, if at one place.
    pub place: Option<Place>,
    /// What was expected, or the way out.
    pub help: Option<String>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The text of the line.
    pub text: String,
    /// How many characters the caret underlines, at least 1.
    pub width: usize,
}

impl Diagnostic {
    /// Adds what was expected, or the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Diagnostic {
    /// The same on one line, for what is only good to know.
    pub fn brief(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let place =
            self.place.as_ref().map(|place| format!(":{}:{}", place.line, place.column)).unwrap_or_default();
        let help = self.help.as_ref().map(|help| format!(": {help}")).unwrap_or_default();
        format!("{}{help} ({name}{place})", self.message)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}", self.message)?;
        let margin = match &self.place {
            None => {
                write!(f, "\n --> {}", self.path.display())?;
                1
            }
            Some(Place { line, column, text, width }) => {
                let margin = line.to_string().len();
                write!(f, "\n{:margin$}--> {}:{line}:{column}", "", self.path.display())?;
                let (text, before, width) = excerpt(text, column.saturating_sub(1), *width);
                // A tab is as wide under the line as in it.
                let indent: String =
                    text.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                write!(
                    f,
                    "\n{:margin$} |\n{line} | {text}\n{:margin$} | {indent}{}",
                    "",
                    "",
                    "^".repeat(width)
                )?;
                margin
            }
        };
        match &self.help {
            Some(help) => write!(f, "\n{:margin$} = help: {help}", ""),
            None => Ok(()),
        }
    }
}

/// What is shown of a line: all of a line that a person wrote, and of one that a program did what is around the place. The text, how many of its
/// characters are before the place, and how many are underlined.
fn excerpt(text: &str, before: usize, width: usize) -> (String, usize, usize) {
    const WHOLE: usize = 240;
    const AROUND: usize = 60;
    let length = text.chars().count();
    if length <= WHOLE {
        return (text.to_owned(), before, width);
    }
    let start = before.saturating_sub(AROUND);
    let width = width.min(WHOLE - 2 * AROUND);
    let end = (before + width + AROUND).min(length);
    let middle: String = text.chars().skip(start).take(end - start).collect();
    let (left, right) = (if start > 0 { "…" } else { "" }, if end < length { "…" } else { "" });
    (format!("{left}{middle}{right}"), before - start + left.chars().count(), width)
}

/// Several diagnostics, at least one of them an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join("\n\n"))
    }
}

impl std::error::Error for Diagnostics {}

impl From<Box<Diagnostic>> for Diagnostics {
    fn from(one: Box<Diagnostic>) -> Self {
        Self(vec![*one])
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(one: Diagnostic) -> Self {
        Self(vec![one])
    }
}

/// A file's text.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub path: PathBuf,
    pub text: String,
}

impl Source {
    pub fn error(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        self.at(Severity::Error, span, message)
    }

    pub fn at(&self, severity: Severity, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity,
            message: message.into(),
            path: self.path.clone(),
            place: Some(self.place(span)),
            help: None,
        }
    }

    fn place(&self, span: Range<usize>) -> Place {
        let clamp =
            |at: usize| (0..=at.min(self.text.len())).rev().find(|at| self.text.is_char_boundary(*at));
        let start = clamp(span.start).unwrap_or_default();
        let end = clamp(span.end).unwrap_or_default().max(start);
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        Place {
            line: before.matches('\n').count() + 1,
            column: self.text[line_start..start].chars().count() + 1,
            text: self.text[line_start..line_end].trim_end().to_owned(),
            width: self.text[start..end.min(line_end)].trim_end().chars().count().max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_shows_the_line_and_what_in_it() {
        let source = Source { path: "wrangler.jsonc".into(), text: "{\n\t\"näme\": 5,\n}".into() };
        let start = source.text.find('5').unwrap();
        let text = source
            .error(start..start + 1, "\"name\" should be a string")
            .help("expected a string")
            .to_string();
        assert_eq!(
            text,
            "error: \"name\" should be a string\n --> wrangler.jsonc:2:10\n  |\n2 | \t\"näme\": 5,\n  | \t        ^\n  = help: expected a string"
        );
    }

    #[test]
    fn a_note_fits_on_a_line() {
        let source = Source { path: "/x/wrangler.toml".into(), text: "a = 1".into() };
        let note = source.at(Severity::Note, 0..1, "\"a\" has no effect").help("it never had");
        assert_eq!(note.brief(), "\"a\" has no effect: it never had (wrangler.toml:1:1)");
    }

    #[test]
    fn of_a_long_line_is_shown_what_is_around_the_place() {
        let text = format!("{}näme{}", "a".repeat(5_000), "b".repeat(5_000));
        let source = Source { path: "x".into(), text };
        let shown = source.error(5_000..5_005, "no").to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[3], format!("1 | …{}näme{}…", "a".repeat(60), "b".repeat(60)));
        assert_eq!(lines[4], format!("  | {}^^^^", " ".repeat(61)));
        let at_the_start = source.error(0..9_000, "no").to_string();
        assert!(at_the_start.lines().all(|line| line.chars().count() < 250), "{at_the_start}");
    }

    #[test]
    fn any_span_has_a_place() {
        let source = Source { path: "a".into(), text: "é".into() };
        for span in [0..0, 1..2, 9..12, 2..2] {
            let _ = source.error(span, "x").to_string();
        }
    }
}
