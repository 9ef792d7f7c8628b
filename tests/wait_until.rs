//! What a request does after its response is ended after a while, as at Cloudflare.

use std::time::Duration;

use serde_json::json;

use crate::harness::eventually;
use crate::harness::serve::{Serve, serve_in};

const WORKER: &str = r#"
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
    ctx.waitUntil(note(searchParams.get("name")));
    return new Response("answered");
  },
};
"#;

fn node() -> Serve {
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--wait-until", "1s"]);
    let kv = serve.call("POST", "/storage/kv/namespaces", Some(&json!({ "title": "kv" }))).json();
    let id = kv["result"]["id"].as_str().unwrap().to_owned();
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
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
    assert_eq!(serve.get(HOST, "/?name=slow&ms=8000").text(), "answered");
    assert_eq!(serve.get(HOST, "/?name=quick&ms=100").text(), "answered");
    eventually("the quick one", || seen(&serve).contains(&"quick".to_owned()).then_some(()));
    // Far longer than it would have needed.
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
