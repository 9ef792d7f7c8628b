//! What cells record of their traced invocations (`shims/trace.js`), as spans for a collector.

mod joins;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value as Json};
use skep_edge::Traced;
use skep_otlp::{Attribute, Kind, Resource, Span, SpanId, TraceContext, TraceId};
use url::Url;

use self::joins::{Joins, Offered};
use crate::reports::{OUR_ENTRYPOINTS, TakeReports};

/// A host that only code of ours in a script's isolate asks (`shims/after.js`).
const OUR_HOST: &str = "responses.skep.internal";
/// A call of a method, on either side.
const CALL: &str = "jsRpcCall";
/// Calls that consist of a `fetch` of the binding's own code: that one says nothing more.
const BY_FETCH: [&str; 4] = ["d1_", "ratelimit_", "wfp_", "images_"];
/// Calls of others, by how their names begin.
const CALLS: [&str; 9] =
    ["kv_", "r2_", "d1_", "cache_", "wae_", "wfp_", "ratelimit_", "images_", "durable_object_subrequest"];

/// So long what was called from another process waits for the caller.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of calls between the processes of an account, and what waits to know.
pub type Calls = Arc<Mutex<Joins<(Arc<Traced>, Invocation)>>>;

/// Takes what the cells of a version record.
pub struct Traces {
    /// Whose spans they are.
    pub traced: Arc<Traced>,
    /// Those of the account.
    pub calls: Calls,
}

impl TakeReports for Traces {
    fn take(&self, reports: Vec<Json>) {
        let Traced { exporter, ratio, .. } = &*self.traced;
        for report in reports {
            let Ok(invocation) = serde_json::from_value::<Invocation>(report) else { continue };
            let said = invocation.1.traceparent.as_deref().and_then(TraceContext::parse);
            // The header is what a visitor's became, if it is recorded; else what he wrote.
            if said.is_some_and(|said| exporter.sample(Some(&said), *ratio).is_none()) {
                continue;
            }
            let own = TraceId::parse(&invocation.0).filter(|_| said.is_none() && invocation.1.is_of_method());
            let Some(own) = own else {
                pass_on(&self.calls, said, vec![(self.traced.clone(), invocation)]);
                continue;
            };
            let (over, item) = (invocation.caller(), (self.traced.clone(), invocation));
            let offered = lock(&self.calls).offer(own, over, item);
            match offered {
                Offered::Ready(below, items) => pass_on(&self.calls, below, items),
                Offered::Held(false) => {}
                Offered::Held(true) => {
                    let calls = self.calls.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(PATIENCE).await;
                        let items = lock(&calls).give_up(own);
                        pass_on(&calls, None, items);
                    });
                }
            }
        }
    }
}

/// Exports the spans of invocations whose trace is known, and of those that waited for one of their calls.
fn pass_on(calls: &Calls, below: Option<TraceContext>, items: Vec<(Arc<Traced>, Invocation)>) {
    let mut ready = vec![(below, items)];
    while let Some((below, items)) = ready.pop() {
        for (traced, invocation) in items {
            for (call, context) in made(below, &invocation) {
                let waited = lock(calls).called(call, context);
                ready.push((Some(context), waited));
            }
            spans(&traced.resource, below, invocation).iter().for_each(|span| traced.exporter.span(span));
        }
    }
}

fn lock<T>(calls: &Mutex<T>) -> MutexGuard<'_, T> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The engine's name for its trace, what is known of it, its spans that are over. Of a long invocation several come.
#[derive(Deserialize)]
pub struct Invocation(String, Fields, Vec<Recorded>);

impl Invocation {
    /// With the end of what began a trace: the call of another process that it is, if the engine says so.
    fn caller(&self) -> Option<Option<SpanId>> {
        let Self(_, fields, recorded) = self;
        fields.end.filter(|_| fields.root.as_ref() == Some(&fields.id))?;
        let said = recorded.iter().find_map(|one| one.5.get("jsrpc.caller_span_id")?.as_str());
        Some(said.and_then(SpanId::parse))
    }
}

/// Name, id, parent, begin and end in milliseconds, attributes, whether it was closed.
#[derive(Deserialize)]
struct Recorded(String, String, String, f64, f64, Map<String, Json>, bool);

