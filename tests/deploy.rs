//! `skep deploy` to `skep serve`.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::serve::{Ran, Serve, run, serve};
use crate::harness::{copy, eventually, repository};

/// `skep deploy` of `dir` to `serve`.
fn command(serve: &Serve, dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.arg("deploy").arg(dir).args(["--yes", "--target", "skep", "--data"]);
    command.arg(serve.dir.path().join("data"));
    command
}

pub fn try_deploy(serve: &Serve, dir: &Path, args: &[&str]) -> Ran {
    run(command(serve, dir).args(args))
}

fn deploy(serve: &Serve, dir: &Path, args: &[&str]) -> String {
    let ran = try_deploy(serve, dir, args);
    assert!(ran.success, "{}\n{}", ran.text, serve.output());
    ran.text
}

fn versions(serve: &Serve, script: &str) -> usize {
    let list = serve.call("GET", &format!("/workers/scripts/{script}/versions?per_page=100"), None).json();
    list["result"]["items"].as_array().unwrap().len()
}

#[test]
fn the_hive_is_deployed_with_all_that_it_needs_and_again_without_a_change() {
    let serve = serve();
    let project = copy(&repository().join("examples/hive"));
    let dry = deploy(&serve, project.path(), &["--dry-run"]);
    for line in ["create KV namespace hive-settings", "create D1 database hive-notes", "create script hive"] {
        assert!(dry.contains(line), "{line}\n{dry}");
    }
    assert_eq!(
        serve.call("GET", "/storage/kv/namespaces", None).json()["result"],
        json!([]),
        "a dry run changes nothing"
    );

    let text = deploy(&serve, project.path(), &[]);
    assert!(text.contains("hive.main.localhost") && text.contains("HTTP 200 from"), "{text}");
    let host = "hive.main.localhost";
    assert!(serve.get(host, "/").text().contains("<html"));
    assert_eq!(serve.get(host, "/any/where").header("x-content-type-options"), "nosniff");
    let about = serve.get(host, "/api/v1/about").json();
    assert_eq!(about["greeting"], "Welcome to the hive");
    let send = |method: &str, path: &str, body: &Value| {
        let headers = [("content-type", "application/json")];
        serve.send(method, host, path, &headers, Some(body.to_string().as_bytes()))
    };
    assert_eq!(send("POST", "/api/v1/notes", &json!({ "text": "kept" })).json()["text"], "kept");
    assert_eq!(send("PUT", "/api/v1/settings", &json!({ "theme": "night" })).json()["theme"], "night");
    assert_eq!(serve.get(host, "/api/v1/census").json()["answer"], "50,000 bees");
    let job = send("POST", "/api/v1/jobs", &json!({ "text": "shout" })).json();
    let path = format!("/api/v1/jobs/{}", job["id"].as_str().unwrap());
    eventually("the job's result", || {
        Some(serve.get(host, &path).json()).filter(|state| state["state"] == "done")
    });
    let harvest = send("POST", "/api/v1/harvest", &json!({})).json();
    let path = format!("/api/v1/harvest/{}", harvest["id"].as_str().unwrap());
    eventually("the harvest", || {
        Some(serve.get(host, &path).json()).filter(|state| state["status"] == "complete")
    });

    every_binding_works(&serve, host);

    // Again: there is nothing to do, and nothing is done.
    let before = versions(&serve, "hive");
    let again = deploy(&serve, project.path(), &["--json"]);
    let again: Value = serde_json::from_str(again.trim()).unwrap_or_else(|e| panic!("{e}: {again}"));
    assert_eq!((&again["success"], &again["done"]), (&json!(true), &json!([])), "{again}");
    assert_eq!(versions(&serve, "hive"), before);

    // One asset changes: it alone is sent, as a new version, and the data stays.
    std::fs::write(project.path().join("public/new.txt"), "new").unwrap();
    let text = deploy(&serve, project.path(), &[]);
    assert!(text.contains("1 of 5 files sent"), "{text}");
    assert_eq!(serve.get(host, "/new.txt").text(), "new");
    assert_eq!(versions(&serve, "hive"), before + 1);
    assert_eq!(serve.get(host, "/api/v1/notes").json()[0]["text"], "kept");
}

