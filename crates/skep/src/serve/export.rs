//! `--otlp-endpoint`: what a node says to an OpenTelemetry collector.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use serde_json::Value as Json;
use skep_catalog::{Version, split_name};
use skep_deploy::http::{Proxies, Transport};
use skep_edge::Traced;
use skep_logs::{Event, Observability};
use skep_otlp::{
    Attribute, Exporter, Kind, Log, Post, Posted, Resource, Settings, Severity, Span, TraceContext,
};
use url::Url;

use super::metrics::EventKind;

/// The longest answer of a collector.
const MOST: usize = 1 << 20;

/// Begins to export, if flags or the environment say where to.
pub fn open(endpoint: Option<Url>) -> Result<Option<Exporter>, String> {
    let env = |name: &str| std::env::var(name).ok();
    let Some(settings) = Settings::read(endpoint, env)? else { return Ok(None) };
    let http = Outgoing(Transport::new(Proxies::from_env(env)?));
    Ok(Some(Exporter::start(settings, Arc::new(http))))
}

/// Our HTTP, as an exporter needs it.
struct Outgoing(Transport);

impl Post for Outgoing {
    fn post<'a>(&'a self, url: &'a Url, request: Request<Bytes>, timeout: Duration) -> Posted<'a> {
        Box::pin(async move { self.0.send(url, request, MOST, timeout).await.map_err(|e| e.to_string()) })
    }
}

/// A version of a script as a service, as Cloudflare's own export names it.
pub fn resource(account: &str, script: &str, version: &str) -> Resource {
    let (namespace, name) = split_name(script);
    let mut attributes = vec![
        Attribute::text("service.name", name),
        Attribute::text("service.namespace", account),
        Attribute::text("faas.name", name),
        Attribute::text("cloudflare.script_name", name),
        Attribute::text("cloudflare.account_id", account),
    ];
    if !version.is_empty() {
        attributes.push(Attribute::text("service.version", version));
        attributes.push(Attribute::text("cloudflare.script_version.id", version));
    }
    attributes.extend(namespace.map(|id| Attribute::text("cloudflare.dispatch_namespace", id)));
    Resource::new(attributes)
}

/// Whose spans the requests of a version are.
pub fn traced(
    exporter: Option<&Exporter>,
    account: &str,
    script: &str,
    version: &Version,
    observability: Observability,
) -> Option<Arc<Traced>> {
    exporter.map(|exporter| {
        Arc::new(Traced {
            exporter: exporter.clone(),
            resource: resource(account, script, &version.id),
            ratio: observability.traces.map(|traces| traces.rate),
        })
    })
}

/// The span of a batch or a cron under way that is recorded.
pub struct EventSpan {
    traced: Traced,
    context: TraceContext,
    start: SystemTime,
    began: Instant,
}

impl EventSpan {
    /// Begins one, if it is recorded.
    pub fn begin(traced: Traced) -> Option<Self> {
        let context = match traced.ratio {
            Some(0.0) => return None,
            ratio => traced.exporter.sample(None, ratio)?,
        };
        Some(Self { traced, context, start: SystemTime::now(), began: Instant::now() })
    }

    /// What tells the worker of it.
    pub fn traceparent(&self) -> String {
        self.context.to_string()
    }

    /// It is over.
    pub fn end(self, kind: EventKind, what: &str, outcome: &str) {
        let (trigger, span_kind, attribute) = match kind {
            EventKind::Queue => ("pubsub", Kind::Consumer, "messaging.destination.name"),
            EventKind::Scheduled => ("timer", Kind::Internal, "faas.cron"),
        };
        let failed = (outcome != "ok").then(|| outcome.to_owned());
        let mut attributes = vec![
            Attribute::text("faas.trigger", trigger),
            Attribute::text(attribute, what),
            Attribute::text("cloudflare.outcome", outcome),
        ];
        attributes.extend(failed.as_ref().map(|kind| Attribute::text("error.type", kind.as_str())));
        self.traced.exporter.span(&Span {
            resource: self.traced.resource.clone(),
            context: self.context,
            parent: None,
            remote_parent: false,
            state: String::new(),
            name: kind.name().to_owned(),
            kind: span_kind,
            start: self.start,
            took: self.began.elapsed(),
            attributes,
            error: failed,
        });
    }
}

/// An event of the logs as a log record.
pub fn log(account: &str, event: &Event) -> Log {
    let (body, workers, metadata) = (&event.body, &event.body["$workers"], &event.body["$metadata"]);
    let level = metadata["level"].as_str().unwrap_or("info").to_owned();
    let exception = &body["source"]["exception"];
    let pairs = [
        ("cloudflare.outcome", &workers["outcome"]),
        ("cloudflare.event_type", &workers["eventType"]),
        ("cloudflare.entrypoint", &workers["entrypoint"]),
        ("cloudflare.durable_object_id", &workers["durableObjectId"]),
        ("cloudflare.ray_id", &workers["event"]["rayId"]),
        ("cloudflare.wall_time_ms", &workers["wallTimeMs"]),
        ("cloudflare.log_type", &metadata["type"]),
        ("faas.invocation_id", &metadata["requestId"]),
        ("http.request.method", &workers["event"]["request"]["method"]),
        ("url.path", &workers["event"]["request"]["path"]),
        ("http.response.status_code", &metadata["statusCode"]),
        ("exception.type", &exception["name"]),
        ("exception.message", &exception["message"]),
        ("exception.stacktrace", &exception["stack"]),
    ];
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let traceparent = format!("00-{}-{}-01", text(&metadata["traceId"]), text(&metadata["spanId"]));
    Log {
        resource: resource(
            account,
            &event.script,
            workers["scriptVersion"]["id"].as_str().unwrap_or_default(),
        ),
        at: UNIX_EPOCH + Duration::from_millis(event.at_ms),
        severity: (Severity::named(&level), level),
        body: said(&body["source"]),
        attributes: pairs.into_iter().filter_map(|(key, value)| Attribute::json(key, value)).collect(),
        context: TraceContext::parse(&traceparent),
    }
}

/// What was said: a text, or the fields of what was logged.
fn said(source: &Json) -> Json {
    let own = source
        .as_object()
        .map(|fields| fields.keys().filter(|key| !["level", "message", "exception"].contains(&key.as_str())));
    match own.is_some_and(|mut own| own.next().is_some()) {
        true => source.clone(),
        false => source["message"].clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_said_as_text_and_an_object_as_its_fields() {
        assert_eq!(said(&json!({ "level": "log", "message": "hi" })), json!("hi"));
        assert_eq!(said(&json!({ "level": "log", "user": 1 })), json!({ "level": "log", "user": 1 }));
    }

    #[test]
    fn a_record_is_in_the_span_that_its_event_names() {
        let event = |metadata: Json| Event {
            at_ms: 5,
            script: "s".into(),
            body: json!({ "source": { "message": "m" }, "$workers": { "outcome": "ok" }, "$metadata": metadata }),
        };
        let ids = json!({ "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "level": "warn" });
        let record = log("a", &event(ids));
        assert_eq!(record.severity.0, Severity::Warn);
        let context = record.context.unwrap();
        assert_eq!(context.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(log("a", &event(json!({}))).context, None);
    }
}