/// All but `id` and `traceparent` only with the last of its spans.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Fields {
    id: String,
    /// The span that it is called in, if that is in the same process.
    parent: Option<String>,
    /// The id of the invocation that began the trace in this process.
    root: Option<String>,
    /// What that was.
    root_type: Option<String>,
    /// The context that the trace has outside of the process.
    traceparent: Option<String>,
    r#type: Option<String>,
    method: Option<String>,
    url: Option<String>,
    cron: Option<String>,
    scheduled_time: Option<Json>,
    queue_name: Option<String>,
    batch_size: Option<i64>,
    entrypoint: Option<String>,
    execution_model: Option<String>,
    durable_object_id: Option<String>,
    start: f64,
    end: Option<f64>,
    outcome: Option<String>,
    status: Option<i64>,
    exception: Option<Exception>,
    /// Whether it is a worker of ours that passes a call on.
    hidden: bool,
    /// Whether such a one called it.
    below_hidden: bool,
    attributes: Map<String, Json>,
    /// Whether there is a span of that one already: a visitor's request, a batch, a cron.
    root_has_span: bool,
}

impl Fields {
    /// Whether its trace began in this process with a method.
    fn is_of_method(&self) -> bool {
        self.root_type.as_deref() == Some("jsrpc")
    }
}

#[derive(Deserialize)]
struct Exception {
    name: String,
    message: String,
}

/// Calls of methods that an invocation made, and what is below them. Pure.
fn made(
    said: Option<TraceContext>,
    Invocation(trace, fields, recorded): &Invocation,
) -> Vec<(SpanId, TraceContext)> {
    let Some(own) = TraceId::parse(trace) else { return Vec::new() };
    let trace = said.map_or(own, |said| said.trace);
    let hidden = match &fields.parent {
        Some(parent) => SpanId::parse(parent),
        None => said.map(|said| said.span),
    };
    let calls = recorded.iter().filter(|one| named(&one.0, &one.5) == (CALL, Kind::Client));
    let made = calls.filter_map(|one| {
        let call = SpanId::parse(&one.1)?;
        // What is called through a worker of ours is below what called that.
        let above = if fields.hidden { hidden? } else { call };
        Some((call, TraceContext::recorded(trace, above)))
    });
    made.collect()
}

/// The spans of an invocation, below `said` where its trace began elsewhere. Pure.
fn spans(
    resource: &Resource,
    said: Option<TraceContext>,
    Invocation(trace, fields, recorded): Invocation,
) -> Vec<Span> {
    let Some(own) = TraceId::parse(&trace).filter(|_| !fields.hidden) else { return Vec::new() };
    let trace = said.map_or(own, |said| said.trace);
    let root = fields.root.as_deref().unwrap_or(&fields.id).to_owned();
    let has_span = fields.id == root && fields.root_has_span;
    // What began the trace here is the span that there is of it, if there is one.
    let above = |id: &str| match said {
        Some(said) if id == root && fields.root_has_span => Some(said.span),
        _ => SpanId::parse(id),
    };
    let span = |name: String, id: &str, parent: Option<SpanId>, kind: Kind, start: f64, end: f64| {
        Some(Span {
            resource: resource.clone(),
            context: TraceContext::recorded(trace, SpanId::parse(id)?),
            parent,
            remote_parent: false,
            state: String::new(),
            name,
            kind,
            start: at(start),
            took: Duration::try_from_secs_f64((end - start) / 1e3).unwrap_or_default(),
            attributes: Vec::new(),
            error: None,
        })
    };
    let mut all = Vec::with_capacity(recorded.len() + 1);
    let within: Vec<&str> =
        recorded.iter().filter(|one| is(&one.0, &BY_FETCH)).map(|one| one.1.as_str()).collect();
    for Recorded(name, id, parent, start, end, said, closed) in &recorded {
        let (attributes, url) = attributes(said);
        let host = url.as_ref().and_then(Url::host_str);
        if name == "fetch" && (host == Some(OUR_HOST) || within.contains(&parent.as_str())) {
            continue;
        }
        let (name, kind) = named(name, said);
        let Some(mut span) = span(name.to_owned(), id, above(parent), kind, *start, *end) else { continue };
        span.error = failure(name, said, *closed);
        span.attributes = attributes;
        if let Some(kind) = span.error.as_ref().filter(|_| !said.contains_key("error.type")) {
            span.attributes.push(Attribute::text("error.type", kind.as_str()));
        }
        all.push(span);
    }
    let (Some(end), false) = (fields.end, has_span) else { return all };
    let parent = match &fields.parent {
        Some(parent) if !fields.below_hidden => above(parent),
        _ => said.map(|said| said.span),
    };
    let (name, kind) = handler(&fields);
    if let Some(mut span) = span(name, &fields.id, parent, kind, fields.start, end) {
        span.remote_parent = (fields.parent.is_none() || fields.below_hidden) && parent.is_some();
        span.error = fields.outcome.clone().filter(|outcome| outcome != "ok");
        span.attributes = of_invocation(fields);
        all.push(span);
    }
    all
}

