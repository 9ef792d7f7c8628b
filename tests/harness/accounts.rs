//! A node with two accounts, each with something of everything that the API has.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use skep_api::{OPERATIONS, Operation};
use skep_catalog::{Registry, Terms};

use super::serve::{FORM, Serve, form, serve, serve_in};
use super::{Answer, eventually};

const WORKER: &str = "import { DurableObject, WorkflowEntrypoint } from 'cloudflare:workers';\n\
    export class Room extends DurableObject {}\n\
    export class Flow extends WorkflowEntrypoint { async run() {} }\n\
    export default { fetch() { return new Response('ok') }, queue() {}, scheduled() {} }";

/// An account and the ids of what it has, by the name of the router's parameter. What two kinds of things are named
/// by is `kv` and `dispatch`, and `worker_secret` and `tail_secret`.
pub struct Account {
    pub id: String,
    pub token: String,
    pub ids: BTreeMap<String, String>,
}

/// `skep serve` with the account that its first start makes, and another one.
pub fn two_accounts() -> (Serve, Account, Account) {
    let first = serve();
    let (id, token) = (first.account.clone(), first.token.clone());
    let dir = first.stop("TERM");
    let (other, secret) = add(&dir.path().join("data/registry.sqlite"));
    let serve = serve_in(dir, &[]);
    let own = furnish(&serve, "own", id, token);
    let other = furnish(&serve, "other", other, secret);
    (serve, own, other)
}

/// Adds an account, `other`, to the registry of a node that does not run; its id and a token.
pub fn add(registry: &Path) -> (String, String) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let registry = Registry::open(registry).unwrap();
    let late = 4_000_000_000_000;
    let account = runtime.block_on(registry.add_account("Other", "other", late)).unwrap();
    let token = runtime.block_on(registry.add_token(&account.id, Terms::everything("other"), late)).unwrap();
    (account.id, token.1)
}

impl Account {
    /// A request below the account, which must succeed; its result.
    fn make(&self, serve: &Serve, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.send(serve, method, path, "application/json", Some(body.to_string().as_bytes()));
        assert!(answer.status < 300, "{method} {path}: {}", answer.text());
        answer.json()["result"].clone()
    }

    /// A request below the account.
    pub fn send(&self, serve: &Serve, method: &str, path: &str, kind: &str, body: Option<&[u8]>) -> Answer {
        self.raw(serve, method, &format!("/accounts/{}{path}", self.id), kind, body)
    }

    /// A request with the account's token.
    pub fn raw(&self, serve: &Serve, method: &str, path: &str, kind: &str, body: Option<&[u8]>) -> Answer {
        let token = format!("Bearer {}", self.token);
        serve.raw_call(method, path, &[("authorization", &token), ("content-type", kind)], body)
    }

    fn upload(&self, serve: &Serve, path: &str, metadata: &Value) {
        let form = form(metadata, &[("index.js", WORKER)]);
        let answer = self.send(serve, "PUT", path, FORM, Some(&form));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// The path of `operation` with the ids of what this account has, below the account `below`.
    pub fn path(&self, operation: &Operation, below: &str) -> String {
        let segments = operation.path.split('/').map(|segment| match segment.strip_prefix([':', '*']) {
            Some("account") => below.to_owned(),
            Some(name) => self.ids.get(kind(operation.path, name)).cloned().unwrap_or_else(|| "none".into()),
            None => segment.to_owned(),
        });
        segments.collect::<Vec<_>>().join("/")
    }

    /// Everything that can be read of the account.
    pub fn state(&self, serve: &Serve) -> Vec<(String, u16, String)> {
        // What says when it was asked, or is not there before it is asked for.
        let moves = ["/purge", "/openapi.json"];
        let readings = OPERATIONS.iter().filter(|operation| operation.method == "GET" && !operation.open);
        let readings = readings.filter(|operation| !moves.iter().any(|end| operation.path.ends_with(end)));
        readings
            .map(|operation| {
                let path = self.path(operation, &self.id);
                let answer = self.raw(serve, "GET", &path, "application/json", None);
                let boundary = answer.header("content-type").split_once("boundary=").map_or("\0", |(_, b)| b);
                let text = answer.text().replace(boundary, "");
                (path, answer.status, text)
            })
            .collect()
    }
}

/// What a parameter of a path stands for.
pub fn kind<'a>(path: &str, name: &'a str) -> &'a str {
    match name {
        "namespace" if path.contains("/kv/") => "kv",
        "namespace" if path.contains("/durable_objects/") => "objects",
        "namespace" => "dispatch",
        "secret" if path.contains("/secrets/") => "worker_secret",
        "secret" => "tail_secret",
        name => name,
    }
}

