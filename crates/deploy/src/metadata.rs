//! The `metadata` of an upload, in wrangler's form. Pure.
//! <https://developers.cloudflare.com/workers/configuration/multipart-upload-metadata/>

use serde_json::{Map, Value as Json, json};
use skep_bundle::Format;

use crate::containers;
use crate::project::{AssetFiles, Project};

/// What the metadata says beside the project.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// The bindings.
    pub bindings: Vec<Json>,
    /// Durable Object migrations that are still to be applied.
    pub migrations: Option<Json>,
    /// The token of the assets that were uploaded.
    pub assets_token: Option<String>,
    /// `workers/message`, `workers/tag`.
    pub annotations: Map<String, Json>,
    /// Variables that are not in the configuration stay.
    pub keep_vars: bool,
    /// The upload is deployed at once.
    pub whole: bool,
    /// Images of containers that a Durable Object manages, by class.
    pub images: Map<String, Json>,
}

/// The metadata's JSON.
pub fn metadata(project: &Project, extras: &Extras) -> Json {
    let raw = &project.raw;
    let Some(code) = &project.code else { return assets_alone(project, extras) };
    let mut metadata = Map::new();
    let mut set = |key: &str, value: Json| {
        if !value.is_null() {
            metadata.insert(key.to_owned(), value);
        }
    };
    let entry = if code.format == Format::Modules { "main_module" } else { "body_part" };
    set(entry, code.main.clone().into());
    set("bindings", extras.bindings.clone().into());
    set("containers", containers::config::metadata(project, &extras.images));
    set("compatibility_date", project.config.compatibility_date.clone().into());
    set("compatibility_flags", project.config.compatibility_flags.clone().into());
    set("migrations", extras.migrations.clone().unwrap_or_default());
    if extras.whole {
        set("code_update_strategy", code_update_strategy(raw));
    }
    set("exports", exports(raw));
    let mut kept = vec!["secret_text", "secret_key"];
    if extras.keep_vars {
        kept.splice(0..0, ["plain_text", "json"]);
    }
    set("keep_bindings", json!(kept));
    set("logpush", raw["logpush"].clone());
    if raw["placement"]["mode"] != "off" {
        set("placement", raw["placement"].clone());
    }
    set("tail_consumers", raw["tail_consumers"].clone());
    set("streaming_tail_consumers", raw["streaming_tail_consumers"].clone());
    set("limits", raw["limits"].clone());
    if !extras.annotations.is_empty() {
        set("annotations", extras.annotations.clone().into());
    }
    set("assets", assets(project, extras));
    set("observability", raw["observability"].clone());
    set("cache_options", raw["cache"].clone());
    for (key, value) in raw["unsafe"]["metadata"].as_object().into_iter().flatten() {
        set(key, value.clone());
    }
    metadata.into()
}

/// `exports` in wrangler's order: entrypoints, classes, Workflows.
fn exports(raw: &Json) -> Json {
    let Some(all) = raw["exports"].as_object().filter(|all| !all.is_empty()) else { return Json::Null };
    let of = |kind: &'static str| all.iter().filter(move |(_, export)| export["type"] == kind);
    let ordered = of("worker").chain(of("durable-object")).chain(of("workflow"));
    ordered.map(|(name, export)| (name.clone(), export.clone())).collect::<Map<_, _>>().into()
}

/// Whether `exports` declares what the `kind` is of.
pub(crate) fn declares(raw: &Json, kind: &str) -> bool {
    raw["exports"].as_object().is_some_and(|all| all.values().any(|export| export["type"] == kind))
}

/// How objects that run get new code; wrangler's default.
pub(crate) fn code_update_strategy(raw: &Json) -> Json {
    match &raw["durable_objects"]["code_update_strategy"] {
        Json::Null => json!({ "mode": "deferred", "max_delay": 300 }),
        own => own.clone(),
    }
}

fn assets_alone(project: &Project, extras: &Extras) -> Json {
    let mut metadata = Map::new();
    metadata.insert("assets".into(), assets(project, extras));
    if !extras.annotations.is_empty() {
        metadata.insert("annotations".into(), extras.annotations.clone().into());
    }
    if let Some(date) = &project.config.compatibility_date {
        metadata.insert("compatibility_date".into(), date.clone().into());
    }
    metadata.insert("compatibility_flags".into(), project.config.compatibility_flags.clone().into());
    metadata.into()
}

