//! What a request does after its response is ended after a while, as at Cloudflare.

use std::time::Duration;

use serde_json::json;

use crate::harness::eventually;
use crate::harness::serve::{Serve, serve_in};

const WORKER: &str = r#"
import { AsyncLocalStorage } from "node:async_hooks";
import { waitUntil } from "cloudflare:workers";
const elsewhere = AsyncLocalStorage.snapshot();
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export default {
  async fetch(request, env, ctx) {
    const { pathname, searchParams } = new URL(request.url);
    const ms = Number(searchParams.get("ms"));
    if (pathname === "/seen") return Response.json((await env.KV.list()).keys.map((key) => key.name));
    if (pathname === "/own") return Response.json([Object.keys(env), ctx.waitUntil.name]);
    const note = async (name) => {
      await sleep(ms);
      await env.KV.put(name, "done");
    };
    if (pathname === "/stream") {
      const { readable, writable } = new TransformStream();
      ctx.waitUntil((async () => {
        const writer = writable.getWriter();
        for (let n = 0; n < 30; n++) {
          await writer.write(new TextEncoder().encode("x"));
          await sleep(100);
        }
        await writer.close();
        await note(searchParams.get("name"));
      })());
      return new Response(readable);
    }
    const wait = {
      "/": (work) => ctx.waitUntil(work),
      "/imported": (work) => waitUntil(work),
      // An application can step out of its asynchronous context.
      "/hidden": (work) => elsewhere(() => ctx.waitUntil(work)),
      "/hidden-imported": (work) => elsewhere(() => waitUntil(work)),
    };
    wait[pathname](note(searchParams.get("name")));
    return new Response("answered");
  },
};
"#;

fn node() -> Serve {
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--wait-until", "1s"]);
    let kv = serve.call("POST", "/storage/kv/namespaces", Some(&json!({ "title": "kv" }))).json();
    let id = kv["result"]["id"].as_str().unwrap().to_owned();
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01", "compatibility_flags": ["nodejs_als"],
        "bindings": [{ "type": "kv_namespace", "name": "KV", "namespace_id": id }],
    });
    assert_eq!(serve.upload("after", &metadata, WORKER).status, 200);
    serve
}

const HOST: &str = "after.main.localhost";

fn seen(serve: &Serve) -> Vec<String> {
    serde_json::from_value(serve.get(HOST, "/seen").json()).unwrap()
}

#[test]
fn what_takes_longer_than_it_may_is_cancelled() {
    let serve = node();
    for path in ["/", "/imported", "/hidden", "/hidden-imported"] {
        let name = path.trim_start_matches('/');
        assert_eq!(serve.get(HOST, &format!("{path}?name=slow-{name}&ms=8000")).text(), "answered");
        assert_eq!(serve.get(HOST, &format!("{path}?name=quick-{name}&ms=100")).text(), "answered");
    }
    let quick = ["quick-", "quick-hidden", "quick-hidden-imported", "quick-imported"];
    eventually("the quick ones", || (seen(&serve).len() == quick.len()).then_some(()));
    // Far longer than the others would have needed.
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(seen(&serve), quick);
}

const LISTENS: &str = r#"
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
addEventListener("fetch", (event) => {
  const { searchParams } = new URL(event.request.url);
  event.waitUntil(sleep(Number(searchParams.get("ms"))).then(() => KV.put(searchParams.get("name"), "done")));
  event.respondWith(new Response("answered"));
});
"#;

#[test]
fn it_is_cancelled_in_service_worker_syntax_too() {
    let serve = node();
    let id = serve.call("GET", "/storage/kv/namespaces", None).json()["result"][0]["id"].clone();
    let metadata = json!({
        "compatibility_date": "2021-01-01",
        "bindings": [{ "type": "kv_namespace", "name": "KV", "namespace_id": id }],
    });
    let answer = serve.upload_service_worker("listens", &metadata, LISTENS);
    assert_eq!(answer.status, 200, "{}", answer.text());
    for query in ["name=slow&ms=8000", "name=quick&ms=100"] {
        assert_eq!(serve.get("listens.main.localhost", &format!("/?{query}")).text(), "answered");
    }
    eventually("the quick one", || seen(&serve).contains(&"quick".to_owned()).then_some(()));
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(seen(&serve), ["quick"]);
}

#[test]
fn the_time_begins_when_the_last_byte_has_been_sent() {
    let serve = node();
    // It streams for three times as long as it may go on afterwards.
    assert_eq!(serve.get(HOST, "/stream?name=streamed&ms=200").text().len(), 30);
    eventually("what follows the stream", || seen(&serve).contains(&"streamed".to_owned()).then_some(()));
}

#[test]
fn the_application_sees_nothing_of_it() {
    let serve = node();
    assert_eq!(serve.get(HOST, "/own").json(), json!([["KV"], "waitUntil"]));
}
