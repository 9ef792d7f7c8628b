//! Calls of scripts in the traces of the requests that they are made for.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use super::collector::collector;
use super::{PARENT, SPANS, TRACE, of, tools};
use crate::harness::eventually;
use crate::harness::serve::{FORM, Serve, form, serve_in};

const CALLS: &str = r#"
import { DurableObject, WorkerEntrypoint, tracing } from "cloudflare:workers";
export class Named extends WorkerEntrypoint { add(a, b) { return a + b; } }
export class Room extends DurableObject {
  async hi() { await this.ctx.storage.put("a", 1); return "hi"; }
  async later() { await this.ctx.storage.setAlarm(Date.now() + 100); }
  async alarm() { await this.env.KV.get("in-alarm"); }
}
export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    const room = env.ROOM.get(env.ROOM.idFromName("a"));
    if (url.pathname === "/alarm") { await room.later(); return new Response("set"); }
    await env.KV.put("k", "v");
    await env.KV.get("k");
    await env.BUCKET.head("x");
    await env.DB.prepare("SELECT 1").all();
    await env.QUEUE.send("x");
    env.DATA.writeDataPoint({ blobs: ["a"] });
    await env.LIMIT.limit({ key: "a" });
    await env.NAMED.add(1, 2);
    await room.hi();
    await (await fetch(url.searchParams.get("to") + "/gone?secret=1")).text();
    await caches.default.match("http://cached.example/");
    await tracing.enterSpan("own", async (span) => { span.setAttribute("n", 7); await env.KV.get("inner"); });
    ctx.waitUntil(scheduler.wait(50).then(() => env.KV.get("after")));
    return new Response("called");
  },
  async queue(batch, env) { await env.KV.get("in-queue"); },
};
"#;

