//! All counters of the machine.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skep_runtime::{Clock, Jobs};
use skep_wire::Service;

use crate::limits::Limits;
use crate::service::Namespace;
use crate::shard::{CounterId, Shard};
use crate::window::Decision;

/// Keys that have a counter of their own at the same time. A key costs some 200 bytes, and 16 more for each
/// bucket in which it was used: 2 KiB at the very most.
const MAX_KEYS: usize = 131_072;
/// So many locks: calls of different keys seldom wait for each other.
const SHARDS: usize = 64;
const CLEAN_UP_PERIOD: Duration = Duration::from_secs(10);

/// The counters of every namespace. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RateLimiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: Vec<Mutex<Shard>>,
    clock: Clock,
}

impl RateLimiter {
    /// No counters yet. Adds the job `rate limit clean-up` to `jobs`; call it inside a tokio runtime.
    pub fn new(clock: Clock, jobs: &Jobs) -> Self {
        Self::with_capacity(clock, jobs, MAX_KEYS)
    }

    /// As [`RateLimiter::new`] with room for about `max_keys` counters instead of 131,072.
    pub fn with_capacity(clock: Clock, jobs: &Jobs, max_keys: usize) -> Self {
        let room = max_keys.div_ceil(SHARDS).max(1);
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new(room))).collect();
        let inner = Arc::new(Inner { shards, clock });
        let weak = Arc::downgrade(&inner);
        jobs.every("rate limit clean-up", CLEAN_UP_PERIOD, move || {
            let left = weak.upgrade().map_or(0, |inner| inner.clean_up());
            std::future::ready(Ok(format!("{left} keys are counted")))
        });
        Self(inner)
    }

    /// The binding of namespace `id`, wrangler's `namespace_id`. Bindings of one namespace share counters,
    /// each with its own limits.
    pub fn namespace(&self, id: &str, limits: Limits) -> Arc<dyn Service> {
        Arc::new(Namespace { limiter: self.clone(), id: id.to_owned(), limits })
    }

    /// Counts a call of `key` in namespace `id`, if `limits` let it through.
    pub fn call(&self, id: &str, key: &str, limits: &Limits) -> Decision {
        let counter = counter_id(id, Some(key), limits.period_ms);
        let shared = counter_id(id, None, limits.period_ms);
        let shard = &self.0.shards[usize::from(counter[0]) % SHARDS];
        let now_ms = self.0.clock.now_ms();
        shard.lock().unwrap_or_else(PoisonError::into_inner).call(counter, shared, limits, now_ms)
    }
}

impl Inner {
    fn clean_up(&self) -> usize {
        let now_ms = self.clock.now_ms();
        let clean =
            |shard: &Mutex<Shard>| shard.lock().unwrap_or_else(PoisonError::into_inner).clean_up(now_ms);
        self.shards.iter().map(clean).sum()
    }
}

/// The lengths keep one pair of namespace and key from looking like another.
fn counter_id(namespace: &str, key: Option<&str>, period_ms: u64) -> CounterId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&period_ms.to_le_bytes());
    hasher.update(&(namespace.len() as u64).to_le_bytes());
    hasher.update(namespace.as_bytes());
    if let Some(key) = key {
        hasher.update(&[1]);
        hasher.update(key.as_bytes());
    }
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    id
}
