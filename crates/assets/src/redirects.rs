//! `_redirects`: the file and what it does to a request.
//! <https://developers.cloudflare.com/workers/static-assets/redirects/>

use std::collections::{HashMap, HashSet};

use http::StatusCode;
use url::Url;

use crate::config::HtmlHandling;
use crate::error::Warning;
use crate::path;
use crate::pattern::{self, Pattern};
use crate::rule_url::{self, Allowed};

const MAX_STATIC: usize = 2000;
const MAX_DYNAMIC: usize = 100;

/// The rules of a `_redirects` file.
#[derive(Debug, Default)]
pub(crate) struct Redirects {
    fixed: HashMap<String, Target>,
    dynamic: Vec<(Pattern, Target)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    status: StatusCode,
    to: String,
}

/// What a rule says about a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Redirected {
    /// Serve this path; the client's URL stays.
    Rewritten(String),
    /// Send the client there.
    To(StatusCode, String),
    /// The rule's target, with its variables filled in, is no URL.
    Broken,
}

/// A request as far as the rules see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// `http` or `https`.
    pub(crate) scheme: &'a str,
    /// Host and port.
    pub(crate) authority: &'a str,
}

impl Redirects {
    /// Reads the file. Lines that are wrong are left out and returned.
    pub(crate) fn parse(text: &str, html: HtmlHandling) -> (Self, Vec<Warning>) {
        let mut parser = Parser {
            html,
            seen: HashSet::new(),
            fixed: 0,
            dynamic: 0,
            rules: Self::default(),
            warnings: Vec::new(),
        };
        let lines: Vec<&str> = text.split('\n').collect();
        for (at, line) in lines.iter().enumerate().take(rule_url::MAX_LINES) {
            if !parser.line(at + 1, rule_url::trim(line), lines.len() - at) {
                break;
            }
        }
        (parser.rules, parser.warnings)
    }

    /// What the rules say: exact paths first, then the others in the file's order.
    pub(crate) fn apply(
        &self,
        pathname: &str,
        query: Option<&str>,
        origin: Origin<'_>,
    ) -> Option<Redirected> {
        if self.fixed.is_empty() && self.dynamic.is_empty() {
            return None;
        }
        if let Some(target) = self.fixed.get(pathname) {
            return Some(target.redirect(target.to.clone(), pathname, query, origin));
        }
        let (captures, target) =
            self.dynamic.iter().find_map(|(pattern, target)| Some((pattern.matches(pathname)?, target)))?;
        let Some(to) = pattern::fill(&target.to, &captures) else { return Some(Redirected::Broken) };
        let to = to.trim();
        let to = if has_scheme(to) { to.to_owned() } else { path::collapse_slashes(to) };
        Some(target.redirect(to, pathname, query, origin))
    }
}

impl Target {
    fn redirect(&self, to: String, pathname: &str, query: Option<&str>, origin: Origin<'_>) -> Redirected {
        let base = Url::parse(&format!("{}://{}{pathname}", origin.scheme, origin.authority))
            .or_else(|_| Url::parse(&format!("http://localhost{pathname}")));
        let Some((base, destination)) = base.ok().and_then(|base| Some((base.clone(), base.join(&to).ok()?)))
        else {
            return Redirected::Broken;
        };
        if self.status == StatusCode::OK {
            return Redirected::Rewritten(destination.path().to_owned());
        }
        // The query goes along unless the target has its own.
        let search = match destination.query().filter(|q| !q.is_empty()) {
            Some(own) => format!("?{own}"),
            None => path::search(query),
        };
        let hash =
            destination.fragment().filter(|f| !f.is_empty()).map_or(String::new(), |f| format!("#{f}"));
        let mut place = if destination.origin() == base.origin() {
            destination.path().to_owned()
        } else {
            let mut bare = destination;
            bare.set_query(None);
            bare.set_fragment(None);
            bare.into()
        };
        place.push_str(&search);
        place.push_str(&hash);
        Redirected::To(self.status, place)
    }
}

fn has_scheme(to: &str) -> bool {
    to.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}

struct Parser {
    html: HtmlHandling,
    seen: HashSet<String>,
    fixed: usize,
    dynamic: usize,
    rules: Redirects,
    warnings: Vec<Warning>,
}

