//! A deploy that meets refusals, broken connections and Ctrl-C.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::harness::recorder::{Fault, Recorder, recorder};
use crate::harness::serve::{FORM, Ran, Serve, form, serve};
use crate::harness::signal;

const CODE: &str = r#"
import { DurableObject } from "cloudflare:workers";
export class Room extends DurableObject { hello() { return "room"; } }
export class Hall extends DurableObject {}
export default { async fetch(request, env) { return new Response(TEXT + await env.ROOMS.getByName("a").hello()); } };
"#;

const CONFIG: &str = r#"{ "name": "app", "main": "index.js", "compatibility_date": "2026-07-01",
  "kv_namespaces": [{ "binding": "KV", "id": "app-kv" }],
  "d1_databases": [{ "binding": "DB", "database_name": "app-db" }],
  "assets": { "directory": "public" }, "triggers": { "crons": ["0 0 1 1 *"] },
  "durable_objects": { "bindings": [{ "name": "ROOMS", "class_name": "Room" }] },
  "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Room"] }, { "tag": "v2", "new_sqlite_classes": ["Hall"] }] }"#;

fn app(serve: &Serve, text: &str) -> PathBuf {
    let code = CODE.replace("TEXT", &json!(text).to_string());
    let files = [
        ("index.js", code.as_str()),
        ("wrangler.jsonc", CONFIG),
        ("public/a.txt", "asset"),
        ("migrations/0001_a.sql", "CREATE TABLE a (x);"),
    ];
    serve.project("app", &files)
}

