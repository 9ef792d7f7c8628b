//! From what the engine says of an invocation to events as Cloudflare's telemetry API has them. Pure.
//! <https://developers.cloudflare.com/workers/observability/logs/workers-logs/>

use serde_json::{Map, Value as Json, json};

use crate::DATASET;

/// A larger event is cut: Cloudflare's limit of a log.
pub const MAX_EVENT_BYTES: usize = 256 << 10;
/// What is left of a message that is too large.
const CUT: usize = 16 << 10;

/// An invocation, a line of the console or an exception.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The script.
    pub script: String,
    /// As the API shows it; `$metadata.id` is given when it is kept.
    pub body: Json,
}

/// The events of one invocation: itself, what it logged, what it threw. `item` is what a tail gets of it, `request` the
/// id that the events share where no request has one.
pub fn events_of(item: &Json, account: &str, request: &str, invocation: bool) -> Vec<Event> {
    let script = item["scriptName"].as_str().unwrap_or_default();
    let trigger = Trigger::of(item);
    let request_id = trigger.ray.as_deref().unwrap_or(request).to_owned();
    let started = item["eventTimestamp"].as_u64().unwrap_or_default();
    let make = |at: &Json, kind: &str, source: Json, own: Map<String, Json>, error: Option<&str>| {
        let at_ms = at.as_u64().unwrap_or(started);
        let message = message_of(&source);
        let mut metadata = json!({
            "requestId": request_id, "service": script, "account": account, "type": kind,
            "origin": trigger.kind, "trigger": trigger.text, "message": message,
        });
        if let Some(level) = source["level"].as_str() {
            metadata["level"] = level.into();
        }
        if let Some(error) = error {
            metadata["error"] = error.into();
        }
        if let Some(status) = item["event"]["response"]["status"].as_u64().filter(|_| kind == INVOCATION) {
            metadata["statusCode"] = status.into();
        }
        if let Some((trace, span)) = &trigger.trace {
            metadata["traceId"] = trace.clone().into();
            metadata["spanId"] = span.clone().into();
        }
        if let Some(url) = item["event"]["request"]["url"].as_str() {
            metadata["url"] = url.into();
        }
        let mut workers = json!({
            "scriptName": script, "eventType": trigger.kind, "requestId": request_id, "outcome": item["outcome"],
            "truncated": item["truncated"].as_bool().unwrap_or(false),
            "executionModel": item["executionModel"].as_str().unwrap_or("stateless"),
        });
        for key in ["entrypoint", "durableObjectId", "scriptVersion"] {
            if !item[key].is_null() {
                workers[key] = item[key].clone();
            }
        }
        if let Some(fields) = workers.as_object_mut() {
            fields.extend(own);
        }
        let mut body = json!({
            "dataset": DATASET, "timestamp": at_ms, "source": source, "$workers": workers, "$metadata": metadata,
        });
        cut(&mut body);
        Event { at_ms, script: script.to_owned(), body }
    };
    let brief = || Map::from_iter([("event".to_owned(), trigger.event(item, false))]);
    let mut events = Vec::new();
    // First: of one moment, the call came before what was said in it.
    if invocation {
        let failed =
            !matches!(item["outcome"].as_str(), Some("ok" | "canceled" | "responseStreamDisconnected"));
        let level = if failed { "error" } else { "info" };
        let source = json!({ "level": level, "message": trigger.message });
        let mut own = Map::from_iter([("event".to_owned(), trigger.event(item, true))]);
        for (ours, theirs) in [("wallTime", "wallTimeMs"), ("cpuTime", "cpuTimeMs")] {
            // The engine does not count the CPU time of an invocation, and says 0.
            if let Some(ms) = item[ours].as_f64().filter(|ms| *ms > 0.0 || ours == "wallTime") {
                own.insert(theirs.to_owned(), ms.into());
            }
        }
        if let Some(list) = item["diagnosticsChannelEvents"].as_array().filter(|list| !list.is_empty()) {
            own.insert("diagnosticsChannelEvents".to_owned(), list.clone().into());
        }
        let error = failed.then(|| trigger.message.clone());
        events.push(make(&item["eventTimestamp"], INVOCATION, source, own, error.as_deref()));
    }
    for log in item["logs"].as_array().into_iter().flatten() {
        let source = source_of(log);
        let failed = source["level"] == "error";
        let error = failed.then(|| message_of(&source));
        events.push(make(&log["timestamp"], LOG, source, brief(), error.as_deref()));
    }
    for exception in item["exceptions"].as_array().into_iter().flatten() {
        let text = |key: &str| exception[key].as_str().unwrap_or_default();
        let message = format!("{}: {}", text("name"), text("message"));
        let source = json!({ "level": "error", "message": message, "exception": exception });
        events.push(make(&exception["timestamp"], LOG, source, brief(), Some(&message)));
    }
    events
}