fn is(name: &str, begins: &[&str]) -> bool {
    begins.iter().any(|begin| name.starts_with(begin))
}

/// A span's name as Cloudflare's traces have it, and what it is to its parent.
fn named<'a>(name: &'a str, attributes: &Map<String, Json>) -> (&'a str, Kind) {
    let called = attributes.get("jsrpc.target_kind").is_some_and(|kind| kind == "entrypoint");
    match name {
        "writeLogfwdr" => ("wae_writeDataPoint", Kind::Client),
        "fetch" => (name, Kind::Client),
        CALL if called => (name, Kind::Internal),
        CALL => (name, Kind::Client),
        _ if name.starts_with("queue_send") => (name, Kind::Producer),
        _ if is(name, &CALLS) => (name, Kind::Client),
        _ => (name, Kind::Internal),
    }
}

/// What the engine says of a span, and the address that it names. A query may be secret: it is left out.
fn attributes(said: &Map<String, Json>) -> (Vec<Attribute>, Option<Url>) {
    let url = said.get("url.full").and_then(Json::as_str).and_then(|text| Url::parse(text).ok());
    let url = url.map(|mut url| {
        url.set_query(None);
        url.set_fragment(None);
        let _ = url.set_password(None);
        let _ = url.set_username("");
        url
    });
    let mut all = Vec::with_capacity(said.len() + 4);
    for (key, value) in said {
        let plain = match (key.as_str(), &url) {
            ("url.query", _) => continue,
            ("url.full", Some(url)) => Some(Attribute::text(key, url.as_str())),
            ("objectId", _) => Attribute::json("cloudflare.durable_object.id", value),
            _ => Attribute::json(key, value),
        };
        all.extend(plain);
    }
    if let Some(url) = &url {
        all.push(Attribute::text("server.address", url.host_str().unwrap_or_default()));
        all.extend(url.port_or_known_default().map(|port| Attribute::int("server.port", i64::from(port))));
        all.push(Attribute::text("url.scheme", url.scheme()));
        all.push(Attribute::text("url.path", url.path()));
    }
    (all, url)
}

/// Why a call failed, if it did. For HTTP as the semantic conventions have it.
/// <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#status>
fn failure(name: &str, said: &Map<String, Json>, closed: bool) -> Option<String> {
    if let Some(kind) = said.get("error.type") {
        return Some(kind.as_str().map_or_else(|| kind.to_string(), str::to_owned));
    }
    let status = said.get("http.response.status_code").and_then(Json::as_i64);
    match status {
        Some(status) if name == "fetch" && status >= 400 => Some(status.to_string()),
        _ => (!closed).then(|| "canceled".to_owned()),
    }
}

/// The name of a span for an invocation, and what it is.
fn handler(fields: &Fields) -> (String, Kind) {
    let kind = fields.r#type.as_deref().unwrap_or("unknown");
    let name = match kind {
        "fetch" => fields.method.as_deref().unwrap_or(kind),
        _ => kind,
    };
    let span = match kind {
        "fetch" | "jsrpc" => Kind::Server,
        "queue" => Kind::Consumer,
        _ => Kind::Internal,
    };
    (name.to_owned(), span)
}

