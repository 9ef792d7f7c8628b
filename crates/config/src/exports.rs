//! `exports`: what a worker declares of its classes.
//! <https://developers.cloudflare.com/durable-objects/reference/durable-objects-migrations/>

use std::collections::BTreeMap;

use crate::model::ObjectExport;
use crate::read::Table;

const MIGRATE: &str = "declare it in `migrations`, by `transferred_classes`";

/// The Durable Object classes among them. Where the server reads them itself nothing is judged here.
pub(crate) fn read(root: &Table<'_>) -> BTreeMap<String, ObjectExport> {
    let Some(exports) = root.table("exports").filter(|_| !root.deploying()) else { return BTreeMap::new() };
    let mut objects = BTreeMap::new();
    for entry in exports.node().entries() {
        let Some(table) = exports.table(&entry.key) else { continue };
        if let Some(object) = export(&table) {
            objects.insert(entry.key.clone(), object);
        }
    }
    objects
}

fn export(table: &Table<'_>) -> Option<ObjectExport> {
    match table.required("type").as_str() {
        "durable-object" => object(table),
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
        "workflow" => refuse(
            table,
            "type",
            "a Workflow in `exports` does not work on Skep",
            "declare it in `workflows`",
        ),
        "" => None,
        other => {
            let message = format!("\"{}\" is \"{other}\"", table.name("type"));
            refuse(table, "type", message, "expected \"durable-object\" or \"worker\"")
        }
    }
}

fn object(table: &Table<'_>) -> Option<ObjectExport> {
    if table.get("container").is_some() {
        return refuse(
            table,
            "container",
            "containers do not work on Skep",
            "Skep does not have this yet: remove it",
        );
    }
    match table.string("state").as_deref().unwrap_or("created") {
        "created" => match table.required("storage").as_str() {
            "sqlite" => Some(ObjectExport::Live { sqlite: true }),
            "legacy-kv" => Some(ObjectExport::Live { sqlite: false }),
            "" => None,
            other => {
                let message = format!("\"{}\" is \"{other}\"", table.name("storage"));
                refuse(table, "storage", message, "expected \"sqlite\" or \"legacy-kv\"")
            }
        },
        "deleted" => Some(ObjectExport::Deleted),
        "renamed" => Some(ObjectExport::Renamed { to: table.required("renamed_to") }),
        state @ ("transferred" | "expecting-transfer") => {
            refuse(table, "state", format!("the state \"{state}\" does not work on Skep"), MIGRATE)
        }
        other => {
            let message = format!("\"{}\" is \"{other}\"", table.name("state"));
            refuse(table, "state", message, "expected \"created\", \"deleted\" or \"renamed\"")
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
            "default": { "type": "worker", "cache": { "enabled": true } } }"#;
        let loaded = loaded(text, "").unwrap();
        assert_eq!(loaded.config.exports.len(), 3);
        assert_eq!(loaded.config.exports["A"], super::ObjectExport::Live { sqlite: true });
        assert!(loaded.notes.iter().any(|note| note.message == "\"exports.default.cache\" has no effect"));
    }

    #[test]
    fn what_does_not_work_is_named_at_its_place() {
        for (entry, expected) in [
            (r#"{ "type": "durable-object" }"#, "\"exports.A.storage\" is missing"),
            (r#"{ "type": "workflow", "name": "w" }"#, "declare it in `workflows`"),
            (
                r#"{ "type": "durable-object", "storage": "sqlite", "container": "c" }"#,
                "containers do not work",
            ),
            (
                r#"{ "type": "durable-object", "state": "transferred", "transferred_to": "x" }"#,
                "transferred_classes",
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
