//! `skep import` copies the data of one account into another over the API, `skep export` into a folder.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::recorder::{Fault, Recorder, recorder};
use crate::harness::serve::{Ran, Serve, run, serve};

fn import(from: &Serve, through: &Recorder, to: &Serve, more: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.args(["import", "--from", &through.api, "--data"]).arg(to.dir.path().join("data"));
    command.arg("--state").arg(to.dir.path().join("state.json")).args(more);
    command.env("CLOUDFLARE_ACCOUNT_ID", &from.account).env("CLOUDFLARE_API_TOKEN", &from.token);
    run(&mut command)
}

fn namespace(serve: &Serve, title: &str) -> String {
    let all = serve.call("GET", "/storage/kv/namespaces?per_page=100", None).json();
    let all = all["result"].as_array().unwrap();
    all.iter().find(|own| own["title"] == title).unwrap_or_else(|| panic!("no {title}"))["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn database(serve: &Serve, name: &str) -> String {
    let all = serve.call("GET", &format!("/d1/database?name={name}"), None).json();
    all["result"][0]["uuid"].as_str().unwrap().to_owned()
}

fn query(serve: &Serve, name: &str, sql: &str) -> Value {
    let path = format!("/d1/database/{}/query", database(serve, name));
    let answer = serve.call("POST", &path, Some(&json!({ "sql": sql })));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["result"][0]["results"].clone()
}

/// An account with a bit of everything, and more KV keys than a page has.
fn filled() -> Serve {
    let serve = serve();
    serve.call("POST", "/storage/kv/namespaces", Some(&json!({ "title": "settings" })));
    let id = namespace(&serve, "settings");
    let mut bulk: Vec<Value> =
        (0..1200).map(|n| json!({ "key": format!("k/{n:04}"), "value": format!("v{n}") })).collect();
    bulk.push(json!({ "key": "odd ü?&", "value": "AAECAw==", "base64": true, "metadata": { "a": 1 }, "expiration": 4_000_000_000_u64 }));
    assert_eq!(
        serve.call("PUT", &format!("/storage/kv/namespaces/{id}/bulk"), Some(&json!(bulk))).status,
        200
    );
    serve.call("POST", "/r2/buckets", Some(&json!({ "name": "files" })));
    let put = |key: &str, kind: &str, body: &[u8]| {
        let headers = [("content-type", kind), ("cache-control", "max-age=9")];
        let path = format!("/r2/buckets/files/objects/{key}");
        assert_eq!(serve.own_call("PUT", &path, &headers, Some(body)).status, 200);
    };
    put("a/b%20c.txt", "text/plain", b"hello");
    put("large.bin", "application/octet-stream", &vec![7; 5 << 20]);
    serve.call("POST", "/d1/database", Some(&json!({ "name": "notes" })));
    for sql in [
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT, data BLOB)",
        "INSERT INTO notes VALUES (1, 'it''s; \"x\"', x'00ff')",
    ] {
        query(&serve, "notes", sql);
    }
    serve
}

