//! Classes that change hands between two scripts by `exports`: the one that gets a class says so first
//! (`expecting-transfer`), and the one that has it gives it away (`transferred`) in a later deploy.
//! <https://developers.cloudflare.com/durable-objects/reference/durable-objects-migrations/#transfer-a-durable-object-class-between-workers>
//!
//! What Cloudflare answers in each case is known by the tags of its OpenAPI description and its error reference; the
//! sentences are ours. Where neither says it, this was assumed: a target that is deployed again while it waits is told
//! again that it waits; a class that two others wait for goes to the first.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::exports::{Verdict, remark, stale, storage};
use crate::{
    Catalog, CatalogError, Change, Declared, Namespace, Remark, Standing, name_within, namespaces_of,
    split_name,
};

/// What is known of classes between a script and others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// Classes that the script waits for, each with the script that it comes from.
    pub awaited: BTreeMap<String, String>,
    /// Classes of the script that others wait for, each with that script.
    pub wanted: BTreeMap<String, String>,
    /// Classes of the script that other scripts had before, each with these scripts.
    pub received: BTreeMap<String, BTreeSet<String>>,
    /// The scripts that its declaration names, by the names that it calls them by.
    pub partners: BTreeMap<String, Partner>,
}

/// A script that a declaration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partner {
    /// There is none of that name.
    Missing,
    /// There is one, but the other script is in a dispatch namespace and this one is not, or the other way round.
    Elsewhere {
        /// Whether it is the partner that is in a dispatch namespace.
        dispatched: bool,
    },
    /// It is there.
    There {
        /// Its name in the catalog.
        name: String,
        /// Its namespaces, by class.
        namespaces: BTreeMap<String, Namespace>,
        /// Its classes that others wait for, each with that script.
        wanted: BTreeMap<String, String>,
    },
}

impl Catalog {
    /// What is known of the classes that `declared` of `script` names.
    pub fn transfers(
        &self,
        script: &str,
        declared: &BTreeMap<String, Declared>,
    ) -> Result<Transfers, CatalogError> {
        self.db.read(|c| {
            let named = declared.values().filter_map(|declaration| match declaration {
                Declared::Expecting { from: name, .. } | Declared::Transferred { to: name } => Some(name),
                _ => None,
            });
            let named: BTreeSet<&String> = named.collect();
            let partners = named
                .into_iter()
                .map(|name| Ok::<_, CatalogError>((name.clone(), partner(c, script, name)?)));
            let partners = partners.collect::<Result<_, _>>()?;
            Ok(Transfers {
                awaited: pairs(c, "SELECT class, source FROM awaited WHERE script = ?", script)?
                    .into_iter()
                    .collect(),
                wanted: wanted(c, script)?,
                received: received(c, script)?,
                partners,
            })
        })
    }

    /// Where the objects are of a class that `script` waits for: which script has it still, and the namespace.
    pub fn awaited_home(
        &self,
        script: &str,
        class: &str,
    ) -> Result<Option<(String, String, Namespace)>, CatalogError> {
        self.db.read(|c| {
            let sql = "SELECT n.script, n.class, n.unique_key, n.sqlite FROM awaited a
                JOIN namespace n ON n.script = a.source AND n.class = a.class WHERE a.script = ?1 AND a.class = ?2";
            let home = c.prepare_cached(sql)?.query_row([script, class], |row| {
                let namespace = Namespace { unique_key: row.get(2)?, sqlite: row.get(3)? };
                Ok((row.get(0)?, row.get(1)?, namespace))
            });
            Ok(home.optional()?)
        })
    }

    /// The classes that `script` waits for.
    pub fn awaited(&self, script: &str) -> Result<Vec<String>, CatalogError> {
        self.db.read(|c| {
            let rows = pairs(c, "SELECT class, source FROM awaited WHERE script = ?", script)?;
            Ok(rows.into_iter().map(|(class, _)| class).collect())
        })
    }
}

