//! Logs that `skep serve` keeps, and questions about them.

use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::serve::{Serve, serve, serve_in};

const CODE: &str = r#"
import { WorkerEntrypoint } from "cloudflare:workers";
export class Api extends WorkerEntrypoint { async add(a, b) { console.log("adding"); return a + b; } }
export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    console.log("hello", { a: 1 });
    console.warn({ user_id: 123, path: url.pathname });
    if (url.pathname === "/boom") throw new TypeError("boom");
    return new Response("ok", { status: url.pathname === "/teapot" ? 418 : 200 });
  },
  async scheduled() { console.log("tick"); },
  async queue(batch) { console.log("got", batch.messages.length); },
};"#;

fn upload(serve: &Serve, script: &str, observability: Value) {
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01", "observability": observability,
    });
    let answer = serve.upload(script, &metadata, CODE);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn ask(serve: &Serve, what: &str, body: &Value) -> Value {
    let answer = serve.call("POST", &format!("/workers/observability/telemetry/{what}"), Some(body));
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    answer.json()["result"].clone()
}

fn query(serve: &Serve, more: Value) -> Value {
    let mut body = json!({ "queryId": "test", "timeframe": { "from": 0, "to": 8_000_000_000_000_u64 }, "parameters": {} });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    ask(serve, "query", &body)
}

fn events(serve: &Serve, filters: Value) -> Vec<Value> {
    let found = query(serve, json!({ "parameters": { "filters": filters } }));
    found["events"]["events"].as_array().unwrap().clone()
}

fn is(key: &str, value: &str) -> Value {
    json!({ "key": key, "operation": "eq", "type": "string", "value": value })
}

/// Cells report what they did after they have answered.
fn after(serve: &Serve, filters: Value, count: usize) -> Vec<Value> {
    eventually("events", || Some(events(serve, filters.clone())).filter(|found| found.len() == count))
}

