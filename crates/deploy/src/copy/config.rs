//! A Worker's settings, as the API tells them, as a wrangler configuration. Pure: the reverse of `bindings` and `metadata`.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::bindings::{LATER_LISTS, LISTS, Row, SINGLES};

/// What the API says of a Worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// Its name.
    pub name: String,
    /// The bindings of the version in force.
    pub bindings: Vec<Json>,
    /// `…/settings`, with `…/script-settings`.
    pub settings: Json,
    /// Cron expressions.
    pub crons: Vec<String>,
    /// `{enabled, previews_enabled}`
    pub subdomain: Json,
    /// Custom domains: `{hostname, zone_name}`
    pub domains: Vec<Json>,
    /// Routes: `{pattern, zone_name}`
    pub routes: Vec<Json>,
    /// Queues that it consumes: the queue's name and the consumer.
    pub consumers: Vec<(String, Json)>,
    /// Its own Durable Object classes, and whether each has SQLite.
    pub classes: Vec<(String, bool)>,
    /// Names of secrets.
    pub secrets: Vec<String>,
}

/// Names of what the API knows by ids.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// Titles of KV namespaces.
    pub kv: BTreeMap<String, String>,
    /// Names of D1 databases.
    pub d1: BTreeMap<String, String>,
}

/// Whether the configuration is for the account that the Worker is in, or for another one: then ids mean nothing there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    Stay,
    AreNames,
}

/// The configuration, and what it cannot say.
pub(super) fn config(own: &Settings, names: &Names, ids: Ids) -> (Map<String, Json>, Vec<String>) {
    let mut config = Config { map: Map::new(), notes: Vec::new() };
    config.set("name", own.name.clone().into());
    for key in ["compatibility_date", "compatibility_flags"] {
        config.copy(&own.settings, key, key);
    }
    for binding in &own.bindings {
        config.binding(binding, own, names, ids);
    }
    for key in
        ["limits", "placement", "observability", "logpush", "tail_consumers", "streaming_tail_consumers"]
    {
        config.copy(&own.settings, key, key);
    }
    config.copy(&own.settings, "cache_options", "cache");
    config.objects(own);
    config.addresses(own);
    if !own.crons.is_empty() {
        config.set("triggers", json!({ "crons": own.crons }));
    }
    for (queue, consumer) in &own.consumers {
        config.push(&["queues", "consumers"], self::consumer(queue, consumer));
    }
    (config.map, config.notes)
}

/// A queue's consumer as the configuration has it.
fn consumer(queue: &str, consumer: &Json) -> Json {
    let mut own = json!({ "queue": queue });
    let settings = &consumer["settings"];
    for (from, to) in [
        ("batch_size", "max_batch_size"),
        ("max_retries", "max_retries"),
        ("max_concurrency", "max_concurrency"),
        ("retry_delay", "retry_delay"),
    ] {
        if !settings[from].is_null() {
            own[to] = settings[from].clone();
        }
    }
    if let Some(wait) = settings["max_wait_time_ms"].as_u64() {
        own["max_batch_timeout"] = (wait / 1000).into();
    }
    if consumer["dead_letter_queue"].as_str().is_some_and(|name| !name.is_empty()) {
        own["dead_letter_queue"] = consumer["dead_letter_queue"].clone();
    }
    own
}

struct Config {
    map: Map<String, Json>,
    notes: Vec<String>,
}

impl Config {
    fn set(&mut self, key: &str, value: Json) {
        self.map.insert(key.to_owned(), value);
    }

    /// Takes over what is there and says something.
    fn copy(&mut self, from: &Json, key: &str, to: &str) {
        let value = &from[key];
        let says_nothing = match value {
            Json::Null | Json::Bool(false) => true,
            Json::Array(list) => list.is_empty(),
            Json::Object(object) => object.values().all(Json::is_null),
            _ => false,
        };
        if !says_nothing {
            self.set(to, value.clone());
        }
    }

    fn push(&mut self, path: &[&str], value: Json) {
        let Some((last, above)) = path.split_last() else { return };
        let mut map = &mut self.map;
        for key in above {
            let inner = map.entry((*key).to_owned()).or_insert_with(|| json!({}));
            let Json::Object(inner) = inner else { return };
            map = inner;
        }
        if let Json::Array(list) = map.entry((*last).to_owned()).or_insert_with(|| json!([])) {
            list.push(value);
        }
    }

    fn variable(&mut self, name: &str, value: &Json) {
        if let Json::Object(vars) = self.map.entry("vars").or_insert_with(|| json!({})) {
            vars.insert(name.to_owned(), value.clone());
        }
    }

