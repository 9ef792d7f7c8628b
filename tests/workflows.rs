//! Workflows over the v4 API: stock wrangler starts, shows, steers and deletes instances of a deployed script.

mod awake;
mod declared;
mod rests;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::serve::{Serve, serve, serve_in};

const CODE: &str = r#"
import { WorkflowEntrypoint } from "cloudflare:workers";
export class Orders extends WorkflowEntrypoint {
  async run({ payload }, step) {
    const doubled = await step.do("double", async () => payload.n * 2);
    if (payload.fails) {
      await step.do("never", { retries: { limit: 1, delay: 10 } }, async () => { throw new Error("on purpose"); });
    }
    await step.sleep("a moment", 10);
    const { payload: { by } } = await step.waitForEvent("approval", { type: "approve", timeout: "1 hour" });
    return { doubled, by };
  }
}
export default { async fetch(request, env) {
  return Response.json(await (await env.ORDERS.create({ id: new URL(request.url).searchParams.get("id"), params: { n: 1 } })).status());
} };
"#;

fn project(serve: &Serve) -> PathBuf {
    let config = r#"{ "name": "shop", "main": "index.js", "compatibility_date": "2026-07-01",
        "workflows": [{ "name": "orders", "binding": "ORDERS", "class_name": "Orders" }] }"#;
    serve.project("shop", &[("index.js", CODE), ("wrangler.jsonc", config)])
}

fn deployed() -> (Serve, PathBuf) {
    let serve = serve();
    let dir = project(&serve);
    serve.wrangler(&dir, &["deploy"]);
    (serve, dir)
}

fn instances(serve: &Serve, rest: &str) -> Value {
    let answer = serve.call("GET", &format!("/workflows/orders/instances{rest}"), None).json();
    assert_eq!(answer["success"], true, "{answer}");
    answer
}

fn describe(serve: &Serve, id: &str) -> Value {
    instances(serve, &format!("/{id}"))["result"].clone()
}

/// Waits until the instance is in `status`, and returns what is shown of it.
fn reaches(serve: &Serve, id: &str, status: &str) -> Value {
    eventually(&format!("{id} is {status}"), || {
        let now = describe(serve, id);
        (now["status"] == status).then_some(now)
    })
}

fn create(serve: &Serve, body: &Value) -> Value {
    let answer = serve.call("POST", "/workflows/orders/instances", Some(body)).json();
    assert_eq!(answer["success"], true, "{answer}");
    answer["result"].clone()
}

