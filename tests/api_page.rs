//! `docs/api.md`: every operation of the v4 API that concerns what Skep is for, and whether it is there.
//!
//! `corpus/v4-operations.tsv` has them as Cloudflare's published description names them: method, path, summary.
//! `SKEP_BLESS=1` writes the page.

use std::collections::BTreeMap;
use std::fmt::Write;

use skep_api::OPERATIONS;

use crate::harness::repository;

/// A path with its parameters' names left out: they differ, and mean the same.
fn shape(path: &str) -> String {
    let segment = |segment: &str| match segment.chars().next() {
        Some('{' | ':' | '*') => "{}".to_owned(),
        _ => segment.to_owned(),
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

fn area(path: &str) -> &str {
    let mut segments = path.split('/').skip(1);
    match (segments.next(), segments.nth(1)) {
        (Some("accounts"), Some("workers")) if path.contains("/dispatch/") => "Workers for Platforms",
        (Some("accounts"), Some("workers")) if path.contains("/observability/") => "Workers observability",
        (Some("accounts"), Some("workers")) => "Workers",
        (Some("accounts"), Some("ai")) => "Workers AI",
        (Some("accounts"), Some("analytics_engine")) => "Analytics Engine",
        (Some("accounts"), Some("storage")) => "KV",
        (Some("accounts"), Some("r2" | "event_notifications")) => "R2",
        (Some("accounts"), Some("d1")) => "D1",
        (Some("accounts"), Some("queues")) => "Queues",
        (Some("accounts"), Some("hyperdrive")) => "Hyperdrive",
        (Some("accounts"), Some("secrets_store")) => "Secrets Store",
        (Some("accounts"), Some("vectorize")) => "Vectorize",
        (Some("accounts"), Some("workflows")) => "Workflows",
        (Some("accounts"), Some("containers")) => "Containers",
        (Some("zones"), _) => "Zones",
        _ => "Accounts, users and tokens",
    }
}

fn page() -> String {
    let text = std::fs::read_to_string(repository().join("tests/corpus/v4-operations.tsv")).unwrap();
    let is_there = |method: &str, path: &str| {
        OPERATIONS
            .iter()
            .any(|ours| ours.method == method && shape(ours.path) == shape(path) && !ours.is_refused())
    };
    let mut areas: BTreeMap<&str, Vec<(&str, &str, &str)>> = BTreeMap::new();
    let mut published = Vec::new();
    for line in text.lines() {
        let [method, path, summary] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        areas.entry(area(path)).or_default().push((method, path, summary));
        published.push((method, shape(path)));
    }
    let mut page = HEAD.to_owned();
    for (area, operations) in areas {
        let there = operations.iter().filter(|(method, path, _)| is_there(method, path)).count();
        let _ = write!(page, "\n## {area}: {there} of {}\n\n", operations.len());
        page += "| operation | | |\n|---|---|---|\n";
        for (method, path, summary) in operations {
            let state = if is_there(method, path) { "works" } else { "refused" };
            let _ = writeln!(page, "| `{method} {path}` | {summary} | {state} |");
        }
    }
    page += "\n## Not in the published description\n\nWhat wrangler and the SDKs ask for besides:\n\n";
    for ours in OPERATIONS.iter().filter(|ours| !ours.is_refused()) {
        if !published.iter().any(|(method, path)| ours.method == *method && shape(ours.path) == *path) {
            let _ = writeln!(page, "* `{} {}`", ours.method, ours.path);
        }
    }
    page
}

const HEAD: &str = "# The v4 API

`skep serve` speaks the part of [Cloudflare's REST API](https://developers.cloudflare.com/api/) that wrangler and the SDKs need.
*Works* means that it is there; what of a request cannot be honoured is refused by name in the envelope. *Refused* operations are
answered with status 404 and code 7003, with 405 and 10405, or, of buckets, with 400 and 10058. `GET /client/v4/openapi.json` describes what works in OpenAPI 3.1. This page is generated from the router (`cargo test api_page`).
";

#[test]
fn the_page_of_the_api_is_what_the_router_has() {
    let (path, page) = (repository().join("docs/api.md"), page());
    if std::env::var_os("SKEP_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == page, "docs/api.md is not what the router has; SKEP_BLESS=1 writes it anew");
}
