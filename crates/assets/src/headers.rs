//! `_headers`: the file and what it does to a response.
//! <https://developers.cloudflare.com/workers/static-assets/headers/>

use std::collections::HashSet;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::error::Warning;
use crate::pattern::{self, Captures, Pattern};
use crate::rule_url::{self, Allowed};

const MAX_RULES: usize = 100;
/// Headers that a rule sets, and as many that it removes.
const MAX_HEADERS: usize = 200;
/// Bytes of a header that several lines make.
const MAX_VALUE: usize = 8 << 10;
/// Bytes of headers that all rules together set in an answer.
const MAX_SET: usize = 64 << 10;
/// Bytes that are looked at to fill in what was captured.
const MAX_WORK: usize = 1 << 20;

/// The rules of a `_headers` file.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    path: String,
    pattern: Pattern,
    set: Vec<(HeaderName, Value)>,
    unset: Vec<HeaderName>,
}

#[derive(Debug)]
enum Value {
    Fixed(HeaderValue),
    /// Has placeholders.
    Template(String),
}

/// The rules that apply to one request.
pub(crate) struct Matched<'a>(Vec<(&'a Rule, Captures<'a>)>);

impl Headers {
    /// Reads the file. Lines that are wrong are left out and returned.
    pub(crate) fn parse(text: &str) -> (Self, Vec<Warning>) {
        let mut parser = Parser::default();
        let lines: Vec<&str> = text.split('\n').collect();
        for (at, line) in lines.iter().enumerate().take(rule_url::MAX_LINES) {
            if !parser.line(at + 1, rule_url::trim(line), lines.len() - at) {
                return (Self { rules: parser.rules }, parser.warnings);
            }
        }
        parser.finish(None);
        (Self { rules: parser.rules }, parser.warnings)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule names a host, so that [`Headers::matching`] needs `https://<host><path>`.
    pub(crate) fn know_hosts(&self) -> bool {
        self.rules.iter().any(|rule| rule.pattern.with_host)
    }

    /// The rules for `pathname`; `url` is `https://<host><pathname>`.
    pub(crate) fn matching<'a>(&'a self, pathname: &'a str, url: &'a str) -> Matched<'a> {
        let matched = self.rules.iter().filter_map(|rule| {
            let text = if rule.pattern.with_host { url } else { pathname };
            Some((rule, rule.pattern.matches(text)?))
        });
        Matched(matched.collect())
    }
}

impl Matched<'_> {
    /// Whether the rules leave the body's encoding to us: they neither set nor remove `Content-Encoding`, and
    /// no `Cache-Control` of theirs says `no-transform`.
    pub(crate) fn leave_encoding(&self) -> bool {
        let forbids = |(name, value): &(HeaderName, Value)| {
            name == header::CONTENT_ENCODING
                || (name == header::CACHE_CONTROL && value.text().contains("no-transform"))
        };
        !self
            .0
            .iter()
            .any(|(rule, _)| rule.set.iter().any(forbids) || rule.unset.contains(&header::CONTENT_ENCODING))
    }

    /// Applies the rules in the file's order: in each, removals first. The first rule that sets a header
    /// replaces the built-in value, later ones append to it. What is more than an answer may have is left out.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        let mut ours: HashSet<&HeaderName> = HashSet::new();
        let (mut set, mut work) = (0, 0);
        for (rule, captures) in &self.0 {
            for name in &rule.unset {
                headers.remove(name);
            }
            for (name, value) in &rule.set {
                let value = match value {
                    Value::Fixed(value) => value.clone(),
                    Value::Template(template) => {
                        work += captures.len() * template.len();
                        if work > MAX_WORK {
                            continue;
                        }
                        let filled = pattern::fill(template, captures);
                        work += captures.len() * filled.as_ref().map_or(0, String::len);
                        let Some(Ok(value)) = filled.map(|text| HeaderValue::from_str(text.trim())) else {
                            continue;
                        };
                        value
                    }
                };
                set += name.as_str().len() + value.len();
                if set > MAX_SET {
                    return;
                }
                if ours.insert(name) {
                    headers.insert(name, value);
                } else {
                    headers.append(name, value);
                }
            }
        }
    }
}

impl Value {
    fn text(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Fixed(value) => String::from_utf8_lossy(value.as_bytes()),
            Self::Template(template) => template.into(),
        }
    }
}

#[derive(Default)]
struct Parser {
    rules: Vec<Rule>,
    /// The rule whose lines are being read.
    open: Option<Open>,
    /// After a path line that was refused: its headers are skipped without a word.
    skip: bool,
    warnings: Vec<Warning>,
}

struct Open {
    path: String,
    line: String,
    set: Vec<(HeaderName, String)>,
    unset: Vec<HeaderName>,
}

impl Parser {
    /// Takes one line; `false` when the rest of the file is to be skipped.
    fn line(&mut self, number: usize, line: &str, remaining: usize) -> bool {
        if line.is_empty() || line.starts_with('#') {
            return true;
        }
        if let Some(message) = rule_url::too_long(line, number) {
            self.warnings.push(Warning {
                file: "_headers".to_owned(),
                line_number: None,
                line: None,
                message,
            });
            return true;
        }
        if looks_like_a_path(line) {
            self.skip = false;
            // The open rule is not yet counted, as in wrangler.
            if self.rules.len() >= MAX_RULES {
                self.open = None;
                let message = format!(
                    "Maximum number of rules supported is {MAX_RULES}. Skipping remaining {remaining} lines of file."
                );
                self.warnings.push(Warning {
                    file: "_headers".to_owned(),
                    line_number: None,
                    line: None,
                    message,
                });
                return false;
            }
            self.finish(Some(number));
            match open(line) {
                Ok(rule) => self.open = Some(rule),
                Err(message) => {
                    self.skip = true;
                    self.warn(number, line, message);
                }
            }
        } else if !self.skip
            && let Err(message) = self.header(line)
        {
            self.warn(number, line, message);
        }
        true
    }

