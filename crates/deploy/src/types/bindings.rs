//! The type of each binding.

use serde_json::Value as Json;

use super::TypesInput;
use crate::bindings::name_of;

/// One binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Whether it is a variable or a secret.
    pub is_variable: bool,
}

/// Lists of bindings and their types, in wrangler's order.
const LISTS: &[(&[&str], &str)] = &[
    (&["kv_namespaces"], "KVNamespace"),
    (&["r2_buckets"], "R2Bucket"),
    (&["d1_databases"], "D1Database"),
    (&["vectorize"], "VectorizeIndex"),
    (&["hyperdrive"], "Hyperdrive"),
    (&["send_email"], "SendEmail"),
    (&["analytics_engine_datasets"], "AnalyticsEngineDataset"),
    (&["dispatch_namespaces"], "DispatchNamespace"),
    (&["mtls_certificates"], "Fetcher"),
    (&["queues", "producers"], "Queue"),
    (&["secrets_store_secrets"], "SecretsStoreSecret"),
    (&["artifacts"], "Artifacts"),
    (&["unsafe_hello_world"], "HelloWorldBinding"),
    (&["flagship"], "Flagship"),
    (&["ratelimits"], "RateLimit"),
    (&["worker_loaders"], "WorkerLoader"),
    (&["vpc_services"], "Fetcher"),
    (&["vpc_networks"], "Fetcher"),
    (&["ai_search_namespaces"], "AiSearchNamespace"),
    (&["ai_search"], "AiSearchInstance"),
    (&["agent_memory"], "AgentMemoryNamespace"),
];

/// Bindings that there can be one of.
const SINGLES: &[(&str, &str)] = &[
    ("browser", "BrowserRun"),
    ("ai", "Ai"),
    ("images", "ImagesBinding"),
    ("stream", "StreamBinding"),
    ("media", "MediaBinding"),
    ("version_metadata", "WorkerVersionMetadata"),
    ("assets", "Fetcher"),
];

fn list<'a>(own: &'a Json, path: &[&str]) -> &'a [Json] {
    let value = path.iter().fold(own, |value, key| &value[*key]);
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The bindings of the top of the file or of one environment, as they stand there. `one_of_many`: types of all
/// environments are made, which has an order of its own.
pub(super) fn entries(input: &TypesInput<'_>, own: &Json, one_of_many: bool) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    let entry = |name: &str, kind: String| Entry { name: name.to_owned(), kind, is_variable: false };
    for (path, kind) in LISTS {
        all.extend(list(own, path).iter().map(|own| entry(name_of(own), (*kind).to_owned())));
    }
    if !list(own, &["logfwdr", "bindings"]).is_empty() {
        all.push(entry("LOGFWDR_SCHEMA", "any".to_owned()));
    }
    for (key, kind) in SINGLES {
        // Environments take over the assets, and no other binding; wrangler forgets it where one environment is asked for.
        let inherited = *key == "assets" && one_of_many && own[*key].is_null();
        let own = if inherited { input.file } else { own };
        if let Some(name) = own[*key]["binding"].as_str() {
            all.push(entry(name, (*kind).to_owned()));
        }
    }
    let pipelines = || {
        const KIND: &str =
            "import(\"cloudflare:pipelines\").Pipeline<import(\"cloudflare:pipelines\").PipelineRecord>";
        list(own, &["pipelines"]).iter().map(|own| entry(name_of(own), KIND.to_owned()))
    };
    if !one_of_many {
        all.extend(pipelines());
    }
    all.extend(variables(input, own));
    all.extend(
        list(own, &["durable_objects", "bindings"])
            .iter()
            .map(|own| entry(name_of(own), objects(input, own))),
    );
    all.extend(list(own, &["services"]).iter().map(|own| entry(name_of(own), service(input, own))));
    all.extend(list(own, &["workflows"]).iter().map(|own| entry(name_of(own), workflow(input, own))));
    let is_top = std::ptr::eq(own, input.file);
    all.extend(list(own, &["unsafe", "bindings"]).iter().map(|own| {
        let kind = match own["type"].as_str() {
            Some("ratelimit") => "RateLimit",
            Some("service") if !(one_of_many && is_top) => "Fetcher",
            _ => "any",
        };
        entry(name_of(own), kind.to_owned())
    }));
    if one_of_many {
        all.extend(pipelines());
    }
    all.extend(
        own["data_blobs"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| entry(name, "ArrayBuffer".into())),
    );
    all.extend(
        own["text_blobs"].as_object().into_iter().flatten().map(|(name, _)| entry(name, "string".into())),
    );
    all
}

