//! What is looked at beside the values: whether a key is known and works, and what no single key shows.

use std::collections::BTreeMap;

use crate::classes::{KeyClass, classify, is_open, nearest};
use crate::diagnostic::{Diagnostic, Severity, Source};
use crate::migrations::classes_alive;
use crate::model::WorkerConfig;
use crate::node::{Node, Value};
use crate::read::Reader;

/// Looks at every key: refused ones are errors, unknown ones warnings, as wrangler has them, and those without a meaning notes.
pub(crate) fn check_keys(
    source: &Source,
    node: &Node,
    path: &str,
    deploying: bool,
    problems: &mut Vec<Diagnostic>,
) {
    if let Value::Array(items) = &node.value {
        for item in items {
            check_keys(source, item, &format!("{path}[]"), deploying, problems);
        }
    }
    for entry in node.entries() {
        let name = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
        let off = is_off(&entry.node);
        match classify(&name) {
            None => {
                let message = format!("unknown key \"{}\": it has no effect", entry.key);
                let warning = source.at(Severity::Warning, entry.key_span.clone(), message);
                problems.push(match nearest(&name) {
                    Some(known) => warning.help(format!("did you mean \"{known}\"?")),
                    None => warning.help("wrangler has no such key: remove it"),
                });
            }
            Some(KeyClass::Refused(_) | KeyClass::NoMeaning(_)) if deploying => {}
            Some(KeyClass::Refused(_)) if off => {}
            Some(KeyClass::Refused(why)) => {
                let message = format!("\"{name}\" does not work on Skep");
                problems.push(source.error(entry.key_span.clone(), message).help(why));
            }
            Some(KeyClass::NoMeaning(why)) => {
                if name != "$schema" && !off {
                    let message = format!("\"{name}\" has no effect");
                    problems.push(source.at(Severity::Note, entry.key_span.clone(), message).help(why));
                }
            }
            Some(KeyClass::Works) if is_open(&name) || name == "env" => {}
            Some(KeyClass::Works) => check_keys(source, &entry.node, &name, deploying, problems),
        }
    }
}

/// Whether a value asks for nothing: tools write down keys that nobody uses.
fn is_off(node: &Node) -> bool {
    match &node.value {
        Value::Bool(false) | Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.iter().all(|entry| is_off(&entry.node)),
        _ => false,
    }
}

/// What no single key shows.
pub(crate) fn check_whole(reader: &Reader<'_>, root: &Node, config: &WorkerConfig) {
    if config.main.is_none() && config.assets.is_none() {
        match root.get("pages_build_output_dir") {
            None => {
                let message = "there is neither \"main\" nor \"assets\"";
                let help = "expected the worker's entry file, the folder of its assets, or both";
                reader.error(root, message, help);
            }
            Some(node) if reader.deploying => {
                let message = "It looks like you've run a Workers-specific command in a Pages project.";
                reader.error(node, message, "Pages projects do not run on Skep: use `assets` and `main`");
            }
            // Refused as a key.
            Some(_) => {}
        }
    }
    if let Some(assets) = &config.assets
        && config.main.is_none()
        && let Some(binding) = &assets.binding
        && let Some(node) = root.get("assets").and_then(|a| a.get("binding"))
    {
        let message = format!("Cannot use assets with a binding (\"{binding}\") in an assets-only Worker.");
        reader.error(node, message, "remove \"binding\", or add \"main\"");
    }
    if let Err(error) = classes_alive(&config.migrations)
        && let Some(node) = root.get("migrations")
    {
        reader.error(
            node,
            error.to_string(),
            "see https://developers.cloudflare.com/durable-objects/reference/durable-objects-migrations/",
        );
    }
    if !config.exports.is_empty()
        && !config.migrations.is_empty()
        && let Some(node) = root.get("migrations")
    {
        let message = "`exports` of Durable Objects and `migrations` are mutually exclusive";
        reader.error(node, message, "keep one of them: what `migrations` has made is declared in `exports`");
    }
    let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, kind) in config.binding_names() {
        users.entry(name).or_default().push(kind);
    }
    for (name, kinds) in users.iter().filter(|(_, kinds)| kinds.len() > 1) {
        let message = match kinds.iter().all(|kind| *kind == kinds[0]) {
            true => format!("{name} assigned to multiple {} bindings.", kinds[0]),
            false => format!("{name} assigned to {} bindings.", kinds.join(", ")),
        };
        reader.error(
            root,
            message,
            "Bindings must have unique names, so that they can all be referenced in the worker.",
        );
    }
}

impl WorkerConfig {
    /// All names on `env` and what kind each is.
    pub fn binding_names(&self) -> Vec<(&str, &'static str)> {
        let mut names: Vec<(&str, &'static str)> = Vec::new();
        names.extend(self.vars.keys().map(|name| (name.as_str(), "Environment Variable")));
        names.extend(self.kv_namespaces.iter().map(|b| (b.binding.as_str(), "KV Namespace")));
        names.extend(self.r2_buckets.iter().map(|b| (b.binding.as_str(), "R2 Bucket")));
        names.extend(self.d1_databases.iter().map(|b| (b.binding.as_str(), "D1 Database")));
        names.extend(self.durable_objects.iter().map(|b| (b.name.as_str(), "Durable Object")));
        names.extend(self.queue_producers.iter().map(|b| (b.binding.as_str(), "Queue")));
        names.extend(self.services.iter().map(|b| (b.binding.as_str(), "Worker")));
        names.extend(self.dispatch_namespaces.iter().map(|b| (b.binding.as_str(), "Dispatch Namespace")));
        names.extend(self.workflows.iter().map(|b| (b.binding.as_str(), "Workflow")));
        names.extend(
            self.analytics_engine_datasets.iter().map(|b| (b.binding.as_str(), "Analytics Engine Dataset")),
        );
        names.extend(self.vectorize.iter().map(|b| (b.binding.as_str(), "Vectorize Index")));
        names.extend(self.hyperdrive.iter().map(|b| (b.binding.as_str(), "Hyperdrive Config")));
        names.extend(self.ratelimits.iter().map(|b| (b.name.as_str(), "Rate Limit")));
        names.extend(self.send_email.iter().map(|b| (b.name.as_str(), "Send Email")));
        names.extend(self.stored_secrets.iter().map(|b| (b.binding.as_str(), "Secrets Store Secret")));
        names.extend(self.worker_loaders.iter().map(|b| (b.as_str(), "Worker Loader")));
        names.extend(self.images.iter().map(|b| (b.as_str(), "Images")));
        names.extend(self.version_metadata.iter().map(|b| (b.as_str(), "Worker Version Metadata")));
        names.extend(self.assets.iter().filter_map(|a| a.binding.as_deref()).map(|b| (b, "Assets")));
        names.extend(self.wasm_modules.keys().map(|name| (name.as_str(), "WASM Module")));
        names.extend(self.text_blobs.keys().map(|name| (name.as_str(), "Text Blob")));
        names.extend(self.data_blobs.keys().map(|name| (name.as_str(), "Data Blob")));
        names
    }
}