fn pairs(c: &Connection, sql: &str, script: &str) -> Result<Vec<(String, String)>, CatalogError> {
    let mut query = c.prepare_cached(sql)?;
    let rows = query.query_map([script], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn wanted(c: &Connection, script: &str) -> Result<BTreeMap<String, String>, CatalogError> {
    Ok(pairs(c, "SELECT class, script FROM awaited WHERE source = ?", script)?.into_iter().collect())
}

fn received(c: &Connection, script: &str) -> Result<BTreeMap<String, BTreeSet<String>>, CatalogError> {
    let sql = "SELECT n.class, m.script FROM namespace n JOIN moved m USING(unique_key) WHERE n.script = ?";
    let mut received: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (class, before) in pairs(c, sql, script)? {
        received.entry(class).or_default().insert(before);
    }
    Ok(received)
}

fn partner(c: &Connection, script: &str, label: &str) -> Result<Partner, CatalogError> {
    let within = split_name(script).0;
    let name = within.map_or_else(|| label.to_owned(), |namespace| name_within(namespace, label));
    let exists = |sql: &str, name: &str| -> Result<bool, CatalogError> {
        Ok(c.prepare_cached(sql)?.query_row([name], |row| row.get(0))?)
    };
    // With `skep dev` scripts are known by their classes alone.
    let there = "SELECT EXISTS(SELECT 1 FROM script WHERE name = ?1) OR EXISTS(SELECT 1 FROM namespace WHERE script = ?1)
        OR EXISTS(SELECT 1 FROM awaited WHERE script = ?1)";
    if exists(there, &name)? {
        let (namespaces, wanted) = (namespaces_of(c, &name)?, wanted(c, &name)?);
        return Ok(Partner::There { name, namespaces, wanted });
    }
    let elsewhere = match within {
        Some(_) => exists("SELECT EXISTS(SELECT 1 FROM script WHERE name = ?)", label)?,
        None => exists(
            "SELECT EXISTS(SELECT 1 FROM script WHERE substr(name, instr(name, ':') + 1) = ?1 AND name != ?1)",
            label,
        )?,
    };
    Ok(if elsewhere { Partner::Elsewhere { dispatched: within.is_none() } } else { Partner::Missing })
}

/// Which way a class goes, with Cloudflare's tags for where it cannot.
struct Way {
    /// Before the name of the partner.
    goes: &'static str,
    missing: &'static str,
    /// What to do if the partner is missing.
    advice: &'static str,
    partner_dispatched: &'static str,
    own_dispatched: &'static str,
}

const HITHER: Way = Way {
    goes: "is expected from",
    missing: "phase_one_transfer_source_missing",
    advice: "Correct `transfer_from`.",
    partner_dispatched: "phase_one_transfer_source_in_dispatch_namespace",
    own_dispatched: "phase_one_transfer_target_in_dispatch_namespace",
};

const THITHER: Way = Way {
    goes: "is transferred to",
    missing: "transferred_target_missing",
    advice: "Correct `transferred_to`, or deploy that Worker first.",
    partner_dispatched: "transferred_target_in_dispatch_namespace",
    own_dispatched: "transferred_source_in_dispatch_namespace",
};

/// A partner that is there.
struct There<'a> {
    name: &'a String,
    namespaces: &'a BTreeMap<String, Namespace>,
    wanted: &'a BTreeMap<String, String>,
}

impl Way {
    /// The partner that an entry calls `label`, if a class can go this way.
    fn partner<'a>(&self, partner: &'a Partner, class: &str, label: &str) -> Result<There<'a>, Remark> {
        match partner {
            Partner::Missing => {
                let message =
                    format!("The class '{class}' {} the Worker '{label}', which does not exist.", self.goes);
                Err(remark(class, self.missing, message).suggest(self.advice.into()))
            }
            Partner::Elsewhere { dispatched } => {
                let scenario = if *dispatched { self.partner_dispatched } else { self.own_dispatched };
                let message = format!(
                    "The class '{class}' cannot be transferred between a Worker in a dispatch namespace and one outside of it."
                );
                Err(remark(class, scenario, message)
                    .suggest("Both Workers have to be in the same dispatch namespace, or in none.".into()))
            }
            Partner::There { name, namespaces, wanted } => Ok(There { name, namespaces, wanted }),
        }
    }
}

