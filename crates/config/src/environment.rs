//! Named environments: which keys an environment takes over from the top, and which it must have itself.
//! <https://developers.cloudflare.com/workers/wrangler/environments/>

use crate::diagnostic::{Diagnostic, Severity, Source};
use crate::node::{Entry, Node, Value};

/// Keys that an environment does not take over: bindings and variables.
const NOT_INHERITED: &[&str] = &[
    "agent_memory",
    "ai",
    "ai_search",
    "ai_search_namespaces",
    "analytics_engine_datasets",
    "artifacts",
    "browser",
    "cloudchamber",
    "connect",
    "containers",
    "d1_databases",
    "define",
    "dispatch_namespaces",
    "durable_objects",
    "flagship",
    "hyperdrive",
    "images",
    "k2",
    "kv_namespaces",
    "logfwdr",
    "media",
    "mtls_certificates",
    "pipelines",
    "queues",
    "r2_buckets",
    "ratelimits",
    "secrets",
    "secrets_store_secrets",
    "send_email",
    "services",
    "stream",
    "streaming_tail_consumers",
    "tail_consumers",
    "unsafe",
    "unsafe_hello_world",
    "vars",
    "vectorize",
    "version_metadata",
    "vpc_networks",
    "vpc_services",
    "worker_loaders",
    "workflows",
];

/// Keys that only the top may have.
const TOP_ONLY: &[&str] = &[
    "$schema",
    "alias",
    "data_blobs",
    "dependencies_instrumentation",
    "dev",
    "env",
    "keep_vars",
    "pages_build_output_dir",
    "send_metrics",
    "site",
    "text_blobs",
    "wasm_modules",
];

/// The configuration as the environment `name` sees it.
pub(crate) fn select(
    source: &Source,
    top: &Node,
    name: &str,
    notes: &mut Vec<Diagnostic>,
) -> Result<Node, Box<Diagnostic>> {
    let environments = top.get("env");
    let Some(environment) = environments.and_then(|all| all.get(name)) else {
        let known: Vec<&str> = environments
            .map(|all| all.entries().iter().map(|e| e.key.as_str()).collect())
            .unwrap_or_default();
        let help = match known.is_empty() {
            true => "the file has no \"env\"".to_owned(),
            false => format!("it has: {}", known.join(", ")),
        };
        let span = environments.map_or(0..0, |node| node.span.clone());
        return Err(source
            .error(span, format!("No environment found in configuration with name \"{name}\"."))
            .help(help)
            .into());
    };
    for entry in environment.entries() {
        if TOP_ONLY.contains(&entry.key.as_str()) {
            let message = format!("\"{}\" may only stand at the top of the file", entry.key);
            return Err(source.error(entry.key_span.clone(), message).help("move it out of \"env\"").into());
        }
    }
    let mut entries: Vec<Entry> = Vec::new();
    for entry in top.entries() {
        let key = entry.key.as_str();
        let own = environment.entries().iter().find(|own| own.key == key);
        if NOT_INHERITED.contains(&key) && own.is_none() {
            let message = format!("\"{key}\" exists at the top level, but not on \"env.{name}\"");
            notes.push(source.at(Severity::Warning, entry.key_span.clone(), message).help(format!(
                "environments do not inherit it: add \"{key}\" to \"env.{name}\" if it needs it"
            )));
        } else if own.is_none() {
            entries.push(entry.clone());
        }
    }
    entries.extend(environment.entries().iter().cloned());
    if environment.get("name").is_none() {
        for entry in entries.iter_mut().filter(|entry| entry.key == "name") {
            if let Value::String(text) = &mut entry.node.value {
                text.push_str(&format!("-{name}"));
            }
        }
    }
    Ok(Node { value: Value::Object(entries), span: top.span.clone() })
}
