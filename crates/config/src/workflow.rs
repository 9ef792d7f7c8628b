//! `workflows[]`.

use serde_json::Value as Json;

use crate::model::{WorkflowBinding, WorkflowSettings};
use crate::node::Value;
use crate::read::Table;

/// What stands beside a Workflow's class, and so only where the class is.
pub(crate) const OWNERS: [&str; 4] = ["limits", "concurrency", "schedules", "default_retention"];

/// `own` is the worker's name.
pub(crate) fn read(table: &Table<'_>, own: &str) -> WorkflowBinding {
    let name = name(table);
    let script_name = table.string("script_name");
    if let Some(script) = script_name.as_ref().filter(|script| *script != own) {
        for key in OWNERS.iter().filter(|key| table.get(key).is_some()) {
            let message = format!(
                "Workflow \"{name}\" has \"{key}\" configured but references external script \"{script}\"."
            );
            table.error(key, message, format!("Configure {key} on the worker that defines the workflow."));
        }
    }
    WorkflowBinding {
        binding: table.required("binding"),
        name,
        class_name: table.required("class_name"),
        script_name,
        settings: settings(table),
    }
}

pub(crate) fn name(table: &Table<'_>) -> String {
    let name = table.required("name");
    if name.chars().count() > 64 {
        table.error(
            "name",
            format!("\"{}\" has more than 64 characters", table.name("name")),
            "expected at most 64",
        );
    }
    name
}

pub(crate) fn settings(table: &Table<'_>) -> WorkflowSettings {
    let retention = table.table("default_retention");
    let retention = |key: &str| retention.as_ref().and_then(|retention| duration(retention, key));
    WorkflowSettings {
        schedules: schedules(table),
        steps: table.table("limits").and_then(|limits| limits.integer("steps", 1, u32::MAX)),
        concurrency: table.table("concurrency").and_then(|limits| limits.integer("limit", 1, u32::MAX)),
        success_retention: retention("success_retention"),
        error_retention: retention("error_retention"),
    }
}

/// One or several.
fn schedules(table: &Table<'_>) -> Vec<String> {
    let all = match table.get("schedules").map(|node| &node.value) {
        None => return Vec::new(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(_) => table.strings("schedules"),
    };
    let is_list = table
        .get("schedules")
        .is_some_and(|node| matches!(&node.value, Value::Array(list) if list.is_empty()));
    if all.iter().any(String::is_empty) || is_list {
        let message = format!("\"{}\" is empty", table.name("schedules"));
        table.error("schedules", message, "expected one or several cron expressions");
    }
    all
}

/// Milliseconds, or a text like `3 days`, which is read where it is needed.
fn duration(table: &Table<'_>, key: &str) -> Option<Json> {
    let node = table.get(key)?;
    let value = node.to_json();
    if value.as_u64().is_some_and(|ms| ms > 0) || value.as_str().is_some_and(|text| !text.is_empty()) {
        return Some(value);
    }
    let message = format!("\"{}\" is neither a number of milliseconds nor a duration", table.name(key));
    table.error(key, message, "expected a positive whole number, or a text such as \"3 days\"");
    None
}

#[cfg(test)]
mod tests {
    use crate::{LoadOptions, WorkflowSettings, load};

    fn settings(rest: &str) -> Result<WorkflowSettings, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wrangler.jsonc");
        let text = format!(
            r#"{{ "name": "own", "main": "x.js", "workflows": [{{ "binding": "W", "name": "w", "class_name": "W", {rest} }}] }}"#
        );
        std::fs::write(&path, text).unwrap();
        let loaded = load(&path, &LoadOptions::default()).map_err(|e| e.to_string())?;
        Ok(loaded.config.workflows[0].settings.clone())
    }

    #[test]
    fn settings_are_read_with_one_or_several_schedules() {
        let all = settings(
            r#""schedules": "* * * * *", "limits": { "steps": 5 }, "concurrency": { "limit": 2 },
                "default_retention": { "success_retention": "3 days", "error_retention": 1000 }"#,
        );
        let expected = WorkflowSettings {
            schedules: vec!["* * * * *".into()],
            steps: Some(5),
            concurrency: Some(2),
            success_retention: Some("3 days".into()),
            error_retention: Some(1000.into()),
        };
        assert_eq!(all, Ok(expected));
        assert_eq!(settings(r#""schedules": ["a", "b"]"#).unwrap().schedules, ["a", "b"]);
        assert_eq!(settings(r#""script_name": "own", "schedules": "a""#).unwrap().schedules, ["a"]);
    }

    #[test]
    fn what_makes_no_sense_is_named_at_its_place() {
        for (rest, expected) in [
            (r#""schedules": []"#, "\"workflows[0].schedules\" is empty"),
            (r#""schedules": """#, "\"workflows[0].schedules\" is empty"),
            (r#""limits": { "steps": 0 }"#, "a whole number from 1"),
            (r#""default_retention": { "success_retention": -1 }"#, "neither a number of milliseconds"),
            (r#""script_name": "other", "schedules": "* * * * *""#, "references external script \"other\""),
        ] {
            let error = settings(rest).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
