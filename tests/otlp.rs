//! `--otlp-endpoint` against a collector that decodes what comes with the official messages.

mod calls;
mod collector;

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use self::collector::collector;
use crate::harness::serve::{Serve, serve_in};
use crate::harness::{eventually, python};

const CODE: &str = r#"export default {
  async fetch(request) {
    console.log("hello", 1);
    const { pathname } = new URL(request.url);
    if (pathname === "/boom") throw new TypeError("boom");
    return Response.json({ traceparent: request.headers.get("traceparent"), tracestate: request.headers.get("tracestate") });
  },
  queue() {},
};"#;

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
