//! How large a statement becomes while SQLite compiles it.
//!
//! Each mention of a common table expression or a view is replaced by a copy of what it stands for, and so is what that mentions. Twenty-five
//! of them, each of which joins the one before with itself, are sixteen million copies: gigabytes, and minutes in which SQLite looks at no
//! clock. So mentions are counted before it begins. Names are taken from the text, in more places than tables can be named in: what is
//! counted is never too little.

use std::borrow::Cow;
use std::collections::HashMap;

use rusqlite::Connection;

/// Tokens that a statement may become; a token takes some 50 bytes, and a fraction of a microsecond.
const MOST: u64 = 400_000;
/// Tokens of what is compiled on the caller's thread.
const AT_ONCE: u64 = 10_000;
/// Names that stand for each other, one in the other: SQLite calls itself for each.
const DEEPEST: usize = 100;

/// What names stand for: parts of a text, by lower-case name. Several parts count together.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<String, Vec<Part>>);

/// A piece of a text: how many tokens it has, and which names may be of tables.
#[derive(Debug, Default)]
struct Part {
    tokens: u64,
    tables: Vec<String>,
}

/// How a statement may be compiled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Small,
    Large,
    TooLarge,
}

impl Names {
    /// The views of a database, and its tables that have triggers.
    pub fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let mut names = Self::default();
        let mut query = connection.prepare(
            "SELECT iif(type = 'view', name, tbl_name), sql FROM sqlite_master WHERE type IN ('view', 'trigger')",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (name, sql): (String, Option<String>) = (row.get(0)?, row.get(1)?);
            let part = names.read(&sql.unwrap_or_default());
            names.0.entry(name.to_ascii_lowercase()).or_default().push(part);
        }
        Ok(names)
    }

    /// What the database's names make of `sql`.
    pub fn size(&self, sql: &str) -> Size {
        if self.0.is_empty() && !mentions_with(sql) {
            return Size::Small;
        }
        let mut own = Self::default();
        let part = own.read(sql);
        let mut known = HashMap::new();
        match self.weight(Some(&own), &part, None, &mut known, 0) {
            Some(weight) if weight <= AT_ONCE => Size::Small,
            Some(weight) if weight <= MOST => Size::Large,
            _ => Size::TooLarge,
        }
    }

    /// Takes definitions out of a text; returns the rest.
    fn read(&mut self, sql: &str) -> Part {
        let tokens = tokens(sql);
        let closing = closing(&tokens);
        let mut whole = Part::default();
        // Pieces that are to be read, and whose they are.
        let mut pieces: Vec<(Option<String>, usize, usize)> = vec![(None, 0, tokens.len())];
        while let Some((name, from, to)) = pieces.pop() {
            let mut part = Part::default();
            let mut at = from;
            while at < to {
                part.tokens += 1;
                if let Some((open, close)) =
                    definition(&tokens, &closing, at).filter(|(_, close)| *close <= to)
                {
                    pieces.push((tokens[at].name(), open + 1, close));
                    at = close + 1;
                    continue;
                }
                part.tables.extend(table(&tokens, at));
                at += 1;
            }
            match name {
                None => whole = part,
                Some(name) => self.0.entry(name).or_default().push(part),
            }
        }
        whole
    }

    /// Tokens of a part of what is called `current`, with all that it mentions; `None` if that is too many, or too deep. A statement's own names
    /// are `own`; what the database's stand for does not see them.
    fn weight<'a>(
        &'a self,
        own: Option<&'a Self>,
        part: &'a Part,
        current: Option<&str>,
        known: &mut Known<'a>,
        depth: usize,
    ) -> Option<u64> {
        if depth > DEEPEST {
            return None;
        }
        let mut sum = part.tokens;
        for name in &part.tables {
            for (scope, names) in [(own, own), (None, Some(self))] {
                let Some(parts) = names.and_then(|names| names.0.get(name)) else { continue };
                let is_own = scope.is_some();
                let weight = match known.get(&(is_own, name.as_str())) {
                    Some(Some(weight)) => *weight,
                    // Itself is taken once by SQLite, and the database's names are no copies of each other then. One name for several things
                    // that mention each other hides how many there are.
                    Some(None) if !is_own || current == Some(name) => 0,
                    Some(None) => return None,
                    None => {
                        known.insert((is_own, name), None);
                        let mut weight = 0_u64;
                        for part in parts {
                            let more = self.weight(scope, part, is_own.then_some(name), known, depth + 1)?;
                            weight = weight.saturating_add(more);
                        }
                        known.insert((is_own, name), Some(weight));
                        weight
                    }
                };
                sum = sum.saturating_add(weight);
            }
        }
        Some(sum)
    }
}

