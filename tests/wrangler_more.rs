//! Stock wrangler's less common commands, and what of a version is kept by the next one.

use serde_json::{Value, json};

use crate::harness::serve::{Serve, serve};

const CODE: &str = "export default { fetch(request, env) { return Response.json(env); } };";
const HOST: &str = "more.main.localhost";

#[test]
fn secrets_come_in_bulk_and_with_versions() {
    let serve = serve();
    let config = r#"{ "name": "more", "main": "index.js", "compatibility_date": "2026-07-01", "vars": { "PLAIN": "p" } }"#;
    let dir = serve.project(
        "more",
        &[
            ("index.js", CODE),
            ("wrangler.jsonc", config),
            ("secrets.json", r#"{ "A": "one", "B": "two" }"#),
            ("secrets.env", "B=three\nC=\"four five\"\n"),
        ],
    );
    serve.wrangler(&dir, &["deploy"]);
    serve.wrangler(&dir, &["secret", "bulk", "secrets.json"]);
    assert_eq!(serve.get(HOST, "/").json(), json!({ "PLAIN": "p", "A": "one", "B": "two" }));
    serve.wrangler(&dir, &["secret", "bulk", "secrets.env"]);
    let all = json!({ "PLAIN": "p", "A": "one", "B": "three", "C": "four five" });
    assert_eq!(serve.get(HOST, "/").json(), all);
    let put = serve.try_wrangler(&dir, &["versions", "secret", "put", "D"], "later");
    assert!(put.success, "{}", put.text);
    assert_eq!(serve.get(HOST, "/").json(), all, "a version is not deployed by that");
    let listed = serve.wrangler(&dir, &["versions", "secret", "list", "--latest-version"]);
    assert!(
        ["A", "B", "C", "D"].iter().all(|name| listed.contains(&format!("Secret Name: {name}"))),
        "{listed}"
    );
    let versions = serve.call("GET", "/workers/scripts/more/versions", None).json();
    let newest = format!("{}@100", versions["result"]["items"][0]["id"].as_str().unwrap());
    serve.wrangler(&dir, &["versions", "deploy", &newest, "-y"]);
    assert_eq!(serve.get(HOST, "/").json()["D"], "later");
}

#[test]
fn resources_are_shown_emptied_and_removed() {
    let serve = serve();
    let config = r#"{ "name": "more", "main": "index.js", "compatibility_date": "2026-07-01" }"#;
    let dir = serve.project(
        "more",
        &[
            ("index.js", CODE),
            ("wrangler.jsonc", config),
            ("file.txt", "content of a file"),
            ("keys.json", r#"["a"]"#),
            ("migrations/0001_t.sql", "CREATE TABLE t (a);"),
        ],
    );
    let run = |args: &[&str]| serve.wrangler(&dir, args);
    // Queues.
    run(&["queues", "create", "orders"]);
    let id = serve.call("GET", "/queues?name=orders", None).json()["result"][0]["queue_id"].clone();
    let path = format!("/queues/{}", id.as_str().unwrap());
    serve.call("POST", &format!("{path}/messages"), Some(&json!({ "body": 1 })));
    assert!(run(&["queues", "list"]).contains("orders"));
    run(&["queues", "update", "orders", "--delivery-delay-secs", "60"]);
    assert_eq!(serve.call("GET", &path, None).json()["result"]["settings"]["delivery_delay"], 60);
    run(&["queues", "update", "orders", "--message-retention-period-secs", "1209600"]);
    let settings = serve.call("GET", &path, None).json()["result"]["settings"].clone();
    assert_eq!(
        (&settings["delivery_delay"], &settings["message_retention_period"]),
        (&json!(60), &json!(1_209_600))
    );
    let short = json!({ "settings": { "message_retention_period": 59 } });
    assert_eq!(serve.call("PATCH", &path, Some(&short)).status, 400);
    run(&["queues", "pause-delivery", "orders"]);
    assert_eq!(serve.call("GET", &path, None).json()["result"]["settings"]["delivery_paused"], true);
    run(&["queues", "resume-delivery", "orders"]);
    run(&["queues", "purge", "orders", "--force"]);
    let metrics = serve.call("GET", &format!("{path}/metrics"), None).json();
    assert_eq!(metrics["result"]["backlog_count"], 0, "{metrics}");
    run(&["queues", "delete", "orders"]);
    // KV.
    run(&["kv", "namespace", "create", "settings"]);
    let id = serve.call("GET", "/storage/kv/namespaces", None).json()["result"][0]["id"].clone();
    let id = id.as_str().unwrap().to_owned();
    run(&["kv", "key", "put", "a", "1", "--namespace-id", &id, "--remote", "--ttl", "3600"]);
    let got = run(&["kv", "bulk", "get", "keys.json", "--namespace-id", &id, "--remote"]);
    assert!(got.contains("\"a\"") && got.contains("\"1\""), "{got}");
    run(&["kv", "namespace", "rename", "settings", "--new-name", "options"]);
    assert!(run(&["kv", "namespace", "list"]).contains("options"));
    run(&["kv", "namespace", "delete", "--namespace-id", &id, "-y"]);
    assert_eq!(serve.call("GET", "/storage/kv/namespaces", None).json()["result"], json!([]));
    // R2.
    run(&["r2", "bucket", "create", "files"]);
    run(&[
        "r2",
        "object",
        "put",
        "files/a/b.txt",
        "--file",
        "file.txt",
        "--remote",
        "--content-type",
        "text/x-own",
    ]);
    assert!(
        run(&["r2", "object", "get", "files/a/b.txt", "--pipe", "--remote"]).contains("content of a file")
    );
    assert!(run(&["r2", "bucket", "info", "files"]).contains("files"));
    run(&["r2", "object", "delete", "files/a/b.txt", "--remote"]);
    run(&["r2", "bucket", "delete", "files"]);
    // D1.
    run(&["d1", "create", "base"]);
    let list = serve.call("GET", "/d1/database", None).json();
    let id = list["result"][0]["uuid"].as_str().unwrap().to_owned();
    let bound = json!({
        "name": "more", "main": "index.js", "compatibility_date": "2026-07-01",
        "d1_databases": [{ "binding": "DB", "database_name": "base", "database_id": id }],
    });
    std::fs::write(dir.join("wrangler.jsonc"), bound.to_string()).unwrap();
    assert!(run(&["d1", "migrations", "list", "base", "--remote"]).contains("0001_t.sql"));
    run(&["d1", "migrations", "apply", "base", "--remote"]);
    let info = run(&["d1", "info", "base", "--json"]);
    assert!(info.contains(&id), "{info}");
    run(&["d1", "delete", "base", "-y"]);
    assert_eq!(serve.call("GET", "/d1/database", None).json()["result"], json!([]));
}

/// A version's bindings, by name.
fn bindings(serve: &Serve) -> Value {
    let settings = serve.call("GET", "/workers/scripts/more/settings", None).json();
    let mut all: Vec<&str> = settings["result"]["bindings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| b["name"].as_str().unwrap())
        .collect();
    all.sort_unstable();
    json!(all)
}

#[test]
fn the_next_version_keeps_what_it_is_told_to_keep() {
    let serve = serve();
    let upload = |bindings: Value, keep: Value| {
        let mut metadata =
            json!({ "main_module": "index.js", "compatibility_date": "2026-07-01", "bindings": bindings });
        if !keep.is_null() {
            metadata["keep_bindings"] = keep;
        }
        let answer = serve.upload("more", &metadata, CODE);
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let text = |name: &str| json!({ "type": "plain_text", "name": name, "text": name.to_lowercase() });
    let file = json!({ "type": "json", "name": "J", "json": { "x": 1 } });
    let secret = json!({ "type": "secret_text", "name": "S", "text": "hush" });
    upload(json!([text("A"), text("B"), file, secret]), Value::Null);
    assert_eq!(bindings(&serve), json!(["A", "B", "J", "S"]));
    // Without a word, secrets stay: wrangler deploys rely on it.
    upload(json!([text("C")]), json!(["plain_text", "secret_text"]));
    assert_eq!(bindings(&serve), json!(["A", "B", "C", "S"]), "the json is of a type that was not named");
    assert_eq!(serve.get(HOST, "/").json(), json!({ "A": "a", "B": "b", "C": "c", "S": "hush" }));
    let mut new = text("A");
    new["text"] = "new".into();
    upload(json!([new]), json!(["plain_text"]));
    assert_eq!(serve.get(HOST, "/").json()["A"], "new", "what is uploaded wins");
    let keep = [json!(["secret_text"]), json!([])];
    upload(json!([{ "type": "inherit", "name": "B" }]), keep[0].clone());
    assert_eq!(serve.get(HOST, "/").json()["B"], "b");
    let missing = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "type": "inherit", "name": "NONE" }],
    });
    let refused = serve.upload("more", &missing, CODE);
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(serve.get(HOST, "/").json()["B"], "b", "nothing was changed");
}
