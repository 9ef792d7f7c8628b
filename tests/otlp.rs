//! `--otlp-endpoint` against a collector that decodes what comes with the official messages.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::serve::{FORM, Serve, form, serve_in};
use crate::harness::{eventually, python, repository};

const CODE: &str = r#"export default {
  async fetch(request) {
    console.log("hello", 1);
    const { pathname } = new URL(request.url);
    if (pathname === "/boom") throw new TypeError("boom");
    return Response.json({ traceparent: request.headers.get("traceparent"), tracestate: request.headers.get("tracestate") });
  },
  queue() {},
};"#;

/// What was taken: path, content type and body of each request.
type Seen = Mutex<Vec<(String, String, Vec<u8>)>>;

/// Takes OTLP requests; while it is busy it says when to come again.
struct Collector {
    url: String,
    seen: Arc<Seen>,
    busy: Arc<AtomicBool>,
}

fn collector() -> Collector {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = Collector {
        url: format!("http://{}", listener.local_addr().unwrap()),
        seen: Arc::default(),
        busy: Arc::default(),
    };
    let (seen, busy) = (collector.seen.clone(), collector.busy.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (seen, busy) = (seen.clone(), busy.clone());
            std::thread::spawn(move || while take(&stream, &seen, &busy).is_some() {});
        }
    });
    collector
}

/// One request of a connection.
fn take(mut stream: &TcpStream, seen: &Seen, busy: &AtomicBool) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    if busy.load(Ordering::Relaxed) {
        stream.write_all(b"HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n").ok()?;
        return Some(());
    }
    assert!(head.to_lowercase().contains("content-type: application/x-protobuf"), "{head}");
    let path = head.split(' ').nth(1).unwrap().to_owned();
    seen.lock().unwrap().push((path, head, body));
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")
        .ok()
}

impl Collector {
    /// What came of a signal, decoded.
    fn decoded(&self, python: &Path, dir: &Path, signal: &str) -> Vec<Value> {
        let bodies: Vec<Vec<u8>> = {
            let seen = self.seen.lock().unwrap();
            seen.iter()
                .filter(|(path, ..)| *path == format!("/v1/{signal}"))
                .map(|(.., body)| body.clone())
                .collect()
        };
        let mut command = Command::new(python);
        command.arg(repository().join("tests/otlp/decode.py"));
        for (n, body) in bodies.iter().enumerate() {
            let file = dir.join(format!("{signal}-{n}.bin"));
            std::fs::write(&file, body).unwrap();
            command.arg(format!("{signal}={}", file.display()));
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Spans, log records or metrics with the resource they are of.
    fn all(
        &self,
        python: &Path,
        dir: &Path,
        signal: &str,
        [resources, scopes, items]: [&str; 3],
    ) -> Vec<(Value, Value)> {
        let mut all = Vec::new();
        for request in self.decoded(python, dir, signal) {
            for resource in request[resources].as_array().into_iter().flatten() {
                for scope in resource[scopes].as_array().into_iter().flatten() {
                    let items = scope[items].as_array().into_iter().flatten();
                    all.extend(items.map(|item| (resource["resource"].clone(), item.clone())));
                }
            }
        }
        all
    }
}

/// An attribute's value.
fn of<'a>(item: &'a Value, key: &str) -> &'a Value {
    let attributes = item["attributes"].as_array().into_iter().flatten();
    let found = attributes.into_iter().find(|attribute| attribute["key"] == key);
    found.and_then(|attribute| attribute["value"].as_object()?.values().next()).unwrap_or(&Value::Null)
}

fn tools() -> Option<PathBuf> {
    let packages = ["opentelemetry-proto==1.45.2"];
    python::with(
        "opentelemetry-proto-1.45.2",
        &packages,
        "opentelemetry.proto.collector.trace.v1.trace_service_pb2",
    )
}

