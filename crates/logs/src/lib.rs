//! What scripts logged and what came of their invocations: kept for a while, and asked about.
//! <https://developers.cloudflare.com/workers/observability/logs/workers-logs/>
//!
//! An event is what Cloudflare's telemetry API calls one: an invocation, a line of the console, an exception. Knows
//! neither cells nor HTTP: [`events_of`] takes what the engine says of an invocation, as tails get it.
//!
//! Entry points: [`LogStore`] keeps, [`Query`] asks, [`Observability`] says what a script wants kept.

mod calculate;
mod event;
mod field;
mod filter;
#[cfg(test)]
mod hostile;
mod query;
mod run;
mod settings;
mod store;

pub use calculate::{CALCULATIONS, Calculation};
pub use event::{Event, MAX_EVENT_BYTES, events_of};
pub use filter::{Condition, Filters, MAX_DEPTH, Needle, OPERATIONS};
pub use query::{
    BadQuery, Having, KeysQuery, MAX_BUCKETS, MAX_GROUPS, MAX_KEYS, MAX_ROWS, OrderBy, Query, Timeframe,
    VIEWS, ValuesQuery,
};
pub use run::{Found, Scanned};
pub use settings::{Observability, Sampled};
pub use store::{LogStore, Retention};

/// What the events are called that there are; other datasets are empty.
pub const DATASET: &str = "cloudflare-workers";
