//! `docs/compatibility.md`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::answers::{Differences, Outcome};
use super::differences::{Agrees, Listed};
use super::folder;

/// Characters of a value that the page shows.
const SHOWN: usize = 120;

/// Places of a case that the page shows.
const ROWS: usize = 3;

pub fn render(outcomes: &[Outcome], listed: &[Listed]) -> String {
    let introduction = std::fs::read_to_string(folder().join("introduction.md")).unwrap();
    let not_yet = std::fs::read_to_string(folder().join("not-yet.md")).unwrap();
    format!("{introduction}\n{}\n{}\n{not_yet}", table(outcomes), reasons(listed))
}

fn table(outcomes: &[Outcome]) -> String {
    let mut groups: Vec<&str> = outcomes.iter().map(|outcome| outcome.case.group.as_str()).collect();
    groups.dedup();
    let mut text = "| | cases | equal | different |\n|---|---|---|---|\n".to_owned();
    let mut total = [0, 0];
    for group in groups {
        let of_group = outcomes.iter().filter(|outcome| outcome.case.group == group);
        let (mut cases, mut different) = (0, 0);
        for outcome in of_group {
            cases += 1;
            different += usize::from(!outcome.differences().is_empty());
        }
        let _ = writeln!(text, "| {group} | {cases} | {} | {different} |", cases - different);
        total = [total[0] + cases, total[1] + different];
    }
    let [cases, different] = total;
    let _ = writeln!(text, "| **All** | **{cases}** | **{}** | **{different}** |", cases - different);
    text
}

fn reasons(listed: &[Listed]) -> String {
    let mut text = "## Differences\n".to_owned();
    let group =
        |entry: &Listed| entry.cases.keys().next().and_then(|c| c.split(" / ").next()).map(str::to_owned);
    let mut groups: BTreeMap<String, Vec<&Listed>> = BTreeMap::new();
    for entry in listed {
        groups.entry(group(entry).unwrap_or_default()).or_default().push(entry);
    }
    for (group, entries) in groups {
        let _ = writeln!(text, "\n### {group}");
        for entry in entries {
            let _ = write!(text, "\n{}{}", entry.why, agreement(entry));
            text.push_str("\n\n| case | where | Skep | Miniflare |\n|---|---|---|---|\n");
            for (case, differences) in &entry.cases {
                rows(&mut text, case.split_once(" / ").map_or(case, |(_, name)| name), differences);
            }
        }
    }
    text
}

/// Whom Cloudflare's documentation agrees with.
fn agreement(entry: &Listed) -> String {
    let Some(link) = &entry.documentation else { return String::new() };
    let who = match entry.agrees {
        Agrees::Skep => "Skep does as [documented]",
        Agrees::Miniflare => "Miniflare does as [documented]",
        Agrees::Both => "Both do as [documented]",
        Agrees::Unsaid => "Not in the [documentation]",
    };
    format!(" {who}({link}).")
}

fn rows(text: &mut String, case: &str, differences: &Differences) {
    for (at, [ours, theirs]) in differences.iter().take(ROWS) {
        let at = at.trim_start_matches('/');
        let _ = writeln!(text, "| {case} | {at} | {} | {} |", shown(ours), shown(theirs));
    }
    if let more @ 1.. = differences.len().saturating_sub(ROWS) {
        let _ = writeln!(text, "| {case} | and {more} more | | |");
    }
}

/// A value in a cell of a table.
fn shown(value: &serde_json::Value) -> String {
    let text = value.to_string();
    let cut: String = text.chars().take(SHOWN).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("`{}{dots}`", cut.replace('|', "\\|").replace('`', "'"))
}
