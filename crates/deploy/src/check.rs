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
    problems.extend(classes(project));
    problems.extend(containers::config::containers(project).1);
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
    let workflows = missing(project.list(&["workflows"]));
    say("Durable Objects", objects).into_iter().chain(say("Workflows", workflows)).collect()
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
        let bad = json!({ "durable_objects": { "bindings": [{ "name": "A", "class_name": "Hall" }] }, "site": { "bucket": "x" },
            "workflows": [{ "binding": "W", "name": "w", "class_name": "Steps" }],
            "routes": [{ "zone_id": "z" }, { "pattern": "*.b.com", "custom_domain": true }] });
        let found = problems(&project(bad)).join("\n");
        for part in [
            "does not know site",
            "Durable Objects, which are not exported",
            "\"Hall\"",
            "\"Steps\"",
            "no \"pattern\"",
            "\"*.b.com\"",
        ] {
            assert!(found.contains(part), "{part}\n{found}");
        }
    }
}
