//! Whether a request goes to the assets or to the worker.
//! <https://developers.cloudflare.com/workers/static-assets/routing/>

use std::collections::HashSet;
use std::fmt::Write as _;

use http::{HeaderMap, Method, StatusCode, header};

use crate::config::RunWorkerFirst;
use crate::error::AssetsError;
use crate::pattern::Glob;

const MAX_RULES: usize = 100;
const MAX_RULE_LENGTH: usize = 100;

/// `run_worker_first`, ready to be asked.
#[derive(Debug)]
pub(crate) enum WorkerFirst {
    /// All requests, or none.
    All(bool),
    /// By path.
    Rules {
        /// These go to the assets, whatever the others say.
        assets: Vec<Glob>,
        /// These go to the worker.
        worker: Vec<Glob>,
    },
}

/// What the rules say about one path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// To the assets.
    Assets,
    /// To the worker.
    Worker,
    /// To the assets if they have it.
    Undecided,
}

impl WorkerFirst {
    pub(crate) fn new(config: &RunWorkerFirst, has_worker: bool) -> Result<Self, AssetsError> {
        let rules = match config {
            RunWorkerFirst::All(true) if !has_worker => return Err(AssetsError::NoWorker),
            RunWorkerFirst::All(all) => return Ok(Self::All(*all)),
            RunWorkerFirst::Rules(rules) => rules,
        };
        let parsed = parse(rules).map_err(AssetsError::WorkerFirstRules)?;
        if has_worker { Ok(parsed) } else { Err(AssetsError::NoWorker) }
    }

    pub(crate) fn has_rules(&self) -> bool {
        matches!(self, Self::Rules { .. })
    }

    pub(crate) fn rule(&self, pathname: &str) -> Ruling {
        let any = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(pathname));
        match self {
            Self::All(true) => Ruling::Worker,
            Self::Rules { assets, .. } if any(assets) => Ruling::Assets,
            Self::Rules { worker, .. } if any(worker) => Ruling::Worker,
            _ => Ruling::Undecided,
        }
    }
}

fn parse(rules: &[String]) -> Result<WorkerFirst, String> {
    if rules.is_empty() {
        return Err("No `run_worker_first` rules were provided; must provide at least 1 rule.".to_owned());
    }
    if rules.len() > MAX_RULES {
        return Err(format!(
            "Too many `run_worker_first` rules were provided; {} rules provided exceeds max of {MAX_RULES}.",
            rules.len()
        ));
    }
    let (mut negative, mut positive, mut invalid) = (Vec::new(), Vec::new(), Vec::new());
    for rule in rules {
        if rule.starts_with("!/") {
            negative.push(rule.as_str());
        } else if rule.starts_with('/') {
            positive.push(rule.as_str());
        } else if rule.starts_with('!') {
            invalid.push(format!("'{rule}': negative rules must start with '!/'"));
        } else {
            invalid.push(format!("'{rule}': rules must start with '/' or '!/'"));
        }
    }
    if positive.is_empty() && !negative.is_empty() {
        return Err(
            "Only negative `run_worker_first` rules were provided; must provide at least 1 non-negative rule"
                .to_owned(),
        );
    }
    check(&positive, &mut invalid);
    check(&negative, &mut invalid);
    if !invalid.is_empty() {
        return Err(format!("Invalid routes in `run_worker_first`:\n{}", invalid.join("\n")));
    }
    let globs = |rules: &[&str]| rules.iter().map(|rule| Glob::new(rule.trim_start_matches('!'))).collect();
    Ok(WorkerFirst::Rules { assets: globs(&negative), worker: globs(&positive) })
}

fn check(rules: &[&str], invalid: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for rule in rules {
        if rule.encode_utf16().count() > MAX_RULE_LENGTH {
            invalid.push(format!(
                "'{rule}': all rules must be less than {MAX_RULE_LENGTH} characters in length"
            ));
        }
        if !seen.insert(rule) {
            invalid.push(format!("'{rule}': rule is a duplicate; rules must be unique"));
        }
        let Some(start) = rule.strip_suffix('*') else { continue };
        for other in rules.iter().filter(|other| *other != rule && other.starts_with(start)) {
            invalid.push(format!("'{other}': rule '{rule}' makes it redundant"));
        }
    }
}

/// `/cdn-cgi\…` reaches here although `/cdn-cgi/…` would not have: the client is sent to the latter.
pub(crate) fn cdn_cgi_bypass(raw: &str, pathname: &str, query: Option<&str>) -> Option<String> {
    if !raw.contains("/cdn-cgi\\") || !pathname.starts_with("/cdn-cgi/") {
        return None;
    }
    let mut location = pathname.to_owned();
    let _ = write!(location, "{}", crate::path::search(query));
    Some(location)
}

/// What is asked of a request that goes to the worker, so that no worker's image optimizer serves as an open
/// proxy of the whole web.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mitigation {
    /// Nothing.
    None,
    /// The reply must be an image or plain text.
    ImageReply,
    /// The request is refused.
    Blocked,
}

