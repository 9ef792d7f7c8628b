//! Stock wrangler makes and fills resources on `skep serve`; a deployed worker finds the same in its bindings.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::serve::{Serve, serve};

const CODE: &str = r#"
export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    const key = searchParams.get("key");
    switch (pathname) {
      case "/kv": {
        if (request.method === "PUT") await env.KV.put(key, request.body);
        return Response.json(await env.KV.getWithMetadata(key));
      }
      case "/r2": {
        if (request.method === "PUT") await env.BUCKET.put(key, request.body);
        const object = await env.BUCKET.get(key);
        return new Response(object?.body ?? "none", { headers: { "x-type": object?.httpMetadata?.contentType ?? "" } });
      }
      case "/d1":
        return Response.json((await env.DB.prepare("SELECT * FROM t ORDER BY a").all()).results);
      case "/send":
        await env.QUEUE.send({ n: Number(key) });
        return new Response("sent");
    }
    return new Response("hello");
  },
  async queue(batch, env) {
    for (const message of batch.messages) await env.KV.put(`message ${JSON.stringify(message.body)}`, batch.queue);
  },
};
"#;

/// A project bound to one of each; the KV namespace's and the database's ids are what the API said.
fn project(serve: &Serve, kv: &str, d1: &str) -> PathBuf {
    let config = json!({
        "name": "all", "main": "index.js", "compatibility_date": "2026-07-01",
        "kv_namespaces": [{ "binding": "KV", "id": kv }],
        "r2_buckets": [{ "binding": "BUCKET", "bucket_name": "my-bucket" }],
        "d1_databases": [{ "binding": "DB", "database_name": "my-db", "database_id": d1 }],
        "queues": {
            "producers": [{ "binding": "QUEUE", "queue": "my-queue" }],
            "consumers": [{ "queue": "my-queue", "max_batch_size": 10, "max_batch_timeout": 1 }],
        },
    });
    let migration =
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);\nINSERT INTO t VALUES (1, 'one; and more');";
    serve.project(
        "all",
        &[
            ("index.js", CODE),
            ("wrangler.jsonc", &config.to_string()),
            ("migrations/0001_t.sql", migration),
            ("more.sql", "INSERT INTO t VALUES (2, 'two');\nINSERT INTO t VALUES (3, 'three');\n"),
            ("wrong.sql", "INSERT INTO t VALUES (4, 'four');\nINSERT INTO elsewhere VALUES (1);\n"),
            (
                "bulk.json",
                r#"[{ "key": "k1", "value": "v1" }, { "key": "k2", "value": "djI=", "base64": true }]"#,
            ),
            ("keys.json", r#"["k1", "k2"]"#),
        ],
    )
}