fn ids(list: &Value) -> Vec<&str> {
    list["result"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect()
}

fn code(serve: &Serve, method: &str, path: &str, body: Option<&Value>) -> (u16, u64) {
    let answer = serve.call(method, &format!("/workflows{path}"), body);
    (answer.status, answer.json()["errors"][0]["code"].as_u64().unwrap_or_default())
}

#[test]
fn wrangler_starts_shows_steers_and_deletes_instances() {
    let (serve, dir) = deployed();
    let run = |args: &[&str]| serve.wrangler(&dir, &[&["workflows"], args].concat());
    assert!(run(&["list"]).contains("orders"));
    let text = run(&["trigger", "orders", r#"{"n":21}"#, "--id", "first"]);
    assert!(text.contains("\"first\" has been queued successfully"), "{text}");
    reaches(&serve, "first", "waiting");
    assert!(run(&["instances", "pause", "orders", "first"]).contains("paused"));
    assert_eq!(describe(&serve, "first")["status"], "paused");
    assert!(run(&["instances", "resume", "orders", "first"]).contains("resumed"));
    run(&["instances", "send-event", "orders", "first", "--type", "approve", "--payload", r#"{"by":"me"}"#]);
    let done = reaches(&serve, "first", "complete");
    assert_eq!(done["output"], r#"{"doubled":42,"by":"me"}"#);
    assert_eq!((&done["params"], &done["trigger"]), (&json!({ "n": 21 }), &json!({ "source": "api" })));

    let shown = run(&["instances", "describe", "orders", "latest"]);
    for part in [
        "first",
        "Completed",
        "double-1",
        "Success",
        "a moment-1",
        "approval-1",
        "\\\"by\\\":\\\"me\\\"",
        "42",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let listed = run(&["instances", "list", "orders", "--status", "complete"]);
    assert!(listed.contains("first") && listed.contains("Completed"), "{listed}");
    assert!(run(&["describe", "orders"]).contains("Latest Version:"));

    run(&["instances", "restart", "orders", "first"]);
    reaches(&serve, "first", "waiting");
    run(&["instances", "terminate", "orders", "first"]);
    let ended = describe(&serve, "first");
    assert_eq!(ended["status"], "terminated");
    assert_eq!(ended["steps"].as_array().unwrap().last().unwrap()["type"], "termination");
    assert!(run(&["instances", "delete", "orders", "first"]).contains("\"first\""));
    assert_eq!(instances(&serve, "")["result"], json!([]));
    run(&["delete", "orders"]);
    assert_eq!(code(&serve, "GET", "/orders", None), (404, 10200));
}

#[test]
fn an_instance_shows_its_steps_with_their_attempts() {
    let (serve, _) = deployed();
    create(&serve, &json!({ "instance_id": "bad", "params": { "n": 4, "fails": true } }));
    let shown = reaches(&serve, "bad", "errored");
    assert_eq!((&shown["error"]["message"], &shown["success"]), (&json!("on purpose"), &json!(false)));
    let steps = shown["steps"].as_array().unwrap();
    let first = &steps[0];
    assert_eq!(
        (&first["name"], &first["output"], &first["success"]),
        (&json!("double-1"), &json!("8"), &json!(true))
    );
    let tried = steps[1]["attempts"].as_array().unwrap();
    assert_eq!((tried.len(), &tried[1]["error"]["message"]), (2, &json!("on purpose")));
    assert_eq!((&steps[1]["success"], &steps[1]["config"]["retries"]["limit"]), (&json!(false), &json!(1)));
    let newest_first = &instances(&serve, "/bad?order=desc")["result"]["steps"];
    assert_eq!(newest_first[0]["name"], "never-1");
    let simple = &instances(&serve, "/bad?simple=true")["result"];
    assert_eq!((&simple["step_count"], &simple["steps"]), (&json!(2), &Value::Null));
    let step = |query: &str| instances(&serve, &format!("/bad/step?{query}"))["result"].clone();
    assert_eq!(step("name=double-1"), json!({ "status": "complete", "error": null, "output": 8 }));
    assert_eq!(step("name=never-1&attempt=1")["error"]["message"], "on purpose");
    assert_eq!(code(&serve, "GET", "/orders/instances/bad/step?name=none-1", None), (404, 10400));
}

#[test]
fn the_list_is_right_after_a_crash_and_knows_who_made_what() {
    let (serve, _) = deployed();
    for n in 0..3 {
        create(&serve, &json!({ "instance_id": format!("api-{n}"), "params": { "n": n } }));
    }
    assert_eq!(serve.get("shop.main.localhost", "/?id=own").status, 200);
    let batch = json!([{ "instance_id": "b-0", "params": { "n": 1 } }, { "instance_id": "b-1", "params": { "n": 1 } }]);
    let made = serve.call("POST", "/workflows/orders/instances/batch", Some(&batch)).json();
    assert_eq!(made["result"][1]["id"], "b-1", "{made}");
    let dir = serve.stop("KILL");

    let serve = serve_in(dir, &[]);
    let all = instances(&serve, "");
    assert_eq!(ids(&all), ["b-1", "b-0", "own", "api-2", "api-1", "api-0"]);
    assert_eq!(
        (&all["result"][2]["trigger_source"], &all["result"][3]["trigger_source"]),
        (&json!("binding"), &json!("api"))
    );
    let first = instances(&serve, "?per_page=4");
    assert_eq!(first["result_info"]["total_count"], 6);
    let cursor = first["result_info"]["cursor"].as_str().unwrap();
    assert_eq!(ids(&instances(&serve, &format!("?per_page=4&cursor={cursor}"))), ["api-1", "api-0"]);
    assert_eq!(ids(&instances(&serve, "?per_page=4&page=2")), ["api-1", "api-0"]);
    assert_eq!(ids(&instances(&serve, "?direction=asc&per_page=1")), ["api-0"]);
    assert_eq!(ids(&instances(&serve, "?date_end=2020-01-01T00:00:00.000Z")), [""; 0]);
    assert_eq!(ids(&instances(&serve, "?date_start=2020-01-01")).len(), 6);
    steer(&serve);
}

fn steer(serve: &Serve) {
    reaches(serve, "api-1", "waiting");
    let event = "/workflows/orders/instances/api-1/events/approve";
    assert_eq!(serve.call("POST", event, Some(&json!({ "by": "you" }))).status, 200);
    reaches(serve, "api-1", "complete");
    assert_eq!(ids(&instances(serve, "?status=complete")), ["api-1"]);
    // What is known of an instance that ended is forgotten when it is made anew.
    let restart = json!({ "status": "restart" });
    assert_eq!(serve.call("PATCH", "/workflows/orders/instances/api-1/status", Some(&restart)).status, 200);
    reaches(serve, "api-1", "waiting");
    assert_eq!(ids(&instances(serve, "?status=complete")), [""; 0]);
    let counts = serve.call("GET", "/workflows/orders", None).json()["result"]["instances"].clone();
    assert_eq!(counts, json!({ "waiting": 6 }));
    let some =
        serve.call("POST", "/workflows/orders/instances/batch/terminate", Some(&json!(["b-0", "none"])));
    assert_eq!(some.json()["result"], json!({ "status": "ok", "instancesTerminated": 1 }));
    assert_eq!(serve.call("PUT", "/workflows/orders/instances/terminate", None).status, 200);
    assert_eq!(ids(&instances(serve, "?status=terminated")).len(), 6);
}

#[test]
fn what_cannot_be_done_says_why_and_changes_nothing() {
    let (serve, dir) = deployed();
    let of = |rest: &str| format!("/orders/instances{rest}");
    assert_eq!(code(&serve, "GET", "/nothing/instances", None), (404, 10200));
    assert_eq!(code(&serve, "GET", &of("/nothing"), None), (404, 10400));
    assert_eq!(code(&serve, "DELETE", &of("/nothing"), None), (404, 10400));
    let id = |id: &str| json!({ "instance_id": id });
    assert_eq!(code(&serve, "POST", &of(""), Some(&id("a b"))), (400, 10001));
    assert_eq!(code(&serve, "POST", &of(""), Some(&id(&"x".repeat(101)))), (400, 10001));
    assert_eq!(code(&serve, "POST", &of(""), Some(&json!({ "instance_id": 1 }))), (400, 10026));
    assert_eq!(code(&serve, "POST", &of(""), Some(&json!({ "params": "x".repeat(1 << 20) }))), (413, 10001));
    assert_eq!(code(&serve, "POST", &of("/batch"), Some(&json!([]))), (400, 10001));
    assert_eq!(code(&serve, "PATCH", &of("/x/status"), Some(&json!({ "status": "explode" }))), (400, 10001));
    for query in [
        "?status=lost",
        "?cursor=x",
        "?cursor=1&page=1",
        "?per_page=101",
        "?date_start=today",
        "?direction=up",
    ] {
        assert_eq!(code(&serve, "GET", &of(query), None), (400, 10001), "{query}");
    }
    assert_eq!(instances(&serve, "")["result"], json!([]));
    create(&serve, &id("twice"));
    assert_eq!(code(&serve, "POST", &of(""), Some(&id("twice"))), (409, 10405));
    reaches(&serve, "twice", "waiting");
    assert_eq!(
        code(&serve, "PATCH", &of("/twice/status"), Some(&json!({ "status": "resume" }))),
        (409, 10401)
    );
    let from = json!({ "status": "restart", "from": { "name": "nowhere" } });
    assert_eq!(code(&serve, "PATCH", &of("/twice/status"), Some(&from)), (409, 10401));
    versions(&serve, &dir);
}

const SCHEDULED: &str = r#"
import { WorkflowEntrypoint } from "cloudflare:workers";
export class Nightly extends WorkflowEntrypoint {
  async run(event, step) {
    const seen = await step.do("seen", async () => event.schedule ?? null);
    for (let n = 0; n < (event.payload.steps ?? 0); n += 1) await step.do(`step ${n}`, async () => n);
    return seen;
  }
}
export default { fetch: () => new Response("fine") };
"#;

#[test]
fn what_is_said_of_a_workflow_holds_for_its_instances() {
    let serve = serve();
    let workflow = |more: &str| {
        let config = format!(
            r#"{{ "name": "shop", "main": "index.js", "compatibility_date": "2026-07-01",
                "workflows": [{{ "name": "orders", "binding": "NIGHTLY", "class_name": "Nightly" {more} }}] }}"#
        );
        serve.project("shop", &[("index.js", SCHEDULED), ("wrangler.jsonc", &config)])
    };
    let settings = r#", "schedules": "* * * * *", "limits": { "steps": 3 },
        "default_retention": { "success_retention": "2 days", "error_retention": 5000000 }"#;
    let began =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    serve.wrangler(&workflow(settings), &["deploy"]);
    let shown = serve.call("GET", "/workflows/orders", None).json()["result"].clone();
    assert_eq!(shown["schedules"][0]["cron"], "* * * * *");
    assert!(shown["schedules"][0]["next_instance"].as_str().unwrap().ends_with(":00.000000Z"), "{shown}");
    let versions = serve.call("GET", "/workflows/orders/versions", None).json()["result"].clone();
    assert_eq!(versions[0]["limits"], json!({ "steps": 3 }));
    assert_eq!(
        versions[0]["default_retention"],
        json!({ "success_retention": 172_800_000, "error_retention": 5_000_000 })
    );
    let id = versions[0]["id"].as_str().unwrap();
    for what in ["dag", "graph"] {
        let drawn = serve.call("GET", &format!("/workflows/orders/versions/{id}/{what}"), None).json();
        assert_eq!((&drawn["success"], &drawn["result"][what]), (&json!(true), &Value::Null), "{drawn}");
    }

    create(&serve, &json!({ "instance_id": "few", "params": { "steps": 2 } }));
    reaches(&serve, "few", "complete");
    create(&serve, &json!({ "instance_id": "many", "params": { "steps": 3 } }));
    let many = reaches(&serve, "many", "errored");
    assert!(
        many["error"]["message"].as_str().unwrap().contains("The limit of 3 steps has been reached"),
        "{many}"
    );

    // The schedule makes one within a minute, and says so.
    let start = std::time::Instant::now();
    let one = loop {
        let all = instances(&serve, "")["result"].clone();
        let found = all.as_array().unwrap().iter().find(|one| one["trigger_source"] == "cron").cloned();
        if let Some(found) = found {
            break found;
        }
        assert!(start.elapsed() < std::time::Duration::from_secs(150), "{all}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    };
    let done = reaches(&serve, one["id"].as_str().unwrap(), "complete");
    let said: Value = serde_json::from_str(done["output"].as_str().unwrap()).unwrap();
    assert_eq!((&said["cron"], &done["trigger"]["source"]), (&json!("* * * * *"), &json!("cron")));
    let at = said["scheduledTime"].as_u64().unwrap();
    assert!(at.is_multiple_of(60_000) && at > began, "{said}");

    // Without the settings, nothing of them is left.
    serve.wrangler(&workflow(""), &["deploy"]);
    let shown = serve.call("GET", "/workflows/orders", None).json()["result"].clone();
    assert_eq!(shown["schedules"], Value::Null);
    create(&serve, &json!({ "instance_id": "more", "params": { "steps": 3 } }));
    reaches(&serve, "more", "complete");
    settings_of_the_account(&serve);
}

fn settings_of_the_account(serve: &Serve) {
    let settings = |body: Option<&Value>| {
        let method = if body.is_some() { "PATCH" } else { "GET" };
        serve.call(method, "/workflows/settings", body).json()["result"]["default_retention"].clone()
    };
    let month = 30 * 24 * 3_600_000_u64;
    assert_eq!(settings(None), json!({ "success_retention": month, "error_retention": month }));
    let changed = settings(Some(&json!({ "default_retention": { "success_retention": "1 second" } })));
    assert_eq!(changed, json!({ "success_retention": 1000, "error_retention": month }));
    assert_eq!(settings(None), changed);
    create(serve, &json!({ "instance_id": "short", "params": {} }));
    eventually("the end of what is kept for a second", || {
        (serve.call("GET", "/workflows/orders/instances/short", None).status == 404).then_some(())
    });
    let wrong = json!({ "default_retention": { "error_retention": "soon" } });
    assert_eq!(code(serve, "PATCH", "/settings", Some(&wrong)), (400, 10001));
    let put = |more: Value| {
        let mut body = json!({ "script_name": "shop", "class_name": "Nightly" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        code(serve, "PUT", "/orders", Some(&body))
    };
    assert_eq!(put(json!({ "schedules": [{ "cron": "now and then" }] })), (400, 10001));
    assert_eq!(put(json!({ "limits": { "steps": 25_001 } })), (400, 10001));
    assert_eq!(put(json!({ "concurrency": { "limit": 0 } })), (400, 10001));
}

const QUEUED: &str = r#"
import { WorkflowEntrypoint } from "cloudflare:workers";
export class Nightly extends WorkflowEntrypoint {
  async run({ payload }, step) {
    if (payload.rests) await step.sleep("long", "2 minutes");
    if (payload.fails) throw new Error("on purpose");
    await step.waitForEvent("go", { type: "go", timeout: "60 seconds" });
    return "done";
  }
}
export default { fetch: () => new Response("fine") };
"#;

#[test]
fn no_more_instances_run_at_once_than_a_workflow_lets_run() {
    let serve = serve();
    let config = r#"{ "name": "shop", "main": "index.js", "compatibility_date": "2026-07-01",
        "workflows": [{ "name": "orders", "binding": "W", "class_name": "Nightly", "concurrency": { "limit": 2 } }] }"#;
    let dir = serve.project("shop", &[("index.js", QUEUED), ("wrangler.jsonc", config)]);
    serve.wrangler(&dir, &["deploy"]);
    let make = |serve: &Serve, id: &str, params: Value| {
        create(serve, &json!({ "instance_id": id, "params": params }));
        describe(serve, id)["status"].as_str().unwrap().to_owned()
    };
    let act = |serve: &Serve, id: &str, status: &str| {
        let body = json!({ "status": status });
        let answer =
            serve.call("PATCH", &format!("/workflows/orders/instances/{id}/status"), Some(&body)).json();
        assert_eq!(answer["success"], true, "{answer}");
    };
    let go = |serve: &Serve, id: &str| {
        let path = format!("/workflows/orders/instances/{id}/events/go");
        assert_eq!(serve.call("POST", &path, Some(&json!({}))).status, 200);
    };
    for id in ["a", "b"] {
        assert_ne!(make(&serve, id, json!({})), "queued");
    }
    for id in ["c", "d", "e", "f"] {
        assert_eq!(make(&serve, id, json!({})), "queued");
    }
    assert_eq!(describe(&serve, "c")["start"], Value::Null, "it has not started");
    // Those that wait go on in the order in which they came; who is ended, or paused, is left out.
    act(&serve, "c", "terminate");
    act(&serve, "d", "pause");
    go(&serve, "a");
    reaches(&serve, "a", "complete");
    reaches(&serve, "e", "waiting");
    assert_eq!(describe(&serve, "f")["status"], "queued");
    act(&serve, "d", "resume");
    assert_eq!(describe(&serve, "d")["status"], "queued");
    // What fails frees its place, too; and a crash loses neither who runs nor who waits.
    go(&serve, "b");
    reaches(&serve, "f", "waiting");
    let serve = serve_in(serve.stop("KILL"), &[]);
    assert_eq!(describe(&serve, "d")["status"], "queued");
    assert_eq!(make(&serve, "g", json!({ "fails": true })), "queued");
    assert_eq!(make(&serve, "h", json!({ "rests": true })), "queued");
    for id in ["e", "f"] {
        go(&serve, id);
        reaches(&serve, id, "complete");
    }
    reaches(&serve, "d", "waiting");
    reaches(&serve, "g", "errored");
    // A long wait takes no place.
    reaches(&serve, "h", "waiting");
    assert_ne!(make(&serve, "i", json!({})), "queued");
    go(&serve, "d");
    go(&serve, "i");
    reaches(&serve, "d", "complete");
    reaches(&serve, "i", "complete");
}

/// A Workflow has a version for each deploy; an instance keeps the one that it was made with.
fn versions(serve: &Serve, dir: &Path) {
    let old = describe(serve, "twice")["versionId"].clone();
    std::fs::write(dir.join("index.js"), CODE.replace("payload.n * 2", "payload.n * 3")).unwrap();
    serve.wrangler(dir, &["deploy"]);
    let all = serve.call("GET", "/workflows/orders/versions", None).json()["result"].clone();
    assert_eq!((all.as_array().unwrap().len(), &all[1]["id"]), (2, &old));
    let new = create(serve, &json!({ "instance_id": "later", "params": { "n": 1 } }));
    assert_eq!(new["version_id"], all[0]["id"]);
    assert_eq!(describe(serve, "twice")["versionId"], old);
    let path = format!("/workflows/orders/versions/{}", old.as_str().unwrap());
    assert_eq!(serve.call("GET", &path, None).json()["result"]["class_name"], "Orders");
    assert_eq!(code(serve, "GET", "/orders/versions/none", None), (404, 10200));
}

#[test]
fn puts_of_a_workflow_at_the_same_time_lose_no_version() {
    let serve = serve();
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    let code = "export default { fetch: () => new Response('x') };";
    assert_eq!(serve.upload("shop", &metadata, code).status, 200);
    const WRITERS: usize = 8;
    let put = || {
        serve.call("PUT", "/workflows/flow", Some(&json!({ "script_name": "shop", "class_name": "Flow" })))
    };
    let made: Vec<Value> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(put)).collect();
        writers
            .into_iter()
            .map(|writer| {
                let answer = writer.join().unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
                answer.json()["result"].clone()
            })
            .collect()
    });
    assert!(made.iter().all(|one| one["id"] == made[0]["id"]), "one Workflow: {made:?}");
    let kept = serve.call("GET", "/workflows/flow/versions", None).json()["result"].clone();
    let id = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    let kept: std::collections::BTreeSet<String> =
        kept.as_array().unwrap().iter().map(|version| id(version, "id")).collect();
    let made = made.iter().map(|one| id(one, "version_id")).collect();
    assert_eq!(kept, made);
}