/// Those that the deploy's test does not drive itself: R2, the version, rate limits, Durable Objects with WebSockets, the cache,
/// the schedule (which counts into KV), Analytics Engine.
fn every_binding_works(serve: &Serve, host: &str) {
    let headers = [("content-type", "text/plain")];
    assert_eq!(serve.send("PUT", host, "/api/v1/files/a.txt", &headers, Some(b"0123456789")).status, 201);
    let part = serve.send("GET", host, "/api/v1/files/a.txt", &[("range", "bytes=2-4")], None);
    assert_eq!(part.text(), "234");
    let about = serve.get(host, "/api/v1/about").json();
    let deployed = serve.call("GET", "/workers/scripts/hive/deployments", None).json();
    let version = &deployed["result"]["deployments"][0]["versions"][0]["version_id"];
    assert_eq!(&about["version"]["id"], version);
    let shouts: Vec<u16> =
        (0..6).map(|_| serve.send("POST", host, "/api/v1/shout", &[], Some(b"")).status).collect();
    assert_eq!(shouts, [200, 200, 200, 200, 200, 429]);
    let mut ada = serve.websocket(host, "/api/v1/rooms/lobby?who=Ada");
    let mut grace = serve.websocket(host, "/api/v1/rooms/lobby?who=Grace");
    ada.send("hello".into()).unwrap();
    for socket in [&mut ada, &mut grace] {
        let line: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
        assert_eq!((line["who"].as_str(), line["text"].as_str()), (Some("Ada"), Some("hello")));
    }
    assert_eq!(serve.get(host, "/api/v1/rooms/lobby/history").json()[0]["text"], "hello");
    assert_eq!(serve.get(host, "/api/v1/slow").json()["cached"], false);
    assert_eq!(serve.get(host, "/api/v1/slow").json()["cached"], true);
    let budget = serve.get(host, "/api/v1/notes").header("x-budget-remaining").parse::<u32>().unwrap();
    assert!(budget < 300, "{budget}");
    // Points are read from the file that docs/bindings.md names.
    let file = serve.dir.path().join("data/accounts").join(&serve.account).join("analytics/analytics.sqlite");
    let points = rusqlite::Connection::open(file).unwrap();
    eventually("the visits", || {
        let sql = "SELECT count(*) FROM points WHERE dataset = 'hive_visits'";
        points.query_row(sql, [], |row| row.get::<_, i64>(0)).ok().filter(|count| *count > 0)
    });
    // It runs once a minute.
    eventually("the schedule", || {
        Some(serve.get(host, "/api/v1/about").json())
            .filter(|about| about["cron"]["runs"].as_u64() >= Some(1))
    });
}

