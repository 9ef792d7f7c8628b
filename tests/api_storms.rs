//! Calls of the API that are small and come to much: whoever else is served waits for none of them, and they take little of the node.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use md5::{Digest, Md5};
use serde_json::{Value, json};

use crate::harness::scene::{NEIGHBOUR, Scene};
use crate::harness::serve::{Serve, serve};
use crate::storms::peak;

/// What a visitor of a neighbour waits at most. On the thread that serves everybody each of these calls takes five seconds and more.
const WAITS: Duration = Duration::from_secs(3);

fn scene() -> Scene {
    let serve = serve();
    let plain = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    assert_eq!(serve.upload("well", &plain, NEIGHBOUR).status, 200);
    assert_eq!(serve.get("well.main.localhost", "/").text(), "well");
    Scene { serve }
}

/// Does `attack` and calls the neighbour all the while, who must not wait long.
fn meanwhile<T>(serve: &Serve, what: &str, attack: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::SeqCst) {
                let start = Instant::now();
                assert_eq!(serve.get("well.main.localhost", "/").text(), "well");
                longest = longest.max(start.elapsed());
                std::thread::sleep(Duration::from_millis(5));
            }
            longest
        });
        let got = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attack));
        done.store(true, Ordering::SeqCst);
        let longest = neighbour.join().unwrap();
        assert!(longest < WAITS, "{what}: a neighbour waited {longest:?}");
        got.unwrap_or_else(|failed| std::panic::resume_unwind(failed))
    })
}

fn database(serve: &Serve, name: &str) -> String {
    let made = serve.call("POST", "/d1/database", Some(&json!({ "name": name }))).json();
    format!("/d1/database/{}", made["result"]["uuid"].as_str().unwrap())
}

/// A file of SQL for a database; its name.
fn upload(serve: &Serve, database: &str, sql: &str) -> String {
    let etag = hex::encode(Md5::digest(sql));
    let init = json!({ "action": "init", "etag": etag });
    let init = serve.call("POST", &format!("{database}/import"), Some(&init)).json();
    let url = init["result"]["upload_url"].as_str().unwrap().to_owned();
    let path = url.split_once("/client/v4").unwrap().1;
    assert_eq!(serve.raw_call("PUT", path, &[], Some(sql.as_bytes())).status, 200);
    etag
}

