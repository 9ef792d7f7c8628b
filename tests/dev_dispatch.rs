//! `skep dev` with a dispatcher and the workers of its namespace, and with tail consumers.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Skep, dev_with, eventually, try_dev};

const DISPATCHER: &str = r#"
export default {
  async fetch(request, env) {
    const [, name, method] = new URL(request.url).pathname.split("/");
    try {
      const script = env.TENANTS.get(name, {}, { outbound: { customer: name } });
      if (method === "sum") return Response.json(await script.sum(1, 2));
      return await script.fetch(request);
    } catch (error) {
      return Response.json({ name: error.name, message: error.message }, { status: 500 });
    }
  },
};
"#;

const TENANT: &str = r#"
import { DurableObject, WorkerEntrypoint } from "cloudflare:workers";
export class Counter extends DurableObject {
  async up() { const n = ((await this.ctx.storage.get("n")) ?? 0) + 1; await this.ctx.storage.put("n", n); return n; }
}
export default class extends WorkerEntrypoint {
  sum(a, b) { return a + b; }
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname.endsWith("/throw")) throw new RangeError("the tenant threw");
    if (pathname.endsWith("/out")) return fetch("http://outside.example/x");
    if (pathname.endsWith("/count")) return Response.json(await this.env.COUNTER.getByName("all").up());
    const forged = [...request.headers.keys()].filter((name) => name.startsWith("x-skep"));
    return Response.json({ text: "TEXT", cf: request.cf ?? null, forged });
  }
}
"#;

const OUTBOUND: &str = r#"
export default { fetch: (request, env) => Response.json({ url: request.url, customer: env.customer ?? null }) };
"#;

fn write(dir: &Path, name: &str, code: &str, config: Value) -> String {
    let folder = dir.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("index.js"), code).unwrap();
    let mut all = json!({ "main": "index.js", "compatibility_date": "2026-07-01" });
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let path = folder.join("wrangler.jsonc");
    std::fs::write(&path, all.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn tenant(dir: &Path, folder: &str, name: &str) -> String {
    let config = json!({
        "name": name,
        "durable_objects": { "bindings": [{ "name": "COUNTER", "class_name": "Counter", "script_name": name }] },
        "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Counter"] }],
    });
    write(dir, folder, &TENANT.replace("TEXT", folder), config)
}

fn ask(skep: &Skep, path: &str) -> Value {
    skep.get(path).json()
}

#[test]
fn a_dispatcher_calls_the_workers_that_are_put_into_its_namespace() {
    let dir = tempfile::tempdir().unwrap();
    let bound = json!([{
        "binding": "TENANTS", "namespace": "tenants",
        "outbound": { "service": "out", "parameters": ["customer"] },
    }]);
    let dispatcher = write(
        dir.path(),
        "dispatcher",
        DISPATCHER,
        json!({ "name": "dispatcher", "dispatch_namespaces": bound }),
    );
    let out = write(dir.path(), "out", OUTBOUND, json!({ "name": "out" }));
    let first = format!("tenants={}", tenant(dir.path(), "first", "first"));
    // By its folder; its name is that of a worker outside of the namespace.
    tenant(dir.path(), "second", "out");
    let second = format!("tenants={}", dir.path().join("second").display());
    let state = dir.path().join("state");
    let args =
        ["-c", &dispatcher, "-c", &out, "--dispatch-namespace", &first, "--dispatch-namespace", &second];
    let skep = dev_with(dir.path(), &state, &args);
    skep.wait_for_output("tenants: first, out");
    assert_eq!(ask(&skep, "/first/"), json!({ "text": "first", "cf": null, "forged": [] }));
    assert_eq!(ask(&skep, "/out/")["text"], "second");
    assert_eq!(ask(&skep, "/first/sum"), 3);
    assert_eq!(ask(&skep, "/none/"), json!({ "name": "Error", "message": "Worker not found." }));
    assert_eq!(ask(&skep, "/dispatcher/")["message"], "Worker not found.", "it is not in the namespace");
    assert_eq!(ask(&skep, "/first/throw"), json!({ "name": "RangeError", "message": "the tenant threw" }));
    let said = json!({ "url": "http://outside.example/x", "customer": "first" });
    assert_eq!(ask(&skep, "/first/out"), said);
    // Each has objects of its own.
    assert_eq!((ask(&skep, "/first/count"), ask(&skep, "/first/count")), (json!(1), json!(2)));
    assert_eq!(ask(&skep, "/out/count"), json!(1));

    std::fs::write(dir.path().join("first/index.js"), TENANT.replace("TEXT", "changed")).unwrap();
    eventually("the tenant's new code", || (ask(&skep, "/first/")["text"] == "changed").then_some(()));
    assert_eq!(ask(&skep, "/first/count"), json!(3));
    drop(skep);
    let skep = dev_with(dir.path(), &state, &args);
    assert_eq!(ask(&skep, "/first/count"), json!(4), "kept between runs");
    assert_eq!(ask(&skep, "/first/out"), said);
}

