//! Every operation of the API with what makes no sense: Cloudflare's envelope, never our own fault, nothing changed.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use skep_api::{OPERATIONS, Operation};

use crate::harness::accounts::two_accounts;
use crate::harness::serve::{Serve, serve};
use crate::harness::{Answer, request};

const WORKER: &str = "export default { fetch() { return new Response('ok') } }";
const CONFIG: &str = r#"{ "name": "s", "main": "a.js", "compatibility_date": "2026-07-01" }"#;

/// What is sent: a content type and a body.
const BODIES: &[(&str, &str)] = &[
    ("application/json", "{"),
    ("application/json", "[]"),
    ("application/json", "null"),
    ("application/json", "\"text\""),
    (
        "application/json",
        r#"{"name":7,"title":[],"queue_name":{},"sql":null,"versions":1,"policies":"x","enabled":"y"}"#,
    ),
    ("application/json", "\u{0}\u{1}\u{2}"),
    (
        "multipart/form-data; boundary=x",
        "--x\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{\r\n--x--\r\n",
    ),
    ("multipart/form-data; boundary=x", "--y"),
    ("multipart/form-data", ""),
    ("text/plain; charset=\u{ff}", "text"),
];

/// What stands for a parameter of a path.
const IDS: &[&str] = &[
    "nothing",
    "..%2F..%2Fregistry.sqlite",
    "%00",
    "%F0%9F%90%9D",
    "'%22;DROP%20TABLE%20script--",
    "%ff",
    "-1",
];