#[test]
fn invocations_console_lines_and_exceptions_are_kept_and_found() {
    let serve = serve();
    upload(&serve, "loud", json!({ "enabled": true }));
    upload(&serve, "silent", json!({ "enabled": false }));
    for (path, status) in [("/", 200), ("/teapot?x=1", 418), ("/boom", 500)] {
        assert_eq!(serve.get("loud.main.localhost", path).status, status);
        serve.get("silent.main.localhost", path);
    }
    let all = after(&serve, json!([is("$metadata.service", "loud")]), 10);
    assert!(events(&serve, json!([])).iter().all(|event| event["$workers"]["scriptName"] == "loud"));
    let times: Vec<u64> = all.iter().map(|event| event["timestamp"].as_u64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "the newest are first: {times:?}");

    let thrown = events(
        &serve,
        json!([{ "key": "$metadata.error", "operation": "includes", "type": "string", "value": "TypeError" }]),
    );
    assert_eq!(thrown[0]["source"]["message"], "TypeError: boom");
    let stack = thrown[0]["source"]["exception"]["stack"].as_str().unwrap();
    assert!(stack.contains("index.js") && !stack.contains("skep"), "{stack}");
    assert_eq!(thrown[0]["$workers"]["outcome"], "exception");

    let teapot = events(
        &serve,
        json!([{ "key": "$metadata.statusCode", "operation": "gte", "type": "number", "value": 400 },
        { "key": "$metadata.statusCode", "operation": "lt", "type": "number", "value": 500 }]),
    );
    let [teapot] = &teapot[..] else { panic!("{teapot:#?}") };
    assert_eq!(
        (&teapot["$metadata"]["type"], &teapot["$metadata"]["trigger"]),
        (&json!("cf-worker-event"), &json!("GET /teapot"))
    );
    let request = &teapot["$workers"]["event"]["request"];
    assert_eq!((&request["search"]["x"], &request["method"]), (&json!("1"), &json!("GET")));
    assert!(teapot["$workers"]["wallTimeMs"].as_f64().is_some(), "{teapot}");

    let found =
        query(&serve, json!({ "view": "invocations", "parameters": { "filters": [is("path", "/boom")] } }));
    let invocations = found["invocations"].as_object().unwrap();
    let (request, own) = invocations.iter().next().unwrap();
    assert_eq!((invocations.len(), own.as_array().unwrap().len(), request.len()), (1, 4, 16));

    let found = query(
        &serve,
        json!({ "view": "calculations", "parameters": {
        "filters": [is("$metadata.type", "cf-worker-event")],
        "calculations": [{ "operator": "count", "alias": "n" }, { "operator": "max", "key": "$metadata.statusCode" }],
        "groupBys": [{ "type": "string", "value": "$workers.outcome" }],
    } }),
    );
    let groups: Vec<_> = found["calculations"][0]["aggregates"].as_array().unwrap().iter().collect();
    assert_eq!((&groups[0]["value"], &groups[0]["groups"][0]["value"]), (&json!(2.0), &json!("ok")));
    assert_eq!((&groups[1]["value"], &groups[1]["groups"][0]["value"]), (&json!(1.0), &json!("exception")));
    assert_eq!(found["calculations"][1]["aggregates"][0]["value"], 418.0);
    assert_eq!(found["statistics"]["rows_read"], 20);

    let keys = ask(&serve, "keys", &json!({ "keyNeedle": { "value": "USER_" } }));
    assert_eq!((&keys[0]["key"], &keys[0]["type"]), (&json!("user_id"), &json!("number")));
    let values = ask(
        &serve,
        "values",
        &json!({
            "datasets": [], "key": "path", "type": "string", "timeframe": { "from": 0, "to": 8_000_000_000_000_u64 },
        }),
    );
    let values: Vec<_> =
        values.as_array().unwrap().iter().map(|value| value["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["/boom", "/teapot", "/"]);

    // A page after the other gives what one page gives.
    let (mut paged, mut offset) = (Vec::new(), String::new());
    loop {
        let page = query(&serve, json!({ "limit": 3, "offset": offset }));
        assert_eq!(page["events"]["count"], 10);
        let Some(last) = page["events"]["events"].as_array().unwrap().last() else { break };
        offset = last["$metadata"]["id"].as_str().unwrap().to_owned();
        paged.extend(page["events"]["events"].as_array().unwrap().clone());
    }
    assert_eq!(paged, all);
    let back =
        query(&serve, json!({ "limit": 2, "offset": all[5]["$metadata"]["id"], "offsetDirection": "prev" }));
    assert_eq!(back["events"]["events"], json!([all[3], all[4]]));
}

#[test]
fn queues_and_crons_are_events_too_and_logs_outlive_a_restart() {
    let serve = serve();
    upload(&serve, "worker", json!({ "enabled": true, "logs": { "invocation_logs": true } }));
    let queue = serve.call("POST", "/queues", Some(&json!({ "queue_name": "letters" }))).json();
    let path = format!("/queues/{}", queue["result"]["queue_id"].as_str().unwrap());
    let consumer =
        json!({ "type": "worker", "script_name": "worker", "settings": { "max_wait_time_ms": 0 } });
    assert_eq!(serve.call("POST", &format!("{path}/consumers"), Some(&consumer)).status, 200);
    let message = json!({ "body": "x", "content_type": "text" });
    assert_eq!(serve.call("POST", &format!("{path}/messages"), Some(&message)).status, 200);
    let batch = after(&serve, json!([is("$workers.eventType", "queue")]), 2);
    assert_eq!(batch[0]["source"]["message"], "got 1");
    assert_eq!(
        (&batch[1]["$metadata"]["message"], &batch[1]["$workers"]["event"]["batchSize"]),
        (&json!("letters"), &json!(1))
    );
    let dir = serve.stop("TERM");
    let serve = serve_in(dir, &[]);
    assert_eq!(events(&serve, json!([])), batch);
}

#[test]
fn what_is_switched_off_is_not_kept_and_a_change_takes_effect_at_once() {
    let serve = serve();
    upload(&serve, "loud", json!({ "enabled": true, "logs": { "enabled": true, "invocation_logs": false } }));
    assert_eq!(serve.get("loud.main.localhost", "/").status, 200);
    after(&serve, json!([]), 2);
    let cells = serve.cells();
    let patch = |body: Value| serve.call("PATCH", "/workers/scripts/loud/script-settings", Some(&body));
    assert_eq!(patch(json!({ "logpush": false })).status, 200);
    assert_eq!(serve.cells(), cells, "what changes nothing of this starts nothing anew");
    assert_eq!(patch(json!({ "observability": { "enabled": false } })).status, 200);
    assert_eq!(serve.get("loud.main.localhost", "/").status, 200);
    assert_eq!(patch(json!({ "observability": { "enabled": true, "head_sampling_rate": 1 } })).status, 200);
    assert_eq!(serve.get("loud.main.localhost", "/last").status, 200);
    let all = after(&serve, json!([]), 5);
    assert_eq!(all.iter().filter(|event| event["$metadata"]["trigger"] == "GET /last").count(), 3);
    for (wrong, said) in [
        (json!({ "head_sampling_rate": 2 }), "head_sampling_rate"),
        (json!({ "logs": { "destinations": ["x"] } }), "observability.logs.destinations is not supported"),
    ] {
        let answer = patch(json!({ "observability": wrong }));
        assert_eq!((answer.status, answer.text().contains(said)), (400, true), "{}", answer.text());
    }
}

#[test]
fn questions_that_cannot_be_answered_are_refused_by_name() {
    let serve = serve();
    let frame = json!({ "from": 0, "to": 1 });
    for (body, said) in [
        (
            json!({ "queryId": "q", "timeframe": frame, "parameters": {}, "view": "traces" }),
            "\\\"traces\\\" is not supported",
        ),
        (json!({ "queryId": "q", "timeframe": frame }), "queries cannot be saved"),
        (
            json!({ "queryId": "q", "timeframe": frame, "parameters": { "filters": [{ "key": "k", "operation": "like", "type": "string" }] } }),
            "operation",
        ),
        (json!({ "queryId": "q", "timeframe": { "from": 1, "to": 1 }, "parameters": {} }), "before"),
    ] {
        let answer = serve.call("POST", "/workers/observability/telemetry/query", Some(&body));
        assert_eq!((answer.status, answer.text().contains(said)), (400, true), "{body}: {}", answer.text());
    }
    let log = serve.call("GET", "/audit_logs", None).text();
    assert!(!log.contains("telemetry"), "questions are no changes: {log}");
}
