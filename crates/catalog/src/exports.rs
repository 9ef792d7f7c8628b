//! Declared exports: what a script says of its Durable Object classes, brought in line with the namespaces that
//! it has. Pure. <https://developers.cloudflare.com/durable-objects/reference/durable-objects-migrations/>

use std::collections::{BTreeMap, BTreeSet};

use crate::transfers::{Transfers, expecting, transferred};
use crate::{Change, Namespace};

/// What a script declares of one of its classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declared {
    /// The class is there, and its namespace is made if it is not. `created`, the default.
    Live {
        /// Whether objects have the SQL API. A namespace without it is never made, only kept.
        sqlite: bool,
    },
    /// The namespace and all its objects go. `deleted`.
    Deleted,
    /// The namespace belongs to another class of the script. `renamed`.
    Renamed {
        /// That class, which is declared live.
        to: String,
    },
    /// The class is there, and its namespace comes from another script. `expecting-transfer`.
    Expecting {
        /// Whether objects have the SQL API.
        sqlite: bool,
        /// That script, as the declaration calls it.
        from: String,
    },
    /// The namespace is given to another script. `transferred`.
    Transferred {
        /// That script, as the declaration calls it.
        to: String,
    },
}

impl Declared {
    /// Whether the class is one that the script has, or is to get.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. } | Self::Expecting { .. })
    }
}

/// What is there when exports are declared.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The script, by its name in the catalog.
    pub script: &'a str,
    /// The namespaces of the script, by class.
    pub provisioned: &'a BTreeMap<String, Namespace>,
    /// The classes that the code exports; `None` where that is not known, and not looked at.
    pub in_code: Option<&'a BTreeSet<String>>,
    /// Other scripts that have bindings to a class.
    pub users: &'a BTreeMap<String, Vec<String>>,
    /// Classes on their way from and to other scripts.
    pub transfers: &'a Transfers,
    /// Whether namespaces may be deleted: not by a version that was deployed before, whose deletions are done.
    pub may_delete: bool,
}

/// What follows from a declaration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// To be applied in this order.
    pub changes: Vec<Change>,
    /// What is worth saying, and stops nothing.
    pub notes: Vec<Remark>,
    /// Classes whose declaration has nothing left to do and nobody who needs it.
    pub removable: Vec<String>,
}

/// What is said of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The class.
    pub class: String,
    /// Cloudflare's tag of what is the case.
    pub scenario: &'static str,
    /// For people.
    pub message: String,
    /// What to do about it.
    pub suggestion: Option<String>,
    /// Other scripts that it concerns.
    pub users: Vec<String>,
}

pub(crate) fn remark(class: &str, scenario: &'static str, message: String) -> Remark {
    Remark { class: class.to_owned(), scenario, message, suggestion: None, users: Vec::new() }
}

impl Remark {
    pub(crate) fn suggest(mut self, suggestion: String) -> Self {
        self.suggestion = Some(suggestion);
        self
    }

    pub(crate) fn users(mut self, users: &[String]) -> Self {
        self.users = users.to_vec();
        self
    }
}

/// The changes that make the namespaces what `declared` says. Otherwise all that is wrong with it, by class; each
/// tag is Cloudflare's (`exports_reconciliation_scenario` of its OpenAPI description).
pub fn reconcile(
    declared: &BTreeMap<String, Declared>,
    standing: Standing<'_>,
) -> Result<Reconciled, Vec<Remark>> {
    let mut outcome = Reconciled::default();
    let mut wrong = Vec::new();
    for (class, declaration) in declared {
        let verdict = match declaration {
            Declared::Live { sqlite } => live(declared, standing, class, *sqlite),
            Declared::Deleted => deleted(standing, class),
            Declared::Renamed { to } => renamed(declared, standing, class, to),
            Declared::Expecting { sqlite, from } => {
                is_in_code(standing, class).and_then(|()| expecting(standing, class, *sqlite, from))
            }
            Declared::Transferred { to } => transferred(standing, class, to),
        };
        match verdict {
            Ok(verdict) => {
                outcome.changes.extend(verdict.change);
                if verdict.removable {
                    outcome.removable.push(class.clone());
                }
                outcome.notes.extend(verdict.note);
            }
            Err(remark) => wrong.push(remark),
        }
    }
    for class in standing.provisioned.keys().filter(|class| !declared.contains_key(*class)) {
        let message =
            format!("The class '{class}' has a Durable Object namespace, but `exports` does not name it.");
        wrong.push(remark(class, "provisioned_class_missing_from_config", message).suggest(format!(
            "Declare '{class}' in `exports`, or give it the state \"deleted\" to remove it with all its objects."
        )));
    }
    if !wrong.is_empty() {
        wrong.sort_by(|a, b| a.class.cmp(&b.class));
        return Err(wrong);
    }
    // A wait ends with the entry that began it.
    let is_awaited = |class: &&String| !matches!(declared.get(*class), Some(Declared::Expecting { .. }));
    let forgone = standing.transfers.awaited.keys().filter(is_awaited);
    outcome.changes.extend(forgone.map(|class| Change::Forgo { class: class.clone() }));
    // A name is freed before it is taken.
    outcome.changes.sort_by_key(|change| matches!(change, Change::New { .. }));
    Ok(outcome)
}

/// What one declaration comes to.
#[derive(Default)]
pub(crate) struct Verdict {
    pub change: Option<Change>,
    pub note: Option<Remark>,
    pub removable: bool,
}

