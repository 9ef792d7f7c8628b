//! What can be known before a deploy. Pure.

use serde_json::Value as Json;
use skep_bundle::Format;

use crate::containers;
use crate::project::Project;
use crate::triggers;

/// The longest name of a script: it is a label of a host name.
const NAME_LIMIT: usize = 63;

/// Everything that stands in the way of deploying `project`, wherever it goes.
pub fn problems(project: &Project) -> Vec<String> {
    let mut problems = project.problems.clone();
    let unknown = project.unknown_to_deploy();
    if !unknown.is_empty() {
        let keys = unknown.join(", ");
        problems.push(format!("`skep deploy` does not know {keys} yet: deploy this project with wrangler"));
    }
    let name = project.name();
    if name.len() > NAME_LIMIT || name.starts_with('-') || name.ends_with('-') {
        problems.push(format!(
            "\"{name}\" cannot be a script's name: it has at most {NAME_LIMIT} characters and no dash at an end"
        ));
    }
    problems.extend(blobs(project));
    problems.extend(classes(project));
    problems.extend(exported_workflows(project));
    problems.extend(containers::config::containers(project).1);
    problems.extend(containers::config::managed(project).1);
    let (routes, domains) = triggers::routes(project);
    let nameless = |route: &&Json| route["pattern"].as_str().is_none_or(str::is_empty);
    if routes.iter().chain(&domains).any(|route| nameless(&route)) {
        problems.push("a route has no \"pattern\"".to_owned());
    }
    for domain in triggers::domain_names(project) {
        if domain.contains(['*', '/']) {
            problems.push(format!(
                "\"{domain}\" cannot be a Custom Domain: wildcard operators (*) and paths are not allowed in Custom Domains"
            ));
        }
    }
    problems
}

/// Globals, which code in module syntax does not have. The texts are wrangler's.
fn blobs(project: &Project) -> Vec<String> {
    if project.code.as_ref().is_none_or(|code| code.format == Format::ServiceWorker) {
        return Vec::new();
    }
    let file = project.config.path.file_name().unwrap_or_default().to_string_lossy();
    let files = format!(
        "import the file directly in your code, and optionally configure `[rules]` in your {file} file"
    );
    let hints = [
        ("wasm_modules", "import the .wasm module directly in your code"),
        ("text_blobs", files.as_str()),
        ("data_blobs", files.as_str()),
    ];
    let is_set = |key: &str| project.raw[key].as_object().is_some_and(|own| !own.is_empty());
    let found = hints.into_iter().filter(|(key, _)| is_set(key));
    found
        .map(|(key, hint)| format!("You cannot configure [{key}] with an ES module worker. Instead, {hint}"))
        .collect()
}

/// Classes that the configuration names and the code does not export.
fn classes(project: &Project) -> Vec<String> {
    let Some(code) = project.code.as_ref().filter(|code| code.format == Format::Modules) else {
        return Vec::new();
    };
    let is_own = |own: &&Json| own["script_name"].as_str().is_none_or(|name| name == project.name());
    let missing = |list: &[Json]| -> Vec<String> {
        let names = list.iter().filter(is_own).filter_map(|own| own["class_name"].as_str());
        let mut names: Vec<String> =
            names.filter(|name| !code.exports.iter().any(|own| own == name)).map(str::to_owned).collect();
        names.dedup();
        names
    };
    let main = project.config.main.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
    let say = |kind: &str, names: Vec<String>| {
        (!names.is_empty()).then(|| {
            let list: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
            format!(
                "Your Worker depends on the following {kind}, which are not exported in your entrypoint file {main}: {}",
                list.join(", ")
            )
        })
    };
    let objects = missing(project.list(&["durable_objects", "bindings"]));
    let workflows = missing(&triggers::own_workflows(project));
    say("Durable Objects", objects).into_iter().chain(say("Workflows", workflows)).collect()
}

