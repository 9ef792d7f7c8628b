//! The Durable Object namespaces of a project on this machine: what its migrations and its `exports` make of them.

use std::collections::{BTreeMap, BTreeSet};

use skep_catalog::{Change, Declared, Migration, Standing};
use skep_config::{ObjectExport, WorkerConfig};

use crate::stores::Stores;
use crate::wiring::is_own;

/// Applies the Durable Object migrations of `config` that are not applied yet. Classes that are bound but in no
/// migration are made too, as wrangler does locally.
pub async fn migrate(config: &WorkerConfig, stores: &Stores) -> Result<(), String> {
    let catalog = &stores.catalog;
    let applied = catalog.migration_tag(&config.name).map_err(|e| e.to_string())?;
    let steps = skep_config::steps_after(&config.migrations, applied.as_deref()).map_err(|e| {
        format!(
            "{e}\nThe state in {} is from another set of migrations; --persist-to chooses another folder",
            stores.dir.display()
        )
    })?;
    let steps = steps.into_iter().map(|(tag, changes)| Migration {
        tag: Some(tag),
        changes: changes.into_iter().map(change).collect(),
    });
    catalog.migrate(&config.name, steps.collect()).await.map_err(|e| e.to_string())?;
    follow_exports(config, stores).await?;
    let known = catalog.namespaces(&config.name).map_err(|e| e.to_string())?;
    let own = config.durable_objects.iter().filter(|b| is_own(config, b.script_name.as_ref()));
    let mut missing = BTreeSet::new();
    for class in own.map(|b| &b.class_name).filter(|class| !known.contains_key(*class)) {
        // One that was moved to another worker, or is still to come from one, is found there.
        let there = catalog.home_of(&config.name, class).map_err(|e| e.to_string())?;
        let still = catalog.awaited_home(&config.name, class).map_err(|e| e.to_string())?;
        if there.is_none() && still.is_none() {
            missing.insert(class);
        }
    }
    let changes =
        missing.into_iter().map(|class| Change::New { class: class.clone(), sqlite: false }).collect();
    catalog.migrate(&config.name, vec![Migration { tag: None, changes }]).await.map_err(|e| e.to_string())?;
    stores.bury_doomed_objects().await
}

/// Makes the namespaces what `exports` declares. A class that it does not name keeps its objects: on one's own
/// machine what another branch of the project has made is not lost.
pub async fn follow_exports(config: &WorkerConfig, stores: &Stores) -> Result<(), String> {
    if config.exports.is_empty() {
        return Ok(());
    }
    let catalog = &stores.catalog;
    let mut provisioned = catalog.namespaces(&config.name).map_err(|e| e.to_string())?;
    let mut declared: BTreeMap<String, Declared> =
        config.exports.iter().map(|(class, export)| (class.clone(), declared(export))).collect();
    let transfers = catalog.transfers(&config.name, &declared).map_err(|e| e.to_string())?;
    declared.retain(|class, declaration| match declaration {
        Declared::Transferred { to } => transfers.wanted.get(class) == Some(to),
        _ => true,
    });
    for (class, declaration) in &mut declared {
        if let Declared::Expecting { sqlite, from } = declaration {
            // On one's own machine the other worker may never have been: then the class begins with nothing.
            let theirs = catalog.namespaces(from).map_err(|e| e.to_string())?;
            if provisioned.contains_key(class) || !theirs.contains_key(class) {
                *declaration = Declared::Live { sqlite: *sqlite };
            }
        }
    }
    provisioned.retain(|class, _| declared.contains_key(class));
    let standing = Standing {
        script: &config.name,
        provisioned: &provisioned,
        in_code: None,
        users: &BTreeMap::new(),
        transfers: &transfers,
        may_delete: true,
    };
    let reconciled = skep_catalog::reconcile(&declared, standing).map_err(|wrong| {
        let lines = wrong.iter().map(|remark| match &remark.suggestion {
            Some(suggestion) => format!("{}\n  {suggestion}", remark.message),
            None => remark.message.clone(),
        });
        let lines: Vec<String> = lines.collect();
        lines.join("\n")
    })?;
    let migration = Migration { tag: None, changes: reconciled.changes };
    catalog.migrate(&config.name, vec![migration]).await.map_err(|e| e.to_string())
}

fn declared(export: &ObjectExport) -> Declared {
    match export {
        ObjectExport::Live { sqlite } => Declared::Live { sqlite: *sqlite },
        ObjectExport::Deleted => Declared::Deleted,
        ObjectExport::Renamed { to } => Declared::Renamed { to: to.clone() },
        ObjectExport::Expecting { sqlite, from } => {
            Declared::Expecting { sqlite: *sqlite, from: from.clone() }
        }
        ObjectExport::Transferred { to } => Declared::Transferred { to: to.clone() },
    }
}

fn change(change: skep_config::Change) -> Change {
    match change {
        skep_config::Change::New { class, sqlite } => Change::New { class, sqlite },
        skep_config::Change::Rename { from, to } => Change::Rename { from, to },
        skep_config::Change::Delete { class } => Change::Delete { class },
        skep_config::Change::Transfer { from, from_script, to } => Change::Transfer { from, from_script, to },
    }
}
