//! What several operations show, by its name in the description; and what stands in paths.

use std::sync::LazyLock;

use serde_json::{Map, Value as Json, json};

use super::schema::{
    Field, count, fields, flag, list, map, may, must, named, null, object, one_of, opt, or_null, pattern,
    text, time, whole,
};

/// The parameters of a path.
pub(crate) fn path_parameters(path: &str) -> impl Iterator<Item = Json> {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix([':', '*']));
    names.map(|name| {
        let (description, schema) = match name {
            "account" => ("The id of the account.", pattern("^[0-9a-f]{32}$")),
            "script" => ("The name of a Worker.", segment()),
            "zone" => ("The id or the name of a zone.", segment()),
            "hash" => ("The hash of an asset in the manifest.", pattern("^[0-9a-fA-F]{32}$")),
            "secret" => ("The name of a secret, or what is secret in an address.", segment()),
            "key" => ("A key.", segment()),
            "tag" => ("A label.", segment()),
            "name" => ("A name.", segment()),
            "namespace" => ("The id of a KV namespace, or the name of a dispatch namespace.", segment()),
            "database" => ("The id or the name of a database.", segment()),
            "bucket" | "index" | "workflow" => ("Its name.", segment()),
            "registry" => ("The host of an image registry.", segment()),
            _ => ("Its id.", segment()),
        };
        json!({ "name": name, "in": "path", "required": true, "description": description, "schema": schema })
    })
}

fn segment() -> Json {
    json!({ "type": "string", "minLength": 1 })
}

type Shape = (&'static str, fn() -> Json);

const SHAPES: &[Shape] = &[
    ("Message", message),
    ("Failure", failure),
    ("PageInfo", page_info),
    ("Account", account),
    ("Token", token),
    ("TokenTerms", token_terms),
    ("Script", script),
    ("Worker", worker),
    ("Metadata", metadata),
    ("Binding", binding),
    ("ScriptSettings", script_settings),
    ("Settings", settings),
    ("AskedSettings", asked_settings),
    ("AskedScriptSettings", asked_script_settings),
    ("Secret", secret),
    ("Version", version),
    ("Deployment", deployment),
    ("Route", route),
    ("Domain", domain),
    ("Origin", origin),
    ("Namespace", namespace),
    ("Bucket", bucket),
    ("Object", r2_object),
    ("Queue", queue),
    ("Hyperdrive", super::hyperdrive::shape),
    ("SecretsStore", super::secrets_store::store),
    ("StoredSecret", super::secrets_store::secret),
    ("VectorizeIndex", super::vectorize::shape),
    ("ContainerApplication", super::containers::shape),
    ("Consumer", consumer),
    ("DispatchNamespace", dispatch_namespace),
    ("DispatchScript", dispatch_script),
    ("Workflow", workflow),
    ("Database", database),
    ("TelemetryFilter", super::observability::filter),
    ("TelemetryEvent", super::observability::event),
];

/// All schemas that have a name.
pub(crate) fn all() -> Map<String, Json> {
    SHAPES.iter().map(|(name, shape)| ((*name).to_owned(), shape())).collect()
}

/// The schema that a reference is to.
pub(crate) fn of(reference: &str) -> Option<&'static Json> {
    static ALL: LazyLock<Map<String, Json>> = LazyLock::new(all);
    ALL.get(reference.rsplit('/').next()?)
}

fn message() -> Json {
    object([must("code", count()), must("message", text())])
}

fn failure() -> Json {
    object([
        must("success", json!({ "const": false })),
        must("errors", json!({ "type": "array", "items": named("Message"), "minItems": 1 })),
        must("messages", list(named("Message"))),
        // Workers AI has an object without anything in it.
        must("result", or_null(json!({ "type": "object", "maxProperties": 0 }))),
    ])
}

fn page_info() -> Json {
    let names = ["count", "page", "per_page", "total_count", "total_pages"];
    object(names.map(|name| must(name, count())))
}

fn account() -> Json {
    object([
        must("id", text()),
        must("name", text()),
        must("type", one_of(&["standard"])),
        must("created_on", time()),
        must("settings", object([must("enforce_twofactor", flag())])),
    ])
}

fn policy() -> Json {
    object([
        must("effect", one_of(&["allow"])),
        must("resources", fields()),
        must("permission_groups", list(object([must("id", text())]))),
    ])
}

fn token() -> Json {
    object([
        must("id", text()),
        must("name", text()),
        must("status", one_of(&["active", "disabled", "expired"])),
        must("policies", list(policy())),
        must("issued_on", time()),
        must("modified_on", time()),
        may("not_before", time()),
        may("expires_on", time()),
    ])
}