const LOG: &str = "cf-worker";
const INVOCATION: &str = "cf-worker-event";

/// What called the script.
struct Trigger {
    kind: &'static str,
    /// `GET /path`, a cron expression, the name of a queue, …
    text: String,
    /// The same as the message of the invocation: `GET https://host/path`
    message: String,
    ray: Option<String>,
    /// The trace and the span that its caller names.
    trace: Option<(String, String)>,
}

impl Trigger {
    fn of(item: &Json) -> Self {
        let event = &item["event"];
        let text = |key: &str| event[key].as_str().map(str::to_owned);
        let of = |kind, text: String| Self { kind, message: text.clone(), text, ray: None, trace: None };
        if event["request"].is_object() {
            let request = &event["request"];
            let (method, url) = (request["method"].as_str().unwrap_or_default(), request["url"].as_str());
            let url = url.unwrap_or_default();
            let ray = request["headers"]["cf-ray"]
                .as_str()
                .map(|ray| ray.split('-').next().unwrap_or(ray).to_owned());
            let (text, message) = (format!("{method} {}", path_of(url).0), format!("{method} {url}"));
            let trace = request["headers"]["traceparent"].as_str().and_then(trace_of);
            return Self { kind: "fetch", text, message, ray, trace };
        }
        if let Some(cron) = text("cron") {
            return of("cron", cron);
        }
        if let Some(queue) = text("queue") {
            return of("queue", queue);
        }
        if let Some(method) = text("rpcMethod") {
            return of("rpc", method);
        }
        if let Some(to) = text("rcptTo") {
            return of("email", to);
        }
        if !event["consumedEvents"].is_null() {
            return of("tail", "tail".into());
        }
        if let Some(kind) = event["getWebSocketEvent"]["webSocketEventType"].as_str() {
            return of("websocket", kind.to_owned());
        }
        if let Some(time) = text("scheduledTime") {
            return of("alarm", time);
        }
        of("unknown", "unknown".into())
    }

    /// What is kept of the trigger; of a request `whole` with its headers and `cf`.
    fn event(&self, item: &Json, whole: bool) -> Json {
        let event = &item["event"];
        if self.kind != "fetch" {
            return if event.is_object() { event.clone() } else { json!({}) };
        }
        let url = event["request"]["url"].as_str().unwrap_or_default();
        let (path, search) = path_of(url);
        let mut request = json!({ "url": url, "method": event["request"]["method"], "path": path });
        if !search.is_empty() {
            request["search"] = search.into();
        }
        if whole {
            request["headers"] = event["request"]["headers"].clone();
            if event["request"]["cf"].is_object() {
                request["cf"] = event["request"]["cf"].clone();
            }
        }
        let mut shown = json!({ "request": request });
        if event["response"].is_object() && whole {
            shown["response"] = event["response"].clone();
        }
        if let Some(ray) = self.ray.as_ref().filter(|_| whole) {
            shown["rayId"] = ray.clone().into();
        }
        shown
    }
}

