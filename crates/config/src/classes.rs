//! What each key of a wrangler configuration means here: it works, it has no meaning off Cloudflare, or it is
//! refused. A test reads the schema that wrangler ships and fails when a key is missing.
//!
//! Patterns: `a.b` is a key in an object, `a[].b` one in the objects of a list, `a.*` any key.

/// What happens to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyClass {
    /// It does what it does on Cloudflare.
    Works,
    /// It changes nothing on one's own machines; said once. Why.
    NoMeaning(&'static str),
    /// Skep does not have it. What to do.
    Refused(&'static str),
}

use KeyClass::{NoMeaning, Refused, Works};

const SCHEMA: &str = "it is for editors";
const ACCOUNT: &str = "there is no Cloudflare account or zone on this machine";
const SSH: &str = "`docker exec` opens a shell in a container on this machine";
const MANAGED: &str =
    "containers that a Durable Object manages do not work in `skep dev`: name one image in \"image\"";
const TELEMETRY: &str = "Skep sends nothing home";
const NETWORK: &str = "there is one place: this machine";
const DEPLOY: &str = "it is about deploying";
const REMOTE: &str = "`skep dev` has the binding on this machine, as `wrangler dev --local` does";
const MODELS: &str = "`--ai` says where models run";
const KIND: &str =
    "Skep does not have this kind of binding yet: remove it, or keep it in an `env` that runs on Cloudflare";
const LATER: &str = "Skep does not have this yet: remove it, or keep it in an `env` that runs on Cloudflare";

/// Everything below these keys is in the same class.
const TREES: &[(&str, KeyClass)] = &[
    ("access", Refused(LATER)),
    ("agent_memory", Refused(KIND)),
    ("ai_search", Refused(KIND)),
    ("ai_search_namespaces", Refused(KIND)),
    ("artifacts", Refused(KIND)),
    ("cache", NoMeaning("the Cache API always works; there is no other cache")),
    ("cloudchamber", Refused(LATER)),
    ("connect", Refused(KIND)),
    ("dependencies_instrumentation", NoMeaning(TELEMETRY)),
    ("exports", Works),
    ("flagship", Refused(KIND)),
    ("k2", Refused(KIND)),
    ("logfwdr", Refused(KIND)),
    ("media", Refused(KIND)),
    ("mtls_certificates", Refused(KIND)),
    ("observability", NoMeaning("`skep dev` prints logs as they happen")),
    ("pipelines", Refused(KIND)),
    ("placement", NoMeaning(NETWORK)),
    ("previews", NoMeaning(DEPLOY)),
    ("python_modules", NoMeaning("Python workers do not run on Skep")),
    ("route", Works),
    ("routes", Works),
    ("stream", Refused(KIND)),
    ("streaming_tail_consumers", Refused(LATER)),
    ("unsafe_hello_world", Refused(KIND)),
    ("vpc_networks", Refused(KIND)),
    ("vpc_services", Refused(KIND)),
];

const KEYS: &[(&str, KeyClass)] = &[
    ("$schema", NoMeaning(SCHEMA)),
    ("account_id", NoMeaning(ACCOUNT)),
    ("addresses", Refused(LATER)),
    ("ai", Works),
    ("ai.binding", Works),
    ("ai.remote", NoMeaning(MODELS)),
    ("ai.staging", NoMeaning(MODELS)),
    ("alias", Works),
    ("alias.*", Works),
    ("analytics", Refused(KIND)),
    ("analytics_engine_datasets", Works),
    ("analytics_engine_datasets[].binding", Works),
    ("analytics_engine_datasets[].dataset", Works),
    ("analytics_engine_datasets[].remote", NoMeaning(REMOTE)),
    ("assets", Works),
    ("assets.base_path", Refused(LATER)),
    ("assets.binding", Works),
    ("assets.directory", Works),
    ("assets.html_handling", Works),
    ("assets.not_found_handling", Works),
    ("assets.run_worker_first", Works),
    ("base_dir", Works),
    ("browser", Works),
    ("browser.binding", Works),
    ("browser.remote", NoMeaning(REMOTE)),
    ("build", Works),
    ("build.command", Works),
    ("build.cwd", Works),
    ("build.watch_dir", Works),
    ("compatibility_date", Works),
    ("compatibility_flags", Works),
    ("compliance_region", NoMeaning(NETWORK)),
    ("containers", Works),
    ("containers[].affinities", NoMeaning(NETWORK)),
    ("containers[].affinities.*", NoMeaning(NETWORK)),
    ("containers[].authorized_keys", NoMeaning(SSH)),
    ("containers[].authorized_keys[].*", NoMeaning(SSH)),
    ("containers[].class_name", Works),
    ("containers[].configuration", Works),
    ("containers[].configuration.*", Works),
    ("containers[].constraints", NoMeaning(NETWORK)),
    ("containers[].constraints.*", NoMeaning(NETWORK)),
    ("containers[].durable_objects", NoMeaning(ACCOUNT)),
    ("containers[].durable_objects.*", NoMeaning(ACCOUNT)),
    ("containers[].image", Works),
    ("containers[].image_build_context", Works),
    ("containers[].image_vars", Works),
    ("containers[].image_vars.*", Works),
    ("containers[].images", Refused(MANAGED)),
    ("containers[].instance_type", Works),
    ("containers[].instance_type.disk_mb", Works),
    ("containers[].instance_type.memory_mib", Works),
    ("containers[].instance_type.vcpu", Works),
    ("containers[].instances", NoMeaning("an object's container starts when the object wants it")),
    ("containers[].max_instances", Works),
    ("containers[].name", Works),
    ("containers[].observability", NoMeaning("Docker keeps what containers say: `docker logs`")),
    ("containers[].observability.*", NoMeaning("Docker keeps what containers say: `docker logs`")),
    ("containers[].rollout_active_grace_period", NoMeaning(DEPLOY)),
    ("containers[].rollout_kind", NoMeaning(DEPLOY)),
    ("containers[].rollout_step_percentage", NoMeaning(DEPLOY)),
    ("containers[].scheduling_policy", Works),
    ("containers[].ssh", NoMeaning(SSH)),
    ("containers[].ssh.*", NoMeaning(SSH)),
    ("containers[].trusted_user_ca_keys", NoMeaning(SSH)),
    ("containers[].trusted_user_ca_keys[].*", NoMeaning(SSH)),
    ("containers[].unsafe", NoMeaning(ACCOUNT)),
    ("containers[].unsafe.*", NoMeaning(ACCOUNT)),
    ("containers[].wrangler_ssh", NoMeaning(SSH)),
    ("containers[].wrangler_ssh.*", NoMeaning(SSH)),
    ("d1_databases", Works),
    ("d1_databases[].binding", Works),
    ("d1_databases[].database_id", Works),
    ("d1_databases[].database_internal_env", NoMeaning(ACCOUNT)),
    ("d1_databases[].database_name", Works),
    ("d1_databases[].jurisdiction", NoMeaning(NETWORK)),
    ("d1_databases[].migrations_dir", Works),
    ("d1_databases[].migrations_pattern", Works),
    ("d1_databases[].migrations_table", Works),
    ("d1_databases[].preview_database_id", Works),
    ("d1_databases[].remote", NoMeaning(REMOTE)),
    ("data_blobs", Works),
    ("data_blobs.*", Works),
    ("define", Works),
    ("define.*", Works),
    ("dev", Works),
    ("dev.container_engine", Works),
    ("dev.container_engine.localDocker", Works),
    (
        "dev.container_engine.localDocker.containerEgressInterceptorImage",
        NoMeaning("Skep does itself what this image does"),
    ),
    ("dev.container_engine.localDocker.socketPath", Works),
    ("dev.enable_containers", Works),
    ("dev.generate_types", NoMeaning("types are made by `wrangler types`")),
    ("dev.host", NoMeaning("requests keep the host that they were sent to")),
    ("dev.inspector_ip", NoMeaning("DevTools listens on the loopback address")),
    ("dev.inspector_port", Works),
    ("dev.ip", Works),
    ("dev.local_protocol", Works),
    ("dev.port", Works),
    ("dev.upstream_protocol", NoMeaning(NETWORK)),
    ("dispatch_namespaces", Works),
    ("dispatch_namespaces[].binding", Works),
    ("dispatch_namespaces[].namespace", Works),
    ("dispatch_namespaces[].outbound", Works),
    ("dispatch_namespaces[].outbound.environment", Works),
    ("dispatch_namespaces[].outbound.parameters", Works),
    ("dispatch_namespaces[].outbound.service", Works),
    ("dispatch_namespaces[].remote", NoMeaning(REMOTE)),
    ("durable_objects", Works),
    ("durable_objects.bindings", Works),
    ("durable_objects.bindings[].class_name", Works),
    ("durable_objects.bindings[].environment", Works),
    ("durable_objects.bindings[].name", Works),
    ("durable_objects.bindings[].script_name", Works),
    ("durable_objects.code_update_strategy", NoMeaning(DEPLOY)),
    ("durable_objects.code_update_strategy.*", NoMeaning(DEPLOY)),
    ("env", Works),
    ("env.*", Works),
    ("find_additional_modules", Works),
    ("first_party_worker", NoMeaning(ACCOUNT)),
    ("hyperdrive", Works),
    ("hyperdrive[].binding", Works),
    ("hyperdrive[].id", Works),
    ("hyperdrive[].localConnectionString", Works),
    ("hyperdrive[].remote", NoMeaning(REMOTE)),
    ("images", Works),
    ("images.binding", Works),
    ("images.remote", NoMeaning(REMOTE)),
    ("jsx_factory", Works),
    ("jsx_fragment", Works),
    ("keep_names", Works),
    ("keep_vars", NoMeaning(DEPLOY)),
    ("kv_namespaces", Works),
    ("kv_namespaces[].binding", Works),
    ("kv_namespaces[].id", Works),
    ("kv_namespaces[].preview_id", Works),
    ("kv_namespaces[].remote", NoMeaning(REMOTE)),
    ("limits", NoMeaning("`skep dev` sets no limits")),
    ("limits.*", NoMeaning("`skep dev` sets no limits")),
    ("logpush", NoMeaning(ACCOUNT)),
    ("main", Works),
    ("migrations", Works),
    ("migrations[].deleted_classes", Works),
    ("migrations[].new_classes", Works),
    ("migrations[].new_sqlite_classes", Works),
    ("migrations[].renamed_classes", Works),
    ("migrations[].renamed_classes[].from", Works),
    ("migrations[].renamed_classes[].to", Works),
    ("migrations[].tag", Works),
    ("migrations[].transferred_classes", Works),
    ("migrations[].transferred_classes[].from", Works),
    ("migrations[].transferred_classes[].from_script", Works),
    ("migrations[].transferred_classes[].to", Works),
    ("minify", Works),
    ("name", Works),
    ("no_bundle", Works),
    ("pages_build_output_dir", Refused("Pages projects do not run on Skep: use `assets` and `main`")),
    ("preserve_file_names", Works),
    ("preview_urls", NoMeaning(DEPLOY)),
    ("queues", Works),
    ("queues.consumers", Works),
    ("queues.consumers[].dead_letter_queue", Works),
    ("queues.consumers[].max_batch_size", Works),
    ("queues.consumers[].max_batch_timeout", Works),
    ("queues.consumers[].max_concurrency", Works),
    ("queues.consumers[].max_retries", Works),
    ("queues.consumers[].queue", Works),
    ("queues.consumers[].retry_delay", Works),
    ("queues.consumers[].type", Works),
    ("queues.consumers[].visibility_timeout_ms", NoMeaning("it is for pull consumers")),
    ("queues.producers", Works),
    ("queues.producers[].binding", Works),
    ("queues.producers[].delivery_delay", Works),
    ("queues.producers[].queue", Works),
    ("queues.producers[].remote", NoMeaning(REMOTE)),
    ("r2_buckets", Works),
    ("r2_buckets[].binding", Works),
    ("r2_buckets[].bucket_name", Works),
    ("r2_buckets[].jurisdiction", NoMeaning(NETWORK)),
    ("r2_buckets[].local_dev", Works),
    ("r2_buckets[].local_dev.experimental_s3_credentials", Works),
    ("r2_buckets[].local_dev.experimental_s3_credentials.accessKeyId", Works),
    ("r2_buckets[].local_dev.experimental_s3_credentials.secretAccessKey", Works),
    ("r2_buckets[].preview_bucket_name", Works),
    ("r2_buckets[].remote", NoMeaning(REMOTE)),
    ("ratelimits", Works),
    ("ratelimits[].name", Works),
    ("ratelimits[].namespace_id", Works),
    ("ratelimits[].simple", Works),
    ("ratelimits[].simple.limit", Works),
    ("ratelimits[].simple.period", Works),
    // Skep's own: a sliding window with an optional burst window.
    ("ratelimits[].limit", Works),
    ("ratelimits[].period", Works),
    ("ratelimits[].burst", Works),
    ("ratelimits[].burstWindow", Works),
    ("ratelimits[].bucketSize", Works),
    ("rules", Works),
    ("rules[].fallthrough", Works),
    ("rules[].globs", Works),
    ("rules[].type", Works),
    ("secrets", Works),
    ("secrets.required", Works),
    ("secrets_store_secrets", Works),
    ("secrets_store_secrets[].binding", Works),
    ("secrets_store_secrets[].secret_name", Works),
    ("secrets_store_secrets[].store_id", Works),
    ("send_email", Works),
    ("send_email[].allowed_destination_addresses", Works),
    ("send_email[].allowed_sender_addresses", Works),
    ("send_email[].destination_address", Works),
    ("send_email[].name", Works),
    ("send_email[].remote", NoMeaning(REMOTE)),
    ("send_metrics", NoMeaning(TELEMETRY)),
    ("services", Works),
    ("services[].binding", Works),
    ("services[].entrypoint", Works),
    ("services[].environment", Works),
    ("services[].props", Works),
    ("services[].props.*", Works),
    ("services[].remote", NoMeaning(REMOTE)),
    ("services[].service", Works),
    ("site", Works),
    ("site.bucket", Works),
    ("site.entry-point", Works),
    ("site.exclude", Works),
    ("site.include", Works),
    ("tail_consumers", Works),
    ("tail_consumers[].environment", Works),
    ("tail_consumers[].service", Works),
    ("text_blobs", Works),
    ("text_blobs.*", Works),
    ("triggers", Works),
    ("triggers.crons", Works),
    ("triggers.events", Refused(LATER)),
    ("tsconfig", Works),
    ("unsafe", Works),
    ("unsafe.bindings", Works),
    ("unsafe.bindings[].*", Works),
    ("unsafe.capnp", Refused(LATER)),
    ("unsafe.metadata", NoMeaning(DEPLOY)),
    ("unsafe.metadata.*", NoMeaning(DEPLOY)),
    ("upload_source_maps", NoMeaning("stacks are always mapped to the sources")),
    ("vars", Works),
    ("vars.*", Works),
    ("vectorize", Works),
    ("vectorize[].binding", Works),
    ("vectorize[].index_name", Works),
    ("vectorize[].remote", NoMeaning(REMOTE)),
    // Skep's own: what an index is that is not there yet.
    ("vectorize[].dimensions", Works),
    ("vectorize[].metric", Works),
    ("version_metadata", Works),
    ("version_metadata.binding", Works),
    ("wasm_modules", Works),
    ("wasm_modules.*", Works),
    ("worker_loaders", Works),
    ("worker_loaders[].binding", Works),
    ("workers_dev", NoMeaning(DEPLOY)),
    ("workflows", Works),
    ("workflows[].binding", Works),
    ("workflows[].class_name", Works),
    ("workflows[].concurrency", Works),
    ("workflows[].concurrency.limit", Works),
    ("workflows[].default_retention", Works),
    ("workflows[].default_retention.error_retention", Works),
    ("workflows[].default_retention.success_retention", Works),
    ("workflows[].jurisdiction", NoMeaning(NETWORK)),
    ("workflows[].limits", Works),
    ("workflows[].limits.steps", Works),
    ("workflows[].name", Works),
    ("workflows[].schedules", Works),
    ("workflows[].script_name", Works),
];

/// The class of the key at `path`, in the form of the patterns above; `None` if wrangler has no such key.
pub fn classify(path: &str) -> Option<KeyClass> {
    let exact = |path: &str| KEYS.iter().find(|(pattern, _)| *pattern == path).map(|(_, class)| *class);
    if let Some(class) = exact(path) {
        return Some(class);
    }
    let root = path.split(['.', '[']).next().unwrap_or(path);
    if let Some((_, class)) = TREES.iter().find(|(tree, _)| *tree == root) {
        return Some(*class);
    }
    // Below a refused key, or where any key may stand.
    let mut parent = path;
    while let Some((shorter, _)) = parent.rsplit_once(['.', '[']) {
        parent = shorter.trim_end_matches(']').trim_end_matches('[');
        match exact(parent) {
            Some(Refused(why)) => return Some(Refused(why)),
            Some(class) if is_open(parent) => return Some(class),
            _ => {}
        }
        if let Some(class) = exact(&format!("{parent}.*")).or_else(|| exact(&format!("{parent}[].*"))) {
            return Some(class);
        }
    }
    None
}

/// Whether keys below `path` are the application's own and are not looked at.
pub(crate) fn is_open(path: &str) -> bool {
    KEYS.iter().any(|(pattern, _)| {
        pattern.strip_suffix(".*") == Some(path) || pattern.strip_suffix("[].*") == Some(path)
    }) || TREES.iter().any(|(tree, _)| *tree == path)
}

/// The known key that `path` is most like, for "did you mean".
pub(crate) fn nearest(path: &str) -> Option<&'static str> {
    let (parent, key) = path.rsplit_once('.').map_or(("", path), |(parent, key)| (parent, key));
    let siblings = KEYS.iter().chain(TREES).map(|(pattern, _)| *pattern).filter_map(|pattern| {
        let (its_parent, its_key) = pattern.rsplit_once('.').map_or(("", pattern), |(p, k)| (p, k));
        (its_parent == parent && its_key != "*").then_some(its_key)
    });
    let scored = siblings.map(|known| (distance(known, key), known));
    scored.min().filter(|(d, known)| *d <= known.len().max(3) / 3).map(|(_, known)| known)
}

/// Edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_pattern_tree_or_openness() {
        assert_eq!(classify("kv_namespaces[].id"), Some(Works));
        assert!(matches!(classify("media.binding"), Some(Refused(_))));
        assert_eq!(classify("exports.Foo.type"), Some(Works));
        assert_eq!(classify("vars.ANY"), Some(Works));
        assert_eq!(classify("kv_namespaces[].idd"), None);
        assert_eq!(nearest("kv_namespaces[].bindig"), Some("binding"));
        assert_eq!(nearest("kv_namespace"), Some("kv_namespaces"));
        assert_eq!(nearest("zzzzzz"), None);
    }
}
