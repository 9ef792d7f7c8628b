//! Stock wrangler deploys to `skep serve`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::harness::serve::{FORM, Serve, form, run, serve, serve_in};
use crate::harness::{Ended, eventually};

const COUNTER: &str = r#"
import { DurableObject, WorkerEntrypoint } from "cloudflare:workers";
export class Counter extends DurableObject {
  async increment() {
    const n = ((await this.ctx.storage.get("n")) ?? 0) + 1;
    await this.ctx.storage.put("n", n);
    return n;
  }
}
export class Admin extends WorkerEntrypoint {
  who() { return `admin for ${this.ctx.props.caller}`; }
}
export default {
  async fetch(request, env) {
    return Response.json({
      text: TEXT, greeting: env.GREETING, version: env.VERSION.id, secret: env.SECRET ?? null,
      n: await env.COUNTER.getByName("a").increment(),
    });
  },
};
"#;

const COUNTER_CONFIG: &str = r#"{
  "name": "counter", "main": "index.js", "compatibility_date": "2026-07-01",
  "vars": { "GREETING": "hello" }, "version_metadata": { "binding": "VERSION" },
  "assets": { "directory": "public" },
  "durable_objects": { "bindings": [{ "name": "COUNTER", "class_name": "Counter" }] },
  "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Counter"] }]
}"#;

fn counter(serve: &Serve, text: &str) -> std::path::PathBuf {
    let code = COUNTER.replace("TEXT", &json!(text).to_string());
    let files = [
        ("index.js", code.as_str()),
        ("wrangler.jsonc", COUNTER_CONFIG),
        ("public/index.html", "<h1>hi</h1>"),
    ];
    serve.project("counter", &files)
}

fn answer(serve: &Serve, host: &str) -> Value {
    serve.get(host, "/api").json()
}

/// The id in a line such as `Current Version ID: …`.
fn id_after<'a>(text: &'a str, label: &str) -> &'a str {
    text.split(label)
        .nth(1)
        .unwrap_or_else(|| panic!("no {label:?} in {text}"))
        .split_whitespace()
        .next()
        .unwrap()
}

#[test]
fn wrangler_deploys_versions_rolls_back_and_keeps_secrets() {
    let serve = serve();
    let host = "counter.main.localhost";
    let dir = counter(&serve, "one");
    let text = serve.wrangler(&dir, &["deploy"]);
    assert!(text.contains("counter.main.localhost"), "{text}");
    let first = id_after(&text, "Current Version ID:").to_owned();
    let said = answer(&serve, host);
    assert_eq!(said, json!({ "text": "one", "greeting": "hello", "version": first, "secret": null, "n": 1 }));
    assert_eq!(serve.get(host, "/").text(), "<h1>hi</h1>");

    // A second version that is only uploaded has an address of its own, and the objects of the script.
    counter(&serve, "two");
    let text = serve.wrangler(&dir, &["versions", "upload", "--message", "the second"]);
    let second = id_after(&text, "Worker Version ID:").to_owned();
    assert_eq!(answer(&serve, host)["text"], "one");
    let preview = answer(&serve, &format!("{}-counter.main.localhost", &second[..8]));
    assert_eq!((&preview["text"], &preview["n"]), (&json!("two"), &json!(3)));
    assert!(serve.wrangler(&dir, &["versions", "list"]).contains("the second"));
    assert!(serve.wrangler(&dir, &["versions", "view", &second]).contains("env.GREETING"));

    // Half and half; an override chooses.
    let shares = [format!("{first}@50"), format!("{second}@50")];
    serve.wrangler(&dir, &["versions", "deploy", &shares[0], &shares[1], "-y"]);
    let overrides = format!("counter=\"{second}\"");
    let headers = [("cloudflare-workers-version-overrides", overrides.as_str())];
    for _ in 0..4 {
        assert_eq!(serve.send("GET", host, "/api", &headers, None).json()["text"], "two");
    }
    let mut texts: Vec<String> =
        (0..20).map(|_| answer(&serve, host)["text"].as_str().unwrap().to_owned()).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts, ["one", "two"]);

    // Back to the second alone, with a secret; back to the first.
    serve.wrangler(&dir, &["versions", "deploy", &format!("{second}@100"), "-y"]);
    let put = serve.try_wrangler(&dir, &["secret", "put", "SECRET"], "hunter2");
    assert!(put.success, "{}", put.text);
    let said = answer(&serve, host);
    assert_eq!((&said["text"], &said["secret"]), (&json!("two"), &json!("hunter2")));
    assert!(serve.wrangler(&dir, &["secret", "list"]).contains("SECRET"));
    let catalog =
        std::fs::read(serve.dir.path().join(format!("data/accounts/{}/catalog.sqlite", serve.account)));
    assert!(!String::from_utf8_lossy(&catalog.unwrap()).contains("hunter2"));
    serve.wrangler(&dir, &["deploy"]);
    assert_eq!(answer(&serve, host)["secret"], "hunter2", "a deploy keeps secrets");
    serve.wrangler(&dir, &["secret", "delete", "SECRET"]);
    assert_eq!(answer(&serve, host)["secret"], Value::Null);
    serve.wrangler(&dir, &["rollback", &first, "-y"]);
    assert_eq!(answer(&serve, host)["text"], "one");
    assert!(serve.wrangler(&dir, &["deployments", "status"]).contains(&first));
    assert!(serve.wrangler(&dir, &["deployments", "list"]).contains(&second));
    assert!(serve.wrangler(&dir, &["whoami"]).contains(&serve.account));
}

