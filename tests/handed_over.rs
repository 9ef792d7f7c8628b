//! Durable Object classes that `exports` move from one Worker to another, with stock wrangler on `skep serve` and with
//! `skep dev`.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::serve::{Ran, Serve, serve, serve_in};
use crate::harness::{dev_with, eventually, small_project};

/// Counts in objects of `Room`, which it exports if it `has` the class.
fn code(name: &str, has: bool) -> String {
    let class = format!(
        r#"export class Room extends DurableObject {{
    async add() {{
        const n = ((await this.ctx.storage.get("n")) ?? 0) + 1;
        await this.ctx.storage.put("n", n);
        return [n, "{name}"];
    }}
}}"#
    );
    let class = if has { class.as_str() } else { "" };
    format!(
        r#"import {{ DurableObject }} from "cloudflare:workers";
{class}
export default {{
    async fetch(request, env) {{
        return Response.json(env.ROOM ? await env.ROOM.getByName("joe").add() : "{name}");
    }},
}};"#
    )
}

/// `of` is the Worker whose objects are bound; `None`: no binding.
fn config(name: &str, of: Option<&str>, entry: &Value) -> String {
    let mut config = json!({ "name": name, "main": "index.js", "compatibility_date": "2026-07-01" });
    if !entry.is_null() {
        config["exports"] = json!({ "Room": entry });
    }
    if let Some(of) = of {
        let mut binding = json!({ "name": "ROOM", "class_name": "Room" });
        if of != name {
            binding["script_name"] = of.into();
        }
        config["durable_objects"] = json!({ "bindings": [binding] });
    }
    config.to_string()
}

fn live() -> Value {
    json!({ "type": "durable-object", "storage": "sqlite" })
}

fn expects(from: &str) -> Value {
    json!({ "type": "durable-object", "state": "expecting-transfer", "storage": "sqlite", "transfer_from": from })
}

fn gives(to: &str) -> Value {
    json!({ "type": "durable-object", "state": "transferred", "transferred_to": to })
}

fn write(dir: &Path, name: &str, of: Option<&str>, entry: &Value, has: bool) {
    std::fs::write(dir.join("index.js"), code(name, has)).unwrap();
    std::fs::write(dir.join("wrangler.jsonc"), config(name, of, entry)).unwrap();
}

fn try_deploy(serve: &Serve, name: &str, of: Option<&str>, entry: &Value, has: bool) -> Ran {
    let dir = serve.project(name, &[("index.js", "")]);
    write(&dir, name, of, entry, has);
    serve.try_wrangler(&dir, &["deploy"], "")
}

fn deploy(serve: &Serve, name: &str, of: Option<&str>, entry: &Value, has: bool) -> String {
    let ran = try_deploy(serve, name, of, entry, has);
    assert!(ran.success, "{}", ran.text);
    ran.text
}

fn up(serve: &Serve, script: &str) -> Value {
    serve.get(&format!("{script}.main.localhost"), "/").json()
}

#[test]
fn a_class_goes_to_the_worker_that_expects_it_when_the_other_gives_it_away() {
    let serve = serve();
    deploy(&serve, "source", Some("source"), &live(), true);
    assert_eq!(up(&serve, "source"), json!([1, "source"]));

    let said = deploy(&serve, "target", None, &expects("source"), true);
    assert!(said.contains("Transfer pending: Room ← source"), "{said}");
    let shown = serve.call("GET", "/workers/scripts/target/settings", None).json();
    assert_eq!(shown["result"]["exports"]["Room"]["transfer_from"], "source");
    assert_eq!((up(&serve, "target"), up(&serve, "source")), (json!("target"), json!([2, "source"])));

    let said = deploy(&serve, "source", Some("target"), &gives("target"), true);
    assert!(said.contains("Transferred (committed): Room → target"), "{said}");
    assert!(said.contains("[tombstone_class_still_in_code]"), "{said}");
    assert_eq!(up(&serve, "source"), json!([3, "target"]), "the objects run the other code now");

    let said = deploy(&serve, "target", Some("target"), &expects("source"), true);
    assert!(said.contains("[transfer_receive_already_applied]"), "{said}");
    deploy(&serve, "target", Some("target"), &live(), true);
    assert_eq!((up(&serve, "target"), up(&serve, "source")), (json!([4, "target"]), json!([5, "target"])));

    let said = deploy(&serve, "source", Some("target"), &gives("target"), false);
    assert!(said.contains("Safe to remove from `exports`: Room"), "{said}");
    let serve = serve_in(serve.stop("KILL"), &[]);
    assert_eq!((up(&serve, "source"), up(&serve, "target")), (json!([6, "target"]), json!([7, "target"])));
}

