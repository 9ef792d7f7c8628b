//! `exports`: what a worker declares of its classes.
//! <https://developers.cloudflare.com/durable-objects/reference/durable-objects-migrations/>
//! <https://developers.cloudflare.com/changelog/post/2026-09-24-workflow-exports/>

use std::collections::BTreeMap;

use crate::model::{ObjectExport, WorkflowExport};
use crate::read::Table;
use crate::workflow;

/// The Durable Object classes and the Workflows among them. Where the server reads them itself nothing is judged
/// here. `own` is the worker's name.
pub(crate) fn read(root: &Table<'_>, own: &str) -> (BTreeMap<String, ObjectExport>, Vec<WorkflowExport>) {
    let (mut objects, mut workflows) = (BTreeMap::new(), Vec::new());
    let Some(exports) = root.table("exports").filter(|_| !root.deploying()) else {
        return (objects, workflows);
    };
    for entry in exports.node().entries() {
        let Some(table) = exports.table(&entry.key) else { continue };
        match export(&table, &entry.key) {
            Some(Export::Object(object)) => drop(objects.insert(entry.key.clone(), object)),
            Some(Export::Workflow(own)) => {
                if let Some(twin) = workflows.iter().find(|other: &&WorkflowExport| other.name == own.name) {
                    let message = format!(
                        "\"exports.{}\" and \"exports.{}\" both declare the Workflow \"{}\".",
                        twin.class_name, own.class_name, own.name
                    );
                    table.error("name", message, "Workflow names must be unique.");
                }
                workflows.push(own);
            }
            None => {}
        }
    }
    for binding in root.tables("workflows") {
        bound(&binding, own, &workflows);
    }
    (objects, workflows)
}

/// A binding to a Workflow that `exports` declares says the same of it, and leaves its settings to the export. The
/// rules are wrangler's.
fn bound(binding: &Table<'_>, own: &str, workflows: &[WorkflowExport]) {
    let name = binding.string("name").unwrap_or_default();
    let Some(export) = workflows.iter().find(|export| export.name == name) else { return };
    let class = &export.class_name;
    if let Some(script) = binding.string("script_name").filter(|script| script != own) {
        let message = format!(
            "the Workflow \"{name}\" is bound of the Worker \"{script}\", but \"exports.{class}\" declares it in this one"
        );
        binding.error("script_name", message, "remove it, or give the export a different name");
    } else if binding.string("class_name").is_some_and(|bound| bound != *class) {
        let message = format!("\"exports.{class}\" declares the Workflow \"{name}\" with a different class");
        binding.error("class_name", message, format!("expected \"{class}\""));
    }
    for key in workflow::OWNERS.iter().chain(&["jurisdiction"]).filter(|key| binding.get(key).is_some()) {
        let message =
            format!("\"{}\" configures a Workflow that \"exports.{class}\" declares", binding.name(key));
        binding.error(key, message, format!("set \"{key}\" on the export instead"));
    }
}

enum Export {
    Object(ObjectExport),
    Workflow(WorkflowExport),
}

fn export(table: &Table<'_>, class: &str) -> Option<Export> {
    match table.required("type").as_str() {
        "durable-object" => object(table).map(Export::Object),
        "worker" => {
            if let Some(cache) = table.get("cache") {
                table.note(
                    cache,
                    format!("\"{}\" has no effect", table.name("cache")),
                    "the Cache API always works; there is no other cache",
                );
            }
            None
        }
        "workflow" => Some(Export::Workflow(WorkflowExport {
            class_name: class.to_owned(),
            name: workflow::name(table),
            settings: workflow::settings(table),
        })),
        "" => None,
        other => {
            let message = format!("\"{}\" is \"{other}\"", table.name("type"));
            refuse(table, "type", message, "expected \"durable-object\", \"workflow\" or \"worker\"")
        }
    }
}

fn object(table: &Table<'_>) -> Option<ObjectExport> {
    match table.string("state").as_deref().unwrap_or("created") {
        "created" => storage(table).map(|sqlite| ObjectExport::Live { sqlite }),
        "deleted" => Some(ObjectExport::Deleted),
        "renamed" => Some(ObjectExport::Renamed { to: table.required("renamed_to") }),
        "transferred" => Some(ObjectExport::Transferred { to: table.required("transferred_to") }),
        "expecting-transfer" => {
            let from = table.required("transfer_from");
            storage(table).map(|sqlite| ObjectExport::Expecting { sqlite, from })
        }
        other => {
            let message = format!("\"{}\" is \"{other}\"", table.name("state"));
            let states = "\"created\", \"deleted\", \"renamed\", \"transferred\" or \"expecting-transfer\"";
            refuse(table, "state", message, &format!("expected {states}"))
        }
    }
}

