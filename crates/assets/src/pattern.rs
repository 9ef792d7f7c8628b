//! The patterns of `_redirects`, `_headers` and `run_worker_first`, matched in time linear in the path.

/// Parts of a pattern times bytes of a path: a rule for which they are more does not apply. Two variables and what is around them go with
/// the longest path that there is, thirty with one of 1,000 bytes.
const MAX_WORK: usize = 64 << 10;
/// Bytes of what a rule's template becomes with what was captured: the longest URL, and more than a header may have.
const MAX_FILLED: usize = 32 << 10;

/// A rule's path or URL with `*` (captured as `splat`) and `:placeholders`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    parts: Vec<Part>,
    /// Whether the rule names a host: it then matches `https://<host><path>`, whatever the request's scheme.
    pub(crate) with_host: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable { name: String, kind: Kind },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Anything, nothing too.
    Splat,
    /// One label of a host name.
    Label,
    /// One segment of a path.
    Segment,
}

impl Kind {
    fn takes(self, byte: u8) -> bool {
        match self {
            Self::Splat => true,
            Self::Label => byte != b'/' && byte != b'.',
            Self::Segment => byte != b'/',
        }
    }
}

/// What the variables of a pattern stand for, in the pattern's order.
pub(crate) type Captures<'t> = Vec<(String, &'t str)>;

impl Pattern {
    /// Reads a rule; `None` when a variable occurs twice: Cloudflare ignores such a rule.
    pub(crate) fn new(rule: &str) -> Option<Self> {
        let with_host = rule.starts_with("https://");
        let host_end = if with_host { rule.get(8..)?.find('/').map_or(rule.len(), |at| at + 8) } else { 0 };
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(c) = rule.get(at..).and_then(|rest| rest.chars().next()) {
            let name_len = if c == ':' { rule.get(at + 1..).map_or(0, placeholder_len) } else { 0 };
            if c != '*' && name_len == 0 {
                literal.push(c);
                at += c.len_utf8();
                continue;
            }
            let (name, kind, len) = if c == '*' {
                ("splat", Kind::Splat, 1)
            } else {
                let kind = if at < host_end { Kind::Label } else { Kind::Segment };
                (rule.get(at + 1..at + 1 + name_len)?, kind, 1 + name_len)
            };
            if parts.iter().any(|p| matches!(p, Part::Variable { name: other, .. } if other == name)) {
                return None;
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Variable { name: name.to_owned(), kind });
            at += len;
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Some(Self { parts, with_host })
    }

    /// Whether the whole of `text` matches, and what the variables stand for: the leftmost takes the most.
    pub(crate) fn matches<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        let parts = match self.parts.split_first() {
            Some((Part::Literal(literal), rest)) => {
                let tail = text.strip_prefix(literal.as_str())?;
                return capture(rest, tail);
            }
            _ => &self.parts,
        };
        capture(parts, text)
    }
}

fn capture<'t>(parts: &[Part], text: &'t str) -> Option<Captures<'t>> {
    match parts {
        [] => text.is_empty().then(Vec::new),
        // Most rules: one variable, perhaps something after it.
        [Part::Variable { name, kind }] => take(name, *kind, text),
        [Part::Variable { name, kind }, Part::Literal(end)] => {
            take(name, *kind, text.strip_suffix(end.as_str())?)
        }
        _ => capture_any(parts, text),
    }
}

fn take<'t>(name: &str, kind: Kind, value: &'t str) -> Option<Captures<'t>> {
    let fits = (kind == Kind::Splat || !value.is_empty()) && value.bytes().all(|b| kind.takes(b));
    fits.then(|| vec![(name.to_owned(), value)])
}