/// Workflows that `exports` and a binding declare differently. The texts are wrangler's.
fn exported_workflows(project: &Project) -> Vec<String> {
    let exports = project.raw["exports"].as_object().into_iter().flatten();
    let exported: Vec<(&String, &Json)> =
        exports.filter(|(_, export)| export["type"] == "workflow").collect();
    let mut problems = Vec::new();
    for (n, (class, export)) in exported.iter().enumerate() {
        let name = export["name"].as_str().unwrap_or_default();
        if let Some((twin, _)) = exported[..n].iter().find(|(_, other)| other["name"] == export["name"]) {
            problems.push(format!(
                "\"exports.{twin}\" and \"exports.{class}\" both declare the Workflow \"{name}\". Workflow names must be unique."
            ));
        }
        for (at, bound) in project.list(&["workflows"]).iter().enumerate() {
            if bound["name"] != export["name"] {
                continue;
            }
            if let Some(script) = bound["script_name"].as_str().filter(|script| *script != project.name()) {
                problems.push(format!(
                    "\"workflows[{at}]\" binds the Workflow \"{name}\" of the Worker \"{script}\", but \"exports.{class}\" declares it \
                     in this Worker. Workflow names are unique per account, so remove \"script_name\" from the binding or give the \
                     export a different name."
                ));
                continue;
            }
            let bound_class = bound["class_name"].as_str().unwrap_or_default();
            if bound_class != class.as_str() {
                problems.push(format!(
                    "\"workflows[{at}]\" and \"exports.{class}\" both declare the Workflow \"{name}\", but with different classes \
                     (\"{bound_class}\" and \"{class}\")."
                ));
            }
            let settings = ["limits", "concurrency", "schedules", "default_retention", "jurisdiction"];
            problems.extend(settings.iter().filter(|key| !bound[**key].is_null()).map(|key| {
                format!(
                    "\"workflows[{at}].{key}\" configures the Workflow \"{name}\", which \"exports.{class}\" declares. Set \"{key}\" \
                     on the export instead."
                )
            }));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use skep_bundle::Bundle;
    use skep_config::WorkerConfig;

    use super::*;

    fn project(raw: Json) -> Project {
        let code = Bundle {
            main: "index.js".into(),
            modules: Vec::new(),
            source_map: None,
            format: Format::Modules,
            inputs: Vec::new(),
            exports: vec!["default".into(), "Room".into()],
            warnings: Vec::new(),
        };
        let config = WorkerConfig { name: "app".into(), ..WorkerConfig::default() };
        Project::plain(config, raw, Some(code))
    }

    #[test]
    fn what_the_configuration_names_has_to_be_there() {
        let fine = json!({ "durable_objects": { "bindings": [
            { "name": "A", "class_name": "Room" }, { "name": "B", "class_name": "Far", "script_name": "other" } ] },
            "routes": ["a.com/*", { "pattern": "b.com", "custom_domain": true }], "containers": [] });
        assert_eq!(problems(&project(fine)), [""; 0]);
        let bad = json!({ "durable_objects": { "bindings": [{ "name": "A", "class_name": "Hall" }] }, "k2": { "x": 1 }, "text_blobs": { "T": "t.txt" },
            "workflows": [{ "binding": "W", "name": "w", "class_name": "Steps" },
                { "binding": "V", "name": "v", "class_name": "Room", "limits": { "steps": 1 } },
                { "binding": "U", "name": "u", "class_name": "Room", "script_name": "far" }],
            "exports": { "Hall": { "type": "workflow", "name": "v" }, "Other": { "type": "workflow", "name": "v" },
                "Room": { "type": "workflow", "name": "u" } },
            "routes": [{ "zone_id": "z" }, { "pattern": "*.b.com", "custom_domain": true }] });
        let found = problems(&project(bad)).join("\n");
        for part in [
            "does not know k2",
            "You cannot configure [text_blobs] with an ES module worker.",
            "Durable Objects, which are not exported",
            "\"Hall\"",
            "\"Steps\"",
            "no \"pattern\"",
            "both declare the Workflow \"v\". Workflow names",
            "but with different classes (\"Room\" and \"Hall\")",
            "Set \"limits\" on the export instead",
            "of the Worker \"far\", but \"exports.Room\"",
            "\"*.b.com\"",
        ] {
            assert!(found.contains(part), "{part}\n{found}");
        }
    }
}
