//! Counting requests: a few atomic additions each, no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;

/// The upper bounds of the latency histogram's buckets, in milliseconds; one more takes the rest.
pub const LATENCY_MS: [u64; 13] = [1, 3, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// What came of a request. Names are those of Cloudflare's metrics of invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The worker answered.
    Success,
    /// A static asset, or what its rules say, answered.
    Asset,
    /// The worker threw.
    Exception,
    /// The worker used too much, or its process ended.
    Resources,
    /// The worker could not be started.
    Internal,
    /// The visitor went away before there was an answer.
    Disconnected,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Success, Self::Asset, Self::Exception, Self::Resources, Self::Internal, Self::Disconnected];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Asset => "asset",
            Self::Exception => "scriptThrewException",
            Self::Resources => "exceededResources",
            Self::Internal => "internalError",
            Self::Disconnected => "clientDisconnected",
        }
    }
}

/// The requests of one script.
#[derive(Debug, Default)]
pub struct Meter {
    /// By outcome and the first digit of the status.
    counts: [[AtomicU64; 5]; Outcome::ALL.len()],
    buckets: [AtomicU64; LATENCY_MS.len() + 1],
    total_us: AtomicU64,
}

/// What a meter shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// What came of requests, the first digit of their status, how many; those that there are.
    pub counts: Vec<(Outcome, usize, u64)>,
    /// Requests in each bucket of [`LATENCY_MS`], and those beyond.
    pub buckets: [u64; LATENCY_MS.len() + 1],
    /// Microseconds until the responses' heads, together.
    pub total_us: u64,
}

impl Meter {
    fn note(&self, outcome: Outcome, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.counts[outcome as usize][class].fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_MS.partition_point(|bound| bound * 1000 < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.total_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What it shows now.
    pub fn read(&self) -> Reading {
        let counts = Outcome::ALL.iter().zip(&self.counts).flat_map(|(outcome, classes)| {
            let classes = classes.iter().enumerate();
            classes.map(|(n, count)| (*outcome, n + 1, count.load(Ordering::Relaxed)))
        });
        Reading {
            counts: counts.filter(|(_, _, count)| *count > 0).collect(),
            buckets: std::array::from_fn(|n| self.buckets[n].load(Ordering::Relaxed)),
            total_us: self.total_us.load(Ordering::Relaxed),
        }
    }
}

/// Takes the time of one request; dropped unfinished, the visitor has gone away.
pub(crate) struct Timing {
    meter: Option<Arc<Meter>>,
    start: Instant,
}

/// As others log a request whose visitor went away; it is never sent.
const GONE: u16 = 499;

impl Timing {
    pub fn start(meter: Option<Arc<Meter>>) -> Self {
        Self { meter, start: Instant::now() }
    }

    /// It was no request of the script's after all.
    pub fn discard(mut self) {
        self.meter = None;
    }

    /// There is an answer.
    pub fn finish(mut self, outcome: Outcome, status: StatusCode) {
        if let Some(meter) = self.meter.take() {
            meter.note(outcome, status, self.start.elapsed());
        }
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        if let Some(meter) = &self.meter {
            let status = StatusCode::from_u16(GONE).unwrap_or(StatusCode::BAD_REQUEST);
            meter.note(Outcome::Disconnected, status, self.start.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_in_one_bucket_and_under_one_outcome() {
        let meter = Meter::default();
        for (ms, bucket) in [(0, 0), (1, 0), (2, 1), (250, 7), (251, 8), (10_000, 12), (60_000, 13)] {
            let before = meter.read().buckets[bucket];
            meter.note(Outcome::Success, StatusCode::OK, Duration::from_millis(ms));
            assert_eq!(meter.read().buckets[bucket], before + 1, "{ms} ms");
        }
        assert_eq!(meter.read().counts, [(Outcome::Success, 2, 7)]);
        assert_eq!(meter.read().total_us, 70_504_000);
    }

    #[test]
    fn who_goes_away_is_counted_as_gone() {
        let meter = Arc::new(Meter::default());
        drop(Timing::start(Some(meter.clone())));
        Timing::start(Some(meter.clone())).finish(Outcome::Exception, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(meter.read().counts, [(Outcome::Exception, 5, 1), (Outcome::Disconnected, 4, 1)]);
    }
}
