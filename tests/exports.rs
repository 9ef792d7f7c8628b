//! Durable Object classes that `exports` declares, with `skep dev` and with stock wrangler on `skep serve`.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::serve::{Serve, serve};
use crate::harness::{Skep, dev_with, eventually, small_project};

fn code(classes: &[&str]) -> String {
    let classes: String = classes
        .iter()
        .map(|class| format!("export class {class} extends Counter {{ kind() {{ return '{class}'; }} }}\n"))
        .collect();
    format!(
        r#"import {{ DurableObject }} from "cloudflare:workers";
class Counter extends DurableObject {{
    async add() {{
        const n = ((await this.ctx.storage.get("n")) ?? 0) + 1;
        await this.ctx.storage.put("n", n);
        return n;
    }}
}}
{classes}
export default {{
    async fetch(request, env) {{
        const counter = env.COUNTER.getByName("joe");
        return Response.json(request.url.endsWith("/class") ? await counter.kind() : await counter.add());
    }},
}};"#
    )
}

fn config(class: &str, exports: &str) -> String {
    format!(
        r#"{{ "name": "counts", "main": "index.js", "compatibility_date": "2026-07-01",
        "durable_objects": {{ "bindings": [{{ "name": "COUNTER", "class_name": "{class}" }}] }}, "exports": {exports} }}"#
    )
}

fn write(dir: &Path, class: &str, exports: &str, classes: &[&str]) {
    std::fs::write(dir.join("index.js"), code(classes)).unwrap();
    std::fs::write(dir.join("wrangler.jsonc"), config(class, exports)).unwrap();
}

const A: &str = r#"{ "A": { "type": "durable-object", "storage": "sqlite" } }"#;
const A_TO_B: &str = r#"{ "A": { "type": "durable-object", "state": "renamed", "renamed_to": "B" },
    "B": { "type": "durable-object", "storage": "sqlite" } }"#;
const NEW_A: &str = r#"{ "A": { "type": "durable-object", "storage": "sqlite" },
    "B": { "type": "durable-object", "state": "deleted" } }"#;

fn wait_for(skep: &Skep, class: &str) {
    eventually(class, || (skep.get("/class").text() == format!("\"{class}\"")).then_some(()));
}

#[test]
fn on_this_machine_a_renamed_class_keeps_its_objects_and_a_deleted_one_does_not() {
    let project = small_project(&config("A", A), &[("index.js", &code(&["A"]))]);
    let state = tempfile::tempdir().unwrap();
    let skep = dev_with(project.path(), state.path(), &[]);
    assert_eq!(skep.get("/").json(), json!(1));
    write(project.path(), "B", A_TO_B, &["B"]);
    wait_for(&skep, "B");
    assert_eq!(skep.get("/").json(), json!(2));
    write(project.path(), "A", NEW_A, &["A"]);
    wait_for(&skep, "A");
    assert_eq!(skep.get("/").json(), json!(1));
    let legacy = r#"{ "A": { "type": "durable-object", "storage": "legacy-kv" } }"#;
    write(project.path(), "A", legacy, &["A"]);
    skep.wait_for_output("is declared with storage \"legacy-kv\", but its namespace has \"sqlite\"");
    assert_eq!(skep.get("/").status, 200, "what ran runs on");
}

fn counted(serve: &Serve) -> Value {
    serve.get("counts.main.localhost", "/").json()
}