/// What an entry comes to that expects a class from another script.
pub(crate) fn expecting(
    standing: Standing<'_>,
    class: &str,
    sqlite: bool,
    from: &str,
) -> Result<Verdict, Remark> {
    let transfers = standing.transfers;
    let partner = transfers.partners.get(from).unwrap_or(&Partner::Missing);
    if let Some(own) = standing.provisioned.get(class) {
        return received_before(transfers, partner, own, class, sqlite, from);
    }
    if let Some(other) = transfers.awaited.get(class).filter(|source| *source != full_name(partner, from)) {
        let message = format!(
            "The class '{class}' is expected from the Worker '{from}', but a transfer from '{}' is pending.",
            split_name(other).1
        );
        return Err(remark(class, "phase_one_transfer_duplicate", message)
            .suggest(format!("Cancel it first: deploy once without the entry of '{class}'.")));
    }
    let There { name, namespaces, wanted } = HITHER.partner(partner, class, from)?;
    if name == standing.script {
        return Err(remark(
            class,
            "invalid_export",
            format!("The class '{class}' is expected from its own Worker."),
        )
        .suggest("Name another Worker in `transfer_from`.".into()));
    }
    let Some(namespace) = namespaces.get(class) else {
        let message = format!(
            "The class '{class}' is expected from the Worker '{from}', which has no Durable Object namespace for it."
        );
        return Err(remark(class, "phase_one_transfer_source_namespace_missing", message)
            .suggest(format!("Deploy '{from}' with the class first.")));
    };
    if let Some(other) = wanted.get(class).filter(|other| *other != standing.script) {
        let message = format!(
            "The class '{class}' of the Worker '{from}' is already expected by '{}'.",
            split_name(other).1
        );
        return Err(remark(class, "phase_one_transfer_duplicate", message)
            .suggest(format!("Deploy '{}' without its entry first.", split_name(other).1)));
    }
    same_storage(namespace, class, sqlite)?;
    let change = Change::Await { class: class.to_owned(), from_script: name.clone() };
    Ok(Verdict { change: Some(change), ..Verdict::default() })
}

/// The class is there already: it came from the other script, or it did not.
fn received_before(
    transfers: &Transfers,
    partner: &Partner,
    own: &Namespace,
    class: &str,
    sqlite: bool,
    from: &str,
) -> Result<Verdict, Remark> {
    let source = full_name(partner, from);
    match transfers.received.get(class) {
        Some(before) if before.contains(source) => {
            same_storage(own, class, sqlite)?;
            let message =
                format!("The class '{class}' has come from '{from}': its entry can be a live one now.");
            let note = Some(remark(class, "transfer_receive_already_applied", message));
            Ok(Verdict { note, ..Verdict::default() })
        }
        Some(_) => {
            let message = format!("The class '{class}' has come from another Worker than '{from}'.");
            Err(remark(class, "phase_one_transfer_after_commit_mismatch", message).suggest(
                "Replace the entry with a live one: a transfer cannot be redirected once it is done.".into(),
            ))
        }
        None => {
            let message = format!(
                "The class '{class}' is expected from '{from}', but has a Durable Object namespace already."
            );
            Err(remark(class, "phase_one_transfer_target_class_provisioned", message)
                .suggest("Replace the entry with a live one, or delete the class first.".into()))
        }
    }
}

fn full_name<'a>(partner: &'a Partner, label: &'a str) -> &'a str {
    match partner {
        Partner::There { name, .. } => name,
        _ => label,
    }
}

