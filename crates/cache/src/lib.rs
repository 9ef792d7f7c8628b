//! The Cache API: `caches.default` and `caches.open(name)` of each worker.
//!
//! Decides by HTTP's rules for shared caches what may be kept and for how long, answers ranges and conditional
//! requests from what it keeps. Knows nothing of cells, scripts or the edge's own cache.
//!
//! Losing what is cached is legal, so a put waits for no flush of the database: a power cut may lose the last
//! ones, and no more. What is returned is always whole: small bodies are in the row, large ones in files that
//! are flushed before a row names them.
//!
//! Entry point: [`CacheStore`] hands out a worker's [`WorkerCache`], at once or later, which is a [`skep_wire::Service`]. The engine
//! must be told to send the scheme in [`PROTO_HEADER`] and the request's `cf` in [`CF_HEADER`].

mod account;
mod directives;
mod freshness;
mod head;
mod key;
mod later;
mod rows;
mod select;
mod service;
mod store;
mod worker;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use key::{CF_HEADER, PROTO_HEADER};
pub use later::LaterCache;
pub use store::CacheStore;
pub use worker::{Limits, WorkerCache};
