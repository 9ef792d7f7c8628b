//! A file of SQL into statements, where wrangler would cut it.
//!
//! Not SQLite's own grammar (`split.rs` has that): comments are dropped, `BEGIN` and `CASE` open something that
//! `END` closes, and `$tag$` quotes as in PostgreSQL. A cut at another place would be another migration.

use crate::error::D1Error;

/// The statements of `sql`. The transaction that SQLite's `.dump` puts around its output is taken off; any
/// further one is an error, because each file is a transaction already.
pub(super) fn statements(sql: &str) -> Result<Vec<String>, D1Error> {
    const BEGIN: &str = "BEGIN TRANSACTION";
    let mut sql = sql.to_owned();
    if sql.contains(BEGIN) {
        sql = sql.replacen("BEGIN TRANSACTION;", "", 1).replacen("COMMIT;", "", 1);
        if sql.contains(BEGIN) {
            return Err(D1Error::new(
                "Wrangler could not process the provided SQL file, as it contains several transactions.\n\
                 D1 runs your SQL in a transaction for you.\n\
                 Please export an SQL file from your SQLite database and try again.",
            ));
        }
    }
    let trimmed = sql.trim_end_matches(is_space);
    let one = trimmed.find(';').is_none_or(|at| at + 1 == trimmed.len());
    if one {
        return Ok(vec![sql]);
    }
    let parts = Splitter::new(&sql).run();
    Ok(if parts.is_empty() { vec![sql] } else { parts })
}

struct Splitter<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    statement: String,
    done: Vec<String>,
    /// `BEGIN`s and `CASE`s not yet ended.
    open: usize,
}

impl<'a> Splitter<'a> {
    fn new(sql: &'a str) -> Self {
        Self { rest: sql.chars().peekable(), statement: String::new(), done: Vec::new(), open: 0 }
    }

    fn run(mut self) -> Vec<String> {
        while let Some(c) = self.rest.next() {
            if self.open > 0 && ends_compound(&self.statement, c) {
                self.open -= 1;
            }
            match c {
                '\'' | '"' | '`' => {
                    self.statement.push(c);
                    self.copy_until(&c.to_string());
                }
                '$' => self.dollar(),
                '-' if self.rest.next_if_eq(&'-').is_some() => {
                    self.skip_until("\n");
                    self.statement.push('\n');
                }
                '/' if self.rest.next_if_eq(&'*').is_some() => self.skip_until("*/"),
                // These two are looked at no further when they begin no comment.
                '-' | '/' => {
                    self.statement.push(c);
                    continue;
                }
                ';' if self.open == 0 => self.cut(),
                _ => self.statement.push(c),
            }
            if starts_compound(&self.statement) {
                self.open += 1;
            }
        }
        self.cut();
        self.done
    }

    fn cut(&mut self) {
        let statement = self.statement.trim_matches(is_space);
        if !statement.is_empty() {
            self.done.push(statement.to_owned());
        }
        self.statement.clear();
    }

    /// `$tag$ … $tag$` is one text. The character after a tag that is none belongs to it.
    fn dollar(&mut self) {
        let mut tag = String::from("$");
        for c in self.rest.by_ref() {
            tag.push(c);
            if c == '$' || !(c.is_ascii_digit() || c == '_' || c.is_alphabetic()) {
                break;
            }
        }
        self.statement.push_str(&tag);
        if tag.len() > 1 && tag.ends_with('$') {
            self.copy_until(&tag);
        }
    }

    fn copy_until(&mut self, marker: &str) {
        let from = self.statement.len();
        for c in self.rest.by_ref() {
            self.statement.push(c);
            if self.statement.get(from..).is_some_and(|text| text.ends_with(marker)) {
                break;
            }
        }
    }

    fn skip_until(&mut self, marker: &str) {
        let mut text = String::new();
        for c in self.rest.by_ref() {
            text.push(c);
            if text.ends_with(marker) {
                break;
            }
        }
    }
}

/// `BEGIN` or `CASE` as a word with one white space on each side, at the end.
fn starts_compound(text: &str) -> bool {
    let Some(body) = strip_last(text, is_space) else { return false };
    ["BEGIN", "CASE"].iter().any(|word| ends_with_word(body, word))
}

/// `END` as a word, and then `next`.
fn ends_compound(text: &str, next: char) -> bool {
    (next == ';' || is_space(next)) && ends_with_word(text, "END")
}

fn ends_with_word(text: &str, word: &str) -> bool {
    text.len().checked_sub(word.len()).and_then(|at| Some((text.get(..at)?, text.get(at..)?))).is_some_and(
        |(before, end)| end.eq_ignore_ascii_case(word) && before.chars().next_back().is_some_and(is_space),
    )
}

fn strip_last(text: &str, wanted: fn(char) -> bool) -> Option<&str> {
    let last = text.chars().next_back().filter(|c| wanted(*c))?;
    text.get(..text.len() - last.len_utf8())
}

/// JavaScript's `\s`.
fn is_space(c: char) -> bool {
    c == '\u{feff}' || (c.is_whitespace() && c != '\u{85}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(sql: &str) -> Vec<String> {
        statements(sql).unwrap()
    }

    #[test]
    fn a_file_is_cut_at_semicolons_outside_texts_and_comments() {
        let sql = "CREATE TABLE a (x TEXT DEFAULT ';'); -- one; two\nINSERT INTO a VALUES ('it''s;'); /* ; */ SELECT 1-1;";
        assert_eq!(
            split(sql),
            ["CREATE TABLE a (x TEXT DEFAULT ';')", "INSERT INTO a VALUES ('it''s;')", "SELECT 1-1"]
        );
    }

    #[test]
    fn a_trigger_is_one_statement() {
        let trigger = "CREATE TRIGGER t AFTER INSERT ON a\nBEGIN\n UPDATE a SET x = CASE WHEN 1 THEN 2 END;\n SELECT 2;\nEND";
        assert_eq!(split(&format!("{trigger};\nSELECT 3;")), [trigger, "SELECT 3"]);
    }

    #[test]
    fn one_statement_is_left_as_it_is() {
        assert_eq!(split(" SELECT 1; -- "), ["SELECT 1"]);
        assert_eq!(split("-- a\nSELECT 1;\n"), ["-- a\nSELECT 1;\n"]);
    }

    #[test]
    fn the_transaction_of_a_dump_is_taken_off() {
        let dump = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE a(x);\nCOMMIT;\n";
        assert_eq!(split(dump), ["PRAGMA foreign_keys=OFF", "CREATE TABLE a(x)"]);
        let twice = statements(&format!("{dump}{dump}")).unwrap_err();
        assert!(twice.to_string().starts_with("Wrangler could not process"));
    }

    #[test]
    fn a_dollar_tag_quotes() {
        assert_eq!(split("SELECT $a$ ; $a$; SELECT 2"), ["SELECT $a$ ; $a$", "SELECT 2"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail(sql in "[;'\"$a-c \n*/-]{0,40}( begin | end;| case )?[;' ]{0,9}") {
            let _ = statements(&sql);
        }
    }
}