#[test]
fn scripts_call_each_other_and_answer_where_their_routes_say() {
    let serve = serve();
    serve.wrangler(&counter(&serve, "one"), &["deploy"]);
    let caller = serve.project(
        "caller",
        &[
            (
                "index.js",
                r#"export default { async fetch(request, env) {
                     const said = await (await env.ONE.fetch("http://x/api")).json();
                     return Response.json({ said: said.text, n: await env.OBJECT.getByName("a").increment(), who: await env.ADMIN.who() });
                   } }"#,
            ),
            (
                "wrangler.jsonc",
                r#"{ "name": "caller", "main": "index.js", "compatibility_date": "2026-07-01",
                     "services": [{ "binding": "ONE", "service": "counter" },
                                  { "binding": "ADMIN", "service": "counter", "entrypoint": "Admin", "props": { "caller": "me" } }],
                     "durable_objects": { "bindings": [{ "name": "OBJECT", "class_name": "Counter", "script_name": "counter" }] },
                     "triggers": { "crons": ["0 0 1 1 *"] },
                     "routes": [{ "pattern": "www.example.com/shop/*", "zone_name": "example.com" },
                                { "pattern": "shop.example.org", "custom_domain": true }] }"#,
            ),
        ],
    );
    let text = serve.wrangler(&caller, &["deploy"]);
    assert!(text.contains("www.example.com/shop/*") && text.contains("schedule: 0 0 1 1 *"), "{text}");
    let said = serve.get("www.example.com", "/shop/x").json();
    assert_eq!(said, json!({ "said": "one", "n": 2, "who": "admin for me" }));
    assert_eq!(serve.get("shop.example.org", "/").json()["n"], 4);
    assert_eq!(serve.get("www.example.com", "/other").status, 404);
    assert_eq!(serve.get("caller.main.localhost", "/").status, 404, "routes turn the own address off");

    // The callee is deployed anew: the caller finds it.
    serve.wrangler(&counter(&serve, "two"), &["deploy"]);
    assert_eq!(serve.get("shop.example.org", "/").json()["said"], "two");
    let schedules = serve.call("GET", "/workers/scripts/caller/schedules", None).json();
    assert_eq!(schedules["result"]["schedules"][0]["cron"], "0 0 1 1 *");
    let references = serve.call("GET", "/workers/scripts/counter/references", None).json();
    assert_eq!(references["result"]["services"]["incoming"][0]["service"], "caller");

    let gone = serve.call("DELETE", "/workers/services/caller?force=true", None);
    assert_eq!(gone.json()["success"], true);
    assert_eq!(serve.get("shop.example.org", "/").status, 404);
}

#[test]
fn what_was_deployed_is_there_after_a_kill() {
    let first = serve();
    first.wrangler(&counter(&first, "one"), &["deploy"]);
    assert_eq!(answer(&first, "counter.main.localhost")["n"], 1);
    let (token, account) = (first.token.clone(), first.account.clone());
    let second = serve_in(first.stop("KILL"), &[]);
    assert_eq!((&second.token, &second.account), (&token, &account));
    assert_eq!(answer(&second, "counter.main.localhost")["n"], 2);
    let third = serve_in(second.stop("TERM"), &[]);
    assert_eq!(answer(&third, "counter.main.localhost")["n"], 3);
}

