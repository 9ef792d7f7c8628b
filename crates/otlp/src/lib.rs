//! Traces, logs and metrics to an OpenTelemetry collector over OTLP/HTTP, in binary protobuf.
//! <https://opentelemetry.io/docs/specs/otlp/>
//!
//! Whoever has something to say hands it over and never waits: queues are bounded, what does not fit is dropped and
//! counted. Knows neither scripts nor sockets: a [`Post`] sends, a [`Measure`] reads what is counted.
//!
//! Entry points: [`Settings::read`] takes flags and the standard `OTEL_` variables, [`Exporter::start`] exports.

mod context;
mod exporter;
mod log;
mod metric;
mod proto;
mod retry;
mod sampler;
mod settings;
mod span;

pub use context::{SpanId, TraceContext, TraceId};
pub use exporter::{Exported, Exporter, Measure, Post, Posted, Signal};
pub use log::{Log, Severity};
pub use metric::{Metric, Point, Value};
pub use sampler::Sampler;
pub use settings::{Settings, Target};
pub use span::{Attribute, Kind, Resource, Span};