/// Variables with their literal types, then secrets, which are strings.
fn variables(input: &TypesInput<'_>, own: &Json) -> Vec<Entry> {
    let environments = input.file["env"].as_object();
    let configured = !input.file["secrets"].is_null()
        || environments.into_iter().flatten().any(|(_, own)| !own["secrets"].is_null());
    let secrets: Vec<String> = match configured {
        true => {
            let names = list(own, &["secrets", "required"]).iter();
            names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
        }
        false => input.secrets.to_vec(),
    };
    let vars = own["vars"].as_object().into_iter().flatten().filter(|(name, _)| !secrets.contains(name));
    let var = |(name, value): (&String, &Json)| Entry {
        name: name.clone(),
        kind: if input.strict_vars { value.to_string() } else { loose(value) },
        is_variable: true,
    };
    let mut all: Vec<Entry> = vars.map(var).collect();
    all.extend(secrets.into_iter().map(|name| Entry { name, kind: "string".to_owned(), is_variable: true }));
    all
}

/// JavaScript's `typeof`.
fn loose(value: &Json) -> String {
    let of = |value: &Json| match value {
        Json::String(_) => "string",
        Json::Number(_) => "number",
        Json::Bool(_) => "boolean",
        Json::Null | Json::Array(_) | Json::Object(_) => "object",
    };
    let Json::Array(items) = value else { return of(value).to_owned() };
    let mut kinds: Vec<&str> = items.iter().map(of).collect();
    kinds.sort_unstable();
    kinds.dedup();
    match kinds.as_slice() {
        [] => "unknown[]".to_owned(),
        [one] => format!("{one}[]"),
        several => format!("({})[]", several.join("|")),
    }
}

/// How a class of the entry module is named, if it exports it.
fn exported<'a>(input: &TypesInput<'a>, class: &str) -> Option<&'a str> {
    input.module.filter(|_| input.exports.iter().any(|own| own == class))
}

fn objects(input: &TypesInput<'_>, own: &Json) -> String {
    let class = own["class_name"].as_str().unwrap_or_default();
    match own["script_name"].as_str() {
        Some(script) => format!("DurableObjectNamespace /* {class} from {script} */"),
        None => match exported(input, class) {
            Some(module) => format!("DurableObjectNamespace<import(\"{module}\").{class}>"),
            None => format!("DurableObjectNamespace /* {class} */"),
        },
    }
}

fn service(input: &TypesInput<'_>, own: &Json) -> String {
    let script = own["service"].as_str().unwrap_or_default();
    let entrypoint = own["entrypoint"].as_str();
    let class = entrypoint.unwrap_or("default");
    match (exported(input, class).filter(|_| script == input.name), entrypoint) {
        (Some(module), _) => format!("Service<typeof import(\"{module}\").{class}>"),
        (None, Some(entrypoint)) => format!("Service /* entrypoint {entrypoint} from {script} */"),
        (None, None) => format!("Fetcher /* {script} */"),
    }
}

fn workflow(input: &TypesInput<'_>, own: &Json) -> String {
    let class = own["class_name"].as_str().unwrap_or_default();
    match own["script_name"].as_str() {
        Some(script) => format!("Workflow /* {class} from {script} */"),
        None => match exported(input, class) {
            Some(module) => {
                format!("Workflow<Parameters<import(\"{module}\").{class}['run']>[0]['payload']>")
            }
            None => format!("Workflow /* {class} */"),
        },
    }
}
