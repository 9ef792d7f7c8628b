//! The list of known differences.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::answers::{Differences, Outcome};

/// Cases that differ for one reason.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Why, for users.
    pub why: String,
    /// Whom Cloudflare's documentation agrees with.
    #[serde(default)]
    pub agrees: Agrees,
    /// Where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documentation: Option<String>,
    /// What differs, by the case.
    pub cases: BTreeMap<String, Differences>,
}

/// Whom Cloudflare's documentation agrees with.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Agrees {
    Skep,
    Miniflare,
    /// What Skep has more is described as its own.
    Both,
    /// It does not say.
    #[default]
    Unsaid,
}

/// Takes over how the listed cases differ now, and lists the others without a reason.
pub fn update(listed: &mut Vec<Listed>, outcomes: &[Outcome]) {
    let mut unlisted = BTreeMap::new();
    let found: BTreeMap<String, Differences> =
        outcomes.iter().map(|outcome| (outcome.case.to_string(), outcome.differences())).collect();
    for (case, differences) in found.iter().filter(|(_, differences)| !differences.is_empty()) {
        match listed.iter_mut().find_map(|entry| entry.cases.get_mut(case)) {
            Some(known) => known.clone_from(differences),
            None => drop(unlisted.insert(case.clone(), differences.clone())),
        }
    }
    for entry in listed.iter_mut() {
        entry.cases.retain(|case, _| found.get(case).is_some_and(|differences| !differences.is_empty()));
    }
    listed.retain(|entry| !entry.cases.is_empty());
    if !unlisted.is_empty() {
        listed.push(Listed {
            why: String::new(),
            agrees: Agrees::Unsaid,
            documentation: None,
            cases: unlisted,
        });
    }
}

/// What is not as the list says.
pub fn complaints(listed: &[Listed], outcomes: &[Outcome]) -> Vec<String> {
    let mut known: BTreeMap<&String, &Differences> = BTreeMap::new();
    let mut complaints = Vec::new();
    for entry in listed {
        if entry.why.trim().is_empty() {
            complaints.push(format!("no reason is given for {:?}", entry.cases.keys().collect::<Vec<_>>()));
        }
        if entry.agrees != Agrees::Unsaid && entry.documentation.is_none() {
            complaints.push(format!("where is it documented? {}", entry.why));
        }
        for (case, differences) in &entry.cases {
            if known.insert(case, differences).is_some() {
                complaints.push(format!("{case} is listed twice"));
            }
        }
    }
    let none = Differences::new();
    for outcome in outcomes {
        let found = outcome.differences();
        let listed = known.remove(&outcome.case.to_string()).unwrap_or(&none);
        complaints.extend(complaint(&outcome.case.to_string(), &found, listed));
    }
    complaints.extend(known.keys().map(|case| format!("{case} is listed and does not exist")));
    complaints
}

fn complaint(case: &str, found: &Differences, listed: &Differences) -> Option<String> {
    let lines = |from: &Differences, what: &str, other: &Differences| -> String {
        let of = |(at, [ours, theirs]): (&String, &[serde_json::Value; 2])| {
            format!("\n  {what} at {at:?}: Skep {ours}, Miniflare {theirs}")
        };
        from.iter().filter(|(at, values)| other.get(*at) != Some(values)).map(of).collect()
    };
    let lines = lines(found, "differs", listed) + &lines(listed, "listed, and no longer so,", found);
    (!lines.is_empty()).then(|| format!("{case}:{lines}"))
}