/// Looks for a remote picture asked for through `…/_next/image` or `/_image` by something else than an `<img>`.
pub(crate) fn mitigate(
    method: &Method,
    pathname: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    hostname: &str,
) -> Mitigation {
    let as_image = || headers.get("sec-fetch-dest").is_some_and(|dest| dest == "image");
    let parameter = |name: &str| {
        url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .find(|(n, _)| n == name)
            .map(|(_, value)| value)
    };
    if pathname == "/_image"
        && let Some(href) = parameter("href").filter(|href| href.len() > 2 && href.starts_with("//"))
        && let Ok(remote) = url::Url::parse(&format!("https:{href}"))
        && remote.host_str() != Some(hostname)
        && !as_image()
    {
        return Mitigation::Blocked;
    }
    let remote = pathname.ends_with("/_next/image")
        && parameter("url").is_some_and(|url| !url.is_empty() && !url.starts_with('/'));
    if remote && (method != Method::GET || !as_image()) { Mitigation::ImageReply } else { Mitigation::None }
}

/// Whether a worker's reply may be passed on where [`crate::Decision::WorkerImage`] was decided: only pictures and
/// plain text; else the visitor gets 403 `Blocked`.
pub fn image_reply_allowed(status: StatusCode, headers: &HeaderMap) -> bool {
    if status == StatusCode::NOT_MODIFIED {
        return true;
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(kind), None) = (types.next().and_then(|value| value.to_str().ok()), types.next()) else {
        return false;
    };
    !kind.contains(',') && (kind.starts_with("image/") || kind.split(';').next() == Some("text/plain"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn rules(list: &[&str]) -> Result<WorkerFirst, String> {
        parse(&list.iter().map(|r| (*r).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn negative_rules_win_over_positive_ones() {
        let first = rules(&["/api/*", "!/api/docs/*"]).unwrap();
        assert_eq!(first.rule("/api/x"), Ruling::Worker);
        assert_eq!(first.rule("/api/docs/x"), Ruling::Assets);
        assert_eq!(first.rule("/x"), Ruling::Undecided);
        assert_eq!(WorkerFirst::All(true).rule("/x"), Ruling::Worker);
        assert_eq!(WorkerFirst::All(false).rule("/x"), Ruling::Undecided);
    }

    #[test]
    fn meaningless_rules_are_refused_in_wranglers_words() {
        let error = |list: &[&str]| rules(list).unwrap_err();
        assert_eq!(error(&[]), "No `run_worker_first` rules were provided; must provide at least 1 rule.");
        assert_eq!(
            error(&["!/a"]),
            "Only negative `run_worker_first` rules were provided; must provide at least 1 non-negative rule"
        );
        assert_eq!(
            error(&["a", "!b", "/c", "/c"]),
            "Invalid routes in `run_worker_first`:\n'a': rules must start with '/' or '!/'\n'!b': negative rules must \
             start with '!/'\n'/c': rule is a duplicate; rules must be unique"
        );
        assert_eq!(
            error(&["/a/*", "/a/b"]),
            "Invalid routes in `run_worker_first`:\n'/a/b': rule '/a/*' makes it redundant"
        );
        let long = format!("/{}", "x".repeat(100));
        assert!(error(&[&long]).ends_with("all rules must be less than 100 characters in length"));
        let many: Vec<String> = (0..101).map(|n| format!("/{n}")).collect();
        assert_eq!(
            parse(&many).unwrap_err(),
            "Too many `run_worker_first` rules were provided; 101 rules provided exceeds max of 100."
        );
        assert!(matches!(WorkerFirst::new(&RunWorkerFirst::All(true), false), Err(AssetsError::NoWorker)));
    }

    #[test]
    fn a_backslash_after_cdn_cgi_is_redirected() {
        assert_eq!(cdn_cgi_bypass("/cdn-cgi\\x", "/cdn-cgi/x", Some("a")), Some("/cdn-cgi/x?a".to_owned()));
        assert_eq!(cdn_cgi_bypass("/cdn-cgi/x", "/cdn-cgi/x", None), None);
    }

    #[test]
    fn remote_pictures_are_for_image_elements() {
        let image = HeaderMap::from_iter([(
            http::HeaderName::from_static("sec-fetch-dest"),
            HeaderValue::from_static("image"),
        )]);
        let ask = |path, query, headers: &HeaderMap| {
            mitigate(&Method::GET, path, Some(query), headers, "example.com")
        };
        let none = HeaderMap::new();
        assert_eq!(ask("/a/_next/image", "url=https%3A%2F%2Fevil.com", &none), Mitigation::ImageReply);
        assert_eq!(ask("/a/_next/image", "url=https%3A%2F%2Fevil.com", &image), Mitigation::None);
        assert_eq!(ask("/a/_next/image", "url=/local.png", &none), Mitigation::None);
        assert_eq!(ask("/_image", "href=//evil.com/x", &none), Mitigation::Blocked);
        assert_eq!(ask("/_image", "href=//evil.com/x", &image), Mitigation::None);
        assert_eq!(ask("/_image", "href=//example.com/x", &none), Mitigation::None);
        assert_eq!(ask("/other", "href=//evil.com/x", &none), Mitigation::None);
    }

    #[test]
    fn only_pictures_and_plain_text_pass() {
        let reply = |kind: &'static str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
            image_reply_allowed(StatusCode::OK, &headers)
        };
        assert!(reply("image/png") && reply("text/plain;charset=UTF-8"));
        assert!(!reply("text/html") && !reply("image/png, text/html"));
        assert!(!image_reply_allowed(StatusCode::OK, &HeaderMap::new()));
        assert!(image_reply_allowed(StatusCode::NOT_MODIFIED, &HeaderMap::new()));
    }
}