/// The trace and the span of a `traceparent`. <https://www.w3.org/TR/trace-context/#traceparent-header>
fn trace_of(traceparent: &str) -> Option<(String, String)> {
    let mut parts = traceparent.split('-').skip(1);
    let (trace, span) = (parts.next()?, parts.next()?);
    (trace.len() == 32 && span.len() == 16).then(|| (trace.to_owned(), span.to_owned()))
}

/// The path of a URL, and its search as far as it is `a=b&…`.
fn path_of(url: &str) -> (&str, Map<String, Json>) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find('/').map_or("/", |at| &rest[at..]);
    let path = path.split('#').next().unwrap_or_default();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    (path, pairs.map(|(key, value)| (key.to_owned(), value.into())).collect())
}

/// A line of the console: one object, or JSON of one, gives its fields; all else is a message.
fn source_of(log: &Json) -> Json {
    let level = log["level"].as_str().unwrap_or("log");
    let parts = log["message"].as_array().map(Vec::as_slice).unwrap_or_default();
    let own = match parts {
        [Json::Object(fields)] => Some(fields.clone()),
        [Json::String(text)] if text.starts_with('{') => match serde_json::from_str(text) {
            Ok(Json::Object(fields)) => Some(fields),
            _ => None,
        },
        _ => None,
    };
    if let Some(mut fields) = own {
        fields.entry("level").or_insert_with(|| level.into());
        return fields.into();
    }
    let said = parts.iter().map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned));
    json!({ "level": level, "message": said.collect::<Vec<_>>().join(" ") })
}

fn message_of(source: &Json) -> String {
    match &source["message"] {
        Json::String(text) => text.clone(),
        Json::Null => source.to_string(),
        other => other.to_string(),
    }
}

