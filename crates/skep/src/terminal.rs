//! What people see.

use std::io::{IsTerminal, Write};

/// Whether standard output is a terminal: only then colours, shortcuts and questions.
pub fn is_interactive() -> bool {
    std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
}

fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// A text style.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    /// For headings.
    Bold,
    /// For what is beside the point.
    Dim,
    /// For errors.
    Red,
    /// For warnings.
    Yellow,
    /// For what went well.
    Green,
}

/// `text` in `style` if standard output shows colours.
pub fn paint(style: Style, text: &str) -> String {
    if !colours(&std::io::stdout()) {
        return text.to_owned();
    }
    let code = match style {
        Style::Bold => 1,
        Style::Dim => 2,
        Style::Red => 31,
        Style::Yellow => 33,
        Style::Green => 32,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// An error as it is printed: `error: …` unless the text has its own heading.
pub fn error(message: &str) -> String {
    let headed = message.starts_with("error") || message.contains("\u{1b}[");
    if headed { message.to_owned() } else { format!("{} {message}", paint(Style::Red, "error:")) }
}

/// Prints a line. A reader that went away is no reason to fail.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Removes what could move the cursor or recolour the terminal out of text that applications wrote.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t' | '\u{1b}')).collect()
}

/// A table with aligned columns.
pub fn table(head: [&str; 3], rows: &[[String; 3]]) -> String {
    let width = |n: usize| {
        rows.iter().map(|row| row[n].chars().count()).chain([head[n].len()]).max().unwrap_or_default()
    };
    let widths = [width(0), width(1)];
    let line = |cells: [&str; 3]| {
        format!("  {:<a$}  {:<b$}  {}", cells[0], cells[1], cells[2], a = widths[0], b = widths[1])
            .trim_end()
            .to_owned()
    };
    let head = paint(Style::Dim, &line(head));
    let rows = rows.iter().map(|row| line([&row[0], &row[1], &row[2]]));
    std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [
            ["env.A".into(), "KV".into(), "x".into()],
            ["env.LONG".into(), "D1 database".into(), "y".into()],
        ];
        let table = table(["Binding", "Kind", "Backed by"], &rows);
        let columns: Vec<_> = table.lines().map(|l| l.rfind(['y', 'x', 'B'])).collect();
        assert_eq!(columns[1], columns[2]);
    }

    #[test]
    fn an_application_cannot_ring_the_bell() {
        assert_eq!(printable("a\u{7}b\r\nc"), "ab\nc");
    }
}
