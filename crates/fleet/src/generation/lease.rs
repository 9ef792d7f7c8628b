//! What is in a process: requests, connections, and how they are counted.

use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;

use super::Generation;

/// A connection that keeps a generation from being stopped for want of work.
#[derive(Debug)]
pub struct Hold(pub(super) Arc<Generation>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.touch();
    }
}

/// A connection of another cell.
#[derive(Debug)]
pub(crate) struct Called(pub(super) Arc<Generation>);

impl Drop for Called {
    fn drop(&mut self) {
        self.0.called.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a process that serves, of its account and of all, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted([Arc<AtomicUsize>; 2]);

impl Counted {
    pub fn new(account: &Arc<AtomicUsize>, all: &Arc<AtomicUsize>) -> Self {
        let counts = [account.clone(), all.clone()];
        for count in &counts {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Self(counts)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        for count in &self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A request in a generation; the generation is not ended while it is held, up to the drain limit.
#[derive(Debug)]
pub struct Lease {
    pub(super) generation: Arc<Generation>,
    /// The CPU time that the request may use, where that is less than others may.
    pub(super) cap: Option<Duration>,
    /// The `CF-Ray` of the request.
    pub(super) ray: Option<HeaderValue>,
}

impl Lease {
    /// The generation.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Says by which `CF-Ray` the code knows the request, so that it can be told when the response has ended.
    pub fn name(&mut self, ray: &HeaderValue) {
        if let (Some(responses), None) = (&self.generation.responses, &self.ray) {
            responses.begin(ray.clone());
            self.ray = Some(ray.clone());
        }
    }

    /// Gives the request less CPU time than the script's own limit. Which request in a process uses it cannot be seen:
    /// while this one is there, the limit is that of all.
    pub fn cap_cpu(&mut self, cap: Duration) {
        if self.cap.is_none() {
            self.cap = Some(cap);
            *self.generation.caps().entry(cap).or_default() += 1;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(cap) = self.cap {
            let mut caps = self.generation.caps();
            if let Entry::Occupied(mut count) = caps.entry(cap) {
                match *count.get() {
                    0 | 1 => drop(count.remove()),
                    more => *count.get_mut() = more - 1,
                }
            }
        }
        if let (Some(responses), Some(ray)) = (&self.generation.responses, &self.ray) {
            responses.end(ray);
        }
        if self.generation.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.generation.idle.notify_waiters();
        }
    }
}