    fn binding(&mut self, own: &Json, worker: &Settings, names: &Names, ids: Ids) {
        let name = own["name"].as_str().unwrap_or_default();
        let with = |key: &str, pairs: &[(&str, &str)]| {
            let mut entry = json!({ key: name });
            for (from, to) in pairs.iter().filter(|(from, _)| !own[*from].is_null()) {
                entry[*to] = own[*from].clone();
            }
            entry
        };
        let stay = ids == Ids::Stay;
        match own["type"].as_str().unwrap_or_default() {
            "plain_text" => self.variable(name, &own["text"]),
            "json" => self.variable(name, &own["json"]),
            // They are in the list of secrets.
            "secret_text" | "secret_key" => {}
            "kv_namespace" => {
                let id = own["namespace_id"].as_str().unwrap_or_default();
                let id = names.kv.get(id).filter(|_| !stay).map_or(id, String::as_str);
                self.push(&["kv_namespaces"], json!({ "binding": name, "id": id }));
            }
            "d1" => {
                let id = own["database_id"].as_str().or(own["id"].as_str()).unwrap_or_default();
                let mut entry = json!({ "binding": name });
                if let Some(known) = names.d1.get(id) {
                    entry["database_name"] = known.clone().into();
                }
                if stay || entry["database_name"].is_null() {
                    entry["database_id"] = id.into();
                }
                self.push(&["d1_databases"], entry);
            }
            "r2_bucket" => self.push(
                &["r2_buckets"],
                with("binding", &[("bucket_name", "bucket_name"), ("jurisdiction", "jurisdiction")]),
            ),
            "durable_object_namespace" => {
                let mut entry = with(
                    "name",
                    &[
                        ("class_name", "class_name"),
                        ("script_name", "script_name"),
                        ("environment", "environment"),
                    ],
                );
                if entry["script_name"] == worker.name.as_str()
                    && let Some(entry) = entry.as_object_mut()
                {
                    entry.shift_remove("script_name");
                }
                self.push(&["durable_objects", "bindings"], entry);
            }
            "queue" => self.push(
                &["queues", "producers"],
                with("binding", &[("queue_name", "queue"), ("delivery_delay", "delivery_delay")]),
            ),
            "workflow" => {
                let mut entry = with(
                    "binding",
                    &[
                        ("workflow_name", "name"),
                        ("class_name", "class_name"),
                        ("script_name", "script_name"),
                    ],
                );
                if entry["script_name"] == worker.name.as_str()
                    && let Some(entry) = entry.as_object_mut()
                {
                    entry.shift_remove("script_name");
                }
                self.push(&["workflows"], entry);
            }
            "dispatch_namespace" => {
                let mut entry = with("binding", &[("namespace", "namespace")]);
                let outbound = &own["outbound"];
                if outbound["worker"].is_object() {
                    entry["outbound"] = outbound["worker"].clone();
                    let parameters = outbound["params"].as_array().into_iter().flatten();
                    let parameters: Vec<Json> = parameters
                        .map(|own| if own.is_object() { own["name"].clone() } else { own.clone() })
                        .collect();
                    if !parameters.is_empty() {
                        entry["outbound"]["parameters"] = parameters.into();
                    }
                }
                self.push(&["dispatch_namespaces"], entry);
            }
            "send_email" => self.push(
                &["send_email"],
                with(
                    "name",
                    &[
                        ("destination_address", "destination_address"),
                        ("allowed_destination_addresses", "allowed_destination_addresses"),
                        ("allowed_sender_addresses", "allowed_sender_addresses"),
                    ],
                ),
            ),
            "assets" => self.notes.push(format!(
                "its static assets (env.{name}) cannot be read over the API: deploy them from the project"
            )),
            kind @ ("wasm_module" | "text_blob" | "data_blob") => {
                self.notes.push(format!("the content of env.{name} ({kind}) cannot be read over the API"));
            }
            kind => {
                let is_of = |row: &&Row| row.2 == kind;
                if let Some((path, key, _, fields)) = LISTS.iter().chain(LATER_LISTS).find(is_of) {
                    let pairs: Vec<(&str, &str)> = fields.iter().map(|field| (*field, *field)).collect();
                    self.push(path, with(key, &pairs));
                } else if let Some((key, _)) = SINGLES.iter().find(|(_, known)| *known == kind) {
                    self.set(key, with("binding", &[("staging", "staging")]));
                } else {
                    self.push(&["unsafe", "bindings"], own.clone());
                }
            }
        }
    }