#[test]
fn every_kind_of_binding_is_deployed_and_works() {
    let serve = serve();
    let dir = serve.project(
        "kinds",
        &[
            (
                "index.js",
                r#"import { WorkflowEntrypoint } from "cloudflare:workers";
                   import text from "./note.txt";
                   import data from "./data.bin";
                   export class Steps extends WorkflowEntrypoint {
                     async run(event, step) { return await step.do("double", async () => event.payload.n * 2); }
                   }
                   export default { async fetch(request, env) {
                     const instance = await env.STEPS.create({ params: { n: 21 } });
                     let state = await instance.status();
                     for (let n = 0; n < 200 && state.status !== "complete"; n++) {
                       await scheduler.wait(50);
                       state = await instance.status();
                     }
                     env.POINTS.writeDataPoint({ blobs: ["a"] });
                     const own = await env.ASSETS.fetch("http://x/page.txt");
                     return Response.json({
                       text, bytes: data.byteLength, json: env.JSON.deep, limited: (await env.LIMIT.limit({ key: "k" })).success,
                       asset: await own.text(), output: state.output, tag: env.VERSION.tag,
                     });
                   } }"#,
            ),
            ("note.txt", "a note"),
            ("data.bin", "12345"),
            ("public/page.txt", "an asset"),
            (
                "wrangler.jsonc",
                r#"{ "name": "kinds", "main": "index.js", "compatibility_date": "2026-07-01",
                     "vars": { "JSON": { "deep": [1, 2] } }, "version_metadata": { "binding": "VERSION" },
                     "assets": { "directory": "public", "binding": "ASSETS", "run_worker_first": true },
                     "ratelimits": [{ "name": "LIMIT", "namespace_id": "1", "simple": { "limit": 5, "period": 60 } }],
                     "analytics_engine_datasets": [{ "binding": "POINTS", "dataset": "d" }],
                     "workflows": [{ "name": "steps", "binding": "STEPS", "class_name": "Steps" }],
                     "observability": { "enabled": true }, "limits": { "cpu_ms": 100 },
                     "env": { "staging": { "vars": { "JSON": { "deep": "staging" } },
                       "version_metadata": { "binding": "VERSION" },
                       "assets": { "directory": "public", "binding": "ASSETS", "run_worker_first": true },
                       "ratelimits": [{ "name": "LIMIT", "namespace_id": "1", "simple": { "limit": 5, "period": 60 } }],
                       "analytics_engine_datasets": [{ "binding": "POINTS", "dataset": "d" }],
                       "workflows": [{ "name": "steps-staging", "binding": "STEPS", "class_name": "Steps" }] } } }"#,
            ),
        ],
    );
    let text = serve.wrangler(&dir, &["deploy", "--dry-run"]);
    assert!(text.contains("--dry-run: exiting now."), "{text}");
    assert_eq!(serve.get("kinds.main.localhost", "/").status, 404);
    serve.wrangler(&dir, &["deploy", "--tag", "t1", "--env", ""]);
    let expected = json!({
        "text": "a note", "bytes": 5, "json": [1, 2], "limited": true, "asset": "an asset", "output": 42, "tag": "t1",
    });
    assert_eq!(serve.get("kinds.main.localhost", "/").json(), expected);
    serve.wrangler(&dir, &["deploy", "--env", "staging"]);
    assert_eq!(serve.get("kinds-staging.main.localhost", "/").json()["json"], "staging");
    let workflows = serve.call("GET", "/workflows", None).json();
    assert_eq!(workflows["result"][0]["script_name"], "kinds");
    let settings = serve.call("GET", "/workers/scripts/kinds/settings", None).json();
    assert_eq!(settings["result"]["observability"]["enabled"], true);
    assert_eq!(settings["result"]["limits"], json!({ "cpu_ms": 100 }));
    let removed = serve.try_wrangler(&dir, &["delete", "--env", "", "--force"], "");
    assert!(removed.success, "{}", removed.text);
    assert_eq!(serve.get("kinds.main.localhost", "/").status, 404);
}

fn put(serve: &Serve, script: &str, metadata: &Value, name: &str, code: &str) -> (u16, Value) {
    let path = format!("/workers/scripts/{script}");
    let form = form(metadata, &[(name, code)]);
    let answer = serve.own_call("PUT", &path, &[("content-type", FORM)], Some(&form));
    (answer.status, answer.json())
}

