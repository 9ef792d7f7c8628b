//! The patterns of `migrations_pattern`: `*`, `?`, `**`, `[a-z]`, `{a,b}`, as the `minimatch` package reads them
//! with its defaults: a leading dot is matched only by a dot.

/// Patterns that braces may stand for, at most.
const ALTERNATIVES: usize = 256;

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Glob(Vec<Vec<String>>);

impl Glob {
    pub(super) fn new(pattern: &str) -> Self {
        let mut alternatives = Vec::new();
        expand(pattern, &mut alternatives);
        Self(alternatives.iter().map(|a| a.split('/').map(str::to_owned).collect()).collect())
    }

    /// Whether the path, relative and with `/`, is one of the pattern.
    pub(super) fn matches(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        self.0.iter().any(|pattern| match_parts(pattern, &parts))
    }

    /// Whether something below this folder may be one of the pattern.
    pub(super) fn may_match_below(&self, folder: &str) -> bool {
        if folder.rsplit('/').next().is_some_and(|name| name.starts_with('.')) {
            return self.0.iter().flatten().any(|part| part.starts_with('.'));
        }
        let depth = folder.split('/').count();
        self.0.iter().any(|pattern| pattern.len() > depth || pattern.iter().any(|part| part == "**"))
    }
}

/// Replaces the first pair of braces by each of its alternatives, until there is none.
fn expand(pattern: &str, out: &mut Vec<String>) {
    if out.len() >= ALTERNATIVES {
        return;
    }
    match braces(pattern) {
        None => out.push(pattern.to_owned()),
        Some((before, inner, after)) => {
            for alternative in alternatives(inner) {
                expand(&format!("{before}{alternative}{after}"), out);
            }
        }
    }
}

fn braces(pattern: &str) -> Option<(&str, &str, &str)> {
    let open = pattern.find('{')?;
    let mut depth = 0;
    for (at, c) in pattern[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let inner = &pattern[open + 1..open + at];
            return inner.contains(',').then(|| (&pattern[..open], inner, &pattern[open + at + 1..]));
        }
    }
    None
}

fn alternatives(inner: &str) -> Vec<&str> {
    let (mut depth, mut from, mut found) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&inner[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(&inner[from..]);
    found
}

fn match_parts(pattern: &[String], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((part, rest)), _) if part == "**" => {
            match_parts(rest, path)
                || path
                    .split_first()
                    .is_some_and(|(name, below)| !name.starts_with('.') && match_parts(pattern, below))
        }
        (Some((part, rest)), Some((name, below))) => match_name(part, name) && match_parts(rest, below),
        _ => false,
    }
}

fn match_name(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    match_chars(&pattern, &name)
}

/// With one place to come back to, the last `*`: linear in `pattern × name`, whatever the pattern.
fn match_chars(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
        } else if let Some(next) = match_one(pattern, p, name[n]) {
            (p, n) = (next, n + 1);
        } else if let Some((after, from)) = star {
            star = Some((after, from + 1));
            (p, n) = (after, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Where the pattern goes on after matching one character.
fn match_one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match pattern.get(p)? {
        '?' => Some(p + 1),
        '[' => match_class(pattern, p, c).unwrap_or((c == '[').then_some(p + 1)),
        '\\' if p + 1 < pattern.len() => (pattern[p + 1] == c).then_some(p + 2),
        literal => (*literal == c).then_some(p + 1),
    }
}

/// A class `[a-z]`, `[!a]`, `[^a]`; `None` if it is not closed, and so stands for itself.
fn match_class(pattern: &[char], open: usize, c: char) -> Option<Option<usize>> {
    let negated = matches!(pattern.get(open + 1), Some('!' | '^'));
    let from = open + 1 + usize::from(negated);
    let close = from + 1 + pattern.get(from + 1..)?.iter().position(|c| *c == ']')?;
    let class = &pattern[from..close];
    let (mut i, mut found) = (0, false);
    while i < class.len() {
        if i + 2 < class.len() && class[i + 1] == '-' {
            found |= (class[i]..=class[i + 2]).contains(&c);
            i += 3;
        } else {
            found |= class[i] == c;
            i += 1;
        }
    }
    Some((found != negated).then_some(close + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_minimatch_does() {
        let cases = [
            ("*.sql", "0001_a.sql", true),
            ("*.sql", "a/b.sql", false),
            ("*.sql", ".hidden.sql", false),
            ("*/migration.sql", "0001_x/migration.sql", true),
            ("**/*.sql", "a.sql", true),
            ("**/*.sql", "a/b/c.sql", true),
            ("**/*.sql", ".git/c.sql", false),
            ("{up,sql/*}.sql", "up.sql", true),
            ("{up,sql/*}.sql", "sql/1.sql", true),
            ("[0-9]?_*.sql", "12_x.sql", true),
            ("[!0-9]*.sql", "12.sql", false),
            ("a[.sql", "a[.sql", true),
            ("a*b*c", "aXbYbZc", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(Glob::new(pattern).matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn folders_that_cannot_match_are_not_entered() {
        assert!(!Glob::new("*.sql").may_match_below("a"));
        assert!(Glob::new("*/migration.sql").may_match_below("a"));
        assert!(!Glob::new("*/migration.sql").may_match_below("a/b"));
        assert!(Glob::new("**/*.sql").may_match_below("a/b/c"));
        assert!(!Glob::new("**/*.sql").may_match_below(".git"));
    }

    proptest! {
        #[test]
        fn no_pattern_makes_it_fail(pattern in r"[*?\[\]{},!^a-c/.\\-]{0,16}", path in "[a-c./]{0,12}") {
            let glob = Glob::new(&pattern);
            glob.matches(&path);
            glob.may_match_below(&path);
        }
    }
}
