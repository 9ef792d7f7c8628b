//! Rules of buckets, made by stock wrangler: what is locked stays, what is old goes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::serve::{Serve, serve, serve_in};

const HOST: &str = "keeper.main.localhost";
/// Does to the bucket what the path says, and answers what became of it.
const CODE: &str = r#"
export default {
  async fetch(request, { FILES }) {
    const [action, key, id] = new URL(request.url).pathname.slice(1).split(":");
    try {
      switch (action) {
        case "put": await FILES.put(key, "again"); break;
        case "delete": await FILES.delete([key, "absent"]); break;
        case "parts": {
          const upload = await FILES.createMultipartUpload(key);
          await upload.complete([await upload.uploadPart(1, "parts")]);
          break;
        }
        case "start": return new Response((await FILES.createMultipartUpload(key)).uploadId);
        case "more": await FILES.resumeMultipartUpload(key, id).uploadPart(1, "x"); break;
        case "text": return new Response(await (await FILES.get(key))?.text() ?? "none");
        case "class": return new Response((await FILES.head(key)).storageClass);
      }
      return new Response("done");
    } catch (error) {
      return new Response(error.message);
    }
  },
};
"#;

/// A bucket and a script that is bound to it.
fn deployed(serve: &Serve) -> std::path::PathBuf {
    let empty = serve.project("empty", &[("wrangler.jsonc", "{}"), ("file.txt", "content")]);
    serve.wrangler(&empty, &["r2", "bucket", "create", "files"]);
    let config = json!({
        "name": "keeper", "main": "index.js", "compatibility_date": "2026-07-01",
        "r2_buckets": [{ "binding": "FILES", "bucket_name": "files" }],
    });
    let dir = serve.project("keeper", &[("index.js", CODE), ("wrangler.jsonc", &config.to_string())]);
    serve.wrangler(&dir, &["deploy"]);
    empty
}

fn act(serve: &Serve, path: &str) -> String {
    serve.get(HOST, path).text()
}

/// Status and code of a call of the API.
fn code(serve: &Serve, method: &str, path: &str, body: Option<Value>) -> (u16, u64) {
    let answer = serve.call(method, path, body.as_ref());
    (answer.status, answer.json()["errors"][0]["code"].as_u64().unwrap_or_default())
}

const LOCKED: &str = "The object is locked by the bucket policy. (10069)";

#[test]
fn locked_objects_stay_whoever_wants_to_change_them() {
    let serve = serve();
    let dir = deployed(&serve);
    let lock = |args: &[&str]| serve.wrangler(&dir, &[&["r2", "bucket", "lock"], args].concat());
    for key in ["logs/a", "free"] {
        assert_eq!(act(&serve, &format!("/put:{key}")), "done");
    }
    assert!(lock(&["list", "files"]).contains("There are no lock rules"));
    lock(&["add", "files", "keep", "logs/", "--retention-days", "30", "-y"]);
    lock(&["add", "files", "past", "free", "--retention-date", "2026-01-01", "-y"]);
    let listed = lock(&["list", "files"]);
    for part in ["keep", "logs/", "after 30 days", "past", "on 2026-01-01"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }

    assert_eq!(act(&serve, "/put:logs/a"), format!("put: {LOCKED}"));
    assert_eq!(act(&serve, "/delete:logs/a"), format!("delete: {LOCKED}"));
    assert_eq!(act(&serve, "/parts:logs/a"), format!("completeMultipartUpload: {LOCKED}"));
    assert_eq!(act(&serve, "/put:logs/new"), "done");
    assert_eq!((act(&serve, "/put:free"), act(&serve, "/delete:free")), ("done".into(), "done".into()));
    assert_eq!(act(&serve, "/text:logs/a"), "again");
    let objects = "/r2/buckets/files/objects";
    let object = format!("{objects}/logs/a");
    assert_eq!(code(&serve, "DELETE", &object, None), (403, 10069));
    assert_eq!(code(&serve, "DELETE", objects, Some(json!(["logs/a"]))), (403, 10069));
    let put = ["r2", "object", "put", "files/logs/a", "--file", "file.txt", "--remote"];
    let refused = serve.try_wrangler(&dir, &put, "");
    assert!(!refused.success && refused.text.contains("10069"), "{}", refused.text);
    // A bucket with lock rules is not emptied; of a folder goes what is free.
    assert_eq!(code(&serve, "DELETE", &format!("{objects}?prefix="), None), (403, 10069));
    assert_eq!(act(&serve, "/put:loose"), "done");
    let emptied = serve.call("DELETE", &format!("{objects}?prefix=lo"), None).json();
    assert_eq!(emptied["result"]["prefixDelete"]["deletedObjects"], 1, "{emptied}");

    // After a crash as before.
    let serve = serve_in(serve.stop("KILL"), &[]);
    let dir = serve.project(
        "empty",
        &[(
            "rules.json",
            r#"{ "rules": [
        { "id": "all", "enabled": false, "condition": { "type": "Indefinite" } }
    ] }"#,
        )],
    );
    let lock = |args: &[&str]| serve.wrangler(&dir, &[&["r2", "bucket", "lock"], args].concat());
    assert_eq!(act(&serve, "/put:logs/a"), format!("put: {LOCKED}"));
    lock(&["remove", "files", "--name", "keep"]);
    assert_eq!(act(&serve, "/put:logs/a"), "done");
    lock(&["set", "files", "--file", "rules.json", "-y"]);
    let path = "/r2/buckets/files/lock";
    let all = serve.call("GET", path, None).json()["result"].clone();
    assert_eq!(
        all,
        json!({ "rules": [{ "id": "all", "enabled": false, "condition": { "type": "Indefinite" } }] })
    );
    let wrong = [
        json!({}),
        json!({ "rules": [{ "id": "x", "enabled": true, "condition": { "type": "Age", "maxAgeSeconds": 0 } }] }),
        json!({ "rules": [{ "id": "x", "enabled": true, "condition": { "type": "Date", "date": "soon" } }] }),
        json!({ "rules": [{ "id": "x", "enabled": true }] }),
    ];
    for body in wrong {
        assert_eq!(code(&serve, "PUT", path, Some(body.clone())), (400, 10040), "{body}");
    }
    assert_eq!(serve.call("GET", path, None).json()["result"], all, "what is refused changes nothing");
    assert_eq!(code(&serve, "PUT", "/r2/buckets/absent/lock", Some(json!({ "rules": [] }))), (404, 10006));
}