    /// The classes of its Durable Objects. Those who have them already are at the same tag.
    fn objects(&mut self, own: &Settings) {
        let exports = &own.settings["exports"];
        if exports.as_object().is_some_and(|exports| !exports.is_empty()) {
            self.set("exports", exports.clone());
            return;
        }
        if own.classes.is_empty() {
            return;
        }
        let tag = own.settings["migration_tag"].as_str().unwrap_or("v1");
        let mut migration = json!({ "tag": tag });
        for (key, sqlite) in [("new_sqlite_classes", true), ("new_classes", false)] {
            let names: Vec<&str> =
                own.classes.iter().filter(|(_, is)| *is == sqlite).map(|(name, _)| name.as_str()).collect();
            if !names.is_empty() {
                migration[key] = names.into();
            }
        }
        self.set("migrations", json!([migration]));
    }

    fn addresses(&mut self, own: &Settings) {
        if let Some(enabled) = own.subdomain["enabled"].as_bool() {
            self.set("workers_dev", enabled.into());
        }
        if let Some(previews) = own.subdomain["previews_enabled"].as_bool() {
            self.set("preview_urls", previews.into());
        }
        let zone = |entry: &mut Json, from: &Json| {
            if from["zone_name"].is_string() {
                entry["zone_name"] = from["zone_name"].clone();
            }
        };
        for domain in &own.domains {
            let mut entry = json!({ "pattern": domain["hostname"], "custom_domain": true });
            zone(&mut entry, domain);
            self.push(&["routes"], entry);
        }
        for route in &own.routes {
            let mut entry = json!({ "pattern": route["pattern"] });
            zone(&mut entry, route);
            self.push(&["routes"], entry);
        }
    }
}

/// Scripts that a configuration names, beside its own.
pub(super) fn needs(config: &Map<String, Json>) -> Vec<String> {
    let mut all = Vec::new();
    for (path, key) in REFERENCES {
        let list = path.iter().try_fold(None::<&Json>, |at, step| match at {
            None => Some(config.get(*step)),
            Some(inner) => Some(inner.get(*step)),
        });
        let list = list.flatten().and_then(Json::as_array).into_iter().flatten();
        all.extend(list.filter_map(|own| named(own, key)).map(str::to_owned));
    }
    let own = config.get("name").and_then(Json::as_str).unwrap_or_default();
    all.retain(|name| name != own);
    all
}

/// Where a configuration names other scripts.
const REFERENCES: [(&[&str], &str); 5] = [
    (&["services"], "service"),
    (&["durable_objects", "bindings"], "script_name"),
    (&["workflows"], "script_name"),
    (&["tail_consumers"], "service"),
    (&["dispatch_namespaces"], "outbound"),
];

fn named<'a>(own: &'a Json, key: &str) -> Option<&'a str> {
    if key == "outbound" { own["outbound"]["service"].as_str() } else { own[key].as_str() }
}