#[test]
fn a_worker_in_a_namespace_that_nobody_is_bound_to_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let dispatcher = write(dir.path(), "dispatcher", DISPATCHER, json!({ "name": "dispatcher" }));
    let first = format!("tenants={}", tenant(dir.path(), "first", "first"));
    let args = ["-c", &dispatcher, "--dispatch-namespace", &first];
    let said = try_dev(dir.path(), &dir.path().join("state"), &args).err().unwrap();
    assert!(said.contains("no worker has the dispatch namespace \"tenants\""), "{said}");
}

const TAILED: &str = r#"
export default {
  fetch(request) {
    console.log("looking at", new URL(request.url).pathname);
    if (request.url.endsWith("/throw")) throw new TypeError("on purpose");
    return new Response("fine");
  },
};
"#;

const CONSUMER: &str = r#"
export default {
  async tail(events, env) {
    for (const event of events) await env.SEEN.put(event.event.request.url.split("/").at(-1), JSON.stringify(event));
  },
};
"#;

const READER: &str = r#"
export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    const [, what, key] = pathname.split("/");
    if (what === "seen") {
      const seen = await env.SEEN.get(key);
      return new Response(seen, { status: seen === null ? 404 : 200 });
    }
    return env.TAILED.fetch(request);
  },
};
"#;

#[test]
fn events_of_a_worker_come_to_its_tail_consumers() {
    let dir = tempfile::tempdir().unwrap();
    let kv = json!([{ "binding": "SEEN", "id": "seen" }]);
    let config = json!({ "name": "reader", "kv_namespaces": kv, "services": [{ "binding": "TAILED", "service": "tailed" }] });
    let reader = write(dir.path(), "reader", READER, config);
    let config =
        json!({ "name": "tailed", "tail_consumers": [{ "service": "consumer" }, { "service": "absent" }] });
    let tailed = write(dir.path(), "tailed", TAILED, config);
    let consumer =
        write(dir.path(), "consumer", CONSUMER, json!({ "name": "consumer", "kv_namespaces": kv }));
    let args = ["-c", &reader, "-c", &tailed, "-c", &consumer];
    let skep = dev_with(dir.path(), &dir.path().join("state"), &args);
    assert_eq!(skep.get("/a/plain").text(), "fine");
    let seen = |key: &str| {
        eventually(&format!("the event of {key}"), || {
            let answer = skep.get(&format!("/seen/{key}"));
            (answer.status == 200).then(|| answer.json())
        })
    };
    let event = seen("plain");
    assert_eq!((&event["outcome"], &event["scriptName"]), (&json!("ok"), &json!("tailed")));
    assert_eq!(event["logs"][0]["message"], json!(["looking at", "/a/plain"]));
    skep.get("/a/throw");
    let event = seen("throw");
    assert_eq!(event["outcome"], "exception");
    assert_eq!(event["exceptions"][0]["message"], "on purpose");
    assert_eq!(
        event["logs"].as_array().unwrap().len(),
        1,
        "our own report is not the application's: {event}"
    );
}
