//! A Durable Object class that another script takes over: its objects go on there, one process at a time.

use serde_json::json;

use crate::harness::serve::{Serve, serve, serve_in};

const COUNTER: &str = r#"
import { DurableObject } from "cloudflare:workers";
export class NAME extends DurableObject {
  async up() {
    const n = ((await this.ctx.storage.get("n")) ?? 0) + 1;
    await this.ctx.storage.put("n", n);
    return [n, "NAME"];
  }
}
export default { fetch: async (request, env) => Response.json(await env.COUNTER.getByName("joe").up()) };
"#;

const CALLER: &str = r#"
export default { fetch: async (request, env) => Response.json(await env.COUNTER.getByName("joe").up()) };
"#;

fn deploy(serve: &Serve, name: &str, code: &str, class: &str, more: serde_json::Value) {
    let mut config = json!({
        "name": name, "main": "index.js", "compatibility_date": "2026-07-01",
        "durable_objects": { "bindings": [{ "name": "COUNTER", "class_name": class }] },
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let dir = serve.project(name, &[("index.js", code), ("wrangler.jsonc", &config.to_string())]);
    serve.wrangler(&dir, &["deploy"]);
}

fn up(serve: &Serve, script: &str) -> serde_json::Value {
    serve.get(&format!("{script}.main.localhost"), "/").json()
}

#[test]
fn a_class_that_is_transferred_while_it_is_used_goes_on_in_the_other_script() {
    let serve = serve();
    let old = COUNTER.replace("NAME", "Old");
    deploy(
        &serve,
        "old",
        &old,
        "Old",
        json!({ "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Old"] }] }),
    );
    let bound = json!({ "durable_objects": {
        "bindings": [{ "name": "COUNTER", "class_name": "Old", "script_name": "old" }] } });
    deploy(&serve, "a-caller", CALLER, "Old", bound.clone());
    deploy(&serve, "z-caller", CALLER, "Old", bound);
    assert_eq!(up(&serve, "a-caller"), json!([1, "Old"]));
    assert_eq!((up(&serve, "old"), up(&serve, "z-caller")), (json!([2, "Old"]), json!([3, "Old"])));
    // The old script's process has the objects' files open.
    let moved = json!({ "migrations": [
        { "tag": "v1", "transferred_classes": [{ "from": "Old", "from_script": "old", "to": "New" }] }] });
    deploy(&serve, "new", &COUNTER.replace("NAME", "New"), "New", moved);
    assert_eq!(up(&serve, "new"), json!([4, "New"]));
    // Bindings lead to where the objects are, those of the script that had them, too.
    assert_eq!((up(&serve, "old"), up(&serve, "z-caller")), (json!([5, "New"]), json!([6, "New"])));
    assert_eq!((up(&serve, "new"), up(&serve, "a-caller")), (json!([7, "New"]), json!([8, "New"])));
    let serve = serve_in(serve.stop("KILL"), &[]);
    assert_eq!((up(&serve, "old"), up(&serve, "new")), (json!([9, "New"]), json!([10, "New"])));
    // Under the old name a class can be made anew: it begins with nothing.
    let again = json!({ "migrations": [{ "tag": "v1" },
        { "tag": "v2", "new_sqlite_classes": ["Old"] }] });
    deploy(&serve, "old", &old, "Old", again);
    assert_eq!((up(&serve, "old"), up(&serve, "z-caller")), (json!([1, "Old"]), json!([2, "Old"])));
    assert_eq!(up(&serve, "new"), json!([11, "New"]));
}
