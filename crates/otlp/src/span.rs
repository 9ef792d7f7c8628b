//! What happened in a trace, as whoever records it says it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::context::{SpanId, TraceContext};
use crate::proto::{self, Any, AnyValue, KeyValue};

/// A name and a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    pub(crate) key: String,
    pub(crate) value: Any,
}

impl Attribute {
    /// A text.
    pub fn text(key: &str, value: impl Into<String>) -> Self {
        Self { key: key.to_owned(), value: Any::Text(value.into()) }
    }

    /// A whole number.
    pub fn int(key: &str, value: i64) -> Self {
        Self { key: key.to_owned(), value: Any::Int(value) }
    }

    /// Yes or no.
    pub fn flag(key: &str, value: bool) -> Self {
        Self { key: key.to_owned(), value: Any::Flag(value) }
    }

    /// What JSON says.
    pub fn json(key: &str, value: &serde_json::Value) -> Option<Self> {
        any(value).map(|value| Self { key: key.to_owned(), value })
    }

    pub(crate) fn encoded(&self) -> KeyValue {
        KeyValue { key: self.key.clone(), value: Some(AnyValue { value: Some(self.value.clone()) }) }
    }
}

/// A JSON value as OTLP has it; `None` for null.
pub(crate) fn any(value: &serde_json::Value) -> Option<Any> {
    Some(match value {
        serde_json::Value::Null => return None,
        serde_json::Value::Bool(flag) => Any::Flag(*flag),
        serde_json::Value::String(text) => Any::Text(text.clone()),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(int) => Any::Int(int),
            None => Any::Double(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::Array(items) => Any::List(proto::ArrayValue {
            values: items.iter().map(|item| AnyValue { value: any(item) }).collect(),
        }),
        serde_json::Value::Object(fields) => {
            let values = fields.iter().map(|(key, value)| KeyValue {
                key: key.clone(),
                value: Some(AnyValue { value: any(value) }),
            });
            Any::Map(proto::KeyValueList { values: values.collect() })
        }
    })
}

/// Who speaks: a version of a script.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource(Arc<Vec<Attribute>>);

impl Resource {
    /// Something with these attributes.
    pub fn new(attributes: Vec<Attribute>) -> Self {
        Self(Arc::new(attributes))
    }

    pub(crate) fn encoded(&self, common: &[Attribute]) -> proto::Resource {
        let own = self.0.iter();
        let common = common.iter().filter(|attribute| own.clone().all(|other| other.key != attribute.key));
        proto::Resource { attributes: own.clone().chain(common).map(Attribute::encoded).collect() }
    }
}

/// What a span is to its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something inside.
    Internal = 1,
    /// A request that came.
    Server = 2,
    /// A request that went out.
    Client = 3,
    /// Something is sent that is worked on later.
    Producer = 4,
    /// Something that was sent earlier is worked on.
    Consumer = 5,
}

/// A part of a trace, over.
#[derive(Clone, Debug)]
pub struct Span {
    /// Whose it is.
    pub resource: Resource,
    /// Its own place in the trace.
    pub context: TraceContext,
    /// The span that it is below.
    pub parent: Option<SpanId>,
    /// Whether the parent is of another process.
    pub remote_parent: bool,
    /// The vendors' part of the context, as it came.
    pub state: String,
    /// A name of few values: a method, not a path.
    pub name: String,
    /// What it is to its parent.
    pub kind: Kind,
    /// When it began.
    pub start: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What there is to say of it.
    pub attributes: Vec<Attribute>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// The context has a flag for a sampled trace; these say whether a parent is remote.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
const STATUS_ERROR: i32 = 2;

impl Span {
    pub(crate) fn encoded(&self) -> proto::Span {
        let start = nanos(self.start);
        let remote = if self.remote_parent { IS_REMOTE } else { 0 };
        proto::Span {
            trace_id: self.context.trace.0.to_vec(),
            span_id: self.context.span.0.to_vec(),
            trace_state: self.state.clone(),
            parent_span_id: self.parent.map(|parent| parent.0.to_vec()).unwrap_or_default(),
            name: self.name.clone(),
            kind: self.kind as i32,
            start_time_unix_nano: start,
            end_time_unix_nano: start.saturating_add(u64::try_from(self.took.as_nanos()).unwrap_or(u64::MAX)),
            attributes: self.attributes.iter().map(Attribute::encoded).collect(),
            status: self
                .error
                .as_ref()
                .map(|error| proto::Status { message: error.clone(), code: STATUS_ERROR }),
            flags: u32::from(self.context.sampled) | HAS_IS_REMOTE | remote,
        }
    }
}

/// Nanoseconds since 1970.
pub(crate) fn nanos(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