    fn header(&mut self, line: &str) -> Result<(), String> {
        let Some((name, value)) = line.split_once(':') else {
            let rule =
                self.open.as_mut().ok_or("Expected a path beginning with at least one forward-slash")?;
            let name =
                line.strip_prefix("! ").ok_or("Expected a colon-separated header pair (e.g. name: value)")?;
            if rule.unset.len() >= MAX_HEADERS {
                return Err(too_many());
            }
            rule.unset.push(header_name(name.trim())?);
            return Ok(());
        };
        let (name, value) = (rule_url::trim(name).to_lowercase(), rule_url::trim(value));
        if name.contains(' ') {
            return Err("Header name cannot include spaces".to_owned());
        }
        if name.is_empty() {
            return Err("No header name specified".to_owned());
        }
        if value.is_empty() {
            return Err("No header value specified".to_owned());
        }
        let rule =
            self.open.as_mut().ok_or_else(|| format!("Path should come before header ({name}: {value})"))?;
        let name = header_name(&name)?;
        if HeaderValue::from_str(value).is_err() {
            return Err(format!("Header value cannot include control characters ({name})"));
        }
        let is_full = rule.set.len() >= MAX_HEADERS;
        match rule.set.iter_mut().find(|(other, _)| *other == name) {
            Some((_, values)) if values.len() + value.len() + 2 > MAX_VALUE => {
                return Err(format!("A header has at most {MAX_VALUE} bytes ({name})"));
            }
            Some((_, values)) => *values = format!("{values}, {value}"),
            None if is_full => return Err(too_many()),
            None => rule.set.push((name, value.to_owned())),
        }
        Ok(())
    }

    /// Closes the open rule; `next` is the number of the line that begins another.
    fn finish(&mut self, next: Option<usize>) {
        let Some(open) = self.open.take() else { return };
        if open.set.is_empty() && open.unset.is_empty() {
            self.warnings.push(Warning {
                file: "_headers".to_owned(),
                line_number: next,
                line: Some(open.line),
                message: "No headers specified".to_owned(),
            });
            return;
        }
        // A rule with the same placeholder twice never matches.
        let Some(pattern) = Pattern::new(&open.path) else { return };
        let set = open.set.into_iter().filter_map(|(name, value)| Some((name, compile(value)?))).collect();
        let rule = Rule { path: open.path, pattern, set, unset: open.unset };
        // The same path again replaces the rule where it stands.
        match self.rules.iter_mut().find(|other| other.path == rule.path) {
            Some(other) => *other = rule,
            None => self.rules.push(rule),
        }
    }

    fn warn(&mut self, number: usize, line: &str, message: String) {
        if self.warnings.len() >= rule_url::MAX_WARNINGS {
            return;
        }
        self.warnings.push(Warning {
            file: "_headers".to_owned(),
            line_number: Some(number),
            line: Some(line.to_owned()),
            message,
        });
    }
}

fn too_many() -> String {
    format!("A rule sets at most {MAX_HEADERS} headers, and removes as many")
}

/// `/…` or `scheme://…`.
fn looks_like_a_path(line: &str) -> bool {
    line.starts_with('/')
        || line.find("://").is_some_and(|at| {
            at > 0 && line.get(..at).is_some_and(|scheme| !scheme.contains(char::is_whitespace))
        })
}

fn open(line: &str) -> Result<Open, String> {
    let path = rule_url::read(line, Allowed { no_port: true, ..Allowed::default() })?;
    let wildcards = path.matches('*').count();
    if wildcards > 1 {
        return Err(format!(
            "Only one wildcard is allowed per rule. Use a named placeholder (e.g. :project) instead. Skipping {path}."
        ));
    }
    let splat = path.match_indices(":splat").any(|(at, found)| {
        let next = path.get(at + found.len()..).and_then(|rest| rest.chars().next());
        !next.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
    });
    if wildcards > 0 && splat {
        return Err(format!(
            "Cannot combine a wildcard * with a :splat placeholder because wildcards are converted to :splat at \
             runtime. Skipping {path}."
        ));
    }
    Ok(Open { path, line: line.to_owned(), set: Vec::new(), unset: Vec::new() })
}

/// A header that a rule may touch. Those that frame the message are ours: a wrong value would let one
/// response run into the next (RFC 9112 §6).
fn header_name(name: &str) -> Result<HeaderName, String> {
    let parsed =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("Header name is not valid ({name})"))?;
    let framing = [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::TRAILER,
    ];
    if framing.contains(&parsed) {
        return Err(format!("Header {parsed} is set by the server and cannot be changed"));
    }
    Ok(parsed)
}

fn compile(value: String) -> Option<Value> {
    if pattern::is_dynamic(&value.replace('*', "")) {
        Some(Value::Template(value))
    } else {
        HeaderValue::from_str(&value).ok().map(Value::Fixed)
    }
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
