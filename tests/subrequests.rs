//! What an invocation may ask of others: `limits.subrequests`, a dispatcher's `subRequests`, and those who hide theirs.

mod hidden;
mod loaded;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::serve::{Serve, serve_in};

const SEE: &str = "To configure this limit, refer to https://developers.cloudflare.com/workers/wrangler/configuration/#limits";

fn outside() -> String {
    format!("Too many subrequests by single Worker invocation. {SEE}")
}

fn own() -> String {
    format!("Too many API requests by single Worker invocation. {SEE}")
}

/// A server on this machine that counts requests, and how to reach it; `/redirect` leads to `/`.
fn counting() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let came = Arc::new(AtomicUsize::new(0));
    let count = came.clone();
    std::thread::spawn(move || {
        for mut visitor in listener.incoming().flatten() {
            let count = count.clone();
            std::thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while visitor.read(&mut byte).is_ok_and(|read| read > 0) {
                    head.push(byte[0]);
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    let answer = match head.starts_with(b"GET /redirect") {
                        true => "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
                        false => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                    };
                    head.clear();
                    if visitor.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, came)
}

fn node() -> Serve {
    serve_in(tempfile::tempdir().unwrap(), &["--egress-allow", "127.0.0.1/32"])
}

fn kv(serve: &Serve) -> Value {
    let made = serve.call("POST", "/storage/kv/namespaces", Some(&json!({ "title": "kept" }))).json();
    json!({ "type": "kv_namespace", "name": "KV", "namespace_id": made["result"]["id"] })
}

const COUNTS: &str = r#"
import { DurableObject, RpcTarget, WorkerEntrypoint } from "cloudflare:workers";
import { connect } from "cloudflare:sockets";

/** How often `what` works, of 20 times, and how it fails. */
const often = async (what) => {
  let times = 0;
  for (; times < 20; times++) {
    try { await what(times); } catch ({ name, message }) { return { times, name, message }; }
  }
  return { times };
};

export class Room extends DurableObject {
  async work(url) { return often(() => fetch(url)); }
  async fetch(request) { return Response.json(await often(() => fetch(new URL(request.url).searchParams.get("to")))); }
  nothing() {}
}
class Deep extends RpcTarget { er() { return 2; } }
export class Named extends WorkerEntrypoint {
  nothing() { return { further: 1 }; }
  get one() { return 1; }
  get deep() { return new Deep(); }
  later() { return (n) => n + 1; }
  async work(url) { return often(() => fetch(url)); }
  async fetch(request) { return Response.json(await this.work(new URL(request.url).searchParams.get("to"))); }
}
export default {
  nothing() {},
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    const to = url.searchParams.get("to");
    const work = {
      "/fetch": () => fetch(to),
      "/cache": (n) => caches.default.match("http://cached.example/" + n),
      "/kv": (n) => n % 2 ? env.KV.put("k", "v") : env.KV.get("k"),
      "/d1": () => env.DB.prepare("SELECT 1").all(),
      "/queue": () => env.QUEUE.send("x"),
      "/bucket": () => env.BUCKET.head("x"),
      "/mixed": (n) => n % 2 ? env.KV.get("k") : fetch(to),
      "/service": () => env.SELF.fetch("http://self/nothing"),
      "/socket": () => new WebSocket(to.replace("http", "ws")).addEventListener("error", () => {}),
      "/redirects": () => fetch(to + "/redirect"),
      "/methods": () => env.SELF.nothing(1),
      "/property": () => env.NAMED.one,
      "/deep": () => env.NAMED.deep.er(),
      "/exports": () => ctx.exports.Named.nothing(),
      "/objects": () => env.ROOM.get(env.ROOM.idFromName("b")).nothing(),
      "/held": (() => { const { nothing } = env.NAMED; return () => nothing(); })(),
      "/connect": () => connect(new URL(to).host).close(),
      "/connect-service": () => env.SELF.connect("x:1").close(),
      "/awaited": async () => { try { await env.NAMED.nothing().further; } catch (error) { if (error.message.includes("limit")) throw error; } },
    }[url.pathname];
    if (work) return Response.json(await often(work));
    if (url.pathname === "/stub") {
      // A call on what came back is no request of its own.
      const add = await env.NAMED.later();
      return Response.json({ ...await often(add), kind: typeof env.NAMED.nothing, is: env.NAMED instanceof Object,
        has: ["fetch", "any", "then"].map((name) => name in env.NAMED), keys: Object.keys(env.NAMED) });
    }
    if (url.pathname === "/later") {
      ctx.waitUntil(scheduler.wait(20).then(() => often(() => fetch(to))).then((was) => env.KV.put("later", JSON.stringify(was))));
      return Response.json(await often((n) => n < 2 ? fetch(to) : Promise.reject(new Error("enough"))));
    }
    if (url.pathname === "/object") return env.ROOM.get(env.ROOM.idFromName("a")).fetch(request);
    if (url.pathname === "/method") return Response.json(await env.ROOM.get(env.ROOM.idFromName("a")).work(to));
    if (url.pathname === "/named") return env.NAMED.fetch(request);
    if (url.pathname === "/named-method") return Response.json(await env.NAMED.work(to));
    return new Response("fine");
  },
};
"#;

#[test]
fn each_invocation_may_make_so_many_requests_and_no_more() {
    let serve = node();
    let (to, came) = counting();
    let d1 = serve.call("POST", "/d1/database", Some(&json!({ "name": "db" }))).json();
    serve.call("POST", "/queues", Some(&json!({ "queue_name": "jobs" })));
    serve.call("POST", "/r2/buckets", Some(&json!({ "name": "bucket" })));
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01", "limits": { "subrequests": 7 },
        "migrations": { "new_tag": "v1", "new_sqlite_classes": ["Room"] },
        "bindings": [
            kv(&serve),
            { "type": "d1", "name": "DB", "id": d1["result"]["uuid"] },
            { "type": "queue", "name": "QUEUE", "queue_name": "jobs" },
            { "type": "r2_bucket", "name": "BUCKET", "bucket_name": "bucket" },
            { "type": "service", "name": "SELF", "service": "counts" },
            { "type": "service", "name": "NAMED", "service": "counts", "entrypoint": "Named" },
            { "type": "durable_object_namespace", "name": "ROOM", "class_name": "Room" },
        ],
    });
    let answer = serve.upload("counts", &metadata, COUNTS);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let ask = |path: &str| serve.get("counts.main.localhost", &format!("{path}?to={to}")).json();
    let error = |times: u32, message: String| json!({ "times": times, "name": "Error", "message": message });
    // Each time anew, with Cloudflare's words for either kind.
    for _ in 0..2 {
        let before = came.load(Ordering::SeqCst);
        assert_eq!(ask("/fetch"), error(7, outside()));
        assert_eq!(came.load(Ordering::SeqCst) - before, 7, "the eighth was not sent");
    }
    assert_eq!(ask("/mixed"), error(7, own()), "one count for all");
    for path in ["/cache", "/socket"] {
        assert_eq!(ask(path), error(7, outside()), "{path}");
    }
    for path in ["/kv", "/queue", "/bucket", "/service"] {
        assert_eq!(ask(path), error(7, own()), "{path}");
    }
    // Methods, too, however they are called; and connections.
    for path in
        ["/methods", "/property", "/deep", "/exports", "/objects", "/held", "/awaited", "/connect-service"]
    {
        assert_eq!(ask(path), error(7, own()), "{path}");
    }
    assert_eq!(ask("/connect"), error(7, outside()));
    let stub = json!({ "times": 20, "kind": "function", "is": true, "has": [true, true, false], "keys": [] });
    assert_eq!(ask("/stub"), stub);
    let d1 = ask("/d1");
    assert_eq!(d1["times"], 7);
    assert!(d1["message"].as_str().unwrap().contains(&own()), "{d1}");
    // Seven are three that were redirected and one.
    assert_eq!(ask("/redirects"), error(4, outside()));
    // What is called by another invocation is one of its own.
    for path in ["/object", "/method", "/named", "/named-method"] {
        assert_eq!(ask(path), error(7, outside()), "{path}");
    }
    // What it does after its response belongs to it.
    assert_eq!(ask("/later")["times"], 2);
    let key = format!(
        "/storage/kv/namespaces/{}/values/later",
        metadata["bindings"][0]["namespace_id"].as_str().unwrap()
    );
    // The write of the result is over the limit, too: it never comes.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(serve.call("GET", &key, None).status, 404);
    assert_eq!(serve.output().matches("skep-internal:").count(), 0, "{}", serve.output());
}