/// Whatever has a name is named after `owner`.
fn furnish(serve: &Serve, owner: &str, id: String, token: String) -> Account {
    let [script, bucket, tenants, flow, index] =
        ["s", "bucket", "tenants", "flow", "index"].map(|name| format!("{owner}-{name}"));
    let mut account = Account { id, token, ids: BTreeMap::new() };
    let host = format!("{}.example.com", &account.id[..8]);
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "migrations": { "new_sqlite_classes": ["Room"] },
        "bindings": [{ "type": "secret_text", "name": "KEY", "text": "hidden" },
                     { "type": "durable_object_namespace", "name": "ROOM", "class_name": "Room" },
                     { "type": "workflow", "name": "FLOW", "workflow_name": flow, "class_name": "Flow" }],
    });
    let make = |method: &str, path: &str, body: Value| account.make(serve, method, path, &body);
    account.upload(serve, &format!("/workers/scripts/{script}"), &metadata);
    make("POST", &format!("/workers/scripts/{script}/subdomain"), json!({ "enabled": true }));
    make("PUT", &format!("/workers/scripts/{script}/schedules"), json!([{ "cron": "0 4 1 1 *" }]));
    let domain = make("PUT", "/workers/domains", json!({ "service": script, "hostname": host }));
    let tail = make("POST", &format!("/workers/scripts/{script}/tails"), json!({}));
    let kv = make("POST", "/storage/kv/namespaces", json!({ "title": "t" }));
    let kv = kv["id"].as_str().unwrap().to_owned();
    make("PUT", &format!("/storage/kv/namespaces/{kv}/bulk"), json!([{ "key": "key", "value": "v" }]));
    let d1 = make("POST", "/d1/database", json!({ "name": "t" }))["uuid"].as_str().unwrap().to_owned();
    make("POST", &format!("/d1/database/{d1}/query"), json!({ "sql": "CREATE TABLE t AS SELECT 1 AS n" }));
    let queue = make("POST", "/queues", json!({ "queue_name": "t" }));
    let queue = queue["queue_id"].as_str().unwrap().to_owned();
    let consumer = make("POST", &format!("/queues/{queue}/consumers"), json!({ "type": "http_pull" }));
    make("POST", &format!("/queues/{queue}/messages"), json!({ "body": "m" }));
    make("POST", "/r2/buckets", json!({ "name": bucket }));
    make("PUT", &format!("/r2/buckets/{bucket}/objects/key"), json!("content"));
    let store = make("POST", "/secrets_store/stores", json!({ "name": "store" }));
    let store = store["id"].as_str().unwrap().to_owned();
    let stored = json!([{ "name": "KEY", "value": "hidden", "scopes": ["workers"] }]);
    let stored = make("POST", &format!("/secrets_store/stores/{store}/secrets"), stored);
    let vectors = json!({ "name": index, "config": { "dimensions": 32, "metric": "cosine" } });
    make("POST", "/vectorize/v2/indexes", vectors);
    make("POST", "/workers/dispatch/namespaces", json!({ "name": tenants }));
    let plain = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "type": "secret_text", "name": "KEY", "text": "hidden" }],
    });
    account.upload(serve, &format!("/workers/dispatch/namespaces/{tenants}/scripts/{script}"), &plain);
    make("PUT", &format!("/workflows/{flow}"), json!({ "script_name": script, "class_name": "Flow" }));
    make("POST", &format!("/workflows/{flow}/instances"), json!({ "instance_id": "instance" }));
    let get = |path: &str| make("GET", path, Value::Null);
    let instance = format!("/workflows/{flow}/instances/instance");
    eventually("end of the instance", || (get(&instance)["status"] == "complete").then_some(()));
    let objects = get("/workers/durable_objects/namespaces");
    let version = get(&format!("/workers/scripts/{script}/versions"))["items"][0]["id"].clone();
    let deployment = get(&format!("/workers/scripts/{script}/deployments"))["deployments"][0]["id"].clone();
    let groups = get("/tokens/permission_groups");
    let policy = json!({
        "effect": "allow", "resources": { "com.cloudflare.api.account.*": "*" },
        "permission_groups": [{ "id": groups[0]["id"] }],
    });
    let spare = make("POST", "/tokens", json!({ "name": "spare", "policies": [policy] }));
    let zone = domain["zone_id"].as_str().unwrap();
    let route = json!({ "pattern": format!("{host}/r/*"), "script": script });
    let path = format!("/zones/{zone}/workers/routes");
    let route = account.raw(serve, "POST", &path, "application/json", Some(route.to_string().as_bytes()));
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned();
    let tail_secret = text(&tail["url"]).rsplit('/').next().unwrap().to_owned();
    let ids = [
        ("script", script),
        ("name", "free".into()),
        ("kv", kv),
        ("dispatch", tenants),
        ("objects", text(&objects[0]["id"])),
        ("database", d1),
        ("queue", queue),
        ("consumer", text(&consumer["consumer_id"])),
        ("bucket", bucket),
        ("key", "key".into()),
        ("workflow", flow),
        ("instance", "instance".into()),
        ("version", text(&version)),
        ("deployment", text(&deployment)),
        ("domain", text(&domain["id"])),
        ("zone", zone.to_owned()),
        ("route", text(&route.json()["result"]["id"])),
        ("tail", text(&tail["id"])),
        ("token", text(&spare["id"])),
        ("worker_secret", "KEY".into()),
        ("tail_secret", tail_secret),
        ("store", store),
        ("index", index),
        ("stored_secret", text(&stored[0]["id"])),
        ("tag", "tag".into()),
        ("registry", "registry.test".into()),
    ];
    account.ids = ids.into_iter().map(|(name, id): (&str, String)| (name.to_owned(), id)).collect();
    account
}