/// Answers everything with 404.
fn nothing_there() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                while stream.read(&mut head).is_ok_and(|read| read > 0) {
                    if stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

/// A script with all that can be traced, called `calls`, and one that is the same but for its settings, called `quiet`.
fn deploy_calls(serve: &Serve) {
    let kv = serve.call("POST", "/storage/kv/namespaces", Some(&json!({ "title": "kept" }))).json();
    let d1 = serve.call("POST", "/d1/database", Some(&json!({ "name": "db" }))).json();
    let queue = serve.call("POST", "/queues", Some(&json!({ "queue_name": "jobs" }))).json();
    serve.call("POST", "/r2/buckets", Some(&json!({ "name": "bucket" })));
    for (script, observability) in
        [("calls", json!({ "traces": { "enabled": true } })), ("quiet", json!({ "enabled": false }))]
    {
        let metadata = json!({
            "main_module": "index.js", "compatibility_date": "2026-07-01", "observability": observability,
            "migrations": { "new_tag": "v1", "new_sqlite_classes": ["Room"] },
            "bindings": [
                { "type": "kv_namespace", "name": "KV", "namespace_id": kv["result"]["id"] },
                { "type": "d1", "name": "DB", "id": d1["result"]["uuid"] },
                { "type": "queue", "name": "QUEUE", "queue_name": "jobs" },
                { "type": "r2_bucket", "name": "BUCKET", "bucket_name": "bucket" },
                { "type": "analytics_engine", "name": "DATA", "dataset": "data" },
                { "type": "ratelimit", "name": "LIMIT", "namespace_id": "1", "simple": { "limit": 10, "period": 60 } },
                { "type": "service", "name": "NAMED", "service": script, "entrypoint": "Named" },
                { "type": "durable_object_namespace", "name": "ROOM", "class_name": "Room" },
            ],
        });
        let answer = serve.upload(script, &metadata, CALLS);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let consumers = format!("/queues/{}/consumers", queue["result"]["queue_id"].as_str().unwrap());
    let consumer = json!({ "type": "worker", "script_name": "calls", "settings": { "max_wait_time_ms": 100, "batch_size": 1 } });
    let answer = serve.call("POST", &consumers, Some(&consumer));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn what_a_traced_script_calls_is_in_its_trace() {
    let Some(python) = tools() else { return };
    let collector = collector();
    let args = ["--otlp-endpoint", &collector.url, "--egress-allow", "127.0.0.1/32"];
    let serve = serve_in(tempfile::tempdir().unwrap(), &args);
    let dir = tempfile::tempdir().unwrap();
    let to = nothing_there();
    deploy_calls(&serve);
    let path = format!("/?to={to}");
    let quiet = PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0af7651916cd43dd8448eb211c80319d");
    let get = |host: &str, path: &str, parent: &str| {
        let answer = serve.send("GET", host, path, &[("traceparent", parent)], None);
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    get("quiet.main.localhost", &path, &quiet);
    get("calls.main.localhost", &path, &PARENT.replace("-01", "-00"));
    get("calls.main.localhost", &path, PARENT);
    get("calls.main.localhost", "/alarm", PARENT);

    let key = |span: &Value, wanted: &str| {
        span["name"] == "kv_get" && of(span, "cloudflare.kv.query.keys") == wanted
    };
    let spans = eventually("spans", || {
        let spans = collector.all(&python, dir.path(), "traces", SPANS);
        let has = |wanted: &str| spans.iter().any(|(_, span)| key(span, wanted));
        ["after", "in-queue", "in-alarm"].into_iter().all(has).then_some(spans)
    });
    let in_trace: Vec<&Value> =
        spans.iter().map(|(_, span)| span).filter(|span| span["traceId"] == TRACE).collect();
    let server = in_trace
        .iter()
        .find(|span| span["kind"] == "SPAN_KIND_SERVER" && of(span, "url.path") == "/")
        .unwrap();
    let below = |parent: &Value, name: &str| -> Vec<&Value> {
        let own =
            in_trace.iter().filter(|span| span["parentSpanId"] == parent["spanId"] && span["name"] == name);
        own.copied().collect()
    };
    for (name, times, kind) in [
        ("kv_put", 1, "CLIENT"),
        ("kv_get", 2, "CLIENT"),
        ("r2_head", 1, "CLIENT"),
        ("d1_all", 1, "CLIENT"),
        ("queue_send", 1, "PRODUCER"),
        ("wae_writeDataPoint", 1, "CLIENT"),
        ("ratelimit_run", 1, "CLIENT"),
        ("cache_match", 1, "CLIENT"),
        ("fetch", 1, "CLIENT"),
        ("own", 1, "INTERNAL"),
    ] {
        let found = below(server, name);
        assert_eq!(found.len(), times, "{name}: {in_trace:#?}");
        assert!(found.iter().all(|span| span["kind"] == format!("SPAN_KIND_{kind}")), "{name}: {found:#?}");
    }
    let get = below(server, "kv_get");
    assert!(get.iter().any(|span| of(span, "cloudflare.binding.name") == "KV" && key(span, "k")), "{get:#?}");
    assert_eq!(of(below(server, "d1_all")[0], "db.query.text"), "SELECT 1");
    let fetch = below(server, "fetch")[0];
    assert_eq!((of(fetch, "server.address"), of(fetch, "url.path")), (&json!("127.0.0.1"), &json!("/gone")));
    assert_eq!(
        (of(fetch, "http.response.status_code"), &fetch["status"]["code"]),
        (&json!("404"), &json!("STATUS_CODE_ERROR"))
    );
    assert!(!json!(in_trace).to_string().contains("secret"));
    let own = below(server, "own")[0];
    assert_eq!(of(own, "n").to_string().trim_matches('"').parse::<f64>().ok(), Some(7.0), "{own:#?}");
    assert!(key(below(own, "kv_get")[0], "inner"));
    // An object and an entrypoint are below what called them, and what they do is below them.
    let called = |entrypoint: &str| {
        let found = in_trace
            .iter()
            .find(|span| span["name"] == "jsrpc" && of(span, "cloudflare.entrypoint") == entrypoint);
        let found = found.unwrap_or_else(|| panic!("{entrypoint}: {in_trace:#?}"));
        assert!(in_trace.iter().any(|span| span["spanId"] == found["parentSpanId"]), "{found:#?}");
        *found
    };
    assert_eq!(of(called("Named"), "cloudflare.jsrpc.method"), "add");
    let room = called("Room");
    assert_eq!(of(room, "cloudflare.execution_model"), "stateful");
    assert!(in_trace.iter().any(|span| span["name"] == "durable_object_storage_put"), "{in_trace:#?}");

    // What begins by itself has a trace of its own.
    for (wanted, name) in [("in-queue", "queue"), ("in-alarm", "alarm")] {
        let (_, inner) = spans.iter().find(|(_, span)| key(span, wanted)).unwrap();
        let root = spans.iter().find(|(_, span)| span["spanId"] == inner["parentSpanId"]);
        let (resource, root) = root.unwrap_or_else(|| panic!("{wanted}: {spans:#?}"));
        assert_eq!((&root["name"], of(resource, "service.name")), (&json!(name), &json!("calls")));
        assert_eq!((&root["parentSpanId"], &root["traceId"]), (&Value::Null, &inner["traceId"]));
    }
    // A script that does not ask for it has the spans of its requests only.
    let quiet = spans.iter().filter(|(resource, _)| of(resource, "service.name") == "quiet");
    let names: Vec<_> = quiet.map(|(_, span)| span["name"].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| ["GET", "call the cell", "wait for a cell"].contains(name)), "{names:?}");
}

#[test]
fn a_script_that_another_one_calls_is_in_its_trace() {
    let Some(python) = tools() else { return };
    let collector = collector();
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--otlp-endpoint", &collector.url]);
    let dir = tempfile::tempdir().unwrap();
    let upload = |script: &str, bindings: Value, code: &str| {
        let mut metadata = json!({
            "main_module": "index.js", "compatibility_date": "2026-07-01", "bindings": bindings,
            "observability": { "traces": { "enabled": true } },
        });
        if script == "called" {
            metadata["migrations"] = json!({ "new_tag": "v1", "new_sqlite_classes": ["Room"] });
        }
        let answer = serve.upload(script, &metadata, code);
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let kv = serve.call("POST", "/storage/kv/namespaces", Some(&json!({ "title": "kept" }))).json();
    upload(
        "called",
        json!([{ "type": "kv_namespace", "name": "KV", "namespace_id": kv["result"]["id"] }]),
        r#"import { DurableObject, WorkerEntrypoint } from "cloudflare:workers";
        export class Room extends DurableObject { enter() { return "entered"; } }
        export default class extends WorkerEntrypoint {
            async work() { await this.env.KV.get("k"); return "worked"; }
            async fetch(request) { return new Response("fetched" + request.method + await request.text()); }
        }"#,
    );
    upload(
        "caller",
        json!([
            { "type": "service", "name": "CALLED", "service": "called" },
            { "type": "durable_object_namespace", "name": "ROOM", "class_name": "Room", "script_name": "called" },
        ]),
        r#"export default { async fetch(request, env) {
            const worked = await env.CALLED.work();
            const entered = await env.ROOM.get(env.ROOM.idFromName("a")).enter();
            return new Response(worked + entered + await (await env.CALLED.fetch("http://called/", { method: "PUT", body: "x" })).text());
        } };"#,
    );
    let answer = serve.send("GET", "caller.main.localhost", "/x", &[("traceparent", PARENT)], None);
    assert_eq!(answer.text(), "workedenteredfetchedPUTx");
    let (asked, calls, method, get, fetched, entered) = eventually("spans of both", || {
        let spans = collector.all(&python, dir.path(), "traces", SPANS);
        let of_service = |service: &str, name: &str| -> Vec<Value> {
            let own = spans
                .iter()
                .filter(|(resource, span)| of(resource, "service.name") == service && span["name"] == name);
            own.map(|(_, span)| span.clone()).collect()
        };
        let one = |service: &str, name: &str| of_service(service, name).into_iter().next();
        let methods = of_service("called", "jsrpc");
        let method =
            |name: &str| methods.iter().find(|span| of(span, "cloudflare.jsrpc.method") == name).cloned();
        Some((
            one("caller", "GET")?,
            of_service("caller", "jsRpcCall"),
            method("work")?,
            one("called", "kv_get")?,
            one("called", "PUT")?,
            method("enter")?,
        ))
    });
    let all = [&asked, &method, &get, &fetched, &entered];
    assert!(all.iter().all(|span| span["traceId"] == TRACE), "{all:#?}");
    assert_eq!(fetched["parentSpanId"], asked["spanId"]);
    // Each is below a call of the caller's, the object's not below what passes calls on.
    for called in [&method, &entered] {
        assert!(calls.iter().any(|call| call["spanId"] == called["parentSpanId"]), "{called:#?} {calls:#?}");
    }
    assert_eq!(of(&entered, "cloudflare.entrypoint"), "Room");
}

#[test]
fn a_script_behind_a_dispatcher_is_in_the_trace_of_the_request_that_it_gets() {
    let Some(python) = tools() else { return };
    let collector = collector();
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--otlp-endpoint", &collector.url]);
    let dir = tempfile::tempdir().unwrap();
    serve.make_namespace("tenants");
    let traces = json!({ "traces": { "enabled": true } });
    let metadata =
        json!({ "main_module": "index.js", "compatibility_date": "2026-07-01", "observability": traces });
    let tenant = r#"import { WorkerEntrypoint } from "cloudflare:workers";
    export default class extends WorkerEntrypoint { fetch() { return new Response("tenant"); } work() { return "worked"; } }"#;
    let path = "/workers/dispatch/namespaces/tenants/scripts/tenant";
    let form = form(&metadata, &[("index.js", tenant)]);
    let answer = serve.own_call("PUT", path, &[("content-type", FORM)], Some(&form));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01", "observability": traces,
        "bindings": [{ "type": "dispatch_namespace", "name": "DISPATCHER", "namespace": "tenants" }],
    });
    let code = r#"export default { async fetch(request, env) {
        const tenant = env.DISPATCHER.get("tenant");
        return new Response(await tenant.work() + await (await tenant.fetch(request)).text());
    } };"#;
    assert_eq!(serve.upload("dispatcher", &metadata, code).status, 200);
    let answer = serve.send("GET", "dispatcher.main.localhost", "/x", &[("traceparent", PARENT)], None);
    assert_eq!(answer.text(), "workedtenant");
    let of_service = |spans: &[(Value, Value)], name: &str, service: &str| {
        let found = spans
            .iter()
            .find(|(resource, span)| span["name"] == name && of(resource, "service.name") == service);
        found.map(|(_, span)| span.clone())
    };
    let (asked, tenant, get, worked, call) = eventually("spans", || {
        let spans = collector.all(&python, dir.path(), "traces", SPANS);
        Some((
            of_service(&spans, "GET", "dispatcher")?,
            of_service(&spans, "GET", "tenant")?,
            of_service(&spans, "wfp_get", "dispatcher")?,
            of_service(&spans, "jsrpc", "tenant")?,
            of_service(&spans, "jsRpcCall", "dispatcher")?,
        ))
    });
    assert_eq!(
        (&worked["parentSpanId"], of(&worked, "cloudflare.jsrpc.method")),
        (&call["spanId"], &json!("work"))
    );
    assert!([&asked, &tenant, &get, &worked].iter().all(|span| span["traceId"] == TRACE));
    assert_eq!((&tenant["parentSpanId"], &get["parentSpanId"]), (&asked["spanId"], &asked["spanId"]));
    assert_eq!(
        (of(&tenant, "http.response.status_code"), of(&tenant, "url.path")),
        (&json!("200"), &json!("/x"))
    );
}
