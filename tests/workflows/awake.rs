//! Instances that have nothing to do are not in memory.

use serde_json::json;

use super::rests::CONFIG;
use super::{create, describe, reaches};
use crate::harness::eventually;
use crate::harness::serve::{Serve, serve};

const CODE: &str = r#"
import { WorkflowEntrypoint } from "cloudflare:workers";
export class Orders extends WorkflowEntrypoint {
  async run({ payload }, step) {
    const first = await step.do("first", async () => payload.n);
    if (payload.waits) await step.waitForEvent("go", { type: "go", timeout: "1 hour" });
    return first * 2;
  }
}
export default { fetch: () => new Response("fine") };
"#;

/// Databases of instances that a process of a script has open.
fn awake(serve: &Serve) -> usize {
    let files =
        serve.cells().into_iter().flat_map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap());
    let opened = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    opened.filter(|path| path.extension().is_some_and(|end| end == "sqlite")).count()
}

#[test]
fn instances_that_are_over_or_wait_long_go_to_sleep_and_come_back() {
    let serve = serve();
    let dir = serve.project("shop", &[("index.js", CODE), ("wrangler.jsonc", CONFIG)]);
    serve.wrangler(&dir, &["deploy"]);
    for n in 0..20 {
        create(&serve, &json!({ "instance_id": format!("i{n}"), "params": { "n": n, "waits": n == 0 } }));
    }
    reaches(&serve, "i0", "waiting");
    reaches(&serve, "i19", "complete");
    let process = serve.cells();
    assert!(awake(&serve) > 20, "{}", awake(&serve));
    // The index, and what the engine has of alarms.
    eventually("instances that sleep", || (awake(&serve) <= 2).then_some(()));
    assert_eq!(describe(&serve, "i7")["output"], 14);
    let go = serve.call("POST", "/workflows/orders/instances/i0/events/go", Some(&json!({})));
    assert_eq!(go.status, 200, "{}", go.text());
    assert_eq!(reaches(&serve, "i0", "complete")["output"], 0);
    assert_eq!(serve.cells(), process);
}
