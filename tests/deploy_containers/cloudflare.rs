//! Cloudflare's side: answers as in the session that was recorded with wrangler 4.164, and keeps what it is told.

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::harness::recorder::Recorded;
use crate::harness::standin::{Says, StandIn, refused, result, stand_in};

pub const ACCOUNT: &str = "00112233445566778899aabbccddeeff";
pub const REGISTRY: &str = "registry.example.test";
pub const NAMESPACE: &str = "80cbf78f461a02b3e945af06b00904a9";
pub const PASSWORD: &str = "sh0rt-l1ved";

/// What the stand-in knows.
#[derive(Default)]
pub struct Known {
    /// The script is there.
    script: bool,
    tag: Value,
    applications: Vec<Value>,
}

/// A stand-in with nothing in it.
pub fn cloudflare(limits: Value) -> StandIn {
    let known = Mutex::new(Known::default());
    stand_in(move |request| answer(&mut known.lock().unwrap(), request, &limits))
}

/// The answer to a request below `/client/v4`.
pub fn answer(known: &mut Known, request: &Recorded, limits: &Value) -> Says {
    let path = request.path.replacen(&format!("/accounts/{ACCOUNT}"), "", 1);
    let (path, _) = path.split_once('?').unwrap_or((&path, ""));
    let body = || serde_json::from_slice::<Value>(&request.body).unwrap();
    const VERSION: &str = "20951b0d-0cb9-4227-90f8-f7f6ded87f68";
    let (is_there, missing) =
        (known.script, refused(404, 10007, "This Worker does not exist on your account."));
    match (request.method.as_str(), path) {
        ("GET", "/workers/subdomain") => result(json!({ "subdomain": "acct" })),
        ("GET", "/containers/me") => {
            result(json!({ "account_id": ACCOUNT, "external_account_id": ACCOUNT, "limits": limits,
            "locations": [], "defaults": { "vcpus": 0.0625, "memory_mib": 256, "memory": "256MiB", "disk_mb": 2000 } }))
        }
        ("POST", path) if path == format!("/containers/registries/{REGISTRY}/credentials") => result(
            json!({ "account_id": ACCOUNT, "registry_host": REGISTRY, "username": "v1", "password": PASSWORD }),
        ),
        ("POST", "/containers/image-preparations") => result(json!({ "status": "ready" })),
        ("GET", path) if path.starts_with("/containers/applications/") => {
            let own = known.applications.iter().find(|own| path.ends_with(own["id"].as_str().unwrap()));
            own.map_or_else(|| refused(404, 1000, "APPLICATION_NOT_FOUND"), |own| result(own.clone()))
        }
        ("GET", "/containers/applications") => result(known.applications.clone().into()),
        ("POST", "/containers/applications") => {
            let mut made = body();
            // In figures, as Cloudflare answers.
            if made["configuration"]["instance_type"] == "standard-1" {
                let configuration = made["configuration"].as_object_mut().unwrap();
                configuration.remove("instance_type");
                configuration.insert("vcpu".into(), json!(0.5));
                configuration.insert("memory_mib".into(), json!(4096));
                configuration.insert("disk".into(), json!({ "size_mb": 8000 }));
            }
            made["id"] = match made["scheduling_policy"] == "durable_object" {
                true => made["durable_objects"]["namespace_id"].clone(),
                false => format!("app-{}", known.applications.len()).into(),
            };
            made["version"] = 1.into();
            known.applications.push(made.clone());
            result(made)
        }
        ("PATCH", path) if path.starts_with("/containers/applications/") => {
            let own = known
                .applications
                .iter_mut()
                .find(|own| path.ends_with(own["id"].as_str().unwrap()))
                .unwrap();
            for (key, value) in body().as_object().unwrap() {
                own[key] = value.clone();
            }
            result(own.clone())
        }
        ("POST", path) if path.ends_with("/rollouts") => {
            result(json!({ "id": "r", "status": "progressing" }))
        }
        ("PUT", "/workers/scripts/cont") => {
            known.script = true;
            if request.body.windows(14).any(|window| window == b"\"new_tag\":\"v1\"") {
                known.tag = "v1".into();
            }
            let text = String::from_utf8_lossy(&request.body);
            let tag = text
                .split_once("\"workers/tag\":\"")
                .map(|(_, rest)| rest.split('"').next().unwrap().to_owned());
            if let Some(tag) = tag {
                known.tag = json!([known.tag.clone(), tag]);
            }
            result(json!({ "id": "cont", "etag": "e", "deployment_id": VERSION, "startup_time_ms": 3 }))
        }
        ("POST", "/workers/scripts/cont/subdomain") => {
            result(json!({ "enabled": true, "previews_enabled": true }))
        }
        _ if !is_there => missing,
        ("GET", "/workers/services/cont") => {
            let tag = known.tag.as_array().map_or(known.tag.clone(), |pair| pair[0].clone());
            result(json!({ "id": "cont", "default_environment": { "environment": "production",
                "script": { "id": "cont", "tag": "t", "tags": null, "last_deployed_from": "wrangler", "migration_tag": tag } } }))
        }
        ("GET", "/workers/scripts/cont/secrets") => result(json!([])),
        ("GET", "/workers/scripts/cont/schedules") => result(json!({ "schedules": [] })),
        ("GET", "/workers/domains") => result(json!([])),
        ("GET", "/workers/scripts/cont/deployments") => {
            result(json!({ "deployments": [{ "id": "d", "source": "wrangler",
            "strategy": "percentage", "author_email": "dev@example.com", "created_on": "2026-11-23T10:27:33.712Z",
            "versions": [{ "version_id": VERSION, "percentage": 100 }] }] }))
        }
        ("GET", "/workers/scripts/cont/settings") => result(json!({ "bindings": bindings() })),
        ("GET", path) if path == format!("/workers/scripts/cont/versions/{VERSION}") => {
            result(json!({ "id": VERSION, "number": 1,
            "annotations": { "workers/tag": known.tag[1] }, "metadata": { "source": "wrangler" },
            "resources": { "bindings": bindings(), "script": { "etag": "e", "handlers": ["fetch"], "last_deployed_from": "wrangler" },
                "script_runtime": { "compatibility_date": "2026-01-01", "compatibility_flags": [], "usage_model": "standard" } } }))
        }
        ("GET", "/workers/workers/cont") => result(
            json!({ "id": "w", "name": "cont", "subdomain": { "enabled": true, "previews_enabled": true } }),
        ),
        ("PATCH", "/workers/scripts/cont/script-settings") => result(json!({})),
        _ => missing,
    }
}

fn bindings() -> Value {
    json!([{ "name": "C", "type": "durable_object_namespace", "class_name": "MyContainer", "namespace_id": NAMESPACE }])
}

/// What an account may have at most.
pub fn limits() -> Value {
    json!({ "disk_mb_per_deployment": 20000, "vcpu_per_deployment": 4, "memory_mib_per_deployment": 12288 })
}
