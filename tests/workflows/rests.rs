//! A script whose Workflows only wait has no process, and has one again when one of them goes on.

use std::time::Duration;

use serde_json::{Value, json};

use super::{create, reaches};
use crate::harness::eventually;
use crate::harness::serve::serve_in;

const CODE: &str = r#"
import { WorkflowEntrypoint } from "cloudflare:workers";
export class Orders extends WorkflowEntrypoint {
  async run({ payload }, step) {
    const first = await step.do("slow", async () => { await scheduler.wait(payload.ms); return Date.now(); });
    if (payload.short) return "short";
    await step.sleep("nap", "20 seconds");
    const woken = await step.do("woken", async () => Date.now());
    const { payload: { by } } = await step.waitForEvent("approval", { type: "approve", timeout: "1 hour" });
    return { slept: woken - first, by };
  }
}
export default { fetch: () => new Response("fine") };
"#;

pub const CONFIG: &str = r#"{ "name": "shop", "main": "index.js", "compatibility_date": "2026-07-01",
    "workflows": [{ "name": "orders", "binding": "ORDERS", "class_name": "Orders" }] }"#;

#[test]
fn a_script_whose_instances_wait_has_no_process_and_no_step_is_ended_in_the_middle() {
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--idle-timeout", "400ms"]);
    let dir = serve.project("shop", &[("index.js", CODE), ("wrangler.jsonc", CONFIG)]);
    serve.wrangler(&dir, &["deploy"]);
    let gone = || eventually("the end of the process", || serve.cells().is_empty().then_some(()));
    gone();

    // A step that waits uses no CPU, for ten times as long as it takes to be idle; nobody asks meanwhile.
    create(&serve, &json!({ "instance_id": "one", "params": { "ms": 7000 } }));
    let process = serve.cells();
    assert_eq!(process.len(), 1);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(serve.cells(), process, "ended in the middle of a step");
    // That of another one keeps it as well, when the first one sleeps.
    create(&serve, &json!({ "instance_id": "two", "params": { "ms": 8000, "short": true } }));
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(serve.cells(), process, "ended in the middle of the second step");
    gone();

    // The sleep ends without anybody who asks.
    let woken = eventually("a process by itself", || serve.cells().first().copied());
    assert_ne!(woken, process[0]);
    gone();

    // An event that it waits for starts it again.
    let answer =
        serve.call("POST", "/workflows/orders/instances/one/events/approve", Some(&json!({ "by": "me" })));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said = reaches(&serve, "one", "complete");
    let output: Value = serde_json::from_str(said["output"].as_str().unwrap()).unwrap();
    assert_eq!(output["by"], "me", "{said}");
    let slept = output["slept"].as_u64().unwrap();
    assert!((20_000..40_000).contains(&slept), "{slept}");
    let attempts: Vec<_> =
        said["steps"].as_array().unwrap().iter().filter_map(|step| step["attempts"].as_array()).collect();
    assert!(attempts.iter().all(|attempts| attempts.len() == 1), "{said}");
    assert_eq!(reaches(&serve, "two", "complete")["output"], "short");
}

#[test]
fn an_instance_that_sleeps_through_a_restart_of_the_node_goes_on() {
    let code = r#"
        import { WorkflowEntrypoint } from "cloudflare:workers";
        export class Orders extends WorkflowEntrypoint { async run(_, step) {
          const first = await step.do("first", async () => Date.now());
          await step.sleep("nap", "13 seconds");
          return (await step.do("second", async () => Date.now())) - first;
        } }
        export default { fetch: () => new Response("fine") };
    "#;
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--idle-timeout", "400ms"]);
    let dir = serve.project("shop", &[("index.js", code), ("wrangler.jsonc", CONFIG)]);
    serve.wrangler(&dir, &["deploy"]);
    create(&serve, &json!({ "instance_id": "one" }));
    eventually("the end of the process", || serve.cells().is_empty().then_some(()));
    let serve = serve_in(serve.stop("KILL"), &["--idle-timeout", "400ms"]);
    // Nobody asks for it.
    eventually("a process by itself", || (!serve.cells().is_empty()).then_some(()));
    let said = reaches(&serve, "one", "complete");
    let slept = said["output"].as_u64().unwrap();
    assert!(slept >= 13_000, "{said}");
}