fn classes(serve: &Serve) -> Vec<String> {
    let all = serve.call("GET", "/workers/durable_objects/namespaces", None).json();
    let mut names: Vec<String> = all["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["class"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn wrangler_deploys_what_exports_declare() {
    let serve = serve();
    let dir = serve.project("counts", &[("wrangler.jsonc", &config("A", A)), ("index.js", &code(&["A"]))]);
    let said = serve.wrangler(&dir, &["deploy"]);
    assert!(said.contains("Created: A"), "{said}");
    assert_eq!((counted(&serve), classes(&serve)), (json!(1), vec!["A".to_owned()]));
    let settings = serve.call("GET", "/workers/scripts/counts/settings", None).json();
    assert_eq!(settings["result"]["exports"]["A"]["storage"], "sqlite");

    write(&dir, "B", A_TO_B, &["B"]);
    let said = serve.wrangler(&dir, &["deploy"]);
    assert!(said.contains("Renamed: A → B"), "{said}");
    assert_eq!(counted(&serve), json!(2));
    let said = serve.wrangler(&dir, &["deploy"]);
    assert!(said.contains("Safe to remove from `exports`: A"), "{said}");

    refuses_what_would_lose_objects(&serve, &dir);

    write(&dir, "A", NEW_A, &["A"]);
    let said = serve.wrangler(&dir, &["deploy"]);
    assert!(said.contains("Created: A") && said.contains("Deleted: B"), "{said}");
    assert_eq!((counted(&serve), classes(&serve)), (json!(1), vec!["A".to_owned()]));
}

/// Each is refused with Cloudflare's code, and what runs stays as it was.
fn refuses_what_would_lose_objects(serve: &Serve, dir: &Path) {
    let deleted = r#"{ "B": { "type": "durable-object", "state": "deleted" },
        "A": { "type": "durable-object", "storage": "sqlite" } }"#;
    for (class, exports, code, scenario) in [
        ("A", A, &["A"][..], "provisioned_class_missing_from_config"),
        ("A", deleted, &["A", "B"], "tombstone_delete_class_still_in_code"),
        (
            "B",
            r#"{ "B": { "type": "durable-object", "storage": "sqlite" }, "C": { "type": "durable-object", "storage": "sqlite" } }"#,
            &["B"],
            "config_export_not_in_code",
        ),
    ] {
        write(dir, class, exports, code);
        let ran = serve.try_wrangler(dir, &["deploy"], "");
        assert!(!ran.success && ran.text.contains(scenario), "{scenario}: {}", ran.text);
    }
    let before = counted(serve).as_i64().unwrap();
    assert_eq!((counted(serve), classes(serve)), (json!(before + 1), vec!["B".to_owned()]));
}

#[test]
fn a_class_of_a_version_is_made_when_the_version_is_deployed() {
    let serve = serve();
    let dir = serve.project("counts", &[("wrangler.jsonc", &config("A", A)), ("index.js", &code(&["A"]))]);
    serve.wrangler(&dir, &["deploy"]);
    assert_eq!(counted(&serve), json!(1));
    let first = serve.call("GET", "/workers/scripts/counts/versions", None).json();
    let first = first["result"]["items"][0]["id"].as_str().unwrap().to_owned();

    let both = r#"{ "A": { "type": "durable-object", "storage": "sqlite" }, "B": { "type": "durable-object", "storage": "sqlite" } }"#;
    write(&dir, "B", both, &["A", "B"]);
    let ran = serve.try_wrangler(&dir, &["versions", "upload"], "");
    assert!(
        !ran.success && ran.text.contains("its namespace is made when a version that declares it"),
        "{}",
        ran.text
    );
    write(&dir, "A", both, &["A", "B"]);
    let said = serve.wrangler(&dir, &["versions", "upload"]);
    let second =
        said.split("Worker Version ID: ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert_eq!(classes(&serve), ["A"]);
    let split = json!({ "strategy": "percentage", "versions": [
        { "version_id": first, "percentage": 50 }, { "version_id": second, "percentage": 50 } ] });
    let refused = serve.call("POST", "/workers/scripts/counts/deployments", Some(&split));
    assert_eq!((refused.status, &refused.json()["errors"][0]["code"]), (400, &json!(100_405)));
    serve.wrangler(&dir, &["versions", "deploy", &format!("{second}@100%"), "--yes"]);
    assert_eq!((counted(&serve), classes(&serve)), (json!(2), vec!["A".to_owned(), "B".to_owned()]));

    let ran = serve.try_wrangler(&dir, &["versions", "deploy", &format!("{first}@100%"), "--yes"], "");
    assert!(!ran.success && ran.text.contains("'B' has a Durable Object namespace"), "{}", ran.text);
    assert_eq!((counted(&serve), classes(&serve).len()), (json!(3), 2));
}