#[test]
fn long_answers_of_databases_and_namespaces_take_nobody_s_time() {
    let scene = scene();
    let serve = &scene.serve;
    let d1 = database(serve, "long");
    let rows = 2_000_000;
    let sql = format!(
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {rows}) SELECT x FROM c"
    );
    let answer = meanwhile(serve, "a query", || {
        serve.call("POST", &format!("{d1}/query"), Some(&json!({ "sql": sql })))
    });
    let text = answer.text();
    assert!(text.starts_with(
        r#"{"success":true,"errors":[],"messages":[],"result":[{"success":true,"results":[{"x":1},"#
    ));
    assert!(
        text.contains(&format!(r#"{{"x":{rows}}}]"#)) && text.ends_with("}]}"),
        "{}",
        &text[text.len() - 300..]
    );
    assert_eq!(text.len().to_string(), answer.header("content-length"));

    let kv = serve.call("POST", "/storage/kv/namespaces", Some(&json!({ "title": "long" }))).json();
    let kv = format!("/storage/kv/namespaces/{}", kv["result"]["id"].as_str().unwrap());
    let value = format!("[{}0]", r#"{"":0},"#.repeat(3_000_000));
    assert_eq!(serve.own_call("PUT", &format!("{kv}/values/k"), &[], Some(value.as_bytes())).status, 200);
    let asked = json!({ "keys": ["k", "none", "k"], "type": "json" });
    let answer =
        meanwhile(serve, "a bulk get", || serve.call("POST", &format!("{kv}/bulk/get"), Some(&asked)));
    let expected = format!(
        r#"{{"success":true,"errors":[],"messages":[],"result":{{"values":{{"k":{value},"none":null}}}}}}"#
    );
    assert_eq!(answer.text(), expected);
    assert!(peak(&scene) < 900 << 10, "{} KiB", peak(&scene));
}

#[test]
fn a_file_of_a_million_statements_is_imported_beside_everybody_else() {
    let scene = scene();
    let serve = &scene.serve;
    let d1 = database(serve, "filled");
    // As many as a table of many rows has in an export. A result for each of them would be more than results may be.
    let count = 1_000_000;
    let sql = format!("CREATE TABLE t(a);\n{}", "INSERT INTO t VALUES(1);\n".repeat(count));
    let etag = upload(serve, &d1, &sql);
    let ingest = json!({ "action": "ingest", "etag": etag });
    let import = || serve.call("POST", &format!("{d1}/import"), Some(&ingest));
    let imported = meanwhile(serve, "an import", import).json();
    assert_eq!(imported["result"]["result"]["num_queries"], count + 1, "{imported}");
    assert_eq!(imported["result"]["result"]["meta"]["changes"], count, "{imported}");
    let counted = json!({ "sql": "SELECT count(*) AS n FROM t" });
    let counted = serve.call("POST", &format!("{d1}/query"), Some(&counted)).json();
    assert_eq!(counted["result"][0]["results"], json!([{ "n": count }]), "{counted}");
    assert!(peak(&scene) < 500 << 10, "{} KiB", peak(&scene));
    // All of it, or nothing.
    let broken = upload(serve, &d1, "INSERT INTO t VALUES(2); INSERT INTO nowhere VALUES(1);");
    let broken = json!({ "action": "ingest", "etag": broken });
    let refused = serve.call("POST", &format!("{d1}/import"), Some(&broken));
    assert!(refused.status == 400 && refused.text().contains("no such table: nowhere"), "{}", refused.text());
    let twos = json!({ "sql": "SELECT count(*) AS n FROM t WHERE a = 2" });
    let twos = serve.call("POST", &format!("{d1}/query"), Some(&twos)).json();
    assert_eq!(twos["result"][0]["results"], json!([{ "n": 0 }]));
    // What a file is read by writes none.
    let exported =
        serve.call("POST", &format!("{d1}/export"), Some(&json!({ "output_format": "polling" }))).json();
    let url = exported["result"]["result"]["signed_url"].as_str().unwrap();
    let path = url.split_once("/client/v4").unwrap().1;
    assert_eq!(serve.raw_call("PUT", path, &[], Some(b"SELECT 1;")).status, 404);
    let file = meanwhile(serve, "a download", || serve.raw_call("GET", path, &[], None));
    assert_eq!(file.text().matches("INSERT INTO").count(), count);
}

#[test]
fn lists_and_names_have_an_end() {
    let scene = scene();
    let serve = &scene.serve;
    for (host, path) in [("a.".repeat(10_000), ""), ("a".into(), "/x".repeat(10_000).as_str())]
        .map(|(h, p): (String, &str)| (h, p.to_owned()))
    {
        let pattern = format!("{host}test{path}/*");
        let refused =
            serve.call("PUT", "/workers/scripts/well/routes", Some(&json!([{ "pattern": pattern }])));
        assert_eq!(refused.json()["errors"][0]["code"], 10022);
        let said = "Invalid route pattern: a host has at most 253 bytes, a path 16384.";
        assert_eq!(refused.json()["errors"][0]["message"], said);
    }
    let routes: Vec<Value> =
        (0..1000).map(|n| json!({ "pattern": format!("{}h{n}.test/*", "a.".repeat(100)) })).collect();
    assert_eq!(serve.call("PUT", "/workers/scripts/well/routes", Some(&json!(routes))).status, 200);
    let none = meanwhile(serve, "the routes of a zone", || {
        serve.token_call("GET", &format!("/zones/{}/workers/routes", "0".repeat(32)), &[], None)
    });
    assert_eq!(none.json()["result"], json!([]));
    // The content of a script is read as it is sent.
    let text = "x".repeat(8 << 20);
    let code = format!("export default {{ fetch() {{ return new Response('{text}') }} }}");
    let plain = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    assert_eq!(serve.upload("large", &plain, &code).status, 200);
    let content = serve.call("GET", "/workers/scripts/large/content/v2", None);
    let (head, form) = (content.header("content-type").to_owned(), content.text());
    let boundary = head.split_once("boundary=").unwrap().1;
    let expected = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"index.js\"; filename=\"index.js\"\r\n\
         Content-Type: application/javascript+module\r\n\r\n{code}\r\n--{boundary}--\r\n"
    );
    assert!(form == expected, "{}", &form[..300]);
}

#[test]
fn ten_thousand_bindings_take_nobody_s_time() {
    let scene = scene();
    let serve = &scene.serve;
    let made = serve.call("POST", "/storage/kv/namespaces", Some(&json!({ "title": "kept" }))).json();
    let binding =
        |name: String| json!({ "type": "kv_namespace", "name": name, "namespace_id": made["result"]["id"] });
    let mut metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    metadata["bindings"] = (0..10_000).map(|n| binding(format!("K{n}"))).collect();
    let code = "export default { fetch: (_, env) => new Response(String(Object.keys(env).length)) };";
    let uploaded = meanwhile(serve, "an upload", || serve.upload("many", &metadata, code));
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    let host = "many.main.localhost";
    assert_eq!(meanwhile(serve, "a start", || serve.get(host, "/")).text(), "10000");
    // Each is looked for, and the version comes to nothing: it can be sent for ever.
    let last = |n: usize| json!({ "type": "inherit", "name": format!("I{n}"), "old_name": "K9999" });
    metadata["bindings"] =
        (0..15_000).map(last).chain([json!({ "type": "inherit", "name": "none" })]).collect();
    let refused = meanwhile(serve, "what is inherited", || serve.upload("many", &metadata, code));
    assert_eq!((refused.status, &refused.json()["errors"][0]["code"]), (400, &json!(10057)));
}

#[test]
fn what_all_scripts_have_is_looked_at_once_for_a_list() {
    let scene = scene();
    let serve = &scene.serve;
    let value = "x".repeat(5_000);
    for n in 0..12 {
        let mut metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
        let mut bindings: Vec<Value> = (0..120)
            .map(|n| json!({ "type": "plain_text", "name": format!("V{n}"), "text": value }))
            .collect();
        if n % 2 == 0 {
            assert_eq!(
                serve.call("POST", "/queues", Some(&json!({ "queue_name": format!("q{n}") }))).status,
                200
            );
            bindings.push(json!({ "type": "queue", "name": "Q", "queue_name": format!("q{n}") }));
            bindings.push(json!({ "type": "queue", "name": "AGAIN", "queue_name": format!("q{n}") }));
        }
        metadata["bindings"] = bindings.into();
        assert_eq!(serve.upload(&format!("s{n}"), &metadata, NEIGHBOUR).status, 200);
    }
    for n in 0..194 {
        serve.call("POST", "/queues", Some(&json!({ "queue_name": format!("other-{n}") })));
    }
    let page =
        meanwhile(serve, "queues", || serve.call("GET", "/queues?per_page=2&name=q2&name=q4", None)).json();
    assert_eq!(page["result_info"]["total_count"], 2);
    let shown: Vec<(&Value, &Value)> = page["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|queue| (&queue["queue_name"], &queue["producers"]))
        .collect();
    let producer = |script: &str| json!([{ "type": "worker", "script": script }]);
    assert_eq!(shown, [(&json!("q2"), &producer("s2")), (&json!("q4"), &producer("s4"))]);
    let all =
        meanwhile(serve, "all queues", || serve.call("GET", "/queues?per_page=1&page=200", None)).json();
    assert_eq!(
        (&all["result_info"]["total_count"], all["result"].as_array().unwrap().len()),
        (&json!(200), 1)
    );
    let scripts = meanwhile(serve, "scripts", || serve.call("GET", "/workers/scripts", None)).json();
    assert_eq!(scripts["result"].as_array().unwrap().len(), 13);
}