fn made(serve: &Serve, path: &str, body: &Value, key: &str) -> String {
    let answer = serve.call("POST", path, Some(body)).json();
    answer["result"][key].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

const HOST: &str = "all.main.localhost";

#[test]
fn wrangler_fills_what_a_deployed_worker_is_bound_to() {
    let serve = serve();
    let kv = made(&serve, "/storage/kv/namespaces", &json!({ "title": "mine" }), "id");
    let d1 = made(&serve, "/d1/database", &json!({ "name": "my-db" }), "uuid");
    let dir = project(&serve, &kv, &d1);
    serve.wrangler(&dir, &["r2", "bucket", "create", "my-bucket"]);
    serve.wrangler(&dir, &["queues", "create", "my-queue"]);
    serve.wrangler(&dir, &["d1", "migrations", "apply", "my-db", "--remote"]);
    serve.wrangler(&dir, &["deploy"]);

    kv_both_ways(&serve, &dir, &kv);
    r2_both_ways(&serve, &dir);
    d1_both_ways(&serve, &dir);
    queue_both_ways(&serve, &dir);
}

fn kv_both_ways(serve: &Serve, dir: &Path, kv: &str) {
    let namespace = ["--namespace-id", kv, "--remote"];
    let run = |args: &[&str]| serve.wrangler(dir, &[args, &namespace].concat());
    run(&["kv", "key", "put", "a/b c", "hello", "--metadata", "{\"x\":1}"]);
    let found = serve.get(HOST, "/kv?key=a%2Fb%20c").json();
    assert_eq!((&found["value"], &found["metadata"]), (&json!("hello"), &json!({ "x": 1 })));
    serve.send("PUT", HOST, "/kv?key=own", &[], Some(b"from the worker"));
    assert!(run(&["kv", "key", "get", "own"]).contains("from the worker"));
    assert!(run(&["kv", "key", "list", "--prefix", "a/"]).contains("\"a/b c\""));
    run(&["kv", "bulk", "put", "bulk.json"]);
    assert_eq!(serve.get(HOST, "/kv?key=k2").json()["value"], "v2");
    run(&["kv", "bulk", "delete", "keys.json", "--force"]);
    assert_eq!(serve.get(HOST, "/kv?key=k1").json()["value"], Value::Null);
    run(&["kv", "key", "delete", "a/b c"]);
    assert_eq!(serve.get(HOST, "/kv?key=a%2Fb%20c").json()["value"], Value::Null);
    assert!(serve.wrangler(dir, &["kv", "namespace", "list"]).contains(kv));
}

fn r2_both_ways(serve: &Serve, dir: &Path) {
    let content: String = "0123456789abcdef".repeat(200_000);
    std::fs::write(dir.join("big.txt"), &content).unwrap();
    let put = [
        "r2",
        "object",
        "put",
        "my-bucket/a/b c.txt",
        "--file",
        "big.txt",
        "--content-type",
        "text/x-own",
        "--remote",
    ];
    serve.wrangler(dir, &put);
    let found = serve.get(HOST, "/r2?key=a%2Fb%20c.txt");
    assert_eq!((found.header("x-type"), found.text() == content), ("text/x-own", true));
    serve.send("PUT", HOST, "/r2?key=own", &[], Some(b"from the worker"));
    serve.wrangler(dir, &["r2", "object", "get", "my-bucket/own", "--file", "got.txt", "--remote"]);
    assert_eq!(std::fs::read_to_string(dir.join("got.txt")).unwrap(), "from the worker");
    let full = serve.try_wrangler(dir, &["r2", "bucket", "delete", "my-bucket"], "");
    assert!(!full.success && full.text.contains("not empty"), "{}", full.text);
    serve.wrangler(dir, &["r2", "object", "delete", "my-bucket/own", "--remote"]);
    assert_eq!(serve.get(HOST, "/r2?key=own").text(), "none");
    assert!(serve.wrangler(dir, &["r2", "bucket", "list"]).contains("my-bucket"));
}

fn d1_both_ways(serve: &Serve, dir: &Path) {
    let one = json!([{ "a": 1, "b": "one; and more" }]);
    assert_eq!(serve.get(HOST, "/d1").json(), one);
    let text = serve.wrangler(
        dir,
        &["d1", "execute", "my-db", "--remote", "--json", "--command", "SELECT b FROM t; SELECT 5 AS n"],
    );
    assert!(text.contains("one; and more") && text.contains("\"n\": 5"), "{text}");
    serve.wrangler(dir, &["d1", "execute", "my-db", "--remote", "--yes", "--file", "more.sql"]);
    assert_eq!(serve.get(HOST, "/d1").json()[2]["b"], "three");
    let wrong =
        serve.try_wrangler(dir, &["d1", "execute", "my-db", "--remote", "--yes", "--file", "wrong.sql"], "");
    assert!(!wrong.success && wrong.text.contains("no such table: elsewhere"), "{}", wrong.text);
    assert_eq!(
        serve.get(HOST, "/d1").json().as_array().unwrap().len(),
        3,
        "a file is taken whole or not at all"
    );
    serve.wrangler(dir, &["d1", "export", "my-db", "--remote", "--output", "dump.sql"]);
    let dump = std::fs::read_to_string(dir.join("dump.sql")).unwrap();
    assert!(
        dump.contains("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);") && dump.contains("'three'"),
        "{dump}"
    );
    let again = serve.wrangler(dir, &["d1", "migrations", "apply", "my-db", "--remote"]);
    assert!(again.contains("No migrations to apply"), "{again}");
    time_travel(serve, dir);
    assert!(serve.wrangler(dir, &["d1", "list"]).contains("my-db"));
}

/// Back by a bookmark and by a time, and forth again.
fn time_travel(serve: &Serve, dir: &Path) {
    let travel = |args: &[&str]| serve.wrangler(dir, &[&["d1", "time-travel"], args].concat());
    let rows = || serve.get(HOST, "/d1").json().as_array().unwrap().len();
    let said = |args: &[&str]| -> Value { serde_json::from_str(&travel(args)).unwrap() };
    let info = said(&["info", "my-db", "--json"]);
    let bookmark = info["bookmark"].as_str().unwrap();
    // The same second as the write would be before it or after it.
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let (then, sql) = (now() + 1, json!({ "sql": "DELETE FROM t" }));
    eventually("the next second", || (now() > then).then_some(()));
    assert_eq!(serve.call("POST", "/d1/database/my-db/query", Some(&sql)).status, 200);
    assert_eq!(rows(), 0);
    let at_time = said(&["info", "my-db", "--json", "--timestamp", &then.to_string()]);
    assert_eq!(at_time["bookmark"], *bookmark, "nothing was written in between");
    let restored = said(&["restore", "my-db", "--json", "--bookmark", bookmark]);
    assert_eq!(rows(), 3);
    let undone =
        said(&["restore", "my-db", "--json", "--bookmark", restored["previous_bookmark"].as_str().unwrap()]);
    assert_eq!(rows(), 0);
    assert!(undone["bookmark"].as_str().unwrap() > restored["bookmark"].as_str().unwrap());
    travel(&["restore", "my-db", "--json", "--timestamp", &then.to_string()]);
    assert_eq!(rows(), 3);
    let early = serve.try_wrangler(
        dir,
        &["d1", "time-travel", "info", "my-db", "--timestamp", &(then - 86_400).to_string()],
        "",
    );
    assert!(!early.success && early.text.contains("is older than what can be restored"), "{}", early.text);
    let wrong = [
        "d1",
        "time-travel",
        "restore",
        "my-db",
        "--json",
        "--bookmark",
        "00000085-0000024c-00004c6d-8e61117bf38d7adb71b934ebbf891683",
    ];
    let wrong = serve.try_wrangler(dir, &wrong, "");
    assert!(!wrong.success && wrong.text.contains("is invalid"), "{}", wrong.text);
    let path = "/d1/database/my-db/time_travel";
    for query in ["bookmark?timestamp=yesterday", "restore", "restore?timestamp=2999-01-01T00:00:00Z"] {
        let method = if query.starts_with("bookmark") { "GET" } else { "POST" };
        let answer = serve.call(method, &format!("{path}/{query}"), None).json();
        assert_eq!(answer["errors"][0]["code"], 7400, "{query}: {answer}");
    }
}

fn queue_both_ways(serve: &Serve, dir: &Path) {
    let arrived = |n: u32| {
        let path = format!("/kv?key=message%20%7B%22n%22%3A{n}%7D");
        eventually("the message", || (serve.get(HOST, &path).json()["value"] == "my-queue").then_some(()));
    };
    assert_eq!(serve.get(HOST, "/send?key=1").text(), "sent");
    arrived(1);
    let id = serve.call("GET", "/queues?name=my-queue", None).json()["result"][0]["queue_id"].clone();
    let path = format!("/queues/{}", id.as_str().unwrap());
    let sent = serve.call("POST", &format!("{path}/messages"), Some(&json!({ "body": { "n": 2 } })));
    assert_eq!(sent.json()["success"], true);
    arrived(2);
    let text = serve.wrangler(dir, &["queues", "info", "my-queue"]);
    assert!(text.contains("worker:all"), "{text}");
    serve.wrangler(dir, &["queues", "consumer", "remove", "my-queue", "all"]);
    serve.get(HOST, "/send?key=3");
    let metrics = serve.call("GET", &format!("{path}/metrics"), None).json();
    assert_eq!(metrics["result"]["backlog_count"], 1, "{metrics}");
    serve.wrangler(dir, &["queues", "consumer", "add", "my-queue", "all", "--batch-timeout", "1"]);
    arrived(3);
    serve.wrangler(dir, &["queues", "delete", "my-queue"]);
    assert_eq!(serve.call("GET", &path, None).json()["errors"][0]["code"], 11000);
}

#[test]
fn resources_that_cannot_be_are_refused_by_cloudflares_codes() {
    let serve = serve();
    let kv = made(&serve, "/storage/kv/namespaces", &json!({ "title": "mine" }), "id");
    let d1 = made(&serve, "/d1/database", &json!({ "name": "db" }), "uuid");
    made(&serve, "/r2/buckets", &json!({ "name": "bucket" }), "name");
    made(&serve, "/queues", &json!({ "queue_name": "queue" }), "queue_id");
    let (key, sql) = (format!("/storage/kv/namespaces/{kv}/values/"), format!("/d1/database/{d1}/query"));
    let long = "x".repeat(513);
    for (method, path, body, status, code) in [
        ("POST", "/storage/kv/namespaces", json!({ "title": "mine" }), 400, 10014),
        ("POST", "/storage/kv/namespaces", json!({}), 400, 10019),
        ("GET", "/storage/kv/namespaces/nope/keys", Value::Null, 404, 10013),
        ("GET", &format!("{key}nope"), Value::Null, 404, 10009),
        ("PUT", &format!("{key}k?expiration_ttl=1"), json!("v"), 400, 10034),
        ("PUT", &format!("{key}{long}"), json!("v"), 414, 10033),
        ("PUT", &format!("/storage/kv/namespaces/{kv}/bulk"), json!({ "key": "a" }), 400, 10012),
        ("POST", "/d1/database", json!({ "name": "db" }), 400, 7502),
        ("POST", "/d1/database", json!({ "name": "" }), 400, 7400),
        ("GET", "/d1/database/nope", Value::Null, 404, 7404),
        ("POST", &sql, json!({ "sql": "SELECT * FROM elsewhere" }), 400, 7500),
        ("POST", &sql, json!({ "sql": "SELECT ?; SELECT ?", "params": [1] }), 400, 7400),
        ("POST", &sql, json!({ "query": 1 }), 400, 7400),
        ("POST", "/r2/buckets", json!({ "name": "bucket" }), 409, 10004),
        ("POST", "/r2/buckets", json!({ "name": "No Name" }), 400, 10005),
        ("GET", "/r2/buckets/nope", Value::Null, 404, 10006),
        ("GET", "/r2/buckets/bucket/objects/nope", Value::Null, 404, 10007),
        ("PUT", "/r2/buckets/bucket/sippy", json!({}), 400, 10058),
        ("GET", "/r2/buckets/bucket/cors", Value::Null, 404, 10059),
        ("POST", "/queues", json!({ "queue_name": "queue" }), 400, 11009),
        ("POST", "/queues", json!({ "queue_name": "No Name" }), 400, 11003),
        ("GET", "/queues/nope", Value::Null, 404, 11000),
    ] {
        let answer = serve.call(method, path, Some(&body).filter(|body| !body.is_null()));
        let said = answer.json();
        assert_eq!(
            (answer.status, &said["errors"][0]["code"]),
            (status, &json!(code)),
            "{method} {path}: {said}"
        );
        assert_eq!(said["success"], false);
    }
    for path in ["/storage/kv/namespaces", "/d1/database", "/queues"] {
        let count = |page: u32| {
            serve.call("GET", &format!("{path}?page={page}"), None).json()["result"].as_array().unwrap().len()
        };
        assert_eq!((count(1), count(2)), (1, 0), "{path}: past the end it is empty");
    }
}

#[test]
fn the_objects_of_a_namespace_are_listed_with_what_they_hold() {
    let serve = serve();
    let code = r#"
        import { DurableObject } from "cloudflare:workers";
        export class Counter extends DurableObject {
          async add() { await this.ctx.storage.put("n", 1); return this.ctx.id.toString(); }
          peek() { return this.ctx.id.toString(); }
        }
        export default { async fetch(request, env) {
          const { pathname, searchParams } = new URL(request.url);
          const counter = env.COUNTER.getByName(searchParams.get("name"));
          return new Response(await (pathname === "/add" ? counter.add() : counter.peek()));
        } };"#;
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "type": "durable_object_namespace", "name": "COUNTER", "class_name": "Counter" }],
        "migrations": { "new_tag": "v1", "steps": [{ "new_sqlite_classes": ["Counter"] }] },
    });
    assert_eq!(serve.upload("count", &metadata, code).status, 200);
    let ids: Vec<(String, bool)> = (0..12)
        .map(|n| {
            let path = if n == 5 { "/peek" } else { "/add" };
            (serve.get("count.main.localhost", &format!("{path}?name={n}")).text(), n != 5)
        })
        .collect();
    let namespaces = serve.call("GET", "/workers/durable_objects/namespaces", None).json();
    let path = format!(
        "/workers/durable_objects/namespaces/{}/objects",
        namespaces["result"][0]["id"].as_str().unwrap()
    );
    let list = |query: &str| serve.call("GET", &format!("{path}{query}"), None).json();
    let first = list("?limit=10");
    let cursor = first["result_info"]["cursor"].as_str().unwrap();
    let second = list(&format!("?limit=10&cursor={cursor}"));
    assert_eq!(second["result_info"]["cursor"], Value::Null);
    let listed = first["result"].as_array().unwrap().iter().chain(second["result"].as_array().unwrap());
    let mut expected = ids.clone();
    expected.sort();
    let listed: Vec<(String, bool)> = listed
        .map(|one| (one["id"].as_str().unwrap().to_owned(), one["hasStoredData"].as_bool().unwrap()))
        .collect();
    assert_eq!(listed, expected);
    for query in ["?limit=9", "?limit=10001", "?limit=all"] {
        assert_eq!(list(query)["errors"][0]["code"], 10001, "{query}");
    }
    let unknown = "/workers/durable_objects/namespaces/0123456789abcdef0123456789abcdef/objects";
    let unknown = serve.call("GET", unknown, None);
    assert_eq!((unknown.status, unknown.json()["errors"][0]["code"].as_u64()), (404, Some(10066)));
}