/// Keeps an event below its bound: what the script logged goes first, then what called it.
fn cut(body: &mut Json) {
    if size(body) <= MAX_EVENT_BYTES {
        return;
    }
    body["$workers"]["truncated"] = true.into();
    for value in body["$metadata"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Json::String(text) = value {
            text.truncate((0..=CUT.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
        }
    }
    body["source"] = json!({ "level": body["$metadata"]["level"], "message": body["$metadata"]["message"] });
    for key in ["event", "diagnosticsChannelEvents"] {
        if size(body) > MAX_EVENT_BYTES && body["$workers"].get(key).is_some() {
            body["$workers"][key] = json!({});
        }
    }
}

fn size(body: &Json) -> usize {
    body.to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched() -> Json {
        json!({
            "scriptName": "s", "scriptVersion": { "id": "v" }, "outcome": "exception", "eventTimestamp": 100,
            "truncated": false, "executionModel": "stateless", "wallTime": 12, "cpuTime": 0,
            "event": {
                "request": {
                    "url": "https://h/a/b?x=1&y", "method": "GET", "cf": { "colo": "LOC" },
                    "headers": { "cf-ray": "0123456789abcdef-LOC", "host": "h" },
                },
                "response": { "status": 500 },
            },
            "logs": [
                { "level": "log", "timestamp": 101, "message": ["user_id: 123"] },
                { "level": "warn", "timestamp": 102, "message": [{ "user_id": 123 }] },
                { "level": "error", "timestamp": 103, "message": ["a", { "b": 1 }, null, 2] },
                { "level": "log", "timestamp": 104, "message": ["{\"level\":\"debug\",\"message\":\"m\",\"n\":1}"] },
            ],
            "exceptions": [{ "name": "TypeError", "message": "boom", "stack": "at x", "timestamp": 105 }],
        })
    }

    #[test]
    fn an_invocation_its_lines_and_its_exceptions_are_events_that_share_a_request() {
        let events = events_of(&fetched(), "acc", "none", true);
        let sources: Vec<_> =
            events.iter().map(|event| (event.at_ms, event.body["source"].clone())).collect();
        assert_eq!(
            sources,
            [
                (100, json!({ "level": "error", "message": "GET https://h/a/b?x=1&y" })),
                (101, json!({ "level": "log", "message": "user_id: 123" })),
                (102, json!({ "user_id": 123, "level": "warn" })),
                (103, json!({ "level": "error", "message": "a {\"b\":1} null 2" })),
                (104, json!({ "level": "debug", "message": "m", "n": 1 })),
                (
                    105,
                    json!({ "level": "error", "message": "TypeError: boom", "exception": {
                        "name": "TypeError", "message": "boom", "stack": "at x", "timestamp": 105,
                    } })
                ),
            ]
        );
        for event in &events {
            let (metadata, workers) = (&event.body["$metadata"], &event.body["$workers"]);
            assert_eq!((&event.body["dataset"], event.script.as_str()), (&json!("cloudflare-workers"), "s"));
            assert_eq!(metadata["requestId"], "0123456789abcdef");
            assert_eq!((&metadata["service"], &metadata["trigger"]), (&json!("s"), &json!("GET /a/b")));
            assert_eq!(
                (&workers["eventType"], &workers["scriptVersion"]["id"]),
                (&json!("fetch"), &json!("v"))
            );
        }
        let own = &events[0].body;
        assert_eq!(
            (&own["$metadata"]["type"], &own["$metadata"]["statusCode"]),
            (&json!("cf-worker-event"), &json!(500))
        );
        let workers = &own["$workers"];
        assert_eq!((&workers["wallTimeMs"], workers.get("cpuTimeMs")), (&json!(12.0), None));
        assert_eq!(
            workers["event"],
            json!({
                "request": {
                    "url": "https://h/a/b?x=1&y", "method": "GET", "path": "/a/b", "search": { "x": "1", "y": "" },
                    "headers": { "cf-ray": "0123456789abcdef-LOC", "host": "h" }, "cf": { "colo": "LOC" },
                },
                "response": { "status": 500 }, "rayId": "0123456789abcdef",
            })
        );
        assert_eq!(events[1].body["$workers"]["event"]["request"].get("headers"), None);
        assert_eq!(events_of(&fetched(), "acc", "none", false).len(), 5);
    }

    #[test]
    fn every_kind_of_call_has_its_name() {
        for (event, kind, trigger) in [
            (json!({ "cron": "* * * * *", "scheduledTime": "t" }), "cron", "* * * * *"),
            (json!({ "scheduledTime": "2026-01-01" }), "alarm", "2026-01-01"),
            (json!({ "queue": "q", "batchSize": 2 }), "queue", "q"),
            (json!({ "rpcMethod": "m" }), "rpc", "m"),
            (json!({ "rcptTo": "a@b" }), "email", "a@b"),
            (json!({ "getWebSocketEvent": { "webSocketEventType": "message" } }), "websocket", "message"),
            (json!(null), "unknown", "unknown"),
        ] {
            let item = json!({ "scriptName": "s", "outcome": "ok", "eventTimestamp": 1, "event": event });
            let events = events_of(&item, "a", "mine", true);
            let body = &events[0].body;
            assert_eq!(
                (&body["$workers"]["eventType"], &body["$metadata"]["trigger"]),
                (&json!(kind), &json!(trigger))
            );
            assert_eq!(body["$metadata"]["requestId"], "mine");
        }
    }

    #[test]
    fn a_large_event_is_cut_and_says_so() {
        let mut item = fetched();
        item["logs"] = json!([{ "level": "log", "timestamp": 1, "message": ["é".repeat(MAX_EVENT_BYTES)] }]);
        item["event"]["request"]["url"] = format!("https://h/{}", "x".repeat(2 * MAX_EVENT_BYTES)).into();
        for event in events_of(&item, "a", "r", true) {
            assert!(size(&event.body) <= MAX_EVENT_BYTES + 4 * CUT, "{}", size(&event.body));
            assert_eq!(event.body["$workers"]["truncated"], true);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_cell_says_makes_it_not_panic(text in "[\\[\\]{}:,\"a-z0-9 ]{0,80}") {
            let item: Json = serde_json::from_str(&text).unwrap_or(Json::Null);
            events_of(&item, "a", "r", true);
            let nested = json!({ "event": item, "logs": [item], "exceptions": item });
            events_of(&nested, "a", "r", true);
        }
    }
}
