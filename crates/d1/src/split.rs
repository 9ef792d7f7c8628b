//! Where one statement ends and the next begins, as SQLite's own parser sees it.

/// The first statement of `sql` (its `;` included) and what follows it, without the white space between.
pub(crate) fn first(sql: &str) -> (&str, &str) {
    let end = end_of_first(sql.as_bytes());
    let (head, tail) = sql.split_at(end);
    (head, tail.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']))
}

/// The statements of `sql`, each by itself; what is only a comment is none.
pub fn statements(sql: &str) -> impl Iterator<Item = &str> {
    let mut rest = sql;
    let next = move || {
        (!is_blank(rest)).then(|| {
            let (head, tail) = first(rest);
            rest = tail;
            head
        })
    };
    std::iter::from_fn(next).filter(|statement| !is_blank(statement))
}

/// Whether there is nothing but white space, comments and semicolons.
pub(crate) fn is_blank(sql: &str) -> bool {
    let bytes = sql.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, skip(bytes, at)) {
            (b'-' | b'/', Some(next)) => at = next,
            (b';', _) => at += 1,
            _ if byte.is_ascii_whitespace() || byte == 0x0b => at += 1,
            _ => return false,
        }
    }
    true
}

/// Whether `sql` surely holds one statement: a quick look that spares the scan.
pub(crate) fn is_single(sql: &str) -> bool {
    match sql.find(';') {
        None => true,
        Some(at) => sql[at + 1..].bytes().all(|b| b.is_ascii_whitespace() || b == 0x0b),
    }
}

/// The first word of `sql`, after white space, comments and opening brackets, and what follows it.
pub(crate) fn first_word(sql: &str) -> (&str, &str) {
    let bytes = sql.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match skip(bytes, at) {
            Some(next) if byte == b'-' || byte == b'/' => at = next,
            _ if byte.is_ascii_whitespace() || byte == b'(' => at += 1,
            _ => break,
        }
    }
    let len = bytes.iter().skip(at).take_while(|b| is_word(**b)).count();
    (sql.get(at..at + len).unwrap_or(""), sql.get(at + len..).unwrap_or(""))
}

/// The words outside brackets, texts and comments, with where they begin.
pub(crate) fn top_words(sql: &str) -> Vec<(usize, &str)> {
    let bytes = sql.as_bytes();
    let (mut at, mut depth, mut words) = (0, 0_i32, Vec::new());
    while let Some(&byte) = bytes.get(at) {
        if let Some(next) = skip(bytes, at) {
            at = next;
        } else if is_word(byte) {
            let len = bytes.iter().skip(at).take_while(|b| is_word(**b)).count();
            if depth == 0 {
                words.extend(sql.get(at..at + len).map(|word| (at, word)));
            }
            at += len;
        } else {
            depth += i32::from(byte == b'(') - i32::from(byte == b')');
            at += 1;
        }
    }
    words
}

/// How far a statement has got; only `CREATE TRIGGER` may hold a `;`, until `; END ;`.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Start,
    Explain,
    Create,
    Inside,
    Trigger,
    TriggerSemicolon,
    TriggerEnd,
}

fn end_of_first(bytes: &[u8]) -> usize {
    let mut place = Place::Start;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if let Some(next) = skip(bytes, at) {
            let comment = byte == b'-' || byte == b'/';
            if !comment {
                place = after_other(place);
            }
            at = next;
        } else if byte.is_ascii_whitespace() {
            at += 1;
        } else if byte == b';' {
            at += 1;
            match place {
                Place::Trigger | Place::TriggerSemicolon => place = Place::TriggerSemicolon,
                _ => return at,
            }
        } else if is_word(byte) {
            let len = bytes[at..].iter().take_while(|b| is_word(**b)).count();
            place = after_word(place, &bytes[at..at + len]);
            at += len;
        } else {
            place = after_other(place);
            at += 1;
        }
    }
    bytes.len()
}

fn after_other(place: Place) -> Place {
    match place {
        Place::Trigger | Place::TriggerSemicolon | Place::TriggerEnd => Place::Trigger,
        _ => Place::Inside,
    }
}

fn after_word(place: Place, word: &[u8]) -> Place {
    let is = |text: &str| word.eq_ignore_ascii_case(text.as_bytes());
    match place {
        Place::Start | Place::Explain if is("create") => Place::Create,
        Place::Start if is("explain") => Place::Explain,
        Place::Explain if is("query") || is("plan") => Place::Explain,
        Place::Create if is("temp") || is("temporary") => Place::Create,
        Place::Create if is("trigger") => Place::Trigger,
        Place::TriggerSemicolon if is("end") => Place::TriggerEnd,
        other => after_other(other),
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Where the comment or quoted text that begins at `at` ends; `None` if none begins there.
fn skip(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let find = |from: usize, wanted: &[u8]| {
        rest.get(from..)
            .and_then(|r| r.windows(wanted.len()).position(|w| w == wanted))
            .map_or(bytes.len(), |p| at + from + p + wanted.len())
    };
    match rest {
        [b'-', b'-', ..] => Some(find(2, b"\n")),
        [b'/', b'*', ..] => Some(find(2, b"*/")),
        // A doubled quote reads as two texts side by side, which ends at the same place.
        [quote @ (b'\'' | b'"' | b'`'), ..] => Some(find(1, &[*quote])),
        [b'[', ..] => Some(find(1, b"]")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(mut sql: &str) -> Vec<&str> {
        let mut parts = Vec::new();
        while !sql.is_empty() {
            let (head, tail) = first(sql);
            parts.push(head);
            sql = tail;
        }
        parts
    }

    #[test]
    fn a_semicolon_ends_a_statement_unless_it_is_text_comment_or_in_a_trigger() {
        assert_eq!(all("SELECT ';' ; SELECT 2"), ["SELECT ';' ;", "SELECT 2"]);
        assert_eq!(all("SELECT 1 -- ;\n; x"), ["SELECT 1 -- ;\n;", "x"]);
        assert_eq!(
            all("SELECT [;], \"a;\"\"b\", /* ; */ 1; y"),
            ["SELECT [;], \"a;\"\"b\", /* ; */ 1;", "y"]
        );
        let trigger =
            "CREATE TRIGGER t AFTER INSERT ON x BEGIN SELECT 1; SELECT CASE 1 WHEN 1 THEN 2 END; END;";
        assert_eq!(all(&format!("{trigger} SELECT 3")), [trigger, "SELECT 3"]);
        assert_eq!(
            all("CREATE TABLE trigger_log(a); SELECT 1;"),
            ["CREATE TABLE trigger_log(a);", "SELECT 1;"]
        );
    }

    #[test]
    fn the_first_word_is_behind_comments_and_brackets() {
        assert_eq!(first_word(" -- a\n/* b */ ( select 1)"), ("select", " 1)"));
        assert_eq!(first_word("'x'"), ("", "'x'"));
        assert_eq!(first_word(""), ("", ""));
    }

    #[test]
    fn comments_and_semicolons_are_no_statement() {
        assert!(is_blank(" ; -- a\n/* b */;\t"));
        assert!(is_blank("-- a"));
        assert!(!is_blank("; '"));
        assert!(!is_blank("-"));
    }

    proptest! {
        #[test]
        fn no_text_is_lost_or_makes_it_fail(sql in "[;'\"\\[\\]a-z/*\\- \ncreate trigger end é]{0,60}") {
            let kept: usize = all(&sql).iter().map(|s| s.trim().len()).sum();
            prop_assert!(kept <= sql.len());
            first_word(&sql);
            if is_single(&sql) { prop_assert!(first(&sql).1.is_empty()); }
        }
    }
}