impl Parser {
    /// Takes one line; `false` when the rest of the file is to be skipped.
    fn line(&mut self, number: usize, line: &str, remaining: usize) -> bool {
        if line.is_empty() || line.starts_with('#') {
            return true;
        }
        if let Some(message) = rule_url::too_long(line, number) {
            self.warn(None, message);
            return true;
        }
        let invalid = |message: String| (Some((number, line.to_owned())), message);
        let outcome = self.rule(line).map_err(|refused| match refused {
            Refused::Line(message) => (invalid(message), true),
            Refused::TooManyStatic => {
                ((None, format!("Maximum number of static rules supported is {MAX_STATIC}. Skipping line.")), true)
            }
            Refused::TooManyDynamic => (
                (
                    None,
                    format!(
                        "Maximum number of dynamic rules supported is {MAX_DYNAMIC}. Skipping remaining {remaining} \
                         lines of file."
                    ),
                ),
                false,
            ),
        });
        match outcome {
            Ok(()) => true,
            Err(((place, message), go_on)) => {
                self.warn(place, message);
                go_on
            }
        }
    }

    fn rule(&mut self, line: &str) -> Result<(), Refused> {
        // A token that starts with # begins a comment; a # inside a token is a URL's fragment.
        let tokens: Vec<&str> = line.split_whitespace().take_while(|token| !token.starts_with('#')).collect();
        let (from, to, status) = match tokens.as_slice() {
            [from, to] => (*from, *to, "302"),
            [from, to, status] => (*from, *to, *status),
            _ => {
                return Err(Refused::Line(format!(
                    "Expected exactly 2 or 3 whitespace-separated tokens. Got {}.",
                    tokens.len()
                )));
            }
        };
        let from =
            rule_url::read(from, Allowed { only_relative: true, no_port: true, search_and_hash: false })?;
        let dynamic = pattern::is_dynamic(&from);
        self.count(dynamic)?;
        let to = rule_url::read(to, Allowed { search_and_hash: true, ..Allowed::default() })?;
        let status = read_status(status)?;
        if self.loops(&from, &to) {
            return Err(Refused::Line(
                "Infinite loop detected in this rule and has been ignored. This will cause a redirect to strip \
                 `.html` or `/index` and end up triggering this rule again. Please fix or remove this rule to silence \
                 this warning."
                    .to_owned(),
            ));
        }
        if !self.seen.insert(from.clone()) {
            return Err(Refused::Line(format!("Ignoring duplicate rule for path {from}.")));
        }
        if status == StatusCode::OK && rule_url::has_host(&to) {
            return Err(Refused::Line(format!(
                "Proxy (200) redirects can only point to relative paths. Got {to}"
            )));
        }
        let target = Target { status, to };
        // Exact paths are looked up first only as long as no rule with variables precedes them.
        if !dynamic && self.rules.dynamic.is_empty() {
            self.rules.fixed.insert(from, target);
        } else if let Some(pattern) = Pattern::new(&from) {
            self.rules.dynamic.push((pattern, target));
        } else {
            return Err(Refused::Line(format!(
                "A placeholder occurs twice, or beside a wildcard with :splat, so the rule never matches. Got {from}"
            )));
        }
        Ok(())
    }

    fn count(&mut self, dynamic: bool) -> Result<(), Refused> {
        if !dynamic && self.dynamic == 0 {
            self.fixed += 1;
            return if self.fixed > MAX_STATIC { Err(Refused::TooManyStatic) } else { Ok(()) };
        }
        self.dynamic += 1;
        if self.dynamic > MAX_DYNAMIC { Err(Refused::TooManyDynamic) } else { Ok(()) }
    }

    /// Whether html_handling would send the target back to where the rule applies.
    fn loops(&self, from: &str, to: &str) -> bool {
        // Wrangler's test takes any character for the dot.
        let stem = to.strip_suffix("html").and_then(|stem| stem.get(..stem.char_indices().next_back()?.0));
        let to_index = to.ends_with("/index") || stem.is_some_and(|stem| stem.ends_with("/index"));
        let root = from.ends_with('/') && self.html != HtmlHandling::None;
        !rule_url::has_host(to) && to_index && (from.ends_with("/*") || root)
    }

    fn warn(&mut self, place: Option<(usize, String)>, message: String) {
        if self.warnings.len() >= rule_url::MAX_WARNINGS {
            return;
        }
        let (line_number, line) = place.unzip();
        self.warnings.push(Warning { file: "_redirects".to_owned(), line_number, line, message });
    }
}

enum Refused {
    Line(String),
    TooManyStatic,
    TooManyDynamic,
}

impl From<String> for Refused {
    fn from(message: String) -> Self {
        Self::Line(message)
    }
}

fn read_status(text: &str) -> Result<StatusCode, Refused> {
    // Any way to write the number, as for `Number` in JavaScript: `301.0` is one.
    let number = text.parse::<f64>().ok();
    [200_u16, 301, 302, 303, 307, 308]
        .into_iter()
        .find(|code| number == Some(f64::from(*code)))
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| {
            let message = "Valid status codes are 200, 301, 302 (default), 303, 307, or 308. Got";
            Refused::Line(format!("{message} {text}."))
        })
}

#[cfg(test)]
#[path = "redirects_tests.rs"]
mod tests;
