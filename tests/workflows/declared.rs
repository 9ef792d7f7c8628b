//! Workflows that `exports` declare.

use serde_json::{Value, json};

use super::{ids, instances};
use crate::harness::serve::serve;
use crate::harness::{dev_with, eventually, small_project};

const DECLARED: &str = r#"
import { WorkflowEntrypoint } from "cloudflare:workers";
export class Orders extends WorkflowEntrypoint {
  async run({ payload }, step) { return await step.do("double", async () => payload.n * 2); }
}
export default { async fetch(request, env, ctx) {
  const orders = env.ORDERS ?? ctx.exports.Orders;
  const id = new URL(request.url).searchParams.get("id");
  const found = await orders.get(id).catch(() => orders.create({ id, params: { n: 21 } }));
  return Response.json(await found.status());
} };
"#;

/// Its configuration, `bound` or called by `ctx.exports` alone.
fn declared(bound: bool, more: &str) -> String {
    let mut config = json!({ "name": "shop", "main": "index.js", "compatibility_date": "2026-07-01",
        "exports": { "Orders": serde_json::from_str::<Value>(&format!(r#"{{ "type": "workflow", "name": "orders" {more} }}"#)).unwrap() } });
    if bound {
        config["workflows"] = json!([{ "name": "orders", "binding": "ORDERS", "class_name": "Orders" }]);
    }
    config.to_string()
}

#[test]
fn a_workflow_that_exports_declare_runs_without_a_binding_and_with_one() {
    let serve = serve();
    let done = |id: &str| {
        eventually(id, || {
            let now = serve.get("shop.main.localhost", &format!("/?id={id}")).json();
            (now["status"] == "complete").then(|| now["output"].clone())
        })
    };
    let config = declared(false, r#", "limits": { "steps": 7 }"#);
    let dir = serve.project("shop", &[("index.js", DECLARED), ("wrangler.jsonc", &config)]);
    serve.wrangler(&dir, &["deploy"]);
    assert_eq!(done("first"), json!(42));
    assert!(serve.wrangler(&dir, &["workflows", "list"]).contains("orders"));
    let kept = serve.call("GET", "/workflows/orders", None).json();
    assert_eq!(kept["result"]["class_name"], "Orders", "{kept}");
    let bound = declared(true, "");
    serve.project("shop", &[("wrangler.jsonc", &bound)]);
    serve.wrangler(&dir, &["deploy"]);
    assert_eq!((done("first"), done("second")), (json!(42), json!(42)));
    assert_eq!(ids(&instances(&serve, "")).len(), 2, "an export and a binding share the instances");
}

#[test]
fn a_workflow_that_exports_declare_runs_on_this_machine() {
    let project = small_project(&declared(false, ""), &[("index.js", DECLARED)]);
    let state = tempfile::tempdir().unwrap();
    let skep = dev_with(project.path(), state.path(), &[]);
    let done = eventually("it is done", || {
        let now = skep.get("/?id=first").json();
        (now["status"] == "complete").then(|| now["output"].clone())
    });
    assert_eq!(done, json!(42));
}
