//! The same worker on Skep and on Miniflare: every answer is compared. What differs is listed with its reason in
//! `conformance/differences.json`, and told to users in `docs/compatibility.md`.
//!
//! `SKEP_BLESS=1` writes both anew; an entry without a reason fails all the same.

mod answers;
mod differences;
mod miniflare;
mod page;
mod requests;

use std::path::PathBuf;

use crate::harness::{dev_with, repository};
use answers::{Case, Outcome};
use differences::Listed;

/// The projects. Requests go to the first.
const PROJECTS: [&str; 5] = ["main", "other", "mixed", "site-force", "site-drop"];

fn folder() -> PathBuf {
    repository().join("tests/conformance")
}

#[test]
fn skep_answers_as_miniflare_does_or_says_why_not() {
    let state = tempfile::tempdir().unwrap();
    let configurations = PROJECTS.map(|name| folder().join(name).join("wrangler.json").display().to_string());
    let (skep, miniflare) = std::thread::scope(|scope| {
        let skep = scope.spawn(|| {
            let args: Vec<&str> = configurations.iter().flat_map(|path| ["-c", path.as_str()]).collect();
            dev_with(&folder().join("main"), &state.path().join("skep"), &args)
        });
        let miniflare =
            miniflare::start(&PROJECTS.map(|name| folder().join(name)), &state.path().join("miniflare"));
        (skep.join().unwrap(), miniflare)
    });

    let cases: Vec<Case> = answers::cases(&skep.url).into_iter().chain(requests::all()).collect();
    let outcomes = answers::compare(&cases, &skep.url, &miniflare.url);

    let bless = std::env::var_os("SKEP_BLESS").is_some();
    let path = folder().join("differences.json");
    let mut listed: Vec<Listed> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    if bless {
        differences::update(&mut listed, &outcomes);
        std::fs::write(&path, serde_json::to_string_pretty(&listed).unwrap() + "\n").unwrap();
    }
    let mut complaints = differences::complaints(&listed, &outcomes);
    complaints.extend(outcomes.iter().filter_map(broken));

    let page = page::render(&outcomes, &listed);
    let path = repository().join("docs/compatibility.md");
    if bless {
        std::fs::write(&path, &page).unwrap();
    }
    if std::fs::read_to_string(&path).unwrap_or_default() != page {
        complaints.push("docs/compatibility.md is not what is generated: SKEP_BLESS=1 writes it anew".into());
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}

/// A case that did not come to its end compares nothing.
fn broken(outcome: &Outcome) -> Option<String> {
    let what = outcome.ours.get("uncaught").or_else(|| outcome.theirs.get("uncaught"))?;
    Some(format!("{}: the case itself failed: {}", outcome.case, what.as_str().unwrap_or_default()))
}