#[test]
fn the_platform_is_deployed_with_a_tenant_in_its_namespace() {
    let serve = serve();
    let dir = serve.copy(&repository().join("examples/platform"));
    // The dispatcher names a worker that is not there yet: the error says so, and what was done before it.
    let early = try_deploy(&serve, &dir.join("dispatcher"), &[]);
    assert!(
        !early.success && early.text.contains("platform-outbound") && early.text.contains("[code: 10143]"),
        "{}",
        early.text
    );
    assert!(
        early.text.contains("done: D1 database platform, dispatch namespace tenants, migrations of platform"),
        "{}",
        early.text
    );
    assert!(early.text.contains("not done: address below the account's domain, routes"), "{}", early.text);
    deploy(&serve, &dir.join("outbound"), &[]);
    let text = deploy(&serve, &dir.join("dispatcher"), &[]);
    assert!(
        text.contains("keep   D1 database platform") && !text.contains("migrations of platform"),
        "{text}"
    );

    let tenant = serve.project(
        "tenant",
        &[
            ("index.js", "import { DurableObject } from 'cloudflare:workers';\nexport class Room extends DurableObject {}\n\
                          export default { fetch: (request, env) => new Response(`hello from ${env.WHO}, ${env.KEY}`) };"),
            ("wrangler.jsonc", r#"{ "name": "ada", "main": "index.js", "compatibility_date": "2026-07-01", "vars": { "WHO": "nobody" },
               "secrets": { "required": ["KEY"] },
               "durable_objects": { "bindings": [{ "name": "ROOMS", "class_name": "Room" }] },
               "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Room"] }] }"#),
            ("secrets.env", "KEY=k3y"),
        ],
    );
    let namespace = ["--dispatch-namespace", "tenants", "--var", "WHO:Ada"];
    let missing = try_deploy(&serve, &tenant, &namespace);
    assert!(missing.text.contains("the secret KEY is required and not set"), "{}", missing.text);
    let secrets = tenant.join("secrets.env");
    let with_secrets = [&namespace[..], &["--secrets-file", secrets.to_str().unwrap()]].concat();
    let plan = serve.send("PUT", "platform.main.localhost", "/tenants/ada", &[], Some(br#"{"plan":"pro"}"#));
    assert_eq!(plan.status, 200, "{}", plan.text());
    deploy(&serve, &tenant, &with_secrets);
    assert_eq!(serve.get("ada.tenants.localhost", "/").text(), "hello from Ada, k3y");
    // The secret stays, and migrations that are applied are not sent again.
    deploy(&serve, &tenant, &namespace);
    assert_eq!(serve.get("ada.tenants.localhost", "/").text(), "hello from Ada, k3y");
}

#[test]
fn a_project_says_what_it_needs_and_gets_its_domain_and_templates() {
    let serve = serve();
    let code = "export default { fetch: (r, env) => Response.json([env.API, env.LEVEL, env.KEY]) };";
    let config = "{\n  // the name\n  \"name\": \"app\",\n  \"main\": \"index.js\", \"compatibility_date\": \"2026-07-01\"\n}\n";
    let settings = r#"
        [variables.API]
        type = "url"
        description = "where the backend is"
        [variables.LEVEL]
        type = "number"
        default = 3
        [variables.KEY]
        secret = true
        [domain]
        variable = "APP_DOMAIN"
        [templates]
        dir = "templates"
        bucket = "app-templates"
        prefix = "t/"
    "#;
    let dir = serve.project(
        "app",
        &[
            ("index.js", code),
            ("wrangler.jsonc", config),
            ("skep.deploy.toml", settings),
            ("templates/a/index.html", "<h1>a</h1>"),
            ("templates/b.txt", "b"),
        ],
    );
    let run = |variables: &[(&str, &str)], args: &[&str]| {
        run(command(&serve, &dir).args(args).envs(variables.iter().copied()))
    };
    let missing = run(&[("LEVEL", "high")], &[]);
    for part in [
        "API is not set: where the backend is",
        "LEVEL is not a number",
        "the secret KEY is required and not set",
    ] {
        assert!(!missing.success && missing.text.contains(part), "{part}\n{}", missing.text);
    }

    let all = [("API", "https://api.test"), ("KEY", "k3y"), ("APP_DOMAIN", "app.example.com")];
    let dry = run(&all, &["--dry-run"]);
    for line in
        ["-  \"main\": \"index.js\"", "+  \"workers_dev\": false", "custom domains", "*.app.example.com/*"]
    {
        assert!(dry.success && dry.text.contains(line), "{line}\n{}", dry.text);
    }
    let file = || std::fs::read_to_string(dir.join("wrangler.jsonc")).unwrap();
    assert_eq!(file(), config, "a dry run edits nothing");

    let done = run(&all, &["--templates", "--no-smoke"]);
    assert!(done.success && done.text.contains("2 files sent, 0 deleted"), "{}", done.text);
    assert!(file().contains("// the name") && file().contains("\"app.example.com\""), "{}", file());
    for host in ["app.example.com", "preview-1.app.example.com"] {
        assert_eq!(serve.get(host, "/").json(), json!(["https://api.test", 3, "k3y"]), "{host}");
    }
    assert_ne!(serve.get("app.main.localhost", "/").status, 200);
    let object = |key: &str| serve.call("GET", &format!("/r2/buckets/app-templates/objects/t/{key}"), None);
    assert_eq!(object("a/index.html").text(), "<h1>a</h1>");
    assert_eq!(object("a/index.html").header("content-type"), "text/html; charset=utf-8");

    // The domain goes; a template changes, another one goes; the secret stays.
    std::fs::remove_file(dir.join("templates/b.txt")).unwrap();
    std::fs::write(dir.join("templates/a/index.html"), "<h1>A</h1>").unwrap();
    let done = run(&all[..1], &["--templates"]);
    assert!(done.success && done.text.contains("1 file sent, 1 deleted"), "{}", done.text);
    assert!(!file().contains("routes") && file().contains("\"workers_dev\": true"), "{}", file());
    assert_eq!(serve.get("app.main.localhost", "/").json(), json!(["https://api.test", 3, "k3y"]));
    assert_eq!((object("a/index.html").text().as_str(), object("b.txt").status), ("<h1>A</h1>", 404));
    let manifest = object("manifest.json").json();
    assert_eq!(manifest["files"].as_object().unwrap().len(), 1);
}

fn skep(args: &[&str]) -> Ran {
    run(Command::new(env!("CARGO_BIN_EXE_skep")).args(args))
}

#[test]
fn a_check_says_before_a_deploy_what_the_deploy_would_say() {
    let serve = serve();
    let config = r#"{ "name": "app", "main": "index.js", "compatibility_date": "2026-07-01", "triggers": { "crons": ["61 * * * *"] },
        "durable_objects": { "bindings": [{ "name": "ROOMS", "class_name": "Room" }] },
        "routes": [{ "pattern": "*.example.com", "custom_domain": true }] }"#;
    let code = "export default { fetch: () => new Response('one') };";
    let dir = serve.project("app", &[("index.js", code), ("wrangler.jsonc", config)]);
    let checked = skep(&["check", dir.to_str().unwrap()]);
    let deployed = try_deploy(&serve, &dir, &[]);
    for part in [
        "which are not exported in your entrypoint file",
        "\"Room\"",
        "the cron trigger \"61 * * * *\"",
        "\"*.example.com\" cannot be a Custom Domain",
    ] {
        assert!(!checked.success && checked.text.contains(part), "{part}\n{}", checked.text);
        assert!(!deployed.success && deployed.text.contains(part), "{part}\n{}", deployed.text);
    }
    let good = r#"{ "name": "app", "main": "index.js", "compatibility_date": "2026-07-01" }"#;
    serve.project("app", &[("wrangler.jsonc", good)]);
    let checked = skep(&["check", dir.to_str().unwrap()]);
    assert!(checked.success && checked.text.contains("app can be deployed"), "{}", checked.text);
}