#[test]
fn a_transfer_that_only_one_side_declares_changes_nothing() {
    let serve = serve();
    deploy(&serve, "source", Some("source"), &live(), true);
    assert_eq!(up(&serve, "source"), json!([1, "source"]));
    let refused = |name: &str, of: Option<&str>, entry: Value, scenario: &str| {
        let ran = try_deploy(&serve, name, of, &entry, true);
        assert!(!ran.success && ran.text.contains(scenario), "{scenario}: {}", ran.text);
    };
    refused("source", None, gives("target"), "transferred_target_missing");
    refused("target", None, expects("nobody"), "phase_one_transfer_source_missing");
    deploy(&serve, "other", Some("other"), &live(), true);
    refused("source", None, gives("other"), "transferred_pending_not_found");
    refused("other", None, expects("source"), "phase_one_transfer_target_class_provisioned");

    deploy(&serve, "target", None, &expects("source"), true);
    refused("source", None, gives("other"), "transferred_target_mismatch");
    refused("third", None, expects("source"), "phase_one_transfer_duplicate");
    refused("target", None, expects("other"), "phase_one_transfer_duplicate");
    let ran = try_deploy(&serve, "target", Some("target"), &expects("source"), true);
    assert!(
        !ran.success && ran.text.contains("its namespace is still that of Worker 'source'"),
        "{}",
        ran.text
    );
    // Who does not say it any more does not wait any more.
    deploy(&serve, "target", None, &Value::Null, true);
    refused("source", None, gives("target"), "transferred_pending_not_found");
    assert_eq!(up(&serve, "source"), json!([2, "source"]));
    let all = serve.call("GET", "/workers/durable_objects/namespaces", None).json();
    let owners: Vec<&Value> = all["result"].as_array().unwrap().iter().map(|row| &row["script"]).collect();
    assert_eq!(owners, ["other", "source"]);
}

#[test]
fn a_version_gives_its_class_away_when_it_is_deployed() {
    let serve = serve();
    deploy(&serve, "source", Some("source"), &live(), true);
    deploy(&serve, "target", None, &expects("source"), true);
    assert_eq!(up(&serve, "source"), json!([1, "source"]));
    let dir = serve.project("source", &[("index.js", "")]);
    write(&dir, "source", None, &gives("target"), true);
    let said = serve.wrangler(&dir, &["versions", "upload"]);
    let version =
        said.split("Worker Version ID: ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert_eq!(up(&serve, "source"), json!([2, "source"]));
    serve.wrangler(&dir, &["versions", "deploy", &format!("{version}@100%"), "--yes"]);
    deploy(&serve, "target", Some("target"), &live(), true);
    assert_eq!(up(&serve, "target"), json!([3, "target"]));
}

#[test]
fn on_this_machine_workers_that_run_together_hand_a_class_over_too() {
    let source =
        small_project(&config("source", Some("source"), &live()), &[("index.js", &code("source", true))]);
    let target = small_project(&config("target", None, &Value::Null), &[("index.js", &code("target", true))]);
    let state = tempfile::tempdir().unwrap();
    let other = target.path().join("wrangler.jsonc");
    let own = source.path().join("wrangler.jsonc");
    let args = ["-c", own.to_str().unwrap(), "-c", other.to_str().unwrap()];
    let skep = dev_with(source.path(), state.path(), &args);
    assert_eq!(skep.get("/").json(), json!([1, "source"]));
    write(source.path(), "source", Some("target"), &gives("target"), true);
    write(target.path(), "target", Some("target"), &expects("source"), true);
    // One that is under way when the processes change may fail.
    let said = |answer: crate::harness::Answer| serde_json::from_str::<Value>(&answer.text()).ok();
    let now = eventually("the class is the other worker's", || {
        said(skep.get("/")).filter(|now| now[1] == "target")
    });
    assert!(now[0].as_i64().unwrap() >= 2, "with what was in it");
}