const PARALLEL: &str = r#"
export default {
  async fetch(request, env, ctx) {
    const to = new URL(request.url).searchParams.get("to");
    const order = [];
    const all = Array.from({ length: 20 }, (_, n) => fetch(to).then((response) => { order.push(n); return response.text(); }));
    const texts = await Promise.all(all);
    return Response.json({ most: Math.max(...texts.map(Number)), least: Math.min(...texts.map(Number)), count: order.length });
  },
};
"#;

#[test]
fn six_requests_wait_for_their_answer_at_once_and_the_others_for_their_turn() {
    let serve = node();
    // Answers each request with how many are in it, after a moment.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("http://{}", listener.local_addr().unwrap());
    let inside = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for mut visitor in listener.incoming().flatten() {
            let inside = inside.clone();
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                while visitor.read(&mut head).is_ok_and(|read| read > 0) {
                    let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                    std::thread::sleep(std::time::Duration::from_millis(100));
                    inside.fetch_sub(1, Ordering::SeqCst);
                    let text = now.to_string();
                    let length = text.len();
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}");
                    if visitor.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    assert_eq!(serve.upload("parallel", &metadata, PARALLEL).status, 200);
    let said = serve.get("parallel.main.localhost", &format!("/?to={to}")).json();
    assert_eq!((&said["count"], &said["most"]), (&json!(20), &json!(6)), "{said}");
}

const LISTENS: &str = r#"
const often = async (what) => {
  let times = 0;
  for (; times < 20; times++) {
    try { await what(times); } catch ({ name, message }) { return { times, name, message }; }
  }
  return { times };
};
// A name that is no text yet, and no other the first time.
let asked = 0;
addEventListener({ toString: () => (asked++ === 0 ? "fetch" : "none") }, (event) => event.respondWith((async () => {
  const url = new URL(event.request.url);
  const to = url.searchParams.get("to");
  const work = {
    "/fetch": () => fetch(to), "/service": () => SELF.fetch("http://self/nothing"), "/kv": () => KV.get("k"),
    "/cache": (n) => caches.default.match("http://cached.example/" + n), "/socket": () => new WebSocket(to.replace("http", "ws")).addEventListener("error", () => {}),
  }[url.pathname];
  return new Response(JSON.stringify(work ? await often(work) : Object.keys(globalThis).filter((name) => name.includes("skep"))));
})()));
"#;

#[test]
fn scripts_in_service_worker_syntax_are_counted_as_others_are() {
    let serve = node();
    let (to, _) = counting();
    let metadata = json!({
        "compatibility_date": "2026-07-01", "limits": { "subrequests": 7 },
        "bindings": [kv(&serve), { "type": "service", "name": "SELF", "service": "listens" }],
    });
    let answer = serve.upload_service_worker("listens", &metadata, LISTENS);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let ask = |path: &str| serve.get("listens.main.localhost", &format!("{path}?to={to}")).json();
    for _ in 0..2 {
        for path in ["/fetch", "/cache", "/socket"] {
            assert_eq!(ask(path), json!({ "times": 7, "name": "Error", "message": outside() }), "{path}");
        }
        for path in ["/service", "/kv"] {
            assert_eq!(ask(path), json!({ "times": 7, "name": "Error", "message": own() }), "{path}");
        }
    }
    assert_eq!(ask("/"), json!([]), "what we count by is not to be seen");
}

#[test]
fn a_dispatcher_says_how_many_requests_a_call_may_make() {
    let serve = node();
    let (to, _) = counting();
    serve.make_namespace("tenants");
    let tenant = r#"import { WorkerEntrypoint } from "cloudflare:workers";
    export default class extends WorkerEntrypoint {
        async work(to) { for (let n = 0; n < 20; n++) await fetch(to); return "all"; }
        async fetch(request) {
            const seen = [...request.headers.keys()].filter((name) => name.startsWith("x-skep"));
            if (new URL(request.url).pathname === "/seen") return Response.json(seen);
            return new Response(await this.work(new URL(request.url).searchParams.get("to")));
        }
    }"#;
    let dir = serve.project(
        "tenant",
        &[
            ("index.js", tenant),
            (
                "wrangler.jsonc",
                &json!({ "name": "tenant", "main": "index.js", "compatibility_date": "2026-07-01" })
                    .to_string(),
            ),
        ],
    );
    serve.wrangler(&dir, &["deploy", "--dispatch-namespace", "tenants"]);
    let dispatcher = r#"export default { async fetch(request, env) {
        const url = new URL(request.url);
        const limits = url.searchParams.has("most") ? { subRequests: Number(url.searchParams.get("most")) } : undefined;
        const tenant = env.DISPATCHER.get("tenant", {}, { limits });
        try {
            if (url.pathname === "/call") return new Response(await tenant.work(url.searchParams.get("to")));
            request = new Request(request);
            request.headers.set("x-skep-subrequests", "1");
            return await tenant.fetch(request);
        } catch ({ name, message }) {
            return Response.json({ name, message }, { status: 500 });
        }
    } };"#;
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "type": "dispatch_namespace", "name": "DISPATCHER", "namespace": "tenants" }],
    });
    let answer = serve.upload("dispatcher", &metadata, dispatcher);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let ask = |path: &str| serve.get("dispatcher.main.localhost", &format!("{path}&to={to}"));
    let over = json!({ "name": "Error", "message": outside() });
    for path in ["/?", "/call?"] {
        assert_eq!(ask(path).text(), "all", "{path}");
        assert_eq!(ask(&format!("{path}most=20")).text(), "all", "{path}");
        assert_eq!(ask(&format!("{path}most=19")).json(), over, "{path}");
        assert_eq!(ask(&format!("{path}most=0")).json(), over, "{path}");
    }
    assert_eq!(ask("/seen?most=3").json(), json!([]));
}
