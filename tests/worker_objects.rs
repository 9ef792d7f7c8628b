//! Workers as objects, as Terraform and the newer SDKs make them: the Worker first, then its versions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::serve::{Serve, serve};

const WORKERS: &str = "/workers/workers";

fn version(text: &str) -> Value {
    let module = |name: &str, code: &str| json!({ "name": name, "content_type": "application/javascript+module", "content_base64": STANDARD.encode(code) });
    let main = "import { text } from \"./text.js\"; export default { fetch(_, env) { return new Response(text + env.A); } };";
    json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "modules": [module("index.js", main), module("text.js", &format!("export const text = {text:?};"))],
        "bindings": [{ "type": "plain_text", "name": "A", "text": "!" }],
        "annotations": { "workers/message": text },
    })
}

fn call(serve: &Serve, method: &str, path: &str, body: Option<&Value>) -> Value {
    let answer = serve.call(method, path, body);
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    answer.json()["result"].clone()
}

fn refused(serve: &Serve, method: &str, path: &str, body: Option<&Value>) -> (u16, u64) {
    let answer = serve.call(method, path, body);
    (answer.status, answer.json()["errors"][0]["code"].as_u64().unwrap())
}

#[test]
fn a_worker_is_made_then_its_versions_and_both_are_changed_and_removed() {
    let serve = serve();
    let host = "shop.main.localhost";
    let asked =
        json!({ "name": "shop", "tags": ["a"], "subdomain": { "enabled": true, "previews_enabled": true } });
    let made = call(&serve, "POST", WORKERS, Some(&asked));
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (&made["name"], &made["tags"], &made["deployed_on"]),
        (&json!("shop"), &json!(["a"]), &Value::Null)
    );
    assert_eq!(refused(&serve, "POST", WORKERS, Some(&asked)), (400, 10026));
    assert_eq!(refused(&serve, "POST", WORKERS, Some(&json!({ "name": "No Name" }))), (400, 10016));
    assert_eq!(serve.get(host, "/").status, 404, "it has no version yet");
    assert_eq!(call(&serve, "GET", &format!("{WORKERS}/shop"), None)["id"], id);
    assert_eq!(call(&serve, "GET", "/workers/scripts", None)[0]["id"], "shop");

    let versions = format!("{WORKERS}/{id}/versions");
    assert_eq!(call(&serve, "GET", &versions, None), json!([]));
    let first = call(&serve, "POST", &versions, Some(&version("one")));
    assert_eq!(
        (&first["number"], &first["main_module"], &first["bindings"][0]["name"]),
        (&json!(1), &json!("index.js"), &json!("A"))
    );
    assert_eq!(serve.get(host, "/").status, 404, "it is not deployed");
    let deployment =
        json!({ "strategy": "percentage", "versions": [{ "version_id": first["id"], "percentage": 100 }] });
    call(&serve, "POST", "/workers/scripts/shop/deployments", Some(&deployment));
    assert_eq!(serve.get(host, "/").text(), "one!");
    let second = call(&serve, "POST", &format!("{versions}?deploy=true"), Some(&version("two")));
    assert_eq!(serve.get(host, "/").text(), "two!");
    let preview = second["urls"][0].as_str().unwrap();
    assert!(preview.contains(&second["id"].as_str().unwrap()[..8]), "{preview}");

    let broken = json!({ "main_module": "a.js", "modules": [{ "name": "a.js", "content_type": "application/javascript+module", "content_base64": "%" }] });
    assert_eq!(refused(&serve, "POST", &versions, Some(&broken)), (400, 10021));
    let fails = json!({ "main_module": "a.js", "compatibility_date": "2026-07-01", "modules": [{
        "name": "a.js", "content_type": "application/javascript+module", "content_base64": STANDARD.encode("throw new Error('no')"),
    }] });
    assert_eq!(refused(&serve, "POST", &format!("{versions}?deploy=true"), Some(&fails)), (400, 10021));
    assert_eq!(serve.get(host, "/").text(), "two!");

    let listed = call(&serve, "GET", &versions, None);
    let numbers: Vec<u64> =
        listed.as_array().unwrap().iter().map(|one| one["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [2, 1]);
    let latest = call(&serve, "GET", &format!("{versions}/latest?include=modules"), None);
    assert_eq!((&latest["id"], &latest["annotations"]["workers/message"]), (&second["id"], &json!("two")));
    assert_eq!(latest["modules"][1]["content_base64"], STANDARD.encode("export const text = \"two\";"));
    let prefix = &first["id"].as_str().unwrap()[..8];
    assert_eq!(call(&serve, "GET", &format!("{versions}/{prefix}"), None)["id"], first["id"]);
    assert_eq!(refused(&serve, "GET", &format!("{versions}/nothing-here"), None), (404, 100_146));

    assert_eq!(refused(&serve, "DELETE", &format!("{versions}/latest"), None), (400, 10337));
    call(&serve, "DELETE", &format!("{versions}/{prefix}"), None);
    assert_eq!(call(&serve, "GET", &versions, None).as_array().unwrap().len(), 1);

    let path = format!("{WORKERS}/shop");
    let patched =
        call(&serve, "PATCH", &path, Some(&json!({ "logpush": true, "subdomain": { "enabled": false } })));
    assert_eq!(
        (&patched["logpush"], &patched["tags"], &patched["subdomain"]["enabled"]),
        (&json!(true), &json!(["a"]), &json!(false))
    );
    assert_eq!(serve.get(host, "/").status, 404, "its address is switched off");
    let put = call(&serve, "PUT", &path, Some(&json!({ "name": "shop", "subdomain": { "enabled": true } })));
    assert_eq!((&put["logpush"], &put["tags"]), (&json!(false), &json!([])));
    assert_eq!(serve.get(host, "/").text(), "two!");
    assert_eq!(refused(&serve, "PATCH", &path, Some(&json!({ "name": "store" }))), (400, 10026));
    let model = json!({ "usage_model": "standard" });
    assert_eq!(
        call(&serve, "PUT", "/workers/scripts/shop/usage-model", Some(&model))["usage_model"],
        "standard"
    );
    call(&serve, "DELETE", &path, None);
    assert_eq!(refused(&serve, "GET", &versions, None), (404, 10007));
}