/// First, from the last part back: at which offsets the rest of the pattern matches the rest of the text. Then
/// one walk forward picks the longest value for each variable. Costs parts × bytes, whatever the pattern.
fn capture_any<'t>(parts: &[Part], text: &'t str) -> Option<Captures<'t>> {
    let bytes = text.as_bytes();
    if parts.len() * (bytes.len() + 1) > MAX_WORK {
        return None;
    }
    let mut fits = vec![vec![false; bytes.len() + 1]; parts.len() + 1];
    *fits.last_mut()?.last_mut()? = true;
    for (i, part) in parts.iter().enumerate().rev() {
        let (head, tail) = fits.split_at_mut(i + 1);
        let (row, next) = (head.last_mut()?, tail.first()?);
        let after = |offset: usize| next.get(offset).copied().unwrap_or(false);
        // Whether a variable that starts here may end further right.
        let mut further = false;
        for (p, cell) in row.iter_mut().enumerate().rev() {
            *cell = match part {
                Part::Literal(literal) => {
                    let end = p + literal.len();
                    bytes.get(p..end) == Some(literal.as_bytes()) && after(end)
                }
                Part::Variable { kind, .. } => {
                    further &= bytes.get(p).is_none_or(|b| kind.takes(*b));
                    further || (*kind == Kind::Splat && after(p))
                }
            };
            further |= after(p);
        }
    }
    if !*fits.first()?.first()? {
        return None;
    }
    let mut at = 0;
    let mut captures = Vec::new();
    for (part, next) in parts.iter().zip(fits.iter().skip(1)) {
        match part {
            Part::Literal(literal) => at += literal.len(),
            Part::Variable { name, kind } => {
                let run = bytes.get(at..)?.iter().take_while(|b| kind.takes(**b)).count();
                let end = (at..=at + run).rev().find(|end| next.get(*end) == Some(&true))?;
                captures.push((name.clone(), text.get(at..end)?));
                at = end;
            }
        }
    }
    Some(captures)
}

/// Bytes of the placeholder's name at the start of `text`: a letter, then letters, digits, underscores.
fn placeholder_len(text: &str) -> usize {
    match text.bytes().next() {
        Some(first) if first.is_ascii_alphabetic() => {
            text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count()
        }
        _ => 0,
    }
}

/// Whether a rule has a `*` or a `:placeholder`.
pub(crate) fn is_dynamic(rule: &str) -> bool {
    rule.contains('*')
        || rule.match_indices(':').any(|(at, _)| rule.get(at + 1..).is_some_and(|r| placeholder_len(r) > 0))
}

/// Puts what was captured in place of `:name` in `template`, one variable after the other, as Cloudflare does:
/// `:foo` is replaced inside `:foobar` too, and in what was put in before. So a path of `:b:b:b` may become as much as there is memory:
/// `None` if it becomes too much.
pub(crate) fn fill(template: &str, captures: &Captures<'_>) -> Option<String> {
    let mut out = template.to_owned();
    for (name, value) in captures {
        let placeholder = format!(":{name}");
        let count = out.matches(&placeholder).count();
        if count == 0 {
            continue;
        }
        if out.len() + count * value.len() > MAX_FILLED {
            return None;
        }
        out = out.replace(&placeholder, value);
    }
    Some(out)
}

/// A `run_worker_first` glob: only `*` is special; it stands for any characters, slashes too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    start: String,
    /// What must come after `start`, in this order, each after a `*`; the last one ends the path.
    rest: Vec<String>,
}

impl Glob {
    pub(crate) fn new(rule: &str) -> Self {
        let mut pieces = rule.split('*').map(str::to_owned);
        Self { start: pieces.next().unwrap_or_default(), rest: pieces.collect() }
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        let Some(mut tail) = path.strip_prefix(self.start.as_str()) else { return false };
        let Some((last, middle)) = self.rest.split_last() else { return tail.is_empty() };
        for piece in middle {
            match tail.find(piece.as_str()).and_then(|at| tail.get(at + piece.len()..)) {
                Some(after) => tail = after,
                None => return false,
            }
        }
        tail.ends_with(last.as_str())
    }
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
