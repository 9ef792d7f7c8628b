//! The `bindings` of an upload, in wrangler's order and form. Pure.
//! <https://developers.cloudflare.com/workers/configuration/multipart-upload-metadata/#bindings>

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};
use skep_bundle::ModuleKind;

use crate::project::Project;
use crate::{site, upload};

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
    if project.site.is_some() {
        let id = ids.kv.get(site::CONTENT);
        all.push(json!({ "name": site::CONTENT, "type": "kv_namespace", "namespace_id": id }));
    }
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
    all.extend(blobs(project, ModuleKind::Wasm));
    for (key, kind) in SINGLES {
        let own = &project.raw[*key];
        if own["binding"].is_string() {
            all.push(with(own, "binding", kind, &["staging"]));
        }
    }
    if project.assets.is_some() && project.raw["assets"]["binding"].is_string() {
        all.push(json!({ "name": project.raw["assets"]["binding"], "type": "assets" }));
    }
    all.extend(blobs(project, ModuleKind::Text));
    if upload::has_manifest_as_global(project) {
        all.push(blob(site::MANIFEST, ModuleKind::Text));
    }
    all.extend(blobs(project, ModuleKind::Data));
    all.extend(list(&["unsafe", "bindings"]).iter().map(unsafe_binding));
    all
}

/// Where, which key is the name, which type, which fields.
pub(crate) type Row = (&'static [&'static str], &'static str, &'static str, &'static [&'static str]);

pub(crate) const LISTS: &[Row] = &[
    (&["vectorize"], "binding", "vectorize", &["index_name"]),
    (&["hyperdrive"], "binding", "hyperdrive", &["id"]),
    (&["secrets_store_secrets"], "binding", "secrets_store_secret", &["store_id", "secret_name"]),
    (&["ratelimits"], "name", "ratelimit", &["namespace_id", "simple"]),
    (&["vpc_services"], "binding", "vpc_service", &["service_id"]),
    (&["services"], "binding", "service", &["service", "environment", "entrypoint", "props"]),
    (&["analytics_engine_datasets"], "binding", "analytics_engine", &["dataset"]),
];

pub(crate) const LATER_LISTS: &[Row] = &[
    (&["mtls_certificates"], "binding", "mtls_certificate", &["certificate_id"]),
    (&["pipelines"], "binding", "pipelines", &["pipeline", "stream"]),
    (&["worker_loaders"], "binding", "worker_loader", &[]),
    (&["logfwdr", "bindings"], "name", "logfwdr", &["destination"]),
];

pub(crate) const SINGLES: &[(&str, &str)] = &[
    ("browser", "browser"),
    ("ai", "ai"),
    ("images", "images"),
    ("stream", "stream"),
    ("media", "media"),
    ("version_metadata", "version_metadata"),
];

/// A global that is a part of the upload.
pub(crate) fn blob(name: &str, kind: ModuleKind) -> Json {
    let kind = match kind {
        ModuleKind::Wasm => "wasm_module",
        ModuleKind::Text => "text_blob",
        _ => "data_blob",
    };
    json!({ "name": name, "type": kind, "part": name })
}

fn blobs(project: &Project, kind: ModuleKind) -> impl Iterator<Item = Json> + '_ {
    project.blobs.iter().filter(move |own| own.kind == kind).map(|own| blob(&own.name, own.kind))
}

/// Strings are text, anything else JSON; texts go first, and those of the command line last.
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
    let (texts, others): (Vec<_>, Vec<_>) = vars.into_iter().partition(|(_, value)| value.is_string());
    texts.into_iter().chain(others).map(variable).collect()
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

#[cfg(test)]
mod tests {
    use skep_config::WorkerConfig;

    use super::*;

    fn project(raw: Json) -> Project {
        let config = WorkerConfig { name: "full".into(), ..WorkerConfig::default() };
        Project { assets: Some(Default::default()), ..Project::plain(config, raw, None) }
    }

