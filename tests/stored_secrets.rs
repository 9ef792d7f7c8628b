//! `secrets_store_secrets` under `skep dev`.

use serde_json::json;

use crate::harness::{dev, eventually, small_project};

const CONFIG: &str = r#"{
  "name": "stored", "main": "index.js", "compatibility_date": "2026-07-01",
  "secrets_store_secrets": [
    { "binding": "KEY", "store_id": "a", "secret_name": "KEY" },
    { "binding": "OTHER", "store_id": "a", "secret_name": "by_another_name" },
    { "binding": "GONE", "store_id": "a", "secret_name": "lost" },
  ],
}"#;

const CODE: &str = r#"
export default {
  async fetch(_, env) {
    const gone = await env.GONE.get().catch((error) => error.message);
    const names = Object.keys(env).sort();
    return Response.json({ key: await env.KEY.get(), other: await env.OTHER.get(), gone, names, shown: JSON.stringify(env.KEY) });
  },
};
"#;

#[test]
fn a_secret_of_the_store_is_got_and_stands_nowhere_else() {
    let variables = "KEY=\"first value\"\nby_another_name=second\n";
    let project = small_project(CONFIG, &[("index.js", CODE), (".dev.vars", variables)]);
    let skep = dev(project.path());
    let expected = json!({
        "key": "first value", "other": "second", "gone": "Secret \"lost\" not found",
        "names": ["GONE", "KEY", "OTHER"], "shown": "{}",
    });
    assert_eq!(skep.get("/").json(), expected);
    let said = skep.output();
    assert!(said.contains("without a value: lost"), "{said}");
    assert!(!said.contains("first value"), "{said}");

    std::fs::write(project.path().join(".dev.vars"), variables.replace("first", "third")).unwrap();
    eventually("the new value", || (skep.get("/").json()["key"] == "third value").then_some(()));
}
