//! Log records. <https://opentelemetry.io/docs/specs/otel/logs/data-model/>

use std::time::SystemTime;

use serde_json::Value as Json;

use crate::context::TraceContext;
use crate::proto::{self, AnyValue};
use crate::span::{Attribute, Resource, any, nanos};

/// How bad it is; the numbers are the data model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// `console.trace`
    Trace = 1,
    /// `console.debug`
    Debug = 5,
    /// `console.log`, `console.info`
    Info = 9,
    /// `console.warn`
    Warn = 13,
    /// `console.error`, exceptions
    Error = 17,
}

impl Severity {
    /// By the name that a console has for it.
    pub fn named(level: &str) -> Self {
        match level {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "warn" | "warning" => Self::Warn,
            "error" | "fatal" => Self::Error,
            _ => Self::Info,
        }
    }
}

/// A log record.
#[derive(Clone, Debug)]
pub struct Log {
    /// Whose it is.
    pub resource: Resource,
    /// When it was said.
    pub at: SystemTime,
    /// How bad it is, and what the script calls that.
    pub severity: (Severity, String),
    /// What was said: text, or fields.
    pub body: Json,
    /// What there is to say of it.
    pub attributes: Vec<Attribute>,
    /// The span that it was said in.
    pub context: Option<TraceContext>,
}

impl Log {
    pub(crate) fn encoded(&self) -> proto::LogRecord {
        proto::LogRecord {
            time_unix_nano: nanos(self.at),
            observed_time_unix_nano: nanos(SystemTime::now()),
            severity_number: self.severity.0 as i32,
            severity_text: self.severity.1.clone(),
            body: Some(AnyValue { value: any(&self.body) }),
            attributes: self.attributes.iter().map(Attribute::encoded).collect(),
            flags: self.context.map_or(0, |context| u32::from(context.sampled)),
            trace_id: self.context.map(|context| context.trace.0.to_vec()).unwrap_or_default(),
            span_id: self.context.map(|context| context.span.0.to_vec()).unwrap_or_default(),
        }
    }
}
