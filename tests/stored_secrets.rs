//! `secrets_store_secrets` under `skep dev`, and on a node with what stock wrangler keeps in its store.

use serde_json::json;

use crate::harness::serve::{FORM, Serve, form, run, serve, serve_in};
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

const VALUE: &str = "kept-in-the-store-1";

const READER: &str = "export default { async fetch(_, env) { \
    return Response.json(await env.KEY.get().catch((error) => error.message)); } };";

/// The id of what wrangler has made, which it says last.
fn id_in(text: &str) -> String {
    let id = text.rsplit("ID: ").next().and_then(|rest| rest.split(')').next());
    id.filter(|id| id.len() == 32).unwrap_or_else(|| panic!("{text}")).to_owned()
}

fn reader(serve: &Serve, name: &str, store: &str, secret: &str) -> std::path::PathBuf {
    let config = json!({
        "name": name, "main": "index.js", "compatibility_date": "2026-07-01",
        "secrets_store_secrets": [{ "binding": "KEY", "store_id": store, "secret_name": secret }],
    });
    serve.project(name, &[("index.js", READER), ("wrangler.json", &config.to_string())])
}

#[test]
fn what_wrangler_keeps_in_the_store_of_a_node_scripts_get() {
    let serve = serve();
    let empty = serve.project("empty", &[("README", "")]);
    let store_of = |args: &[&str]| {
        serve.try_wrangler(&empty, &[&["secrets-store", "store"], args, &["--remote"]].concat(), "")
    };
    let secret =
        |args: &[&str]| serve.wrangler(&empty, &[&["secrets-store", "secret"], args, &["--remote"]].concat());
    let store = id_in(&store_of(&["create", "first"]).text);
    let second = store_of(&["create", "second"]);
    assert!(
        !second.success && second.text.contains("maximum_stores_exceeded [code: 1003]"),
        "{}",
        second.text
    );
    let listed = store_of(&["list"]).text;
    assert!(
        listed.contains(&store) && listed.contains("first") && listed.contains(&serve.account),
        "{listed}"
    );

    let dir = reader(&serve, "reader", &store, "KEY");
    let early = serve.try_wrangler(&dir, &["deploy"], "");
    let expected = format!(
        "binding 'KEY' references store '{store}' and secret 'KEY' which were not found. [code: 10182]"
    );
    let flat = early.text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!early.success && flat.contains(&expected), "{}", early.text);

    let new = |name: &str, scopes: &str| {
        id_in(&secret(&[
            "create",
            &store,
            "--name",
            name,
            "--value",
            VALUE,
            "--scopes",
            scopes,
            "--comment",
            "why",
        ]))
    };
    let id = new("KEY", "workers");
    new("GATEWAY", "ai_gateway");
    serve.wrangler(&dir, &["deploy"]);
    let get = |host: &str| serve.get(host, "/").json();
    assert_eq!(get("reader.main.localhost"), VALUE);
    let shown = secret(&["get", &store, "--secret-id", &id]);
    assert!(shown.contains("KEY") && shown.contains("why") && shown.contains("active"), "{shown}");
    let other = reader(&serve, "gateway", &store, "GATEWAY");
    let refused = serve.try_wrangler(&other, &["deploy"], "");
    assert!(!refused.success && refused.text.contains("[code: 10021]"), "{}", refused.text);

    serve.wrangler(&empty, &["dispatch-namespace", "create", "tenants"]);
    let tenant = reader(&serve, "tenant", &store, "KEY");
    serve.wrangler(&tenant, &["deploy", "--dispatch-namespace", "tenants"]);
    let dispatcher = json!({
        "name": "dispatcher", "main": "index.js", "compatibility_date": "2026-07-01",
        "dispatch_namespaces": [{ "binding": "ALL", "namespace": "tenants" }],
    });
    let code = "export default { fetch(request, env) { return env.ALL.get('tenant').fetch(request); } };";
    let files = [("index.js", code), ("wrangler.json", &dispatcher.to_string())];
    serve.wrangler(&serve.project("dispatcher", &files), &["deploy"]);
    assert_eq!(get("dispatcher.main.localhost"), VALUE);

    secret(&["update", &store, "--secret-id", &id, "--value", "changed-in-the-store-2"]);
    assert_eq!(get("reader.main.localhost"), "changed-in-the-store-2");
    assert_eq!(get("dispatcher.main.localhost"), "changed-in-the-store-2");

    let copy = secret(&["duplicate", &store, "--secret-id", &id, "--name", "COPY", "--scopes", "workers"]);
    let copy = id_in(&copy);
    serve.wrangler(&reader(&serve, "copied", &store, "COPY"), &["deploy"]);
    assert_eq!(get("copied.main.localhost"), "changed-in-the-store-2");
    let listed = secret(&["list", &store]);
    assert!(["KEY", "COPY", "GATEWAY", &copy].iter().all(|text| listed.contains(text)), "{listed}");
    secret(&["delete", &store, "--secret-id", &copy]);
    assert_eq!(get("copied.main.localhost"), "Secret \"COPY\" not found");
    assert_eq!(get("reader.main.localhost"), "changed-in-the-store-2");

    let full = store_of(&["delete", &store]);
    assert!(!full.success && full.text.contains("store_not_empty"), "{}", full.text);
    let said = serve.output();
    assert!(!said.contains(VALUE) && !said.contains("changed-in-the-store"), "{said}");
}