#[test]
fn a_version_that_does_not_answer_is_undone_and_any_can_be_rolled_back() {
    let serve = serve();
    let config = r#"{ "name": "app", "main": "index.js", "compatibility_date": "2026-07-01" }"#;
    let version = |text: &str| {
        let code = format!("export default {{ fetch() {{ {text} }} }};");
        serve.project("app", &[("index.js", &code), ("wrangler.jsonc", config)])
    };
    let says = || serve.get("app.main.localhost", "/").text();
    let dir = version("return new Response('one');");
    deploy(&serve, &dir, &[]);
    version("return new Response('two');");
    deploy(&serve, &dir, &[]);
    assert_eq!(says(), "two");
    version("return new Response('broken', { status: 500 });");
    let ran = try_deploy(&serve, &dir, &["--undo"]);
    assert!(
        !ran.success && ran.text.contains("answers with HTTP 500") && ran.text.contains("is in force again"),
        "{}",
        ran.text
    );
    assert_eq!(says(), "two");

    let data = serve.dir.path().join("data");
    let rollback = ["rollback", dir.to_str().unwrap(), "--target", "skep", "--data", data.to_str().unwrap()];
    let ran = skep(&[&rollback[..], &["--version", "00000000-0000-0000-0000-000000000000"]].concat());
    assert!(!ran.success && ran.text.contains("[code: "), "{}", ran.text);
    version("return new Response('three');");
    deploy(&serve, &dir, &[]);
    let ran = skep(&rollback);
    assert!(ran.success, "{}", ran.text);
    assert_eq!(says(), "two");
}

/// A project whose file has the ids of a Cloudflare account.
#[test]
fn what_is_made_has_the_ids_of_the_project_so_that_wrangler_deploys_it_unchanged() {
    let serve = serve();
    let (kv, d1) = ("0f2ac74b498b48028cb68387c421e279", "7f3a2b1c-1111-4222-8333-444455556666");
    let config = json!({ "name": "moved", "main": "index.js", "compatibility_date": "2026-01-01",
        "kv_namespaces": [{ "binding": "KV", "id": kv }],
        "d1_databases": [{ "binding": "DB", "database_name": "notes", "database_id": d1 }] });
    let project = serve.project(
        "moved",
        &[
            ("wrangler.json", &config.to_string()),
            ("migrations/0001.sql", "CREATE TABLE t (a); INSERT INTO t VALUES (7);"),
            (
                "index.js",
                "export default { async fetch(_, env) {
               const row = await env.DB.prepare('SELECT a FROM t').first();
               return Response.json([await env.KV.get('k'), row.a]);
             } };",
            ),
        ],
    );
    let refused = serve.try_wrangler(&project, &["deploy"], "");
    let says = format!("KV namespace '{kv}' not found. `skep deploy` makes what a project lacks");
    assert!(!refused.success && refused.text.contains(&says), "{}", refused.text);

    deploy(&serve, &project, &[]);
    let put = ["kv", "key", "put", "k", "v", "--binding", "KV", "--remote"];
    serve.wrangler(&project, &put);
    serve.wrangler(
        &project,
        &["d1", "execute", "DB", "--remote", "-y", "--command", "UPDATE t SET a = a + 1"],
    );
    serve.wrangler(&project, &["deploy"]);
    assert_eq!(serve.get("moved.main.localhost", "/").text(), r#"["v",8]"#);
    assert!(deploy(&serve, &project, &[]).contains("keep   D1 database notes"));

    // Nobody gets what is there already, and an id is one.
    for (path, body) in [
        ("/storage/kv/namespaces", json!({ "title": "other", "id": kv })),
        ("/storage/kv/namespaces", json!({ "title": "other", "id": "../../x" })),
        ("/d1/database", json!({ "name": "other", "uuid": d1 })),
        ("/d1/database", json!({ "name": "other", "uuid": "../x" })),
    ] {
        let answer = serve.call("POST", path, Some(&body));
        assert_eq!((answer.status, &answer.json()["success"]), (400, &json!(false)), "{body}");
    }
    assert_eq!(
        serve.call("GET", "/storage/kv/namespaces", None).json()["result"].as_array().unwrap().len(),
        1
    );
}