/// What is known of names, a statement's own or the database's; nothing yet of those that are being looked at.
type Known<'a> = HashMap<(bool, &'a str), Option<u64>>;

fn mentions_with(sql: &str) -> bool {
    sql.as_bytes().windows(4).any(|word| word.eq_ignore_ascii_case(b"with"))
}

#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A keyword or a name, in quotes or not.
    Word(Cow<'a, str>),
    Sign(u8),
}

impl Token<'_> {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(text) if text.eq_ignore_ascii_case(word))
    }

    fn name(&self) -> Option<String> {
        match self {
            Self::Word(text) => Some(text.to_ascii_lowercase()),
            Self::Sign(_) => None,
        }
    }
}

fn tokens(sql: &str) -> Vec<Token<'_>> {
    let bytes = sql.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let rest = &sql[at..];
        let (token, length) = match byte {
            b'-' if rest.starts_with("--") => (None, rest.find('\n').unwrap_or(rest.len())),
            b'/' if rest.starts_with("/*") => {
                (None, rest.get(2..).and_then(|in_it| in_it.find("*/")).map_or(rest.len(), |end| end + 4))
            }
            b'\'' | b'"' | b'`' | b'[' => {
                let (text, length) = quoted(rest, if byte == b'[' { ']' } else { char::from(byte) });
                (Some(Token::Word(text)), length)
            }
            _ if is_word(byte) => {
                let length = rest.bytes().take_while(|byte| is_word(*byte)).count();
                (Some(Token::Word(rest[..length].into())), length)
            }
            _ if byte.is_ascii_whitespace() => (None, 1),
            _ => (Some(Token::Sign(byte)), 1),
        };
        found.extend(token);
        at += length;
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// What is in quotes at the start of `text`, and how long it is with them.
fn quoted(text: &str, end: char) -> (Cow<'_, str>, usize) {
    let mut from = 1;
    loop {
        let Some(at) = text[from..].find(end).map(|at| at + from) else {
            return (text[1..].into(), text.len());
        };
        // Twice is one that is meant, but for brackets.
        if end != ']' && text[at + 1..].starts_with(end) {
            from = at + 2;
            continue;
        }
        let inner = &text[1..at];
        let doubled = [end, end].iter().collect::<String>();
        let inner =
            if inner.contains(end) { inner.replace(&doubled, &end.to_string()).into() } else { inner.into() };
        return (inner, at + 1);
    }
}

/// For each opening bracket where it is closed.
fn closing(tokens: &[Token<'_>]) -> HashMap<usize, usize> {
    let (mut open, mut closing) = (Vec::new(), HashMap::new());
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign(b'(') => open.push(at),
            Token::Sign(b')') => {
                closing.extend(open.pop().map(|open| (open, at)));
            }
            _ => {}
        }
    }
    closing
}