/// <https://developers.cloudflare.com/workers/observability/traces/spans-and-attributes/>
fn of_invocation(fields: Fields) -> Vec<Attribute> {
    let kind = fields.r#type.unwrap_or_default();
    let trigger = match kind.as_str() {
        "fetch" => "http",
        "queue" => "pubsub",
        "scheduled" | "alarm" => "timer",
        _ => "other",
    };
    let mut all =
        vec![Attribute::text("faas.trigger", trigger), Attribute::text("cloudflare.handler_type", kind)];
    let mut text =
        |key: &str, value: Option<String>| all.extend(value.map(|value| Attribute::text(key, value)));
    text("cloudflare.entrypoint", fields.entrypoint.filter(|name| !OUR_ENTRYPOINTS.contains(&name.as_str())));
    let model = fields.execution_model.map(|model| match model.as_str() {
        "durableObject" => "stateful".to_owned(),
        _ => model,
    });
    text("cloudflare.execution_model", model);
    text("cloudflare.durable_object.id", fields.durable_object_id);
    text("faas.cron", fields.cron);
    text("cloudflare.queue.name", fields.queue_name);
    let method = fields.attributes.get("jsrpc.method").and_then(Json::as_str).map(str::to_owned);
    text("cloudflare.jsrpc.method", method);
    text("error.type", fields.outcome.clone().filter(|outcome| outcome != "ok"));
    text("cloudflare.outcome", fields.outcome);
    text("http.request.method", fields.method);
    if let Some(url) = fields.url.and_then(|url| Url::parse(&url).ok()) {
        text("server.address", url.host_str().map(str::to_owned));
        text("url.scheme", Some(url.scheme().to_owned()));
        text("url.path", Some(url.path().to_owned()));
    }
    if let Some(Exception { name, message }) = fields.exception {
        text("exception.type", Some(name));
        text("exception.message", Some(message));
    }
    all.extend(
        fields.scheduled_time.as_ref().and_then(|time| Attribute::json("cloudflare.scheduled_time", time)),
    );
    all.extend(fields.batch_size.map(|size| Attribute::int("cloudflare.queue.batch_size", size)));
    all.extend(fields.status.map(|status| Attribute::int("http.response.status_code", status)));
    all
}