fn upload(serve: &Serve, script: &str, observability: Value) {
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01", "observability": observability });
    let answer = serve.upload(script, &metadata, CODE);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

const SPANS: [&str; 3] = ["resourceSpans", "scopeSpans", "spans"];
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "CvdlGRbNQ92ESOshHIAxnA==";

#[test]
fn a_collector_gets_spans_log_records_and_metrics_that_belong_together() {
    let Some(python) = tools() else { return };
    let collector = collector();
    let serve = serve_in(
        tempfile::tempdir().unwrap(),
        &["--otlp-endpoint", &collector.url, "--metrics", "127.0.0.1:0"],
    );
    let dir = tempfile::tempdir().unwrap();
    upload(&serve, "loud", json!({ "enabled": true }));
    upload(&serve, "untraced", json!({ "traces": { "enabled": false } }));
    let get = |host: &str, path: &str, headers: &[(&str, &str)]| serve.send("GET", host, path, headers, None);
    let host = "loud.main.localhost";
    let answer = get(host, "/a?secret=1", &[("traceparent", PARENT), ("tracestate", "v=1")]);
    let told = answer.json()["traceparent"].as_str().unwrap().to_owned();
    assert!(told.starts_with(&PARENT[..36]) && told.ends_with("-01") && told != PARENT, "{told}");
    assert_eq!(answer.json()["tracestate"], "v=1");
    let unsampled = PARENT.replace("-01", "-00");
    assert_eq!(get(host, "/unsampled", &[("traceparent", &unsampled)]).json()["traceparent"], unsampled);
    assert_eq!(get(host, "/boom", &[]).status, 500);
    assert_eq!(get("untraced.main.localhost", "/", &[]).json()["traceparent"], Value::Null);

    let spans = eventually("spans", || {
        let spans = collector.all(&python, dir.path(), "traces", SPANS);
        Some(spans)
            .filter(|spans| spans.iter().filter(|(_, span)| span["kind"] == "SPAN_KIND_SERVER").count() >= 2)
    });
    let servers: Vec<_> = spans.iter().filter(|(_, span)| span["kind"] == "SPAN_KIND_SERVER").collect();
    assert_eq!(servers.len(), 2, "{spans:#?}");
    let (resource, first) = servers[0];
    assert_eq!((of(resource, "service.name"), &first["name"]), (&json!("loud"), &json!("GET")));
    assert_eq!((&first["traceId"], &first["traceState"]), (&json!(TRACE), &json!("v=1")));
    assert_eq!(first["parentSpanId"], "t61rcWkgMzE=");
    assert_eq!(
        (of(first, "url.path"), of(first, "http.response.status_code")),
        (&json!("/a"), &json!("200"))
    );
    assert_eq!(of(first, "server.address"), host);
    assert!(!first.to_string().contains("secret"));
    assert_eq!(of(first, "cloudflare.ray_id").as_str().unwrap().len(), 16);
    let number = |span: &Value, key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
    assert!(number(first, "endTimeUnixNano") > number(first, "startTimeUnixNano"));
    let below: Vec<_> = spans.iter().filter(|(_, span)| span["parentSpanId"] == first["spanId"]).collect();
    assert!(
        below.iter().any(|(_, span)| span["name"] == "call the cell" && span["traceId"] == TRACE),
        "{below:#?}"
    );
    let (_, boom) = servers[1];
    assert_eq!(
        (&boom["status"]["code"], of(boom, "error.type")),
        (&json!("STATUS_CODE_ERROR"), &json!("scriptThrewException"))
    );

    let records = eventually("log records", || {
        let records = collector.all(&python, dir.path(), "logs", ["resourceLogs", "scopeLogs", "logRecords"]);
        Some(records).filter(|records| records.len() >= 7)
    });
    let said: Vec<_> =
        records.iter().filter(|(_, record)| record["body"]["stringValue"] == "hello 1").collect();
    assert_eq!((said.len(), &said[0].1["severityNumber"]), (3, &json!("SEVERITY_NUMBER_INFO")));
    let (resource, in_span) = said
        .iter()
        .find(|(_, record)| record["traceId"] == TRACE && record["spanId"] == first["spanId"])
        .unwrap();
    assert_eq!((of(resource, "service.name"), of(in_span, "url.path")), (&json!("loud"), &json!("/a")));
    let thrown = records.iter().find(|(_, record)| of(record, "exception.type") == "TypeError").unwrap();
    assert_eq!(thrown.1["severityNumber"], "SEVERITY_NUMBER_ERROR");
    assert!(of(&thrown.1, "exception.stacktrace").as_str().unwrap().contains("index.js"));

    // Metrics go out when the node ends, whatever their interval.
    serve.stop("TERM");
    let metrics =
        collector.all(&python, dir.path(), "metrics", ["resourceMetrics", "scopeMetrics", "metrics"]);
    let metric = |name: &str| {
        &metrics
            .iter()
            .find(|(_, metric)| metric["name"] == name)
            .unwrap_or_else(|| panic!("{name}: {metrics:#?}"))
            .1
    };
    let requests = metric("skep_requests");
    assert_eq!(
        (&requests["sum"]["isMonotonic"], &requests["sum"]["aggregationTemporality"]),
        (&json!(true), &json!("AGGREGATION_TEMPORALITY_CUMULATIVE"))
    );
    let ok = requests["sum"]["dataPoints"]
        .as_array()
        .unwrap()
        .iter()
        .find(|point| of(point, "script") == "loud" && of(point, "outcome") == "success");
    assert_eq!(ok.unwrap()["asDouble"], 2.0);
    let duration = metric("skep_request_duration");
    assert_eq!(
        (
            &duration["unit"],
            duration["histogram"]["dataPoints"][0]["explicitBounds"].as_array().unwrap().len()
        ),
        (&json!("s"), 13)
    );
    assert!(metric("skep_storage")["gauge"]["dataPoints"].as_array().unwrap().len() > 3);
    assert!(metric("skep_script_cpu")["sum"]["dataPoints"][0]["asDouble"].as_f64().is_some());
}

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
    let made = serve.call("POST", "/workers/dispatch/namespaces", Some(&json!({ "name": "tenants" })));
    assert_eq!(made.status, 200, "{}", made.text());
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

#[test]
fn a_flood_of_spans_is_cut_and_keeps_nobody_from_being_served() {
    let Some(python) = tools() else { return };
    let collector = collector();
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--otlp-endpoint", &collector.url]);
    let dir = tempfile::tempdir().unwrap();
    upload(&serve, "loud", json!({ "enabled": false }));
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "observability": { "traces": { "enabled": true } },
    });
    let code = r#"import { tracing } from "cloudflare:workers";
    export default { async fetch() {
        const much = "x".repeat(6_000);
        for (let n = 0; n < 20_000; n++) {
            tracing.enterSpan("flood", (span) => { span.setAttribute("a", much); });
            if (n % 100 === 0) await scheduler.wait(1);
        }
        tracing.enterSpan("beyond", () => {});
        return new Response("flooded");
    } };"#;
    assert_eq!(serve.upload("floods", &metadata, code).status, 200);
    let before = serve.get("loud.main.localhost", "/").status;
    assert_eq!(serve.get("floods.main.localhost", "/").text(), "flooded");
    assert_eq!((before, serve.get("loud.main.localhost", "/").status), (200, 200));
    let floods = |spans: Vec<(Value, Value)>| -> Vec<Value> {
        let named = spans.into_iter().filter(|(_, span)| span["name"] == "flood" || span["name"] == "beyond");
        named.map(|(_, span)| span).collect()
    };
    let spans = eventually("spans", || {
        Some(floods(collector.all(&python, dir.path(), "traces", SPANS))).filter(|spans| spans.len() > 100)
    });
    assert!(spans.len() <= 10_000 && spans.iter().all(|span| span["name"] == "flood"));
    for span in &spans[..10] {
        let length = span.to_string().len();
        assert!((4096..6_000).contains(&length), "{length}");
    }
}