#[test]
fn what_cannot_be_deployed_is_refused_and_changes_nothing() {
    let serve = serve();
    let good = json!({ "main_module": "a.js", "compatibility_date": "2026-07-01" });
    let code = "export default { fetch() { return new Response('good') } }";
    assert_eq!(put(&serve, "s", &good, "a.js", code).0, 200);
    serve.call("POST", "/workers/scripts/s/subdomain", Some(&json!({ "enabled": true })));

    let with = |key: &str, value: Value| {
        let mut metadata = good.clone();
        metadata[key] = value;
        metadata
    };
    let binding = |binding: Value| with("bindings", json!([binding]));
    let object = json!({ "type": "durable_object_namespace", "name": "A", "class_name": "Nope" });
    let class = json!({ "new_tag": "v1", "new_classes": ["Nope"] });
    for (metadata, name, code, status, error, says) in [
        (&good, "a.js", "export default {", 400, 10021, "SyntaxError"),
        (&good, "a.js", "throw new Error('at start')", 400, 10021, "at start"),
        (&good, "b.js", code, 400, 10021, "No such module \"a.js\""),
        (&good, "../a.js", code, 400, 10021, "not the name of a module"),
        (&json!([]), "a.js", code, 400, 10021, "metadata"),
        (&with("compatibility_flags", json!(["no_such_flag"])), "a.js", code, 400, 10021, "no_such_flag"),
        (&with("compatibility_flags", json!(["unsafe_module"])), "a.js", code, 400, 10021, "is experimental"),
        (
            &binding(json!({ "type": "media", "name": "A" })),
            "a.js",
            code,
            400,
            10021,
            "not supported by Skep",
        ),
        (
            &binding(json!({ "type": "browser", "name": "A" })),
            "a.js",
            code,
            400,
            10021,
            "skep serve --browsers N",
        ),
        (
            &binding(json!({ "type": "kv_namespace", "name": "A", "namespace_id": "0" })),
            "a.js",
            code,
            400,
            10041,
            "'0'",
        ),
        (
            &binding(json!({ "type": "service", "name": "A", "service": "x" })),
            "a.js",
            code,
            400,
            10143,
            "'x'",
        ),
        (&binding(object), "a.js", code, 400, 10061, "class 'Nope'"),
        (&binding(json!({ "type": "inherit", "name": "A" })), "a.js", code, 400, 10057, "'A'"),
        (&with("migrations", class), "a.js", code, 400, 10070, "class 'Nope'"),
        (
            &with("migrations", json!({ "old_tag": "v0", "new_tag": "v1" })),
            "a.js",
            code,
            412,
            10079,
            "expected tag is ''",
        ),
    ] {
        let (got, body) = put(&serve, "s", metadata, name, code);
        assert_eq!((got, &body["errors"][0]["code"]), (status, &json!(error)), "{metadata} {body}");
        assert!(body["errors"][0]["message"].as_str().unwrap().contains(says), "{says:?} in {body}");
        assert_eq!(serve.get("s.main.localhost", "/").text(), "good", "{metadata}");
    }
    assert_eq!(put(&serve, "No%20Name", &good, "a.js", code).0, 400);
    let versions = serve.call("GET", "/workers/scripts/s/versions", None).json();
    assert_eq!(versions["result_info"]["total_count"], 1);
    assert_eq!(
        serve.call("GET", "/workers/scripts/s/versions?page=2", None).json()["result"]["items"],
        json!([])
    );
}

#[test]
fn a_token_opens_its_own_account_only() {
    let serve = serve();
    let error = |headers: &[(&str, &str)], path: &str| {
        let answer = serve.raw_call("GET", path, headers, None);
        (answer.status, answer.json()["errors"][0]["code"].as_u64().unwrap())
    };
    let good = format!("Bearer {}", serve.token);
    let own = format!("/accounts/{}/workers/scripts", serve.account);
    assert_eq!(error(&[], &own), (400, 9106));
    assert_eq!(error(&[("authorization", "Bearer wrong")], &own), (401, 10000));
    let other = format!("/accounts/{}/workers/scripts", "0".repeat(32));
    assert_eq!(error(&[("authorization", &good)], &other), (403, 10000));
    assert_eq!(error(&[("authorization", &good)], "/nothing"), (404, 7003));
    assert_eq!(error(&[("authorization", &good)], &format!("{own}/nothing/settings")), (404, 10007));
    let malformed = serve.raw_call(
        "POST",
        &format!("{own}/x/subdomain"),
        &[("authorization", good.as_str())],
        Some(b"{"),
    );
    assert_eq!((malformed.status, malformed.json()["success"].clone()), (400, json!(false)));
}

