//! The `bindings` of an upload, in wrangler's order and form. Pure.
//! <https://developers.cloudflare.com/workers/configuration/multipart-upload-metadata/#bindings>

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::project::Project;

/// The ids of what the bindings name, by binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// KV namespaces.
    pub kv: BTreeMap<String, String>,
    /// D1 databases.
    pub d1: BTreeMap<String, String>,
    /// Buckets that had no name.
    pub r2: BTreeMap<String, String>,
}

/// What `binding` is called on `env`, in either spelling.
pub(crate) fn name_of(binding: &Json) -> &str {
    binding["binding"].as_str().or_else(|| binding["name"].as_str()).unwrap_or_default()
}

/// All bindings; `kept` are secrets that have to be there already.
pub fn bindings(project: &Project, ids: &Ids, kept: &[String]) -> Vec<Json> {
    let mut all: Vec<Json> = kept.iter().map(|name| json!({ "name": name, "type": "inherit" })).collect();
    all.extend(variables(project));
    all.extend(
        project
            .secrets
            .iter()
            .map(|(name, text)| json!({ "name": name, "type": "secret_text", "text": text })),
    );
    let list = |path: &[&str]| project.list(path);
    let id = |ids: &BTreeMap<String, String>, own: &Json| match ids.get(name_of(own)) {
        Some(id) => Json::from(id.clone()),
        None => own["id"].clone(),
    };
    all.extend(list(&["kv_namespaces"]).iter().map(
        |own| json!({ "name": own["binding"], "type": "kv_namespace", "namespace_id": id(&ids.kv, own) }),
    ));
    let mail = ["destination_address", "allowed_sender_addresses", "allowed_destination_addresses"];
    all.extend(list(&["send_email"]).iter().map(|own| with(own, "name", "send_email", &mail)));
    let object = ["class_name", "script_name", "environment"];
    let objects = list(&["durable_objects", "bindings"]).iter();
    all.extend(objects.map(|own| with(own, "name", "durable_object_namespace", &object)));
    all.extend(list(&["workflows"]).iter().map(workflow));
    all.extend(list(&["queues", "producers"]).iter().map(queue));
    all.extend(list(&["r2_buckets"]).iter().map(|own| {
        let name = ids.r2.get(name_of(own)).cloned().map_or_else(|| own["bucket_name"].clone(), Json::from);
        let bucket = json!({ "name": own["binding"], "type": "r2_bucket", "bucket_name": name });
        add(bucket, own, &["jurisdiction"])
    }));
    all.extend(list(&["d1_databases"]).iter().map(|own| {
        let id = ids.d1.get(name_of(own)).cloned().map_or_else(|| own["database_id"].clone(), Json::from);
        json!({ "name": own["binding"], "type": "d1", "id": id })
    }));
    for (path, name, kind, fields) in LISTS {
        all.extend(list(path).iter().map(|own| with(own, name, kind, fields)));
    }
    all.extend(list(&["dispatch_namespaces"]).iter().map(dispatch));
    for (path, name, kind, fields) in LATER_LISTS {
        all.extend(list(path).iter().map(|own| with(own, name, kind, fields)));
    }
    for (key, kind) in SINGLES {
        let own = &project.raw[*key];
        if own["binding"].is_string() {
            all.push(with(own, "binding", kind, &["staging"]));
        }
    }
    if project.assets.is_some() && project.raw["assets"]["binding"].is_string() {
        all.push(json!({ "name": project.raw["assets"]["binding"], "type": "assets" }));
    }
    all.extend(list(&["unsafe", "bindings"]).iter().map(unsafe_binding));
    all
}

/// Where, which key is the name, which type, which fields.
type Row = (&'static [&'static str], &'static str, &'static str, &'static [&'static str]);

const LISTS: &[Row] = &[
    (&["vectorize"], "binding", "vectorize", &["index_name"]),
    (&["hyperdrive"], "binding", "hyperdrive", &["id"]),
    (&["secrets_store_secrets"], "binding", "secrets_store_secret", &["store_id", "secret_name"]),
    (&["ratelimits"], "name", "ratelimit", &["namespace_id", "simple"]),
    (&["vpc_services"], "binding", "vpc_service", &["service_id"]),
    (&["services"], "binding", "service", &["service", "environment", "entrypoint", "props"]),
    (&["analytics_engine_datasets"], "binding", "analytics_engine", &["dataset"]),
];

const LATER_LISTS: &[Row] = &[
    (&["mtls_certificates"], "binding", "mtls_certificate", &["certificate_id"]),
    (&["pipelines"], "binding", "pipelines", &["pipeline", "stream"]),
    (&["worker_loaders"], "binding", "worker_loader", &[]),
    (&["logfwdr", "bindings"], "name", "logfwdr", &["destination"]),
];

const SINGLES: &[(&str, &str)] = &[
    ("browser", "browser"),
    ("ai", "ai"),
    ("images", "images"),
    ("stream", "stream"),
    ("media", "media"),
    ("version_metadata", "version_metadata"),
];

/// Strings are text, anything else JSON; those of the command line go last.
fn variables(project: &Project) -> Vec<Json> {
    let mut vars: Map<String, Json> = project.raw["vars"].as_object().cloned().unwrap_or_default();
    for (name, value) in &project.vars {
        vars.insert(name.clone(), value.clone());
    }
    vars.retain(|name, _| !project.secrets.contains_key(name));
    let variable = |(name, value): (String, Json)| match value {
        Json::String(text) => json!({ "name": name, "type": "plain_text", "text": text }),
        value => json!({ "name": name, "type": "json", "json": value }),
    };
    vars.into_iter().map(variable).collect()
}

fn with(own: &Json, name: &str, kind: &str, fields: &[&str]) -> Json {
    add(json!({ "name": own[name], "type": kind }), own, fields)
}

/// Adds those of `fields` that `own` has.
fn add(mut binding: Json, own: &Json, fields: &[&str]) -> Json {
    for field in fields.iter().filter(|field| !own[**field].is_null()) {
        binding[*field] = own[*field].clone();
    }
    binding
}

fn workflow(own: &Json) -> Json {
    let binding = json!({ "type": "workflow", "name": own["binding"], "workflow_name": own["name"] });
    add(binding, own, &["class_name", "script_name"])
}

fn queue(own: &Json) -> Json {
    let binding = json!({ "type": "queue", "name": own["binding"], "queue_name": own["queue"] });
    add(binding, own, &["delivery_delay"])
}

fn dispatch(own: &Json) -> Json {
    let mut binding =
        json!({ "name": own["binding"], "type": "dispatch_namespace", "namespace": own["namespace"] });
    let outbound = &own["outbound"];
    if outbound.is_object() {
        let worker = add(json!({ "service": outbound["service"] }), outbound, &["environment"]);
        let parameters = outbound["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let parameters: Vec<Json> = parameters.iter().map(|name| json!({ "name": name })).collect();
        binding["outbound"] = json!({ "worker": worker });
        if !parameters.is_empty() {
            binding["outbound"]["params"] = parameters.into();
        }
    }
    binding
}

/// Passed on as it is, but for what only development needs.
fn unsafe_binding(own: &Json) -> Json {
    let mut binding = json!({ "name": own["name"], "type": own["type"] });
    for (key, value) in own.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "name" | "type" | "dev") {
            binding[key] = value.clone();
        }
    }
    binding
}