fn is_in_code(standing: Standing<'_>, class: &str) -> Result<(), Remark> {
    if standing.in_code.is_none_or(|code| code.contains(class)) {
        return Ok(());
    }
    let message = format!("The class '{class}' is declared in `exports`, but the code does not export it.");
    Err(remark(class, "config_export_not_in_code", message)
        .suggest(format!("Export '{class}' from the entrypoint, or remove it from `exports`.")))
}

/// As `storage` has it.
pub(crate) fn storage(sqlite: bool) -> &'static str {
    if sqlite { "sqlite" } else { "legacy-kv" }
}

fn live(
    declared: &BTreeMap<String, Declared>,
    standing: Standing<'_>,
    class: &str,
    sqlite: bool,
) -> Result<Verdict, Remark> {
    is_in_code(standing, class)?;
    let source = |(from, declaration): (&String, &Declared)| {
        let comes = matches!(declaration, Declared::Renamed { to } if to == class);
        comes.then(|| standing.provisioned.get(from)).flatten()
    };
    let becomes = standing.provisioned.get(class).or_else(|| declared.iter().find_map(source));
    match becomes {
        Some(namespace) if namespace.sqlite != sqlite => {
            let has = storage(namespace.sqlite);
            let message = format!(
                "The class '{class}' is declared with storage \"{}\", but its namespace has \"{has}\".",
                storage(sqlite)
            );
            Err(remark(class, "storage_type_mismatch", message)
                .suggest(format!("Declare it with \"storage\": \"{has}\". Storage cannot be changed.")))
        }
        Some(_) => Ok(Verdict::default()),
        None if !sqlite => {
            let message = format!(
                "The class '{class}' has no namespace yet, and none with storage \"legacy-kv\" is made."
            );
            Err(remark(class, "invalid_export", message)
                .suggest("Declare it with \"storage\": \"sqlite\".".into()))
        }
        None => {
            let change = Change::New { class: class.to_owned(), sqlite: true };
            Ok(Verdict { change: Some(change), ..Verdict::default() })
        }
    }
}

fn deleted(standing: Standing<'_>, class: &str) -> Result<Verdict, Remark> {
    let users = standing.users.get(class).map(Vec::as_slice).unwrap_or_default();
    if !standing.provisioned.contains_key(class) {
        return Ok(stale(class, users));
    }
    if standing.in_code.is_some_and(|code| code.contains(class)) {
        let message = format!("The class '{class}' is declared deleted, but the code still exports it.");
        return Err(remark(class, "tombstone_delete_class_still_in_code", message)
            .suggest(format!("Remove '{class}' from the code: deleting its objects cannot be undone.")));
    }
    if !users.is_empty() {
        let message =
            format!("The class '{class}' is declared deleted, but other Workers have bindings to it.");
        return Err(remark(class, "tombstone_delete_blocked_by_external_bindings", message)
            .suggest("Deploy these Workers without the bindings first.".into())
            .users(users));
    }
    if !standing.may_delete {
        let message = format!(
            "The class '{class}' was deleted when this version was deployed before, and has been made again since."
        );
        return Err(remark(class, "orphaned_provisioned_namespace", message)
            .suggest("Upload the version again if its objects are to go once more.".into()));
    }
    Ok(Verdict { change: Some(Change::Delete { class: class.to_owned() }), ..Verdict::default() })
}

fn renamed(
    declared: &BTreeMap<String, Declared>,
    standing: Standing<'_>,
    class: &str,
    to: &str,
) -> Result<Verdict, Remark> {
    if class == to || !matches!(declared.get(to), Some(Declared::Live { .. })) {
        let message = format!(
            "The class '{class}' is renamed to '{to}', which is not another class that `exports` declares."
        );
        return Err(remark(class, "config_references_nonexistent_class", message)
            .suggest(format!("Add '{to}' to `exports` with its storage.")));
    }
    let twin = declared.iter().find(|(other, d)| {
        other.as_str() < class
            && matches!(d, Declared::Renamed { to: its } if its == to)
            && standing.provisioned.contains_key(*other)
    });
    match (standing.provisioned.contains_key(class), standing.provisioned.contains_key(to) || twin.is_some())
    {
        (false, _) => Ok(stale(class, standing.users.get(class).map(Vec::as_slice).unwrap_or_default())),
        (true, true) => {
            let message =
                format!("The class '{class}' cannot be renamed to '{to}', which has a namespace of its own.");
            Err(remark(class, "tombstone_renamed_to_occupied", message)
                .suggest(format!("Choose another name, or delete '{to}' first.")))
        }
        (true, false) => {
            let in_code = standing.in_code.is_some_and(|code| code.contains(class));
            let note = in_code.then(|| {
                let message =
                    format!("The class '{class}' was renamed to '{to}', and the code still exports both.");
                remark(class, "tombstone_class_still_in_code", message)
            });
            let change = Change::Rename { from: class.to_owned(), to: to.to_owned() };
            Ok(Verdict { change: Some(change), note, removable: false })
        }
    }
}

/// A declaration that has nothing left to do.
pub(crate) fn stale(class: &str, users: &[String]) -> Verdict {
    let message = match users.is_empty() {
        true => format!("There is no namespace of the class '{class}' any more: its entry can be removed."),
        false => format!(
            "There is no namespace of the class '{class}' any more, but other Workers still have bindings to it."
        ),
    };
    let note = remark(class, "stale_tombstone", message).users(users);
    Verdict { change: None, note: Some(note), removable: users.is_empty() }
}

#[cfg(test)]
#[path = "exports_tests.rs"]
mod tests;
