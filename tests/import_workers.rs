//! Workers, queues and their settings come from one account into another, or into a folder.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::recorder::Recorded;
use crate::harness::serve::{Ran, Serve, run, serve};
use crate::harness::standin::{Says, StandIn, refused, result, stand_in};

/// `skep` with the address of an API and what opens it.
fn skep(args: &[&str], api: &str, account: &str, token: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.args(args).env("CLOUDFLARE_API_BASE_URL", api);
    command.env("CLOUDFLARE_ACCOUNT_ID", account).env("CLOUDFLARE_API_TOKEN", token);
    run(&mut command)
}

/// `skep import` into `to`.
fn import_from(api: &str, account: &str, token: &str, to: &Serve, more: &[&str]) -> Ran {
    let (data, state) = (to.dir.path().join("data"), to.dir.path().join("state.json"));
    let to = ["--data", data.to_str().unwrap(), "--state", state.to_str().unwrap()];
    skep(&[&["import", "--from", "cloudflare"], &to[..], more].concat(), api, account, token)
}

fn import(from: &Serve, to: &Serve, more: &[&str]) -> Ran {
    import_from(&from.api, &from.account, &from.token, to, more)
}

/// `skep deploy` of a folder to `serve`.
fn try_deploy(serve: &Serve, dir: &Path, more: &[&str]) -> Ran {
    let data = serve.dir.path().join("data");
    let to = ["--target", "skep", "--no-smoke", "--data", data.to_str().unwrap()];
    skep(&[&["deploy", dir.to_str().unwrap()], &to[..], more].concat(), "", "", "")
}

fn deploy(serve: &Serve, name: &str, files: &[(&str, &str)], more: &[&str]) {
    let ran = try_deploy(serve, &serve.project(name, files), more);
    assert!(ran.success, "{}\n{}", ran.text, serve.output());
}

const APP: &str = r#"
import { DurableObject, WorkflowEntrypoint } from "cloudflare:workers";
import text from "./hello.txt";
export class Room extends DurableObject {
  async count() { const n = (await this.ctx.storage.get("n") ?? 0) + 1; await this.ctx.storage.put("n", n); return n; }
}
export class Steps extends WorkflowEntrypoint { async run() { return 1; } }
export default {
  async fetch(request, env) {
    const path = new URL(request.url).pathname;
    if (path === "/send") { await env.JOBS.send("job"); return new Response("sent"); }
    if (path === "/seen") return new Response(await env.SETTINGS.get("seen"));
    const rows = await env.DB.prepare("SELECT text FROM notes").all();
    return Response.json({
      text: text.trim(), greeting: env.GREETING, limits: env.LIMITS, kept: await env.SETTINGS.get("kept"), notes: rows.results,
      file: await (await env.FILES.get("a.txt"))?.text(), api: await (await env.API.fetch("http://api/")).text(),
      room: await env.ROOMS.getByName("a").count(), limited: (await env.LIMIT.limit({ key: "x" })).success, key: env.KEY ?? null,
    });
  },
  async queue(batch, env) { await env.SETTINGS.put("seen", batch.messages[0].body); },
  async scheduled() {},
};
"#;

const CONFIG: &str = r#"{ "name": "app", "main": "index.js", "compatibility_date": "2026-07-01", "compatibility_flags": ["nodejs_compat"],
  "vars": { "GREETING": "hello", "LIMITS": { "a": [1] } },
  "kv_namespaces": [{ "binding": "SETTINGS", "id": "settings" }],
  "d1_databases": [{ "binding": "DB", "database_name": "notes" }], "r2_buckets": [{ "binding": "FILES", "bucket_name": "files" }],
  "queues": { "producers": [{ "binding": "JOBS", "queue": "jobs" }],
    "consumers": [{ "queue": "jobs", "max_batch_size": 3, "max_batch_timeout": 1, "max_retries": 7, "dead_letter_queue": "dead" }] },
  "durable_objects": { "bindings": [{ "name": "ROOMS", "class_name": "Room" }] },
  "migrations": [{ "tag": "v1", "new_classes": ["Room"] }],
  "workflows": [{ "binding": "STEPS", "name": "app-steps", "class_name": "Steps" }],
  "services": [{ "binding": "API", "service": "api" }],
  "ratelimits": [{ "name": "LIMIT", "namespace_id": "7", "simple": { "limit": 5, "period": 10 } }],
  "triggers": { "crons": ["0 0 1 1 *"] }, "workers_dev": true,
  "routes": [{ "pattern": "app.example.com", "custom_domain": true }, "www.example.org/app/*"] }"#;