#[test]
fn a_collector_that_is_busy_or_gone_costs_no_request_and_is_told_later() {
    let collector = collector();
    collector.busy.store(true, Ordering::Relaxed);
    let serve = serve_in(
        tempfile::tempdir().unwrap(),
        &["--otlp-endpoint", &collector.url, "--metrics", "127.0.0.1:0"],
    );
    upload(&serve, "loud", json!({ "enabled": false }));
    for _ in 0..20 {
        assert_eq!(serve.get("loud.main.localhost", "/").status, 200);
    }
    eventually("a warning", || {
        serve.output().contains("a collector does not take what it is sent").then_some(())
    });
    collector.busy.store(false, Ordering::Relaxed);
    eventually("spans", || {
        let seen = collector.seen.lock().unwrap();
        seen.iter().any(|(path, ..)| path == "/v1/traces").then_some(())
    });
}

#[test]
fn what_the_environment_asks_for_and_is_not_there_is_refused() {
    let skep = env!("CARGO_BIN_EXE_skep");
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(skep)
        .args(["serve", "--data"])
        .arg(dir.path())
        .args(["--api", "127.0.0.1:0", "--http", "127.0.0.1:0", "--otlp-endpoint", "http://127.0.0.1:1"])
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("\"grpc\" is not supported"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}