fn token_terms() -> Json {
    object([
        must("name", json!({ "type": "string", "minLength": 1, "maxLength": crate::tokens::MAX_NAME })),
        must("policies", list(policy())),
        may("condition", or_null(json!({ "type": "object", "maxProperties": 0 }))),
        opt("not_before", time()),
        opt("expires_on", time()),
        opt("status", one_of(&["active", "disabled", "expired"])),
    ])
}

fn handlers() -> Json {
    list(object([must("name", text()), must("handlers", list(text()))]))
}

fn script() -> Json {
    object([
        must("id", text()),
        must("tag", text()),
        must("etag", text()),
        must("handlers", list(text())),
        must("named_handlers", handlers()),
        must("has_assets", flag()),
        must("has_modules", flag()),
        must("compatibility_date", text()),
        must("compatibility_flags", list(text())),
        must("created_on", time()),
        must("modified_on", time()),
        must("last_deployed_from", text()),
        must("logpush", flag()),
        must("observability", fields()),
        must("tags", list(text())),
        must("tail_consumers", list(fields())),
        must("usage_model", text()),
        must("startup_time_ms", count()),
        may("migration_tag", text()),
        may("placement", fields()),
        may("placement_mode", or_null(text())),
        may("deployment_id", text()),
        may("entry_point", text()),
        may("exports", fields()),
        may("exports_reconciliation", fields()),
    ])
}

fn worker() -> Json {
    let subdomain = object([
        must("enabled", flag()),
        must("previews_enabled", flag()),
        must("url", or_null(text())),
        must("preview_url_suffix", or_null(text())),
    ]);
    object([
        must("id", text()),
        must("name", text()),
        must("created_on", time()),
        must("updated_on", time()),
        must("deployed_on", or_null(time())),
        must("logpush", flag()),
        must("tags", list(text())),
        must("observability", fields()),
        must("subdomain", subdomain),
        must("tail_consumers", list(fields())),
        must("references", fields()),
    ])
}

fn limits() -> Json {
    object([
        opt("cpu_ms", whole(1, crate::limits::MOST_CPU_MS)),
        opt("subrequests", whole(1, crate::limits::MOST_SUBREQUESTS)),
    ])
}

/// <https://developers.cloudflare.com/workers/configuration/multipart-upload-metadata/>
fn metadata() -> Json {
    object([
        opt("main_module", text()),
        opt("body_part", text()),
        opt("bindings", list(named("Binding"))),
        opt("keep_bindings", list(text())),
        opt("compatibility_date", text()),
        opt("compatibility_flags", list(text())),
        opt("usage_model", text()),
        opt("migrations", fields()),
        opt("exports", fields()),
        opt("limits", limits()),
        opt("placement", fields()),
        opt("logpush", flag()),
        opt("observability", fields()),
        opt("tags", list(text())),
        opt("tail_consumers", list(object([must("service", text())]))),
        opt("annotations", fields()),
        opt("assets", object([opt("jwt", text()), opt("config", fields())])),
        opt("keep_assets", flag()),
        opt("containers", list(fields())),
    ])
}

/// More fields follow from the type.
fn binding() -> Json {
    object([must("name", text()), must("type", text())])
}

fn script_settings() -> Json {
    object([
        must("logpush", flag()),
        must("observability", fields()),
        must("tags", list(text())),
        must("tail_consumers", list(fields())),
    ])
}

fn settings() -> Json {
    object([
        must("logpush", flag()),
        must("observability", fields()),
        must("tags", list(text())),
        must("tail_consumers", list(fields())),
        must("bindings", list(named("Binding"))),
        must("compatibility_date", or_null(text())),
        must("compatibility_flags", list(text())),
        must("limits", fields()),
        must("placement", fields()),
        must("usage_model", text()),
        may("migration_tag", text()),
        may("exports", fields()),
    ])
}

/// What is not named stays.
fn asked_script_settings() -> Json {
    object(asked_of_script())
}

fn asked_of_script() -> [Field; 4] {
    [
        opt("logpush", flag()),
        opt("observability", fields()),
        opt("tags", list(text())),
        opt("tail_consumers", list(object([must("service", text())]))),
    ]
}

fn asked_settings() -> Json {
    object(asked_of_script().into_iter().chain([
        opt("bindings", list(named("Binding"))),
        opt("compatibility_date", text()),
        opt("compatibility_flags", list(text())),
        opt("limits", limits()),
        opt("placement", fields()),
    ]))
}

fn secret() -> Json {
    object([must("name", text()), must("type", one_of(&["secret_text", "secret_key"]))])
}