fn same_storage(namespace: &Namespace, class: &str, sqlite: bool) -> Result<(), Remark> {
    if namespace.sqlite == sqlite {
        return Ok(());
    }
    let (said, has) = (storage(sqlite), storage(namespace.sqlite));
    let message =
        format!("The class '{class}' is declared with storage \"{said}\", but its namespace has \"{has}\".");
    Err(remark(class, "storage_type_mismatch", message)
        .suggest(format!("Declare it with \"storage\": \"{has}\". Storage cannot be changed.")))
}

/// What an entry comes to that gives a class to another script.
pub(crate) fn transferred(standing: Standing<'_>, class: &str, to: &str) -> Result<Verdict, Remark> {
    let users = standing.users.get(class).map(Vec::as_slice).unwrap_or_default();
    if !standing.provisioned.contains_key(class) {
        return Ok(stale(class, users));
    }
    let partner = standing.transfers.partners.get(to).unwrap_or(&Partner::Missing);
    let There { name, .. } = THITHER.partner(partner, class, to)?;
    match standing.transfers.wanted.get(class) {
        None => {
            let message = format!("The Worker '{to}' does not expect the class '{class}' from this one.");
            return Err(remark(class, "transferred_pending_not_found", message).suggest(format!(
                "Deploy '{to}' first, with an entry of '{class}' in the state \"expecting-transfer\" that names this Worker."
            )));
        }
        Some(expects) if expects != name => {
            let expects = split_name(expects).1;
            let message =
                format!("The class '{class}' is transferred to '{to}', but '{expects}' expects it.");
            return Err(remark(class, "transferred_target_mismatch", message).suggest(format!(
                "Set `transferred_to` to \"{expects}\", or deploy '{expects}' without its entry first."
            )));
        }
        Some(_) => {}
    }
    let note = standing.in_code.is_some_and(|code| code.contains(class)).then(|| {
        let message =
            format!("The class '{class}' was transferred to '{to}', and the code still exports it.");
        remark(class, "tombstone_class_still_in_code", message).users(users)
    });
    let change = Change::HandOver { class: class.to_owned(), to_script: name.clone() };
    Ok(Verdict { change: Some(change), note, removable: false })
}

/// Cloudflare's code for exports that cannot be reconciled.
const RECONCILIATION: u32 = 100_402;

fn refused(text: String) -> CatalogError {
    CatalogError::Migration { code: RECONCILIATION, text }
}

/// Notes that `script` waits for a class. What was judged before may have changed since.
pub(crate) fn wait_for(
    t: &Transaction<'_>,
    script: &str,
    class: &str,
    source: &str,
) -> Result<(), CatalogError> {
    let sql = "SELECT script FROM awaited WHERE source = ?1 AND class = ?2 AND script != ?3";
    let other: Option<String> = t.query_row(sql, [source, class, script], |row| row.get(0)).optional()?;
    if let Some(other) = other {
        return Err(refused(format!("The class '{class}' of '{source}' is already expected by '{other}'.")));
    }
    if !namespaces_of(t, source)?.contains_key(class) {
        return Err(refused(format!("'{source}' has no Durable Object namespace for the class '{class}'.")));
    }
    t.execute("INSERT OR REPLACE INTO awaited VALUES (?, ?, ?)", params![script, class, source])?;
    Ok(())
}

/// `script` does not wait for a class any more.
pub(crate) fn forgo(t: &Transaction<'_>, script: &str, class: &str) -> Result<(), CatalogError> {
    t.execute("DELETE FROM awaited WHERE script = ? AND class = ?", [script, class])?;
    Ok(())
}

/// Ends the wait of `to` for a class of `script`, which it must be waiting for.
pub(crate) fn end_wait(t: &Transaction<'_>, script: &str, class: &str, to: &str) -> Result<(), CatalogError> {
    let sql = "DELETE FROM awaited WHERE script = ? AND class = ? AND source = ?";
    match t.execute(sql, [to, class, script])? {
        0 => Err(refused(format!("'{to}' does not expect the class '{class}' of '{script}'."))),
        _ => Ok(()),
    }
}