fn assets(project: &Project, extras: &Extras) -> Json {
    let Some(AssetFiles { redirects, headers, .. }) = &project.assets else { return Json::Null };
    let mut config = Map::new();
    for key in ["html_handling", "not_found_handling", "run_worker_first", "base_path"] {
        let value = &project.raw["assets"][key];
        if !value.is_null() {
            config.insert(key.into(), value.clone());
        }
    }
    for (key, text) in [("_redirects", redirects), ("_headers", headers)] {
        if let Some(text) = text {
            config.insert(key.into(), text.clone().into());
        }
    }
    json!({ "jwt": extras.assets_token, "config": config })
}

/// The migrations after the one tagged `applied`, in wrangler's stepped form; `None` if there are none.
///
/// A tag that the configuration does not have means that the script was deployed from elsewhere: all steps are sent,
/// and the server says what does not fit.
pub fn migrations(list: &[Json], applied: Option<&str>) -> Option<Json> {
    let at = applied.and_then(|tag| list.iter().position(|migration| migration["tag"] == tag));
    let rest = &list[at.map_or(0, |at| at + 1)..];
    let last = rest.last()?;
    let steps: Vec<Json> = rest
        .iter()
        .map(|migration| {
            let mut step = migration.as_object().cloned().unwrap_or_default();
            step.shift_remove("tag");
            step.into()
        })
        .collect();
    let mut migrations = Map::new();
    if let Some(applied) = applied {
        migrations.insert("old_tag".into(), applied.into());
    }
    migrations.insert("new_tag".into(), last["tag"].clone());
    migrations.insert("steps".into(), steps.into());
    Some(migrations.into())
}

/// Takes `class` out of the new classes of `migrations`: the server has it already (error 10074). `false` if it is in
/// none of them.
pub fn without_class(migrations: &mut Json, class: &str) -> bool {
    let mut found = false;
    for step in migrations["steps"].as_array_mut().into_iter().flatten() {
        for key in ["new_classes", "new_sqlite_classes"] {
            let Some(classes) = step.get_mut(key).and_then(Json::as_array_mut) else { continue };
            let before = classes.len();
            classes.retain(|known| known != class);
            found |= classes.len() < before;
            if classes.is_empty()
                && let Some(step) = step.as_object_mut()
            {
                step.shift_remove(key);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Vec<Json> {
        vec![
            json!({ "tag": "v1", "new_sqlite_classes": ["A"], "new_classes": ["B"] }),
            json!({ "tag": "v2", "renamed_classes": [{ "from": "B", "to": "C" }] }),
        ]
    }

    #[test]
    fn migrations_are_sent_from_where_the_script_stands() {
        let all = migrations(&list(), None).unwrap();
        let steps = r#"[{"new_sqlite_classes":["A"],"new_classes":["B"]},{"renamed_classes":[{"from":"B","to":"C"}]}]"#;
        assert_eq!(all.to_string(), format!(r#"{{"new_tag":"v2","steps":{steps}}}"#));
        let rest = migrations(&list(), Some("v1")).unwrap();
        assert_eq!((&rest["old_tag"], &rest["new_tag"]), (&json!("v1"), &json!("v2")));
        assert_eq!(rest["steps"].as_array().unwrap().len(), 1);
        assert_eq!(migrations(&list(), Some("v2")), None);
        assert_eq!(migrations(&list(), Some("other")).unwrap()["steps"].as_array().unwrap().len(), 2);
        assert_eq!(migrations(&[], None), None);
    }

    #[test]
    fn a_class_that_is_there_is_taken_out() {
        let mut all = migrations(&list(), None).unwrap();
        assert!(without_class(&mut all, "A") && !without_class(&mut all, "A"));
        assert_eq!(all["steps"][0], json!({ "new_classes": ["B"] }));
        assert!(!without_class(&mut all, "C"), "a rename is another matter");
    }
}
