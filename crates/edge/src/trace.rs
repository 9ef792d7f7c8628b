//! A span for each request that is traced, and what is known of what happened in it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, Version, header};
use skep_otlp::{Attribute, Exporter, Kind, Resource, Span, TraceContext};

use crate::headers::Visitor;
use crate::meter::Outcome;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Who waits for less than this for a cell has not waited.
const WAITED: Duration = Duration::from_millis(1);

/// Whose spans the requests of a site are.
#[derive(Clone, Debug)]
pub struct Traced {
    /// Where they go.
    pub exporter: Exporter,
    /// The version of the script.
    pub resource: Resource,
    /// The share of traces that it has recorded, if its settings say so.
    pub ratio: Option<f64>,
}

/// A request under way whose trace is recorded.
pub(crate) struct RequestSpan {
    traced: Arc<Traced>,
    context: TraceContext,
    parent: Option<TraceContext>,
    state: String,
    start: SystemTime,
    began: Instant,
    method: String,
    attributes: Vec<Attribute>,
    /// From when to when a cell was waited for.
    waited: Mutex<Option<(Duration, Duration)>>,
    finished: bool,
}

impl RequestSpan {
    /// Begins the span of a request, if it is recorded, and tells the worker of it as a caller would.
    pub fn begin(
        traced: Option<&Arc<Traced>>,
        visitor: &Visitor,
        ray: &HeaderValue,
        head: &mut Parts,
    ) -> Option<Self> {
        let traced = traced?;
        if traced.ratio == Some(0.0) {
            return None;
        }
        let mut said = head.headers.get_all(TRACEPARENT).iter();
        // Two of them are none (W3C Trace Context §3.2).
        let first = said.next().filter(|_| said.next().is_none()).and_then(|value| value.to_str().ok());
        let parent = first.and_then(TraceContext::parse);
        let context = traced.exporter.sample(parent.as_ref(), traced.ratio)?;
        let state = match parent {
            Some(_) => {
                let parts = head.headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok());
                parts.collect::<Vec<_>>().join(",")
            }
            None => String::new(),
        };
        if parent.is_none() {
            head.headers.remove(TRACESTATE);
        }
        if let Ok(own) = HeaderValue::try_from(context.to_string()) {
            head.headers.insert(TRACEPARENT, own);
        }
        let attributes = attributes(visitor, ray, head);
        Some(Self {
            traced: traced.clone(),
            context,
            parent,
            state,
            start: SystemTime::now(),
            began: Instant::now(),
            method: head.method.to_string(),
            attributes,
            waited: Mutex::default(),
            finished: false,
        })
    }

    /// A cell was waited for since `began`.
    pub fn note_cell(&self, began: Instant) {
        let waited = (began - self.began, self.began.elapsed());
        self.waited.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(waited);
    }

    /// There is an answer.
    pub fn finish(mut self, outcome: Outcome, status: StatusCode) {
        self.finished = true;
        self.attributes.push(Attribute::int("http.response.status_code", i64::from(status.as_u16())));
        let failed = status.is_server_error().then(|| match outcome {
            // Who answered with 5xx himself says so by the status.
            Outcome::Success | Outcome::Asset => status.as_u16().to_string(),
            outcome => outcome.name().to_owned(),
        });
        self.export(outcome, failed);
    }

    fn export(&mut self, outcome: Outcome, failed: Option<String>) {
        let took = self.began.elapsed();
        let mut attributes = std::mem::take(&mut self.attributes);
        attributes.push(Attribute::text("cloudflare.outcome", outcome.name()));
        if let Some(kind) = &failed {
            attributes.push(Attribute::text("error.type", kind.as_str()));
        }
        let Traced { exporter, resource, .. } = &*self.traced;
        let waited = *self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        let child = |name: &str, kind: Kind, from: Duration, to: Duration, error: Option<String>| {
            exporter.span(&Span {
                resource: resource.clone(),
                context: TraceContext::below(Some(&self.context), true),
                parent: Some(self.context.span),
                remote_parent: false,
                state: self.state.clone(),
                name: name.to_owned(),
                kind,
                start: self.start + from,
                took: to.saturating_sub(from),
                attributes: Vec::new(),
                error,
            });
        };
        if let Some((from, to)) = waited {
            if to.saturating_sub(from) >= WAITED {
                child("wait for a cell", Kind::Internal, from, to, None);
            }
            child("call the cell", Kind::Client, to, took, failed.clone());
        }
        exporter.span(&Span {
            resource: resource.clone(),
            context: self.context,
            parent: self.parent.map(|parent| parent.span),
            remote_parent: self.parent.is_some(),
            state: std::mem::take(&mut self.state),
            name: std::mem::take(&mut self.method),
            kind: Kind::Server,
            start: self.start,
            took,
            attributes,
            error: failed,
        });
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        if !self.finished {
            self.export(Outcome::Disconnected, None);
        }
    }
}

/// As the semantic conventions name them. The query is left out: it may be secret.
/// <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span>
fn attributes(visitor: &Visitor, ray: &HeaderValue, head: &Parts) -> Vec<Attribute> {
    let text = |value: Option<&HeaderValue>| value.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let ray = ray.to_str().unwrap_or_default().split('-').next().unwrap_or_default();
    let mut attributes = vec![
        Attribute::text("http.request.method", head.method.as_str()),
        Attribute::text("url.scheme", visitor.scheme),
        Attribute::text("url.path", head.uri.path()),
        Attribute::text(
            "network.protocol.version",
            if head.version == Version::HTTP_2 { "2" } else { "1.1" },
        ),
        Attribute::text("client.address", visitor.address()),
        Attribute::text("faas.trigger", "http"),
        Attribute::text("cloudflare.ray_id", ray),
    ];
    let authority = head.uri.authority().map(|authority| authority.as_str().to_owned());
    if let Some(authority) = authority.or_else(|| text(head.headers.get(header::HOST))) {
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse::<u16>().ok()),
            None => (authority.as_str(), None),
        };
        attributes.push(Attribute::text("server.address", host));
        attributes.extend(port.map(|port| Attribute::int("server.port", i64::from(port))));
    }
    if let Some(agent) = text(head.headers.get(header::USER_AGENT)) {
        attributes.push(Attribute::text("user_agent.original", agent));
    }
    attributes
}