#[test]
fn an_id_that_a_project_has_already_is_kept_is_taken_once_and_leads_to_nothing_old() {
    let serve = serve();
    let said = |path: &str, body: &Value| serve.call("POST", path, Some(body)).json();
    let kv = "0123456789abcdef0123456789abcdef";
    let made = || said("/storage/kv/namespaces", &json!({ "title": "one", "id": kv }))["result"]["id"] == kv;
    assert!(made());
    let taken = said("/storage/kv/namespaces", &json!({ "title": "other", "id": kv }));
    assert_eq!(taken["errors"][0]["code"], 10014, "{taken}");
    assert!(taken["errors"][0]["message"].as_str().unwrap().contains(kv), "{taken}");
    let wrong = said("/storage/kv/namespaces", &json!({ "title": "other", "id": "../other" }));
    assert_eq!(wrong["errors"][0]["code"], 10019, "{wrong}");
    let path = format!("/storage/kv/namespaces/{kv}");
    assert_eq!(serve.call("PUT", &format!("{path}/values/key"), Some(&json!("old"))).status, 200);
    assert_eq!(serve.call("DELETE", &path, None).status, 200);
    assert!(made());
    assert_eq!(serve.call("GET", &format!("{path}/keys"), None).json()["result"], json!([]));

    let d1 = "01234567-89ab-4def-8123-456789abcdef";
    let made = || said("/d1/database", &json!({ "name": "one", "uuid": d1 }))["result"]["uuid"] == d1;
    assert!(made());
    let taken = said("/d1/database", &json!({ "name": "other", "uuid": d1 }));
    assert_eq!(taken["errors"][0]["code"], 7502, "{taken}");
    assert!(taken["errors"][0]["message"].as_str().unwrap().contains(d1), "{taken}");
    let query = |sql: &str| said(&format!("/d1/database/{d1}/query"), &json!({ "sql": sql }));
    assert_eq!(query("CREATE TABLE t (x)")["success"], true);
    assert_eq!(serve.call("DELETE", &format!("/d1/database/{d1}"), None).status, 200);
    assert!(made());
    assert_eq!(query("SELECT name FROM sqlite_master")["result"][0]["results"], json!([]));
}