    /// Recorded from wrangler 4.164: what Skep's own server does not have, so that no other test sends it.
    #[test]
    fn bindings_that_only_cloudflare_has_are_sent_as_wrangler_sends_them() {
        let raw = json!({
            "kv_namespaces": [{ "binding": "KV", "id": "0123456789abcdef0123456789abcdef" }],
            "send_email": [
                { "name": "MAIL", "destination_address": "a@example.com" },
                { "name": "MAIL2", "allowed_destination_addresses": ["b@example.com"], "allowed_sender_addresses": ["c@example.com"] },
            ],
            "durable_objects": { "bindings": [{ "name": "DOX", "class_name": "Other", "script_name": "otherworker" }] },
            "r2_buckets": [{ "binding": "R2", "bucket_name": "bkt", "jurisdiction": "eu" }],
            "vectorize": [{ "binding": "VEC", "index_name": "idx" }],
            "hyperdrive": [{ "binding": "HD", "id": "hd1", "localConnectionString": "postgres://x" }],
            "secrets_store_secrets": [{ "binding": "SS", "store_id": "st1", "secret_name": "sn" }],
            "vpc_services": [{ "binding": "VPC", "service_id": "vs1" }],
            "dispatch_namespaces": [{ "binding": "DISP", "namespace": "ns1", "outbound": { "service": "outw", "parameters": ["p1", "p2"] } }],
            "mtls_certificates": [{ "binding": "MTLS", "certificate_id": "22222222-2222-4222-8222-222222222222" }],
            "pipelines": [{ "binding": "PIPE", "pipeline": "p1" }],
            "worker_loaders": [{ "binding": "LOADER" }],
            "logfwdr": { "bindings": [{ "name": "LOGF", "destination": "d" }] },
            "browser": { "binding": "BROWSER", "remote": true }, "ai": { "binding": "AI" }, "images": { "binding": "IMAGES" },
            "stream": { "binding": "STREAM" }, "media": { "binding": "MEDIA", "remote": true },
        });
        let expected = r#"[{"name":"KV","type":"kv_namespace","namespace_id":"0123456789abcdef0123456789abcdef"},
            {"name":"MAIL","type":"send_email","destination_address":"a@example.com"},
            {"name":"MAIL2","type":"send_email","allowed_sender_addresses":["c@example.com"],"allowed_destination_addresses":["b@example.com"]},
            {"name":"DOX","type":"durable_object_namespace","class_name":"Other","script_name":"otherworker"},
            {"name":"R2","type":"r2_bucket","bucket_name":"bkt","jurisdiction":"eu"},
            {"name":"VEC","type":"vectorize","index_name":"idx"},
            {"name":"HD","type":"hyperdrive","id":"hd1"},
            {"name":"SS","type":"secrets_store_secret","store_id":"st1","secret_name":"sn"},
            {"name":"VPC","type":"vpc_service","service_id":"vs1"},
            {"name":"DISP","type":"dispatch_namespace","namespace":"ns1","outbound":{"worker":{"service":"outw"},"params":[{"name":"p1"},{"name":"p2"}]}},
            {"name":"MTLS","type":"mtls_certificate","certificate_id":"22222222-2222-4222-8222-222222222222"},
            {"name":"PIPE","type":"pipelines","pipeline":"p1"},
            {"name":"LOADER","type":"worker_loader"},
            {"name":"LOGF","type":"logfwdr","destination":"d"},
            {"name":"BROWSER","type":"browser"},
            {"name":"AI","type":"ai"},
            {"name":"IMAGES","type":"images"},
            {"name":"STREAM","type":"stream"},
            {"name":"MEDIA","type":"media"}]"#;
        let sent = serde_json::to_string(&bindings(&project(raw), &Ids::default(), &[])).unwrap();
        let expected: Vec<&str> = expected.lines().map(str::trim).collect();
        assert_eq!(sent, expected.concat());
    }

    #[test]
    fn what_is_made_has_its_id_and_a_secret_hides_a_variable() {
        let raw = json!({ "vars": { "A": "1", "KEY": "plain" }, "kv_namespaces": [{ "binding": "KV" }],
            "d1_databases": [{ "binding": "DB", "database_id": "db" }], "r2_buckets": [{ "binding": "FILES" }] });
        let mut project = project(raw);
        project.secrets.insert("KEY".into(), "k".into());
        project.vars = vec![("A".into(), json!(2))];
        let mut ids = Ids::default();
        for (map, binding) in [(&mut ids.kv, "KV"), (&mut ids.d1, "DB"), (&mut ids.r2, "FILES")] {
            map.insert(binding.into(), format!("made-{binding}"));
        }
        let expected = json!([
            { "name": "OLD", "type": "inherit" },
            { "name": "A", "type": "json", "json": 2 },
            { "name": "KEY", "type": "secret_text", "text": "k" },
            { "name": "KV", "type": "kv_namespace", "namespace_id": "made-KV" },
            { "name": "FILES", "type": "r2_bucket", "bucket_name": "made-FILES" },
            { "name": "DB", "type": "d1", "id": "made-DB" },
        ]);
        assert_eq!(json!(bindings(&project, &ids, &["OLD".into()])), expected);
    }
}