#[test]
fn old_objects_go_and_old_uploads_end_by_the_rules_of_a_bucket() {
    let serve = serve();
    let dir = deployed(&serve);
    let lifecycle = |args: &[&str]| serve.wrangler(&dir, &[&["r2", "bucket", "lifecycle"], args].concat());
    let path = "/r2/buckets/files/lifecycle";
    let rules = || serve.call("GET", path, None).json()["result"]["rules"].clone();
    let first = json!({
        "id": "Default Multipart Abort Rule", "enabled": true, "conditions": {},
        "abortMultipartUploadsTransition": { "condition": { "type": "Age", "maxAge": 604_800 } },
    });
    assert_eq!(rules(), json!([first]));
    let listed = lifecycle(&["list", "files"]);
    assert!(listed.contains("Abort incomplete multipart uploads after 7 days"), "{listed}");
    lifecycle(&[
        "add",
        "files",
        "cold",
        "old/",
        "--ia-transition-days",
        "30",
        "--expire-date",
        "2040-01-01",
        "-y",
    ]);
    let listed = lifecycle(&["list", "files"]);
    assert!(
        listed.contains("Expire objects on 2040-01-01, Transition to Infrequent Access after 30 days"),
        "{listed}"
    );
    lifecycle(&["remove", "files", "--name", "Default Multipart Abort Rule"]);
    assert_eq!(rules()[0]["id"], "cold");

    // What a rule removes, a queue hears of.
    serve.wrangler(&dir, &["queues", "create", "changes"]);
    let notify = ["r2", "bucket", "notification", "create", "files", "--queue", "changes"];
    serve.wrangler(&dir, &[&notify[..], &["--event-types", "object-delete"]].concat());
    for key in ["tmp/a", "tmp/locked", "class", "stays"] {
        assert_eq!(act(&serve, &format!("/put:{key}")), "done");
    }
    let upload = act(&serve, "/start:tmp/parts");
    serve.wrangler(
        &dir,
        &["r2", "bucket", "lock", "add", "files", "keep", "tmp/locked", "--retention-indefinite", "-y"],
    );
    let age = json!({ "condition": { "type": "Age", "maxAge": 0 } });
    let past = json!({ "condition": { "type": "Date", "date": "2020-01-01T00:00:00Z" }, "storageClass": "InfrequentAccess" });
    let all = json!({ "rules": [
        { "id": "tmp", "enabled": true, "conditions": { "prefix": "tmp/" }, "deleteObjectsTransition": age,
          "abortMultipartUploadsTransition": age },
        { "id": "class", "enabled": true, "conditions": { "prefix": "class" }, "storageClassTransitions": [past] },
        { "id": "off", "enabled": false, "conditions": {}, "deleteObjectsTransition": age },
    ] });
    let dir = serve.project("set", &[("rules.json", &all.to_string()), ("wrangler.jsonc", "{}")]);
    serve.wrangler(&dir, &["r2", "bucket", "lifecycle", "set", "files", "--file", "rules.json", "-y"]);
    assert_eq!(rules(), all["rules"]);
    eventually("the object to go", || (act(&serve, "/text:tmp/a") == "none").then_some(()));
    eventually("the class to change", || (act(&serve, "/class:class") == "InfrequentAccess").then_some(()));
    assert_eq!(
        (act(&serve, "/text:tmp/locked"), act(&serve, "/text:stays")),
        ("again".into(), "again".into())
    );
    let abort = act(&serve, &format!("/more:tmp/parts:{upload}"));
    assert!(abort.contains("(10024)"), "{abort}");
    let queue = serve.call("GET", "/queues?name=changes", None).json()["result"][0]["queue_id"].clone();
    let peek = format!("/queues/{}/messages/preview", queue.as_str().unwrap());
    let heard = eventually("the notification", || {
        let seen = serve.call("POST", &peek, Some(&json!({ "batch_size": 10 }))).json();
        seen["result"]["messages"].as_array().filter(|all| !all.is_empty()).cloned()
    });
    let said = STANDARD.decode(heard[0]["body"].as_str().unwrap()).unwrap();
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!((heard.len(), &said["action"]), (1, &json!("LifecycleDeletion")));
    assert_eq!(said["object"], json!({ "key": "tmp/a" }));

    // After a crash the rules are there.
    let serve = serve_in(serve.stop("KILL"), &[]);
    assert_eq!(serve.call("GET", path, None).json()["result"], all);
    let wrong = json!({ "rules": [{ "id": "x", "enabled": true, "deleteObjectsTransition": {} }] });
    assert_eq!(code(&serve, "PUT", path, Some(wrong)), (400, 10040));
}
