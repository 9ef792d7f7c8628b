//! Durable Object migrations in an upload.
//! <https://developers.cloudflare.com/durable-objects/reference/durable-objects-migrations/>

use serde::Deserialize;
use serde_json::Value as Json;
use skep_catalog::{Change, MigrationSet};

use crate::reply::ApiError;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Step {
    new_classes: Vec<String>,
    new_sqlite_classes: Vec<String>,
    renamed_classes: Vec<Renamed>,
    deleted_classes: Vec<String>,
    transferred_classes: Vec<Transferred>,
}

#[derive(Deserialize)]
struct Renamed {
    from: String,
    to: String,
}

#[derive(Deserialize)]
struct Transferred {
    from: String,
    from_script: String,
    to: String,
}

/// Reads `migrations`: steps under a tag, or a single step. One that does nothing and has no tags is none.
pub(crate) fn read(migrations: &Json) -> Result<Option<MigrationSet>, ApiError> {
    if migrations.is_null() {
        return Ok(None);
    }
    let invalid = |what: String| ApiError::bad(10021, format!("migrations: {what}"));
    if !migrations.is_object() {
        return Err(invalid("expected an object".into()));
    }
    let tag = |key: &str| match &migrations[key] {
        Json::Null => Ok(None),
        Json::String(tag) => Ok(Some(tag.clone())),
        _ => Err(invalid(format!("{key} is not a string"))),
    };
    let (old_tag, new_tag) = (tag("old_tag")?, tag("new_tag")?);
    let steps: Vec<Step> = match &migrations["steps"] {
        Json::Null => vec![serde_json::from_value(migrations.clone()).map_err(|e| invalid(e.to_string()))?],
        steps => serde_json::from_value(steps.clone()).map_err(|e| invalid(e.to_string()))?,
    };
    let changes: Vec<Change> = steps.into_iter().flat_map(changes).collect();
    if changes.is_empty() && old_tag.is_none() && new_tag.is_none() {
        return Ok(None);
    }
    // Without tags there is no precondition. With a new tag alone, the script must have none.
    let old_tag = (old_tag.is_some() || new_tag.is_some()).then_some(old_tag);
    Ok(Some(MigrationSet { old_tag, new_tag, changes }))
}

fn changes(step: Step) -> Vec<Change> {
    let new = |class, sqlite| Change::New { class, sqlite };
    let mut changes: Vec<Change> = Vec::new();
    changes.extend(step.renamed_classes.into_iter().map(|r| Change::Rename { from: r.from, to: r.to }));
    changes.extend(step.deleted_classes.into_iter().map(|class| Change::Delete { class }));
    changes.extend(step.transferred_classes.into_iter().map(|t| Change::Transfer {
        from: t.from,
        from_script: t.from_script,
        to: t.to,
    }));
    changes.extend(step.new_classes.into_iter().map(|class| new(class, false)));
    changes.extend(step.new_sqlite_classes.into_iter().map(|class| new(class, true)));
    changes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_shapes_are_read() {
        let steps = json!({ "new_tag": "v2", "steps": [
            { "new_sqlite_classes": ["A"] },
            { "renamed_classes": [{ "from": "A", "to": "B" }], "deleted_classes": ["C"] },
        ] });
        let set = read(&steps).unwrap().unwrap();
        assert_eq!((set.old_tag, set.new_tag.as_deref(), set.changes.len()), (Some(None), Some("v2"), 3));
        let single = json!({ "tag": "v1", "new_classes": ["A"] });
        let set = read(&single).unwrap().unwrap();
        assert_eq!((set.old_tag, set.new_tag), (None, None));
        assert_eq!(set.changes, [Change::New { class: "A".into(), sqlite: false }]);
        assert_eq!(read(&json!({ "tag": "v1" })).unwrap(), None);
        assert!(read(&json!([])).is_err());
        assert!(read(&json!({ "new_tag": "a", "steps": [{ "new_classes": "A" }] })).is_err());
    }
}
