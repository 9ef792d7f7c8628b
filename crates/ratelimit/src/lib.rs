//! Rate limiting: how many calls of a key within any window of time.
//!
//! Counters live in memory, by namespace, key and period: bindings of one namespace share them. A limit is a
//! sliding window of small buckets: it never lets more than the limit through in *any* window of its period,
//! aligned or not (Cloudflare's own windows are fixed and may let twice the limit through across an edge).
//!
//! Memory is bounded by the number of keys. A key leaves when its window is empty. When there is no room
//! for a new key, new keys share one counter per namespace and period: they are refused rather than
//! let through uncounted, and a key that later gets a counter of its own inherits what was counted there.
//!
//! This crate knows nothing of cells, of configuration, or of disks; a restart forgets the counts.
//!
//! Entry points: [`RateLimiter::new`], [`RateLimiter::namespace`], [`Limits`].

mod limiter;
mod limits;
mod request;
mod service;
mod shard;
mod window;

pub use limiter::RateLimiter;
pub use limits::{Limits, LimitsError};
pub use window::Decision;