fn version() -> Json {
    let metadata = object([
        must("created_on", time()),
        must("modified_on", time()),
        must("source", text()),
        must("author_id", text()),
        must("author_email", text()),
        must("has_preview", flag()),
    ]);
    let resources = object([
        must("bindings", list(named("Binding"))),
        must(
            "script",
            object([
                must("etag", text()),
                must("handlers", list(text())),
                must("named_handlers", handlers()),
            ]),
        ),
        must("script_runtime", object([must("usage_model", text()), must("limits", fields())])),
    ]);
    object([
        must("id", text()),
        must("number", whole(1, u64::from(u32::MAX))),
        must("metadata", metadata),
        must("annotations", map(text())),
        must("resources", resources),
        must("startup_time_ms", count()),
        may("exports_reconciliation", fields()),
    ])
}

pub(crate) fn shares() -> Json {
    let share = object([
        must("version_id", text()),
        must("percentage", json!({ "type": "number", "minimum": 0, "maximum": 100 })),
    ]);
    json!({ "type": "array", "items": share, "minItems": 1, "maxItems": 2 })
}

fn deployment() -> Json {
    object([
        must("id", text()),
        must("source", text()),
        must("strategy", one_of(&["percentage"])),
        must("author_email", text()),
        must("created_on", time()),
        must("annotations", map(text())),
        must("versions", shares()),
    ])
}

fn route() -> Json {
    object([must("id", text()), must("pattern", text()), must("script", or_null(text()))])
}

fn domain() -> Json {
    let texts = ["id", "hostname", "service", "environment", "zone_id", "zone_name", "cert_id"];
    let flags = ["enabled", "previews_enabled"].map(|name| must(name, flag()));
    object(texts.map(|name| must(name, text())).into_iter().chain(flags))
}

fn origin() -> Json {
    object([
        must("hostname", json!({ "type": "string", "minLength": 1, "maxLength": 253 })),
        opt("zone_name", text()),
        opt("zone_id", text()),
        opt("enabled", flag()),
        opt("previews_enabled", flag()),
    ])
}

fn namespace() -> Json {
    object([must("id", text()), must("title", text()), must("supports_url_encoding", flag())])
}

fn bucket() -> Json {
    object([
        must("name", text()),
        must("creation_date", time()),
        must("location", text()),
        must("storage_class", super::r2::class()),
        must("jurisdiction", text()),
    ])
}

fn r2_object() -> Json {
    object([
        must("key", text()),
        must("version", text()),
        must("etag", text()),
        must("size", count()),
        must("last_modified", time()),
        must("http_metadata", fields()),
        must("custom_metadata", map(text())),
        must("storage_class", super::r2::class()),
        may("uploaded", time()),
    ])
}

fn queue() -> Json {
    object([
        must("queue_id", text()),
        must("queue_name", text()),
        must("created_on", time()),
        must("modified_on", time()),
        must("producers", list(object([must("type", text()), must("script", text())]))),
        must("producers_total_count", count()),
        must("consumers", list(named("Consumer"))),
        must("consumers_total_count", count()),
        must(
            "settings",
            object([
                must("delivery_delay", count()),
                must("delivery_paused", flag()),
                must("message_retention_period", count()),
            ]),
        ),
    ])
}

fn consumer() -> Json {
    object([
        must("consumer_id", text()),
        must("type", one_of(&["worker", "http_pull"])),
        may("script", text()),
        must("queue_name", text()),
        must("dead_letter_queue", text()),
        must("settings", fields()),
        must("created_on", time()),
    ])
}

fn dispatch_namespace() -> Json {
    object([
        must("namespace_id", text()),
        must("namespace_name", text()),
        must("script_count", count()),
        must("trusted_workers", flag()),
        must("created_on", time()),
        must("created_by", or_null(text())),
        must("modified_on", time()),
        must("modified_by", or_null(text())),
    ])
}

fn dispatch_script() -> Json {
    object([
        must("id", text()),
        must("script", named("Script")),
        must("dispatch_namespace", text()),
        must("created_on", time()),
        must("modified_on", time()),
    ])
}

fn workflow() -> Json {
    object([
        must("id", text()),
        must("name", text()),
        must("script_name", text()),
        must("class_name", text()),
        must("created_on", time()),
        must("modified_on", time()),
        must("triggered_on", null()),
        must("instances", fields()),
        may("schedules", list(object([must("cron", text()), must("next_instance", time())]))),
        may("version_id", text()),
    ])
}

fn database() -> Json {
    object([
        must("uuid", text()),
        must("name", text()),
        must("version", text()),
        must("created_at", time()),
        must("read_replication", object([must("mode", one_of(&["disabled"]))])),
        may("jurisdiction", text()),
        may("num_tables", count()),
        may("file_size", count()),
    ])
}