/// An account whose Workers name each other and use what there is.
fn filled() -> Serve {
    let serve = serve();
    let api = "export default { fetch: () => new Response('api') };";
    let config = |more: &str| {
        format!(
            r#"{{ "name": "api", "main": "index.js", "compatibility_date": "2026-07-01", "workers_dev": false{more} }}"#
        )
    };
    deploy(&serve, "api", &[("index.js", api), ("wrangler.jsonc", &config(""))], &[]);
    let files = [
        ("index.js", APP),
        ("hello.txt", "text\n"),
        ("wrangler.jsonc", CONFIG),
        ("migrations/0001_notes.sql", "CREATE TABLE notes (text); INSERT INTO notes VALUES ('one');"),
        ("secrets.env", "KEY=k3y"),
    ];
    let secrets = serve.dir.path().join("app/secrets.env");
    deploy(&serve, "app", &files, &["--secrets-file", secrets.to_str().unwrap()]);
    // Now that `app` is there, `api` may name it: they need each other.
    let config = config(r#", "services": [{ "binding": "APP", "service": "app" }]"#);
    deploy(&serve, "api", &[("index.js", api), ("wrangler.jsonc", &config)], &[]);
    let code = "export default { fetch: (r, env) => new Response(env.WHO) };";
    let config = r#"{ "name": "ada", "main": "index.js", "compatibility_date": "2026-07-01", "vars": { "WHO": "Ada" } }"#;
    deploy(
        &serve,
        "ada",
        &[("index.js", code), ("wrangler.jsonc", config)],
        &["--dispatch-namespace", "tenants"],
    );
    let tags = "/workers/dispatch/namespaces/tenants/scripts/ada/tags";
    assert_eq!(serve.call("PUT", tags, Some(&json!(["plan:pro"]))).status, 200);
    let id = serve.call("GET", "/storage/kv/namespaces", None).json()["result"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    serve.call(
        "PUT",
        &format!("/storage/kv/namespaces/{id}/bulk"),
        Some(&json!([{ "key": "kept", "value": "value" }])),
    );
    assert_eq!(serve.own_call("PUT", "/r2/buckets/files/objects/a.txt", &[], Some(b"file")).status, 200);
    serve
}

#[test]
fn workers_come_with_their_settings_and_find_what_they_are_bound_to() {
    let (from, to) = (filled(), serve());
    // Another Worker has the domain there: that one is not taken away, and the others come all the same.
    let code = "export default { fetch: () => new Response('other') };";
    let config = r#"{ "name": "other", "main": "index.js", "compatibility_date": "2026-07-01",
        "routes": [{ "pattern": "app.example.com", "custom_domain": true }] }"#;
    deploy(&to, "other", &[("index.js", code), ("wrangler.jsonc", config)], &[]);
    let ran = import(&from, &to, &[]);
    assert!(!ran.success, "{}", ran.text);
    for part in [
        "worker/app: custom domains: ",
        "app.example.com",
        "dispatch/tenants/ada: is there",
        "goes on from here",
    ] {
        assert!(ran.text.contains(part), "{part}\n{}", ran.text);
    }
    assert_eq!(to.get("app.example.com", "/").text(), "other");
    to.call("DELETE", "/workers/scripts/other", None);
    let ran = import(&from, &to, &[]);
    for part in
        ["worker/app: is there", "dispatch/tenants/ada: is there already", "kv/settings: is there already"]
    {
        assert!(ran.success && ran.text.contains(part), "{part}\n{}", ran.text);
    }
    for part in [
        "worker/app: its secrets cannot be read; set KEY with `wrangler secret put NAME --name app`",
        "worker/app: the data of its Durable Objects (Room) cannot be read",
    ] {
        assert!(ran.text.contains(part), "{part}\n{}", ran.text);
    }

    let expected = json!({ "text": "text", "greeting": "hello", "limits": { "a": [1] }, "kept": "value",
        "notes": [{ "text": "one" }], "file": "file", "api": "api", "room": 1, "limited": true, "key": null });
    assert_eq!(to.get("app.main.localhost", "/").json(), expected);
    assert_eq!(to.get("app.example.com", "/").status, 200);
    assert_eq!(to.get("www.example.org", "/app/x").status, 200);
    assert_ne!(to.get("api.main.localhost", "/").status, 200, "its address was off");
    let settings = |serve: &Serve, path: &str| serve.call("GET", path, None).json()["result"].clone();
    let app = "/workers/scripts/app";
    assert_eq!(settings(&to, &format!("{app}/schedules"))["schedules"][0]["cron"], "0 0 1 1 *");
    let objects = settings(&to, "/workers/durable_objects/namespaces");
    let room = objects.as_array().unwrap().iter().find(|own| own["class"] == "Room").unwrap();
    assert_eq!(room["use_sqlite"], false, "as it was");
    let flags = settings(&to, &format!("{app}/settings"))["compatibility_flags"].clone();
    assert_eq!(flags, json!(["nodejs_compat"]));
    let bound = settings(&to, "/workers/scripts/api/settings")["bindings"].clone();
    assert_eq!(bound[0]["service"], "app", "those that name each other are both bound");
    let workflow = settings(&to, "/workflows/app-steps");
    assert_eq!((&workflow["script_name"], &workflow["class_name"]), (&json!("app"), &json!("Steps")));
    let queues = settings(&to, "/queues");
    let jobs = queues.as_array().unwrap().iter().find(|own| own["queue_name"] == "jobs").unwrap();
    let consumer = &jobs["consumers"][0];
    assert_eq!(
        (&consumer["settings"]["max_retries"], &consumer["dead_letter_queue"]),
        (&json!(7), &json!("dead"))
    );
    assert_eq!(to.get("app.main.localhost", "/send").text(), "sent");
    eventually("the message", || {
        Some(to.get("app.main.localhost", "/seen").text()).filter(|text| text == "job")
    });
    let ada = "/workers/dispatch/namespaces/tenants/scripts/ada";
    assert_eq!(settings(&to, &format!("{ada}/tags")), json!(["plan:pro"]));
    assert_eq!(settings(&to, &format!("{ada}/settings"))["bindings"][0]["text"], "Ada");

    // Without its progress it finds that nothing has changed.
    std::fs::remove_file(to.dir.path().join("state.json")).unwrap();
    let versions = || settings(&to, &format!("{app}/versions"))["items"].as_array().unwrap().len();
    let before = versions();
    let ran = import(&from, &to, &["--only", "worker", "--only", "queue/jobs"]);
    assert!(
        ran.success && !ran.text.contains("dispatch/") && !ran.text.contains("queue/dead"),
        "{}",
        ran.text
    );
    assert_eq!(versions(), before);
}

#[test]
fn an_exported_worker_is_a_project_that_both_tools_deploy() {
    let (from, to) = (filled(), serve());
    let out = from.dir.path().join("out");
    let data = from.dir.path().join("data");
    let args = ["export", out.to_str().unwrap(), "--data", data.to_str().unwrap(), "--only", "worker"];
    let ran = skep(&args, "", "", "");
    assert!(ran.success && ran.text.contains("worker/app: 2 modules"), "{}", ran.text);
    assert!(ran.text.contains("worker/app: its secrets cannot be read: KEY"), "{}", ran.text);
    let again = skep(&args, "", "", "");
    assert!(again.success && again.text.contains("worker/app: is there already"), "{}", again.text);

    let app = out.join("worker/app");
    let config: Value = serde_json::from_slice(&std::fs::read(app.join("wrangler.json")).unwrap()).unwrap();
    assert_eq!(config["secrets"]["required"], json!(["KEY"]));
    // Skep deploys it, and wrangler sends the same code.
    let deploy = |name: &str, more: &[&str]| try_deploy(&to, &out.join("worker").join(name), more);
    let secrets = from.dir.path().join("app/secrets.env");
    let secrets = ["--secrets-file", secrets.to_str().unwrap()];
    let refused = deploy("api", &[]);
    assert!(
        !refused.success && refused.text.contains("[code: 10143]"),
        "they name each other: {}",
        refused.text
    );
    to.call("POST", "/r2/buckets", Some(&json!({ "name": "files" })));
    let config = r#"{ "name": "api", "main": "index.js", "compatibility_date": "2026-07-01" }"#;
    let first = from.project("api", &[("wrangler.jsonc", config)]);
    assert!(try_deploy(&to, &first, &[]).success);
    let ran = deploy("app", &secrets);
    assert!(ran.success, "{}\n{}", ran.text, to.output());
    assert!(deploy("api", &[]).success);
    let content = |serve: &Serve| {
        let answer = serve.call("GET", "/workers/scripts/app/content/v2", None);
        let boundary = answer.header("content-type").split_once("boundary=").unwrap().1.to_owned();
        // A file has no name that begins with "./".
        answer.text().replace(&boundary, "B").replace("name=\"./", "name=\"")
    };
    assert_eq!(content(&from), content(&to));
    let dry = crate::harness::serve::wrangler_in(&app, &["deploy", "--dry-run", "--outdir", "dist"]);
    assert!(dry.success, "{}", dry.text);
    let built = std::fs::read_to_string(app.join("dist/index.js")).unwrap();
    assert_eq!(built, std::fs::read_to_string(app.join("src/index.js")).unwrap());
}

/// Answers in Cloudflare's form: what its documentation and wrangler's recorded sessions show.
fn cloudflare() -> StandIn {
    const MODULES: &str = "--b1\r\nContent-Disposition: form-data; name=\"worker.js\"; filename=\"worker.js\"\r\nContent-Type: \
        application/javascript+module\r\n\r\nimport { helper } from './lib/helper.mjs';\nexport class Room { }\nexport default { fetch: (r, env) => \
        new Response(helper + env.GREETING) };\r\n--b1\r\nContent-Disposition: form-data; name=\"./lib/helper.mjs\"; filename=\"./lib/helper.mjs\"\r\n\
        Content-Type: application/javascript+module\r\n\r\nexport const helper = 'helped ';\r\n--b1--\r\n";
    let multipart = |text: &str, main: &str| -> Says {
        let headers = vec![
            ("content-type".to_owned(), "multipart/form-data; boundary=b1".to_owned()),
            ("cf-entrypoint".to_owned(), main.to_owned()),
        ];
        (200, headers, text.as_bytes().to_vec())
    };
    stand_in(move |request: &Recorded| {
        let path = request.path.replacen("/accounts/acc0", "", 1);
        let (path, _) = path.split_once('?').unwrap_or((&path, ""));
        match path {
            "/workers/scripts" => {
                result(json!([{ "id": "site" }, { "id": "old" }, { "id": "clever" }, { "id": "pages-only" }]))
            }
            "/storage/kv/namespaces" => {
                result(json!([{ "id": "0f2ac74b498b48028cb68387c421e279", "title": "SETTINGS" }]))
            }
            "/d1/database" => {
                result(json!([{ "uuid": "5e8a3b1c-0d1e-4b8f-9c1a-2f3e4d5c6b7a", "name": "notes" }]))
            }
            "/workers/durable_objects/namespaces" => result(json!([
                { "id": "5fd1cafff895419c8bcc647fc64ab8f0", "name": "site_Room", "script": "site", "class": "Room", "use_sqlite": true }])),
            "/queues" | "/workers/dispatch/namespaces" => result(json!([])),
            "/workers/domains" => result(
                json!([{ "hostname": "site.example.com", "service": "site", "zone_name": "example.com", "zone_id": "z" }]),
            ),
            "/zones" => refused(403, 9109, "Unauthorized to access requested resource"),
            "/workers/scripts/site/deployments" => result(
                json!({ "deployments": [{ "id": "d", "versions": [{ "version_id": "v-2", "percentage": 100 }] }] }),
            ),
            "/workers/scripts/site/versions/v-2" => result(json!({ "id": "v-2", "resources": {
                "bindings": [
                    { "name": "GREETING", "type": "plain_text", "text": "by it" },
                    { "name": "SETTINGS", "type": "kv_namespace", "namespace_id": "0f2ac74b498b48028cb68387c421e279" },
                    { "name": "DB", "type": "d1", "id": "5e8a3b1c-0d1e-4b8f-9c1a-2f3e4d5c6b7a", "database_id": "5e8a3b1c-0d1e-4b8f-9c1a-2f3e4d5c6b7a" },
                    { "name": "TOKEN", "type": "secret_text" }, { "name": "ASSETS", "type": "assets" },
                    { "name": "ROOMS", "type": "durable_object_namespace", "class_name": "Room", "namespace_id": "5fd1cafff895419c8bcc647fc64ab8f0" }],
                "script": { "etag": "e", "handlers": ["fetch"] },
                "script_runtime": { "compatibility_date": "2026-03-01", "compatibility_flags": ["nodejs_compat"], "usage_model": "standard", "migration_tag": "v4" } } })),
            "/workers/scripts/site/settings" => result(
                json!({ "bindings": [], "compatibility_date": "2026-03-01", "placement": {}, "tags": null, "logpush": false }),
            ),
            "/workers/scripts/site/script-settings" => result(
                json!({ "logpush": false, "observability": { "enabled": true, "head_sampling_rate": 1 },
                "tags": ["cf:service=site", "team:web"], "tail_consumers": null }),
            ),
            "/workers/scripts/site/secrets" => result(json!([{ "name": "TOKEN", "type": "secret_text" }])),
            "/workers/scripts/site/schedules" => result(json!({ "schedules": [{ "cron": "*/5 * * * *" }] })),
            "/workers/scripts/site/subdomain" => {
                result(json!({ "enabled": true, "previews_enabled": false }))
            }
            "/workers/scripts/site/content/v2" => multipart(MODULES, "worker.js"),
            "/workers/scripts/old/settings" => result(
                json!({ "bindings": [{ "name": "A", "type": "plain_text", "text": "1" }], "compatibility_date": "2022-01-01" }),
            ),
            "/workers/scripts/old/content/v2" => (
                200,
                vec![("content-type".into(), "application/javascript".into())],
                b"addEventListener('fetch', (event) => event.respondWith(new Response('old ' + A)));"
                    .to_vec(),
            ),
            "/workers/scripts/old/subdomain" => result(json!({ "enabled": true, "previews_enabled": true })),
            "/workers/scripts/clever/settings" => result(
                json!({ "bindings": [{ "name": "AI", "type": "ai" }], "compatibility_date": "2026-01-01" }),
            ),
            "/workers/scripts/clever/content/v2" => {
                multipart(&MODULES.replace("export class Room { }", ""), "worker.js")
            }
            "/workers/scripts/pages-only/settings" => {
                result(json!({ "bindings": [{ "name": "ASSETS", "type": "assets" }] }))
            }
            "/workers/scripts/pages-only/content/v2" => multipart("--b1--\r\n", ""),
            _ => refused(404, 10007, "This Worker does not exist on your account."),
        }
    })
}

#[test]
fn workers_come_from_cloudflare_and_what_cannot_come_is_named() {
    let (from, to) = (cloudflare(), serve());
    let ran = import_from(&from.api, "acc0", "t0ken", &to, &["--only", "worker"]);
    assert!(!ran.success, "{}", ran.text);
    for part in [
        "worker/site: is there",
        "worker/old: is there",
        "worker/pages-only: has no code to bring",
        "worker/pages-only: its static assets (env.ASSETS) cannot be read over the API",
        "worker/site: its static assets (env.ASSETS) cannot be read over the API: deploy them from the project",
        "worker/site: its secrets cannot be read; set TOKEN with `wrangler secret put NAME --name site`",
        "worker/site: the data of its Durable Objects (Room) cannot be read over the API",
        "routes cannot be read with this token",
        "[code: 9109]",
        "worker/clever: script clever: ",
        "AI",
    ] {
        assert!(ran.text.contains(part), "{part}\n{}\n{}", ran.text, to.output());
    }
    assert_eq!(to.get("site.main.localhost", "/").text(), "helped by it");
    assert_eq!(to.get("old.main.localhost", "/").text(), "old 1");
    assert_eq!(to.get("site.example.com", "/").text(), "helped by it");
    let get = |path: &str| to.call("GET", path, None).json()["result"].clone();
    let settings = get("/workers/scripts/site/settings");
    assert_eq!(settings["compatibility_date"], "2026-03-01");
    let titles = get("/storage/kv/namespaces");
    assert_eq!(titles[0]["title"], "SETTINGS");
    let kv = settings["bindings"].as_array().unwrap().iter().find(|own| own["name"] == "SETTINGS").unwrap();
    assert_eq!(kv["namespace_id"], titles[0]["id"], "bound to the namespace of that name");
    assert_eq!(get("/workers/services/site")["default_environment"]["script"]["migration_tag"], "v4");
    assert_eq!(get("/workers/scripts/site/script-settings")["tags"], json!(["team:web"]));
    assert_eq!(get("/workers/scripts/site/schedules")["schedules"][0]["cron"], "*/5 * * * *");
    assert!(from.take().iter().all(|request| request.method == "GET"), "nothing is changed there");
}