/// The configuration without what names `missing`.
pub(super) fn without(config: &Map<String, Json>, missing: &[String]) -> Map<String, Json> {
    let mut config = config.clone();
    let is_missing =
        |own: &Json, key: &str| named(own, key).is_some_and(|name| missing.iter().any(|m| m == name));
    for (path, key) in REFERENCES {
        let Some((first, rest)) = path.split_first() else { continue };
        let Some(mut at) = config.get_mut(*first) else { continue };
        for step in rest {
            at = &mut at[*step];
        }
        if let Some(list) = at.as_array_mut() {
            list.retain(|own| !is_missing(own, key));
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::{self, bindings};
    use crate::project::Project;

    fn project(raw: Json) -> Project {
        let config = skep_config::WorkerConfig { name: "full".into(), ..Default::default() };
        Project::plain(config, raw, None)
    }

    /// What the configuration sends is what it was made of.
    #[test]
    fn bindings_come_back_as_they_went() {
        let all = json!([
            { "name": "A", "type": "plain_text", "text": "1" },
            { "name": "B", "type": "json", "json": { "x": [1] } },
            { "name": "KV", "type": "kv_namespace", "namespace_id": "0123456789abcdef0123456789abcdef" },
            { "name": "MAIL", "type": "send_email", "allowed_sender_addresses": ["c@example.com"] },
            { "name": "ROOMS", "type": "durable_object_namespace", "class_name": "Room" },
            { "name": "FAR", "type": "durable_object_namespace", "class_name": "Far", "script_name": "other" },
            { "type": "workflow", "name": "W", "workflow_name": "w", "class_name": "Steps" },
            { "type": "queue", "name": "Q", "queue_name": "jobs", "delivery_delay": 3 },
            { "name": "R2", "type": "r2_bucket", "bucket_name": "files", "jurisdiction": "eu" },
            { "name": "DB", "type": "d1", "id": "11111111-1111-4111-8111-111111111111" },
            { "name": "VEC", "type": "vectorize", "index_name": "idx" },
            { "name": "LIMIT", "type": "ratelimit", "namespace_id": "1", "simple": { "limit": 5, "period": 10 } },
            { "name": "S", "type": "service", "service": "other", "entrypoint": "Api", "props": { "a": 1 } },
            { "name": "DATA", "type": "analytics_engine", "dataset": "d" },
            { "name": "D", "type": "dispatch_namespace", "namespace": "ns",
              "outbound": { "worker": { "service": "out" }, "params": [{ "name": "p" }] } },
            { "name": "LOADER", "type": "worker_loader" },
            { "name": "AI", "type": "ai" },
            { "name": "V", "type": "version_metadata" },
            { "name": "NEW", "type": "something_new", "of": "tomorrow" },
        ]);
        let own = Settings {
            name: "full".into(),
            bindings: all.as_array().unwrap().clone(),
            ..Settings::default()
        };
        let (config, notes) = config(&own, &Names::default(), Ids::Stay);
        assert_eq!(notes, [""; 0]);
        let sent = bindings(&project(config.into()), &bindings::Ids::default(), &[]);
        assert_eq!(json!(sent), all);
    }

    #[test]
    fn what_another_account_calls_otherwise_goes_by_its_name() {
        let bindings = vec![
            json!({ "name": "KV", "type": "kv_namespace", "namespace_id": "k1" }),
            json!({ "name": "DB", "type": "d1", "id": "d1", "database_id": "d1" }),
            json!({ "name": "KEY", "type": "secret_text" }),
            json!({ "name": "ASSETS", "type": "assets" }),
            json!({ "name": "ROOMS", "type": "durable_object_namespace", "class_name": "Room", "script_name": "app" }),
        ];
        let own = Settings {
            name: "app".into(),
            bindings,
            settings: json!({ "compatibility_date": "2026-01-01", "compatibility_flags": [], "migration_tag": "v3",
                "limits": null, "logpush": false, "placement": {}, "observability": { "enabled": true } }),
            crons: vec!["* * * * *".into()],
            subdomain: json!({ "enabled": false, "previews_enabled": false }),
            domains: vec![json!({ "hostname": "app.example.com", "zone_name": "example.com" })],
            routes: vec![json!({ "pattern": "example.com/x/*" })],
            consumers: vec![(
                "jobs".into(),
                json!({ "type": "worker", "dead_letter_queue": "dead",
                "settings": { "batch_size": 5, "max_wait_time_ms": 2000, "max_retries": 3 } }),
            )],
            classes: vec![("Room".into(), true), ("Hall".into(), false)],
            secrets: vec!["KEY".into()],
        };
        let pair = |id: &str, name: &str| [(id.to_owned(), name.to_owned())].into();
        let names = Names { kv: pair("k1", "settings"), d1: pair("d1", "notes") };
        let (config, notes) = config(&own, &names, Ids::AreNames);
        let expected = json!({
            "name": "app", "compatibility_date": "2026-01-01",
            "kv_namespaces": [{ "binding": "KV", "id": "settings" }],
            "d1_databases": [{ "binding": "DB", "database_name": "notes" }],
            "durable_objects": { "bindings": [{ "name": "ROOMS", "class_name": "Room" }] },
            "observability": { "enabled": true },
            "migrations": [{ "tag": "v3", "new_sqlite_classes": ["Room"], "new_classes": ["Hall"] }],
            "workers_dev": false, "preview_urls": false,
            "routes": [{ "pattern": "app.example.com", "custom_domain": true, "zone_name": "example.com" }, { "pattern": "example.com/x/*" }],
            "triggers": { "crons": ["* * * * *"] },
            "queues": { "consumers": [{ "queue": "jobs", "max_batch_size": 5, "max_retries": 3, "max_batch_timeout": 2, "dead_letter_queue": "dead" }] },
        });
        assert_eq!(Json::from(config), expected);
        assert!(notes.len() == 1 && notes[0].contains("static assets (env.ASSETS)"), "{notes:?}");
    }

    #[test]
    fn what_is_not_there_yet_is_left_out() {
        let config = json!({ "name": "a", "services": [{ "binding": "B", "service": "b" }, { "binding": "ME", "service": "a" }],
            "tail_consumers": [{ "service": "c" }], "workflows": [{ "binding": "W", "script_name": "d" }],
            "durable_objects": { "bindings": [{ "name": "O", "script_name": "b" }, { "name": "P", "class_name": "P" }] },
            "dispatch_namespaces": [{ "binding": "D", "outbound": { "service": "e" } }] });
        let config = config.as_object().unwrap();
        assert_eq!(needs(config), ["b", "b", "d", "c", "e"]);
        let rest = without(config, &["b".into(), "e".into()]);
        assert_eq!(needs(&rest), ["d", "c"]);
        assert_eq!(rest["durable_objects"]["bindings"].as_array().unwrap().len(), 1);
        assert_eq!(rest["services"], json!([{ "binding": "ME", "service": "a" }]));
    }
}
