//! Every key that wrangler knows has a class here.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::npm;

/// The wrangler whose keys are classified.
const WRANGLER: &str = "4.164.0";

#[test]
fn every_key_of_wranglers_schema_is_classified() {
    let file = npm::unpacked("wrangler", WRANGLER).join("config-schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut keys = BTreeSet::new();
    collect(&schema["definitions"], &schema["definitions"]["RawConfig"], "", &mut Vec::new(), &mut keys);
    assert!(keys.len() > 300, "the schema has another shape: {keys:?}");
    let unclassified: Vec<&String> = keys.iter().filter(|key| skep_config::classify(key).is_none()).collect();
    assert!(unclassified.is_empty(), "{unclassified:#?}");
}

/// All keys below `node`, in the form that `classify` takes.
fn collect(all: &Value, node: &Value, path: &str, open: &mut Vec<String>, keys: &mut BTreeSet<String>) {
    if let Some(name) = node["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        if !open.iter().any(|o| o == name) {
            open.push(name.to_owned());
            collect(all, &all[name], path, open, keys);
            open.pop();
        }
        return;
    }
    for (key, value) in node["properties"].as_object().into_iter().flatten() {
        let key = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        // An environment has the keys of the top.
        if key != "env" {
            collect(all, value, &key, open, keys);
        }
        keys.insert(key);
    }
    let items = match &node["items"] {
        Value::Array(items) => items.clone(),
        Value::Object(_) => vec![node["items"].clone()],
        _ => Vec::new(),
    };
    for item in items {
        collect(all, &item, &format!("{path}[]"), open, keys);
    }
    for choice in
        ["anyOf", "oneOf", "allOf"].iter().flat_map(|name| node[*name].as_array().into_iter().flatten())
    {
        collect(all, choice, path, open, keys);
    }
    if node["additionalProperties"].is_object() {
        collect(all, &node["additionalProperties"], &format!("{path}.*"), open, keys);
    }
}