#[test]
fn data_moves_from_one_account_to_another_and_goes_on_after_a_failure() {
    let (from, to) = (filled(), serve());
    let through = recorder(&from.api);
    // The second page of keys is refused: what came before it is written down.
    let busy =
        r#"{"success":false,"errors":[{"code":10000,"message":"Authentication error"}],"result":null}"#;
    through.spoil_after(1, "GET", "/keys?", Fault::Answer(403, busy));
    let ran = import(&from, &through, &to, &[]);
    assert!(
        !ran.success && ran.text.contains("[code: 10000]") && ran.text.contains("goes on from here"),
        "{}",
        ran.text
    );
    let values = |seen: Vec<crate::harness::recorder::Recorded>| {
        seen.iter().filter(|r| r.path.contains("/values/")).count()
    };
    assert_eq!(values(through.take()), 1000);
    let ran = import(&from, &through, &to, &[]);
    for line in ["kv/settings: 1201 values", "r2/files: 2 objects", "d1/notes: "] {
        assert!(ran.success && ran.text.contains(line), "{line}\n{}", ran.text);
    }
    assert_eq!(values(through.take()), 201, "what is there is not read again");

    // What the projects of the account name by its id is what they mean here, too.
    let id = namespace(&to, "settings");
    assert_eq!(id, namespace(&from, "settings"));
    let database = |serve: &Serve| {
        serve.call("GET", "/d1/database?name=notes", None).json()["result"][0]["uuid"].clone()
    };
    assert_eq!(database(&to), database(&from));
    let path = |key: &str| format!("/storage/kv/namespaces/{id}/values/{key}");
    assert_eq!(to.call("GET", &path("k%2F1199"), None).text(), "v1199");
    assert_eq!(to.call("GET", &path("odd%20%C3%BC%3F%26"), None).body, [0, 1, 2, 3]);
    let keys = to.call("GET", &format!("/storage/kv/namespaces/{id}/keys?prefix=odd"), None).json();
    assert_eq!(
        keys["result"][0],
        json!({ "name": "odd ü?&", "expiration": 4_000_000_000_u64, "metadata": { "a": 1 } })
    );
    let object = to.call("GET", "/r2/buckets/files/objects/a/b%20c.txt", None);
    assert_eq!(
        (object.text().as_str(), object.header("content-type"), object.header("cache-control")),
        ("hello", "text/plain", "max-age=9")
    );
    assert_eq!(to.call("GET", "/r2/buckets/files/objects/large.bin", None).body, vec![7; 5 << 20]);
    let rows = query(&to, "notes", "SELECT id, text, hex(data) AS data FROM notes");
    assert_eq!(rows, json!([{ "id": 1, "text": "it's; \"x\"", "data": "00FF" }]));

    // Once more: nothing is left. Without the progress, a database with tables is not written over.
    let ran = import(&from, &through, &to, &[]);
    assert!(ran.success && ran.text.contains("d1/notes: is there already"), "{}", ran.text);
    std::fs::remove_file(to.dir.path().join("state.json")).unwrap();
    let ran = import(&from, &through, &to, &["--only", "d1"]);
    assert!(
        !ran.success && ran.text.contains("has tables there already") && !ran.text.contains("kv/"),
        "{}",
        ran.text
    );
}

#[test]
fn data_is_exported_into_files_that_other_tools_read() {
    let serve = filled();
    let out = serve.dir.path().join("out");
    let export = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
        command.arg("export").arg(&out).arg("--data").arg(serve.dir.path().join("data")).args(args);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = export(&[]);
    assert!(text.contains("kv/settings: 1201 values") && text.contains("r2/files: 2 objects"), "{text}");
    assert!(export(&["--only", "kv"]).trim() == "kv/settings: is there already");

    let values: Value =
        serde_json::from_slice(&std::fs::read(out.join("kv/settings.json")).unwrap()).unwrap();
    let odd = values.as_array().unwrap().iter().find(|own| own["key"] == "odd ü?&").unwrap();
    assert_eq!((&odd["value"], &odd["metadata"]), (&json!("AAECAw=="), &json!({ "a": 1 })));
    let index = std::fs::read_to_string(out.join("r2/files/index.ndjson")).unwrap();
    let first: Value = serde_json::from_str(index.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["key"], &first["http_metadata"]["contentType"]),
        (&json!("a/b c.txt"), &json!("text/plain"))
    );
    let file = out.join("r2/files").join(first["file"].as_str().unwrap());
    assert_eq!(std::fs::read(file).unwrap(), b"hello");

    // wrangler takes them up in another account.
    let other = crate::harness::serve::serve();
    other.wrangler(other.dir.path(), &["kv", "namespace", "create", "settings"]);
    let id = namespace(&other, "settings");
    let file = |name: &str| out.join(name).to_str().unwrap().to_owned();
    other.wrangler(
        other.dir.path(),
        &["kv", "bulk", "put", &file("kv/settings.json"), "--namespace-id", &id, "--remote"],
    );
    assert_eq!(other.call("GET", &format!("/storage/kv/namespaces/{id}/values/k%2F0007"), None).text(), "v7");
    other.wrangler(other.dir.path(), &["d1", "create", "notes"]);
    other.wrangler(
        other.dir.path(),
        &["d1", "execute", "notes", "--remote", "-y", "--file", &file("d1/notes.sql")],
    );
    assert_eq!(query(&other, "notes", "SELECT count(*) AS n FROM notes"), json!([{ "n": 1 }]));
}
