//! References in `.env` files: `$NAME`, `${NAME}`, `${NAME:-instead}`; `\\$` is a dollar sign. As the `dotenv-expand`
//! package of npm, which wrangler reads `.env` files with.

use std::collections::BTreeMap;

/// References that are followed for one value; it also ends those that go round in a circle.
const MOST: usize = 100;

/// `parsed` with its references replaced. A name that is in `process`, too, has its value there.
pub(crate) fn expand(
    parsed: &BTreeMap<String, String>,
    process: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let value = |(name, text): (&String, &String)| match process.get(name) {
        Some(value) => value.clone(),
        None => {
            let look_up = |name: &str| process.get(name).or_else(|| parsed.get(name)).map(String::as_str);
            replaced(text, &look_up, &mut { MOST })
        }
    };
    parsed.iter().map(|entry| (entry.0.clone(), value(entry))).collect()
}

fn replaced<'a>(text: &str, look_up: &impl Fn(&str) -> Option<&'a str>, left: &mut usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('\\') {
            out.push_str(before);
            out.push('$');
            rest = &from[1..];
            continue;
        }
        out.push_str(before);
        let Some((name, instead, after)) = reference(&from[1..]) else {
            out.push('$');
            rest = &from[1..];
            continue;
        };
        let value = look_up(name).filter(|value| !value.is_empty()).or(instead).unwrap_or_default();
        if let Some(fewer) = left.checked_sub(1) {
            *left = fewer;
            out.push_str(&replaced(value, look_up, left));
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The name after a dollar sign, what to take where there is none, and what comes after the reference.
fn reference(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let Some(inner) = text.strip_prefix('{') else {
        let end = name_end(text);
        return (end > 0).then(|| (&text[..end], None, &text[end..]));
    };
    let end = closing(inner)?;
    let (content, after) = (&inner[..end], &inner[end + 1..]);
    let name = &content[..name_end(content)];
    let instead = match &content[name.len()..] {
        "" => None,
        more => Some(more.strip_prefix(":-").or_else(|| more.strip_prefix('-'))?),
    };
    (!name.is_empty()).then_some((name, instead, after))
}

fn name_end(text: &str) -> usize {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    text.len() - rest.len()
}

/// Where the brace that is open before `text` is closed.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1;
    text.char_indices().find_map(|(at, c)| {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        (open == 0).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn references_are_replaced() {
        let parsed = map(&[
            ("HOST", "db"),
            ("URL", "pg://${HOST}:$PORT/x"),
            ("PORT", "5432"),
            ("PRICE", r"5\$HOST"),
            ("ELSE", "${NONE:-other} ${NONE-${HOST}} ${NONE}"),
            ("TWICE", "$URL!"),
            ("ODD", "$ ${ ${} ${a b} 100$"),
            ("TAKEN", "file"),
        ]);
        let process = map(&[("TAKEN", "process"), ("PORT", "1")]);
        let all = expand(&parsed, &process);
        assert_eq!(all["URL"], "pg://db:1/x");
        assert_eq!(all["PRICE"], "5$HOST");
        assert_eq!(all["ELSE"], "other db ");
        assert_eq!(all["TWICE"], "pg://db:1/x!");
        assert_eq!(all["ODD"], "$ ${ ${} ${a b} 100$");
        assert_eq!(all["TAKEN"], "process");
    }

    #[test]
    fn what_refers_to_itself_ends() {
        let all = expand(&map(&[("A", "a$B"), ("B", "b$A")]), &BTreeMap::new());
        assert!(all["A"].len() <= MOST + 1, "{all:?}");
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[a-z${}:\\\\é-]{0,40}") {
            let parsed = map(&[("a", &text), ("b", "${a}$a")]);
            let _ = expand(&parsed, &BTreeMap::new());
        }
    }
}