/// A time in milliseconds since 1970.
fn at(ms: f64) -> SystemTime {
    let since = Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TRACE: &str = "4f38bc7107ebb71623d00914cfe56189";
    const SAID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(report: Json) -> Vec<Span> {
        let invocation: Invocation = serde_json::from_value(report).unwrap();
        let said = invocation.1.traceparent.as_deref().and_then(TraceContext::parse);
        spans(&Resource::new(Vec::new()), said, invocation)
    }

    fn attribute(span: &Span, key: &str) -> Option<Attribute> {
        let (text, int) = (|value: &str| Attribute::text(key, value), |value| Attribute::int(key, value));
        [text("example.com"), text("http://example.com/a"), text("jsrpc"), text("add"), int(80), int(404)]
            .into_iter()
            .find(|wanted| span.attributes.contains(wanted))
    }

    #[test]
    fn what_a_visitors_request_calls_is_below_the_span_that_there_is_of_it() {
        let spans = of(
            json!([TRACE, { "id": "e6903412f939e283", "traceparent": SAID, "type": "fetch", "start": 1000, "end": 1010,
                "outcome": "ok", "rootHasSpan": true }, [
                ["kv_get", "ed58425b74523c6a", "e6903412f939e283", 1001, 1003, { "db.operation.name": "get" }, true],
                ["fetch", "0657b22c35c5d8b7", "e6903412f939e283", 1003, 1009,
                    { "url.full": "http://u:p@example.com/a?secret=1#f", "url.query": "secret=1", "http.response.status_code": 404 }, true],
            ]]),
        );
        let said = TraceContext::parse(SAID).unwrap();
        assert_eq!(spans.len(), 2, "{spans:#?}");
        assert!(spans.iter().all(|span| span.context.trace == said.trace && span.parent == Some(said.span)));
        assert_eq!((spans[0].name.as_str(), spans[0].took), ("kv_get", Duration::from_millis(2)));
        let fetch = &spans[1];
        assert_eq!((fetch.kind, fetch.error.as_deref()), (Kind::Client, Some("404")));
        for key in ["server.address", "url.full", "server.port", "http.response.status_code"] {
            assert!(attribute(fetch, key).is_some(), "{key}: {fetch:#?}");
        }
        assert!(!format!("{fetch:?}").contains("secret"));
    }

    #[test]
    fn what_begins_by_itself_is_a_span_of_its_own_and_so_is_what_it_calls() {
        let spans = of(
            json!([TRACE, { "id": "fb3220dbf2e98e20", "type": "jsrpc", "start": 1000, "end": 1010, "outcome": "exception",
            "attributes": { "jsrpc.method": "add" } }, []]),
        );
        let [root] = &spans[..] else { panic!("{spans:#?}") };
        assert_eq!((root.context.trace.to_string().as_str(), root.parent), (TRACE, None));
        assert_eq!((root.kind, root.error.as_deref()), (Kind::Server, Some("exception")));
        assert!(
            attribute(root, "cloudflare.jsrpc.method").is_some()
                && attribute(root, "cloudflare.handler_type").is_some()
        );
        let called = of(
            json!([TRACE, { "id": "3da34dd2cffa8823", "parent": "d808b9e52b5f6618", "root": "fb3220dbf2e98e20",
            "type": "jsrpc", "start": 1000, "end": 1010, "outcome": "ok", "entrypoint": "Room" }, []]),
        );
        assert_eq!(called[0].parent.unwrap().to_string(), "d808b9e52b5f6618");
    }

    #[test]
    fn a_method_says_whose_call_it_is_when_it_is_over() {
        let of = |fields: Json, attributes: Json| -> Option<Option<SpanId>> {
            let span = json!(["jsRpcCall", "07bc628c235c5d09", "fb3220dbf2e98e20", 1, 2, attributes, true]);
            serde_json::from_value::<Invocation>(json!([TRACE, fields, [span]])).unwrap().caller()
        };
        let root = |end: Json| json!({ "id": "fb3220dbf2e98e20", "root": "fb3220dbf2e98e20", "rootType": "jsrpc", "end": end });
        let said = json!({ "jsrpc.caller_span_id": "4769f80430c9220e" });
        assert_eq!(of(root(json!(null)), said.clone()), None);
        assert_eq!(of(root(json!(5)), said.clone()), Some(SpanId::parse("4769f80430c9220e")));
        assert_eq!(of(root(json!(5)), json!({})), Some(None));
        assert_eq!(of(json!({ "id": "3da34dd2cffa8823", "root": "fb3220dbf2e98e20", "end": 5 }), said), None);
    }

    #[test]
    fn what_is_called_through_a_worker_of_ours_is_below_what_called_that() {
        let call = json!([["jsRpcCall", "07bc628c235c5d09", "fb3220dbf2e98e20", 1, 2, { "jsrpc.target_kind": "fetcher" }, true]]);
        let read = |fields: Json| serde_json::from_value::<Invocation>(json!([TRACE, fields, call])).unwrap();
        let said = TraceContext::parse(SAID).unwrap();
        let through = read(
            json!({ "id": "fb3220dbf2e98e20", "parent": "d808b9e52b5f6618", "root": "e6903412f939e283", "end": 5, "hidden": true }),
        );
        let above = TraceContext::recorded(said.trace, SpanId::parse("d808b9e52b5f6618").unwrap());
        let id = SpanId::parse("07bc628c235c5d09").unwrap();
        assert_eq!(made(Some(said), &through), [(id, above)]);
        assert!(spans(&Resource::new(Vec::new()), Some(said), through).is_empty());
        let plain = read(json!({ "id": "fb3220dbf2e98e20", "root": "fb3220dbf2e98e20" }));
        assert_eq!(made(Some(said), &plain), [(id, TraceContext::recorded(said.trace, id))]);
        let called = of(
            json!([TRACE, { "id": "3da34dd2cffa8823", "parent": "fb3220dbf2e98e20", "root": "fb3220dbf2e98e20", "traceparent": SAID,
            "type": "jsrpc", "start": 1, "end": 2, "outcome": "ok", "belowHidden": true }, []]),
        );
        assert_eq!(called[0].parent, Some(said.span));
    }

    #[test]
    fn what_a_binding_is_made_of_is_no_span() {
        let spans = of(json!([TRACE, { "id": "e6903412f939e283", "rootHasSpan": true }, [
            ["fetch", "7f5b2c142a270be7", "6478bd2418e754e8", 1, 2, { "url.full": "http://d1/query" }, true],
            ["d1_all", "6478bd2418e754e8", "e6903412f939e283", 1, 3, {}, true],
            ["fetch", "7f5b2c142a270be8", "e6903412f939e283", 1, 2, { "url.full": format!("http://{OUR_HOST}/8f0") }, true],
            ["writeLogfwdr", "e86309875b18213a", "e6903412f939e283", 3, 3, {}, false],
        ]]));
        let names: Vec<_> = spans.iter().map(|span| (span.name.as_str(), span.error.as_deref())).collect();
        assert_eq!(names, [("d1_all", None), ("wae_writeDataPoint", Some("canceled"))]);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        assert!(of(json!(["x", {}, []])).is_empty());
        assert!(
            of(json!([TRACE, { "id": "zz", "end": -1e300 }, [["a", "b", "c", 1e300, -1, {}, true]]]))
                .is_empty()
        );
    }
}