/// Whether objects have the SQL API.
fn storage(table: &Table<'_>) -> Option<bool> {
    match table.required("storage").as_str() {
        "sqlite" => Some(true),
        "legacy-kv" => Some(false),
        "" => None,
        other => {
            let message = format!("\"{}\" is \"{other}\"", table.name("storage"));
            refuse(table, "storage", message, "expected \"sqlite\" or \"legacy-kv\"")
        }
    }
}

fn refuse<T>(table: &Table<'_>, key: &str, message: impl Into<String>, help: &str) -> Option<T> {
    table.error(key, message, help);
    None
}

#[cfg(test)]
mod tests {
    use crate::{LoadOptions, load};

    fn loaded(exports: &str, rest: &str) -> Result<crate::Loaded, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wrangler.jsonc");
        std::fs::write(&path, format!(r#"{{ "main": "x.js", "exports": {exports} {rest} }}"#)).unwrap();
        load(&path, &LoadOptions::default()).map_err(|e| e.to_string())
    }

    #[test]
    fn classes_are_declared_with_what_becomes_of_them() {
        let text = r#"{ "A": { "type": "durable-object", "storage": "sqlite" },
            "B": { "type": "durable-object", "state": "renamed", "renamed_to": "A" },
            "C": { "type": "durable-object", "state": "deleted" },
            "D": { "type": "durable-object", "state": "transferred", "transferred_to": "x" },
            "E": { "type": "durable-object", "state": "expecting-transfer", "storage": "sqlite", "transfer_from": "y" },
            "default": { "type": "worker", "cache": { "enabled": true } } }"#;
        let loaded = loaded(text, "").unwrap();
        assert_eq!(loaded.config.exports.len(), 5);
        let expecting = super::ObjectExport::Expecting { sqlite: true, from: "y".into() };
        assert_eq!(loaded.config.exports["E"], expecting);
        assert_eq!(loaded.config.exports["A"], super::ObjectExport::Live { sqlite: true });
        assert!(loaded.notes.iter().any(|note| note.message == "\"exports.default.cache\" has no effect"));
    }

    #[test]
    fn a_workflow_is_declared_bound_or_not() {
        let declared = r#"{ "Steps": { "type": "workflow", "name": "w", "limits": { "steps": 5 } } }"#;
        let bound = |rest: &str| {
            let binding =
                format!(r#", "workflows": [{{ "binding": "W", "name": "w", "class_name": {rest} }}]"#);
            loaded(declared, &binding)
        };
        let own = &bound(r#""Steps""#).unwrap().config.exported_workflows;
        assert_eq!((own[0].class_name.as_str(), own[0].settings.steps), ("Steps", Some(5)));
        for (rest, expected) in [
            (r#""Other""#, "declares the Workflow \"w\" with a different class"),
            (r#""Steps", "script_name": "other""#, "\"exports.Steps\" declares it in this one"),
            (r#""Steps", "limits": { "steps": 1 }"#, "set \"limits\" on the export instead"),
        ] {
            let error = bound(rest).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let twice =
            r#"{ "A": { "type": "workflow", "name": "w" }, "B": { "type": "workflow", "name": "w" } }"#;
        assert!(loaded(twice, "").unwrap_err().contains("both declare the Workflow \"w\""));
    }

    #[test]
    fn what_does_not_work_is_named_at_its_place() {
        for (entry, expected) in [
            (r#"{ "type": "durable-object" }"#, "\"exports.A.storage\" is missing"),
            (r#"{ "type": "workflow" }"#, "\"exports.A.name\" is missing"),
            (r#"{ "type": "workflow", "name": "w", "schedules": [] }"#, "\"exports.A.schedules\" is empty"),
            (
                r#"{ "type": "durable-object", "storage": "sqlite", "container": "c" }"#,
                "none of \"containers\" has this name",
            ),
            (
                r#"{ "type": "durable-object", "state": "transferred" }"#,
                "\"exports.A.transferred_to\" is missing",
            ),
            (
                r#"{ "type": "durable-object", "state": "expecting-transfer", "storage": "sqlite" }"#,
                "\"exports.A.transfer_from\" is missing",
            ),
            (r#"{ "type": "other" }"#, "expected \"durable-object\""),
        ] {
            let error = loaded(&format!(r#"{{ "A": {entry} }}"#), "").unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let both = r#", "migrations": [{ "tag": "v1", "new_sqlite_classes": ["A"] }]"#;
        let error =
            loaded(r#"{ "A": { "type": "durable-object", "storage": "sqlite" } }"#, both).unwrap_err();
        assert!(error.contains("mutually exclusive"), "{error}");
    }
}