/// `name [(columns)] AS [[NOT] MATERIALIZED] (…)`, which begins here: where the last brackets are.
fn definition(tokens: &[Token<'_>], closing: &HashMap<usize, usize>, at: usize) -> Option<(usize, usize)> {
    tokens.get(at)?.name()?;
    let mut next = at + 1;
    if tokens.get(next) == Some(&Token::Sign(b'(')) {
        next = closing.get(&next)? + 1;
    }
    if !tokens.get(next)?.is("as") {
        return None;
    }
    next += 1;
    for word in ["not", "materialized"] {
        next += usize::from(tokens.get(next)?.is(word));
    }
    let close = closing.get(&next)?;
    Some((next, *close))
}

/// The name here if a table may be named here.
fn table(tokens: &[Token<'_>], at: usize) -> Option<String> {
    let name = tokens.get(at)?.name()?;
    if matches!(tokens.get(at + 1), Some(Token::Sign(b'.'))) {
        return None;
    }
    let mut before = at.checked_sub(1)?;
    if tokens[before] == Token::Sign(b'.') {
        before = before.checked_sub(2)?;
    }
    let before = &tokens[before];
    let follows = ["from", "join", "in", "into", "update", "replace", "ignore", "abort", "fail", "rollback"];
    let may_be = matches!(before, Token::Sign(b',' | b'(')) || follows.iter().any(|word| before.is(word));
    may_be.then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size(schema: &[&str], sql: &str) -> Size {
        let connection = Connection::open_in_memory().unwrap();
        schema.iter().for_each(|sql| connection.execute_batch(sql).unwrap());
        Names::of(&connection).unwrap().size(sql)
    }

    /// So many expressions, each of which mentions the one before twice.
    fn doubled(count: usize, definition: impl Fn(usize) -> String) -> String {
        let all: Vec<String> = (1..count).map(definition).collect();
        format!("WITH c0 AS (SELECT 1 AS x),{} SELECT count(*) FROM c{}", all.join(","), count - 1)
    }

    #[test]
    fn expressions_that_double_are_counted_however_they_are_written() {
        let forms: [&dyn Fn(usize) -> String; 6] = [
            &|n| format!("c{n} AS (SELECT a.x FROM c{} a, c{} b)", n - 1, n - 1),
            &|n| format!("c{n}(x) as not materialized (SELECT a.x FROM c{} a join c{} b)", n - 1, n - 1),
            &|n| format!("[C{n}] AS MATERIALIZED(SELECT a.x FROM \"c{}\" a, 'C{}' b)", n - 1, n - 1),
            &|n| format!("`c{n}`/**/AS--\n(SELECT 1 AS x FROM (c{}), ((c{})))", n - 1, n - 1),
            &|n| format!("c{n} AS (SELECT 1 IN c{} AS x WHERE EXISTS (SELECT 1 FROM c{}))", n - 1, n - 1),
            &|n| format!("c{n} AS (WITH d AS (SELECT * FROM c{}) SELECT a.x FROM d a, d b)", n - 1),
        ];
        for form in forms {
            assert_eq!(size(&[], &doubled(25, form)), Size::TooLarge, "{}", form(1));
        }
        // In the last one the same name stands for several things, one in the other: that is refused from the second on.
        for form in &forms[..5] {
            assert_eq!(size(&[], &doubled(8, form)), Size::Small, "{}", form(1));
        }
        assert_eq!(size(&[], &doubled(15, forms[0])), Size::Large);
        // The same two names again and again, each within the other.
        let mut hidden = "SELECT x FROM c a, c b".to_owned();
        for n in 0..25 {
            let (inner, outer) = if n % 2 == 0 { ("c", "d") } else { ("d", "c") };
            hidden =
                format!("SELECT x FROM (WITH {inner} AS (SELECT a.x FROM {outer} a, {outer} b) {hidden})");
        }
        assert_eq!(size(&[], &hidden), Size::TooLarge);
        let chain = doubled(200, |n| format!("c{n} AS (SELECT x FROM c{})", n - 1));
        assert_eq!(size(&[], &chain), Size::TooLarge, "each is one call of SQLite in the other");
    }

    #[test]
    fn views_and_triggers_count_too() {
        let views: Vec<String> = std::iter::once("CREATE VIEW v0 AS SELECT 1 AS x".to_owned())
            .chain((1..25).map(|n| format!("CREATE VIEW v{n} AS SELECT a.x FROM v{} a, main.v{} b", n - 1, n - 1)))
            .chain(["CREATE TABLE t (a); CREATE TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM t WHERE a IN (SELECT x FROM v24); END".to_owned()])
            .collect();
        let views: Vec<&str> = views.iter().map(String::as_str).collect();
        assert_eq!(size(&views, "SELECT * FROM v24"), Size::TooLarge);
        assert_eq!(size(&views, "INSERT OR IGNORE INTO main.\"T\" VALUES (1)"), Size::TooLarge);
        assert_eq!(size(&views, "SELECT v24.x FROM v3 AS v24"), Size::Small);
    }

    #[test]
    fn what_applications_write_is_small() {
        let chain: Vec<String> = (1..12)
            .map(|n| {
                format!(
                    "s{n} AS (SELECT s{0}.a, s{0}.b, s{0}.a + s{0}.b AS c FROM s{0} WHERE s{0}.a > 1)",
                    n - 1
                )
            })
            .collect();
        let sql = format!("WITH s0 AS (SELECT a, b FROM t),{} SELECT s11.a, s11.b FROM s11", chain.join(","));
        assert_eq!(size(&[], &sql), Size::Small);
        let recursive =
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 9) SELECT n FROM c";
        assert_eq!(size(&[], recursive), Size::Small);
        let schema = ["CREATE TABLE users (a); CREATE VIEW active AS SELECT * FROM users;
            CREATE TABLE u (a); CREATE TRIGGER r AFTER INSERT ON users BEGIN INSERT INTO u VALUES (1); END;
            CREATE TRIGGER q AFTER INSERT ON u BEGIN INSERT INTO users VALUES (1); END"];
        assert_eq!(size(&schema, "WITH users AS (SELECT * FROM active) SELECT * FROM users"), Size::Small);
    }

    proptest! {
        #[test]
        fn any_text_is_counted(sql in "(with|a|b|as|\\(|\\)|,|from|'|\"|\\[|\\]|`|--|/\\*|\\*/|\\.| |\\PC){0,60}") {
            let _ = Names::default().size(&sql);
        }
    }
}