fn command(serve: &Serve, recorder: &Recorder, dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.arg("deploy").arg(dir).args(["--target", &recorder.api]);
    command.env("CLOUDFLARE_ACCOUNT_ID", &serve.account).env("CLOUDFLARE_API_TOKEN", &serve.token);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(child: Child) -> Ran {
    child.wait_with_output().unwrap().into()
}

fn deploy(serve: &Serve, recorder: &Recorder, dir: &Path) -> Ran {
    finish(command(serve, recorder, dir).spawn().unwrap())
}

fn says(serve: &Serve) -> String {
    serve.get("app.main.localhost", "/").text()
}

#[test]
fn a_class_that_is_there_is_left_out_and_a_moved_tag_is_read_again() {
    let serve = serve();
    let recorder = recorder(&serve.api);
    // Somebody has deployed the first class by hand, without tags: the stored tag is none, and the class is there (10074).
    let dir = app(&serve, "one ");
    let metadata = json!({ "main_module": "m.js", "compatibility_date": "2026-07-01", "migrations": { "new_sqlite_classes": ["Room"] } });
    let code = "import { DurableObject } from \"cloudflare:workers\";\nexport class Room extends DurableObject {}\nexport default { fetch() {} };";
    let form = form(&metadata, &[("m.js", code)]);
    let put = serve.own_call("PUT", "/workers/scripts/app", &[("content-type", FORM)], Some(&form));
    assert_eq!(put.status, 200, "{}", put.text());
    let ran = deploy(&serve, &recorder, &dir);
    assert!(
        ran.success && ran.text.contains("the class Room is there already (10074)"),
        "{}\n{}",
        ran.text,
        serve.output()
    );
    assert_eq!(says(&serve), "one room");
    let puts: Vec<String> = recorder
        .take()
        .iter()
        .filter(|request| request.method == "PUT" && request.path.contains("scripts/app?"))
        .map(|request| String::from_utf8_lossy(&request.body).into_owned())
        .collect();
    assert_eq!(puts.len(), 2, "tried once more");
    assert!(puts[0].contains(r#"{"new_sqlite_classes":["Room"]}"#));
    assert!(puts[1].contains(r#""steps":[{},{"new_sqlite_classes":["Hall"]}]"#), "{}", puts[1]);

    // The answer to an upload with migrations is lost: the second try is refused with 10079, and what is left is sent.
    let serve = crate::harness::serve::serve();
    let recorder = crate::harness::recorder::recorder(&serve.api);
    let dir = app(&serve, "two ");
    recorder.spoil("PUT", "scripts/app?", Fault::Deaf);
    let ran = deploy(&serve, &recorder, &dir);
    assert!(ran.success && ran.text.contains("(10079)"), "{}\n{}", ran.text, serve.output());
    assert_eq!(says(&serve), "two room");
}

#[test]
fn uploads_survive_limits_errors_and_broken_connections() {
    let serve = serve();
    let recorder = recorder(&serve.api);
    let dir = app(&serve, "one ");
    let busy = r#"{"success":false,"errors":[{"code":10013,"message":"busy"}],"result":null}"#;
    recorder.spoil("GET", "/workers/services/app", Fault::Answer(503, busy));
    recorder.spoil("POST", "/storage/kv/namespaces", Fault::Answer(429, busy));
    recorder.spoil("POST", "/assets-upload-session", Fault::Cut(10));
    recorder.spoil("POST", "/assets/upload?", Fault::Cut(100));
    recorder.spoil("PUT", "scripts/app?", Fault::Cut(300));
    let ran = deploy(&serve, &recorder, &dir);
    assert!(ran.success, "{}\n{}", ran.text, serve.output());
    assert_eq!(says(&serve), "one room");
    assert_eq!(serve.get("app.main.localhost", "/a.txt").text(), "asset");
    // The version's answer is lost: it is not known whether it is there, so it is not sent again by itself.
    app(&serve, "two ");
    recorder.spoil("POST", "/versions?", Fault::Deaf);
    let ran = deploy(&serve, &recorder, &dir);
    assert!(
        !ran.success && ran.text.contains("the connection to") && ran.text.contains("not done: request"),
        "{}",
        ran.text
    );
    assert_eq!(says(&serve), "one room");
    let ran = deploy(&serve, &recorder, &dir);
    assert!(ran.success, "{}", ran.text);
    assert_eq!(says(&serve), "two room");
}

#[test]
fn a_refusal_is_reported_in_full_with_what_was_done_and_what_not() {
    let serve = serve();
    let recorder = recorder(&serve.api);
    let dir = app(&serve, "one ");
    std::fs::write(dir.join("index.js"), CODE.replace("TEXT", "''") + "\nthrow new Error('not today');")
        .unwrap();
    let ran = deploy(&serve, &recorder, &dir);
    assert!(!ran.success);
    for part in [
        "script app: PUT",
        "failed with HTTP 400",
        "not today",
        "[code: 10021]",
        "done: KV namespace app-kv, D1 database app-db, migrations of app-db, static assets",
        "not done: address below the account's domain, schedules, request",
        "`skep deploy` again goes on from here",
    ] {
        assert!(ran.text.contains(part), "{part}\n{}", ran.text);
    }
    app(&serve, "one ");
    let ran = deploy(&serve, &recorder, &dir);
    assert!(ran.success && ran.text.contains("keep   KV namespace app-kv"), "{}", ran.text);
    assert_eq!(says(&serve), "one room");
}

#[test]
fn an_account_is_found_ids_are_taken_seriously_and_routes_go_zone_by_zone() {
    let serve = serve();
    let recorder = recorder(&serve.api);
    let config = r#"{ "name": "app", "main": "index.js", "compatibility_date": "2026-07-01",
        "kv_namespaces": [{ "binding": "KV", "id": "0123456789abcdef0123456789abcdef" }], "routes": ["www.example.com/shop/*"] }"#;
    let code = "export default { fetch: (request) => new Response(new URL(request.url).pathname) };";
    let dir = serve.project("app", &[("index.js", code), ("wrangler.jsonc", config)]);
    let run = |target: &str, account: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
        command.arg("deploy").arg(&dir).args(["--no-smoke", "--target", target]);
        command.env_remove("CLOUDFLARE_ACCOUNT_ID").env("CLOUDFLARE_API_TOKEN", &serve.token);
        command
            .env("CLOUDFLARE_API_BASE_URL", &recorder.api)
            .envs(account.map(|id| ("CLOUDFLARE_ACCOUNT_ID", id)));
        finish(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    // On Cloudflare an id that is not there is a mistake; elsewhere something new stands for it.
    let ran = run("cloudflare", None);
    let message = "names the KV namespace 0123456789abcdef0123456789abcdef, which is not in this account";
    assert!(!ran.success && ran.text.contains(message), "{}", ran.text);
    assert_eq!(serve.call("GET", "/storage/kv/namespaces", None).json()["result"], json!([]));

    // A token that may not set all routes at once.
    let refused =
        r#"{"success":false,"errors":[{"code":10000,"message":"Authentication error"}],"result":null}"#;
    recorder.spoil("PUT", "/scripts/app/routes", Fault::Answer(403, refused));
    let ran = run(&recorder.api, None);
    assert!(
        ran.success && ran.text.contains("create KV namespace app-kv"),
        "{}\n{}",
        ran.text,
        serve.output()
    );
    assert_eq!(serve.get("www.example.com", "/shop/a").text(), "/shop/a");
    let added =
        recorder.take().into_iter().filter(|r| r.method == "POST" && r.path.contains("/zones/")).count();
    assert_eq!(added, 1);
    recorder.spoil("PUT", "/scripts/app/routes", Fault::Answer(403, refused));
    let ran = run(&recorder.api, Some(&serve.account));
    assert!(ran.success, "{}", ran.text);
    assert_eq!(
        recorder.take().iter().filter(|r| r.method == "POST" && r.path.contains("/zones/")).count(),
        0,
        "it is there"
    );

    // A domain that another script has is not taken without being told to.
    let domain = |name: &str| {
        let config = format!(
            r#"{{ "name": "{name}", "main": "index.js", "compatibility_date": "2026-07-01", "routes": [{{ "pattern": "shop.example.org", "custom_domain": true }}] }}"#
        );
        serve.project("app", &[("wrangler.jsonc", &config)]);
    };
    domain("first");
    assert!(run(&recorder.api, None).success);
    domain("second");
    let ran = run(&recorder.api, None);
    assert!(
        !ran.success && ran.text.contains("shop.example.org. --take-over-domains moves them here"),
        "{}",
        ran.text
    );
    let mut command = command(&serve, &recorder, &dir);
    let ran = finish(command.args(["--take-over-domains", "--no-smoke"]).spawn().unwrap());
    assert!(ran.success, "{}", ran.text);
}

/// A project that has a step of every kind.
fn everything(serve: &Serve) -> PathBuf {
    let config = r#"{ "name": "app", "main": "index.js", "compatibility_date": "2026-07-01", "workers_dev": true,
      "kv_namespaces": [{ "binding": "KV", "id": "app-kv" }],
      "d1_databases": [{ "binding": "DB", "database_name": "app-db" }],
      "r2_buckets": [{ "binding": "FILES", "bucket_name": "app-files" }],
      "queues": { "producers": [{ "binding": "JOBS", "queue": "app-jobs" }], "consumers": [{ "queue": "app-jobs" }] },
      "dispatch_namespaces": [{ "binding": "TENANTS", "namespace": "app-tenants" }],
      "workflows": [{ "binding": "STEPS", "name": "app-steps", "class_name": "Steps" }],
      "assets": { "directory": "public" }, "triggers": { "crons": ["0 0 1 1 *"] },
      "routes": [{ "pattern": "app.example.com", "custom_domain": true }, "www.example.org/app/*"],
      "durable_objects": { "bindings": [{ "name": "ROOMS", "class_name": "Room" }] },
      "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Room", "Hall"] }] }"#;
    let code = CODE
        .replace("TEXT", "\"one \"")
        .replace("import { DurableObject }", "import { DurableObject, WorkflowEntrypoint }")
        + "\nexport class Steps extends WorkflowEntrypoint {}";
    let code = code.replace("export default {", "export default { queue() {}, scheduled() {},");
    let files = [
        ("index.js", code.as_str()),
        ("wrangler.jsonc", config),
        ("skep.deploy.toml", "[templates]\ndir = \"templates\"\nbucket = \"app-templates\"\n"),
        ("templates/a.txt", "a"),
        ("public/a.txt", "asset"),
        ("migrations/0001_a.sql", "CREATE TABLE a (x);"),
    ];
    serve.project("everything", &files)
}

/// The calls that change something, one per step; `/query` reads what is applied before it changes something.
const STEPS: [(&str, &str, usize); 15] = [
    ("POST", "/storage/kv/namespaces", 0),
    ("POST", "/d1/database", 0),
    ("POST", "/r2/buckets", 0),
    ("POST", "/queues", 0),
    ("POST", "/workers/dispatch/namespaces", 0),
    ("POST", "/query", 1),
    ("PUT", "/objects/a.txt", 0),
    ("POST", "/assets-upload-session", 0),
    ("PUT", "scripts/app?", 0),
    ("POST", "/subdomain", 0),
    ("PUT", "/routes", 0),
    ("PUT", "/domains/records", 0),
    ("PUT", "/schedules", 0),
    ("POST", "/consumers", 0),
    ("PUT", "/workflows/app-steps", 0),
];

#[test]
fn ctrl_c_ends_a_deploy_after_its_step_and_the_next_one_goes_on() {
    let serve = serve();
    let recorder = recorder(&serve.api);
    let dir = everything(&serve);
    let command = |recorder: &Recorder| {
        let mut command = command(&serve, recorder, &dir);
        command.args(["--templates"]);
        command
    };
    for (n, (method, path, reads)) in STEPS.into_iter().enumerate() {
        let pid = Arc::new(AtomicU32::new(0));
        let own = pid.clone();
        let interrupt = move || {
            while own.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            signal(own.load(Ordering::Relaxed), "INT");
            // The signal is there before the answer is.
            std::thread::sleep(std::time::Duration::from_millis(100));
        };
        recorder.spoil_after(reads, method, path, Fault::First(Arc::new(interrupt)));
        let child = command(&recorder).spawn().unwrap();
        pid.store(child.id(), Ordering::Relaxed);
        let ran = finish(child);
        assert!(!ran.success && ran.text.contains("the deploy was stopped"), "{method} {path}: {}", ran.text);
        assert!(ran.text.contains("not done: "), "{}", ran.text);
        let is_later = |method: &str, path: &str| {
            STEPS.iter().skip(n + 1).any(|(m, p, reads)| *reads == 0 && *m == method && path.contains(p))
        };
        let started = recorder.take().into_iter().find(|request| is_later(&request.method, &request.path));
        let own =
            |request: &crate::harness::recorder::Recorded| request.path.contains("/r2/buckets/app-templates");
        // The second bucket is made after the first one.
        let started = started.filter(|request| !own(request) && !request.path.ends_with("/r2/buckets"));
        assert!(started.is_none(), "{method} {path}: {started:?}");
    }
    let ran = finish(command(&recorder).spawn().unwrap());
    assert!(ran.success, "{}", ran.text);
    assert_eq!(says(&serve), "one room");
    let namespaces: Value = serve.call("GET", "/storage/kv/namespaces", None).json();
    assert_eq!(namespaces["result"].as_array().unwrap().len(), 1, "made once");
}