fn holds(folder: &std::path::Path, text: &str) -> bool {
    run(std::process::Command::new("grep").args(["-rlaF", "-e", text]).arg(folder)).success
}

#[test]
fn a_stored_secret_is_sealed_outlives_a_new_key_and_is_read_by_whom_the_store_is_for() {
    let serve = serve();
    let store = serve.call("POST", "/secrets_store/stores", Some(&json!({ "name": "s" }))).json();
    let store = store["result"]["id"].as_str().unwrap().to_owned();
    let path = format!("/secrets_store/stores/{store}/secrets");
    let new = json!([{ "name": "KEY", "value": VALUE, "scopes": ["workers"] }]);
    let made = serve.call("POST", &path, Some(&new));
    assert!(
        made.status == 200 && !made.text().contains(VALUE) && !made.text().contains("sealed"),
        "{}",
        made.text()
    );
    let id = made.json()["result"][0]["id"].as_str().unwrap().to_owned();
    let code = |method: &str, path: &str, body: &serde_json::Value| {
        let answer = serve.call(method, path, Some(body));
        (answer.status, answer.json()["errors"][0]["message"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(code("POST", &path, &new), (400, "secret_name_already_exists: KEY".into()));
    let none = json!({});
    assert_eq!(code("PATCH", &format!("{path}/none"), &none), (404, "secret_not_found".into()));
    assert_eq!(code("POST", "/secrets_store/stores/none/secrets", &new), (404, "store_not_found".into()));
    let long = json!({ "value": "v".repeat(65_537) });
    assert!(code("PATCH", &format!("{path}/{id}"), &long).1.starts_with("secret_value_too_long"));
    let usage = serve.call("GET", "/secrets_store/quota", None).json();
    assert_eq!(usage["result"], json!({ "secrets": { "quota": 100, "usage": 1 } }));

    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "type": "secrets_store_secret", "name": "KEY", "store_id": store, "secret_name": "KEY" }],
    });
    assert_eq!(serve.upload("reader", &metadata, READER).status, 200);
    assert_eq!(serve.get("reader.main.localhost", "/").json(), VALUE);
    let bindings =
        serve.call("GET", "/workers/scripts/reader/settings", None).json()["result"]["bindings"].clone();
    assert_eq!(bindings, metadata["bindings"]);

    // Who may deploy scripts does not read the account's secrets by that alone.
    let group = json!({
        "name": "scripts", "policies": [{ "effect": "allow", "permission_groups": [{ "id": "e086da7e2179491d91ee5f35b3ca210a" }],
        "resources": { format!("com.cloudflare.api.account.{}", serve.account): "*" } }],
    });
    let token = serve.token_call("POST", "/user/tokens", &[], Some(group.to_string().as_bytes())).json();
    let bearer = format!("Bearer {}", token["result"]["value"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str()), ("content-type", FORM)];
    let script = format!("/accounts/{}/workers/scripts/thief", serve.account);
    let thief = serve.raw_call("PUT", &script, &headers, Some(&form(&metadata, &[("index.js", READER)])));
    assert_eq!((thief.status, &thief.json()["errors"][0]["code"]), (400, &json!(10021)), "{}", thief.text());

    let data = serve.dir.path().join("data");
    let mut rotate = std::process::Command::new(env!("CARGO_BIN_EXE_skep"));
    let rotated = run(rotate.args(["secrets", "rotate", "--data"]).arg(&data));
    assert!(rotated.success && rotated.text.contains("encrypted anew: 1"), "{}", rotated.text);
    assert!(!holds(&data.join("accounts"), VALUE), "the value lies open");
    let serve = serve_in(serve.stop("TERM"), &[]);
    assert_eq!(serve.get("reader.main.localhost", "/").json(), VALUE);

    let gone = serve.call("DELETE", &format!("/secrets_store/stores/{store}?force=true"), None);
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(serve.get("reader.main.localhost", "/").json(), "Secret \"KEY\" not found");
    assert_eq!(serve.call("GET", "/secrets_store/stores", None).json()["result"], json!([]));
}