#[test]
fn a_node_that_is_started_twice_or_where_another_listens_says_what_to_do() {
    let node = serve();
    let start = |data: &Path, api: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
        command.arg("serve").arg("--data").arg(data).args(["--api", api, "--http", "127.0.0.1:0"]);
        run(&mut command)
    };
    let taken = node.api.trim_start_matches("http://").split('/').next().unwrap();
    let twice = start(&node.dir.path().join("data"), taken);
    assert!(!twice.success && twice.text.contains("is in use by another Skep"), "{}", twice.text);
    assert!(twice.text.contains("choose another folder with --data"), "{}", twice.text);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = start(elsewhere.path(), taken);
    assert!(!other.success && other.text.contains("--api names another address"), "{}", other.text);
}

#[test]
fn deploys_under_load_fail_no_request() {
    let serve = serve();
    let metadata = json!({ "main_module": "a.js", "compatibility_date": "2026-07-01" });
    let code = |n: u32| format!("export default {{ fetch() {{ return new Response('{n}') }} }}");
    assert_eq!(put(&serve, "s", &metadata, "a.js", &code(0)).0, 200);
    serve.call("POST", "/workers/scripts/s/subdomain", Some(&json!({ "enabled": true })));
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _ended = Ended(&over);
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let answer = serve.get("s.main.localhost", "/");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for n in 1..=10 {
            assert_eq!(put(&serve, "s", &metadata, "a.js", &code(n)).0, 200);
            assert_eq!(
                serve.get("s.main.localhost", "/").text(),
                n.to_string(),
                "it is live when the API says so"
            );
        }
    });
    assert!(count.into_inner() > 10);
}

#[test]
fn tail_shows_requests_logs_and_exceptions() {
    let serve = serve();
    let dir = serve.project(
        "loud",
        &[
            (
                "index.js",
                r#"export default { fetch(request) {
                     console.log("hello", { a: 1 });
                     if (request.url.endsWith("/boom")) throw new TypeError("boom");
                     return new Response("ok");
                   } }"#,
            ),
            (
                "wrangler.jsonc",
                r#"{ "name": "loud", "main": "index.js", "compatibility_date": "2026-07-01" }"#,
            ),
        ],
    );
    serve.wrangler(&dir, &["deploy"]);
    assert_eq!(serve.get("loud.main.localhost", "/").text(), "ok");
    let mut tail = serve
        .wrangler_command(&dir, &["tail", "--format", "json", "--status", "error"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(tail.stdout.take().unwrap()).lines().map_while(Result::ok);
    let (send, events) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || lines.for_each(|line| drop(send.send(line))));
    let mut text = String::new();
    // Until the tail is connected its events go nowhere.
    eventually("an event of the tail", || {
        serve.get("loud.main.localhost", "/boom");
        serve.get("loud.main.localhost", "/");
        text.extend(events.try_iter());
        text.contains("\"scriptVersion\"").then_some(())
    });
    tail.kill().unwrap();
    tail.wait().unwrap();
    reader.join().unwrap();
    assert!(text.contains("\"message\": \"boom\"") && text.contains("\"name\": \"TypeError\""), "{text}");
    assert!(text.contains("\"hello\"") && text.contains("http://loud.main.localhost/boom"), "{text}");
    assert!(!text.contains("skep"), "nothing of ours: {text}");
    assert!(!text.contains("\"outcome\": \"ok\""), "the filter holds: {text}");
}

#[test]
fn what_is_the_same_as_before_is_not_started_anew() {
    let serve = serve();
    let good = json!({ "main_module": "a.js", "compatibility_date": "2026-07-01" });
    let code = "export default { fetch() { return new Response('good') } }";
    assert_eq!(put(&serve, "s", &good, "a.js", code).0, 200);
    serve.call("POST", "/workers/scripts/s/subdomain", Some(&json!({ "enabled": true })));
    assert_eq!(serve.get("s.main.localhost", "/").text(), "good");
    let cells = serve.cells();
    assert_eq!(cells.len(), 1);
    let subdomain = json!({ "enabled": true, "previews_enabled": false });
    assert_eq!(serve.call("POST", "/workers/scripts/s/subdomain", Some(&subdomain)).status, 200);
    let schedules = json!([{ "cron": "0 4 * * *" }]);
    assert_eq!(serve.call("PUT", "/workers/scripts/s/schedules", Some(&schedules)).status, 200);
    assert_eq!(serve.get("s.main.localhost", "/").text(), "good");
    assert_eq!(serve.cells(), cells, "addresses and schedules are no reason");
    let secret = json!({ "name": "S", "text": "s", "type": "secret_text" });
    assert_eq!(serve.call("PUT", "/workers/scripts/s/secrets", Some(&secret)).status, 200);
    assert_eq!(serve.get("s.main.localhost", "/").text(), "good");
    assert_ne!(serve.cells(), cells, "a secret is");
}