fn path(operation: &Operation, account: &str, ids: &BTreeMap<&str, String>, otherwise: &str) -> String {
    let segments = operation.path.split('/').map(|segment| match segment.strip_prefix([':', '*']) {
        Some("account") => account.to_owned(),
        Some(name) => ids.get(name).cloned().unwrap_or_else(|| otherwise.to_owned()),
        None => segment.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

fn send(serve: &Serve, token: &str, operation: &Operation, path: &str, kind: &str, body: &str) -> Answer {
    let token = format!("Bearer {token}");
    let kind = kind.replace('\u{ff}', "x");
    let headers = [("authorization", token.as_str()), ("content-type", kind.as_str())];
    let body = (operation.method != "GET").then_some(body.as_bytes());
    request(&format!("{}{path}", serve.api), operation.method.as_str(), &headers, body).unwrap()
}

/// An answer that may be a success, but is whole and no fault of ours.
fn check(answer: &Answer, what: &str) {
    assert!(answer.status < 500, "{what}: {} {}", answer.status, answer.text());
    // Cloudflare's SQL API says what is wrong in a line.
    let a_line = what.contains("/analytics_engine/sql") && answer.status == 422;
    if a_line {
        assert!(answer.text().starts_with("Input was invalid: "), "{what}: {}", answer.text());
    } else if answer.status >= 400 {
        let envelope: Value =
            serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{what}: {e}: {}", answer.text()));
        assert_eq!(envelope["success"], false, "{what}");
        let error = &envelope["errors"][0];
        assert!(error["code"].is_u64() && error["message"].is_string(), "{what}: {envelope}");
        assert!(!answer.text().contains("panicked"), "{what}");
    }
}

/// Whether a body is no nonsense for an operation: content, an empty list of changes, settings of which none is named.
fn takes_anything(operation: &Operation, body: &str) -> bool {
    let content = ["/objects/*key", "/values/:key"].iter().any(|end| operation.path.ends_with(end));
    // What is asked for is in a header, or may be nothing.
    let nothing = operation.path.ends_with("/buckets/:bucket") || operation.path.ends_with("/tails");
    // Looking takes nothing, and how much of it may be left out.
    let looks = ["/messages/peek", "/messages/preview", "/telemetry/keys"]
        .iter()
        .any(|end| operation.path.ends_with(end));
    let nothing = nothing || looks && (["", "null"].contains(&body) || body.starts_with("{\"name\":7"));
    let list = ["/schedules", "/routes", "/domains/changeset", "/bulk", "/bulk/delete", "/tags"];
    let empty = body == "[]" && list.iter().any(|end| operation.path.ends_with(end));
    let other_keys = body.starts_with("{\"name\":7")
        && ["/settings", "/script-settings", "/export", "/database/:database", "/usage-model"]
            .iter()
            .any(|end| operation.path.ends_with(end));
    content || nothing || empty || other_keys
}

/// All that there is to list.
fn state(serve: &Serve) -> Vec<Value> {
    let lists = [
        "/workers/scripts",
        "/workers/scripts/s/settings",
        "/workers/scripts/s/schedules",
        "/workers/scripts/s/subdomain",
        "/workers/scripts/s/secrets",
        "/workers/scripts/s/versions",
        "/workers/scripts/s/deployments",
        "/workers/domains",
        "/workers/subdomain",
        "/workers/dispatch/namespaces",
        "/storage/kv/namespaces",
        "/r2/buckets",
        "/d1/database",
        "/queues",
        "/workflows",
        "/tokens",
    ];
    let mut all: Vec<Value> =
        lists.iter().map(|path| serve.call("GET", path, None).json()["result"].clone()).collect();
    all.iter_mut().for_each(forget_when);
    all
}

/// An empty list of schedules in place of an empty one is a change, of nothing but this.
fn forget_when(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("modified_on");
            fields.values_mut().for_each(forget_when);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_when),
        _ => {}
    }
}

#[test]
fn what_makes_no_sense_is_refused_in_the_envelope_and_changes_nothing() {
    let serve = serve();
    let dir = serve.project("s", &[("a.js", WORKER), ("wrangler.jsonc", CONFIG)]);
    serve.wrangler(&dir, &["deploy"]);
    let made = |path: &str, body: Value| serve.call("POST", path, Some(&body)).json()["result"].clone();
    let kv = made("/storage/kv/namespaces", json!({ "title": "t" }));
    let d1 = made("/d1/database", json!({ "name": "t" }));
    let queue = made("/queues", json!({ "queue_name": "t" }));
    made("/r2/buckets", json!({ "name": "bucket" }));
    made("/workers/dispatch/namespaces", json!({ "name": "tenants" }));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let before = state(&serve);

    for operation in OPERATIONS.iter().filter(|operation| !operation.open) {
        let name = |body: &str, id: &str| {
            format!("{} {} with {id:?} and {body:?}", operation.method, operation.path)
        };
        // What is not there, or can be nowhere.
        // What is removed without being named is always there.
        let nameless = operation.method == "DELETE" && operation.path.ends_with("/workers/subdomain");
        for id in IDS.iter().filter(|_| !nameless) {
            let unknown = path(operation, &serve.account, &BTreeMap::new(), id);
            check(
                &send(&serve, &serve.token, operation, &unknown, "application/json", "{}"),
                &name("{}", id),
            );
        }
        // What is there, with a body that makes no sense. A removal and a reading look at no body.
        let ids = BTreeMap::from([
            ("script", "s".to_owned()),
            ("namespace", if operation.path.contains("/kv/") { text(&kv["id"]) } else { "tenants".into() }),
            ("bucket", "bucket".to_owned()),
            ("database", text(&d1["uuid"])),
            ("queue", text(&queue["queue_id"])),
        ]);
        let known = path(operation, &serve.account, &ids, "nothing");
        if !["GET", "DELETE"].contains(&operation.method.as_str()) {
            for (kind, body) in BODIES {
                let what = name(body, "known ids");
                let answer = send(&serve, &serve.token, operation, &known, kind, body);
                check(&answer, &what);
                assert!(answer.status >= 400 || takes_anything(operation, body), "{what}: {}", answer.text());
            }
        }
        // A wrong token, none, and another account.
        if !operation.path.contains(":account") {
            continue;
        }
        let elsewhere = path(operation, &"0".repeat(32), &ids, "nothing");
        let answer = send(&serve, &serve.token, operation, &elsewhere, "application/json", "{}");
        check(&answer, &name("{}", "another account"));
        assert_eq!(answer.status, 403, "{}: {}", operation.path, answer.text());
    }
    assert_eq!(state(&serve), before);
    assert_eq!(serve.get("s.main.localhost", "/").text(), "ok");
    assert!(!serve.output().contains("an operation of the API failed"), "{}", serve.output());
}

#[test]
fn ids_of_another_account_lead_nowhere() {
    let (serve, own, other) = two_accounts();
    let before = other.state(&serve);
    let host = format!("{}.example.com", &other.id[..8]);
    let domain = json!({ "service": own.ids["script"], "hostname": host });
    let origins = json!({ "origins": [{ "hostname": host }], "override_existing_origin": true });
    let records = format!("/workers/scripts/{}/domains/records", own.ids["script"]);
    for (path, body) in [("/workers/domains", domain), (records.as_str(), origins)] {
        let answer = own.send(&serve, "PUT", path, "application/json", Some(body.to_string().as_bytes()));
        assert_eq!(
            (answer.status, answer.json()["errors"][0]["code"].as_u64()),
            (409, Some(100_116)),
            "{path}: {}",
            answer.text()
        );
    }
    for operation in OPERATIONS.iter().filter(|operation| !operation.open) {
        let what = format!("{} {}", operation.method, operation.path);
        let body = (operation.method != "GET").then_some(&b"{}"[..]);
        let send = |below: &str| {
            let path = other.path(operation, below);
            own.raw(&serve, operation.method.as_str(), &path, "application/json", body)
        };
        check(&send(&own.id), &what);
        if operation.path.contains(":account") {
            let answer = send(&other.id);
            check(&answer, &what);
            assert_eq!(answer.status, 403, "{what}: {}", answer.text());
        }
    }
    for (then, now) in before.iter().zip(other.state(&serve)) {
        assert_eq!(*then, now);
    }
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let serve = serve();
    let huge = vec![b'x'; 30 << 20];
    let token = format!("Bearer {}", serve.token);
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    for path in ["/storage/kv/namespaces", "/d1/database", "/queues", "/tokens"] {
        let path = format!("/accounts/{}{path}", serve.account);
        let answer = request(&format!("{}{path}", serve.api), "POST", &headers, Some(&huge));
        // The connection may be closed before all of it is sent.
        if let Ok(answer) = answer {
            check(&answer, &path);
            assert!(answer.status >= 400, "{path}");
        }
    }
    assert_eq!(serve.call("GET", "/storage/kv/namespaces", None).json()["result"], json!([]));
}
