//! Times and delays: decisions without a clock.

use std::time::Duration;

/// How long a replaced process may finish requests and `waitUntil` work: Cloudflare's 30 s.
pub(crate) const DRAIN_SHARED: Duration = Duration::from_secs(30);
/// The same where requests wait meanwhile, because objects may have only one process.
pub(crate) const DRAIN_EXCLUSIVE: Duration = Duration::from_secs(2);
/// From SIGTERM to SIGKILL.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(2);

/// A process that has to run again this soon is not stopped.
pub(crate) const LEAST_REST: Duration = Duration::from_secs(10);

/// How often to look whether a process has something to do that may rest after `after`.
pub(crate) fn look_every(after: Duration) -> Duration {
    (after / 4).clamp(Duration::from_millis(50), Duration::from_secs(15))
}

const FIRST_DELAY: Duration = Duration::from_millis(50);
const MAX_DELAY: Duration = Duration::from_secs(10);
/// A process that lived this long is not in a crash loop.
const HEALTHY: Duration = Duration::from_secs(30);

/// Delays between restarts: doubling from 50 ms to 10 s, from the start again after 30 s of life.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    crashes: u32,
}

impl Backoff {
    /// The delay before the restart of a process that lived for `lived`.
    pub(crate) fn after_crash(&mut self, lived: Duration) -> Duration {
        if lived >= HEALTHY {
            self.crashes = 0;
        }
        let delay = FIRST_DELAY.saturating_mul(1 << self.crashes.min(16));
        self.crashes = self.crashes.saturating_add(1);
        delay.min(MAX_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_slow_down_and_recover() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> =
            (0..10).map(|_| backoff.after_crash(Duration::from_secs(1)).as_millis()).collect();
        assert_eq!(delays, [50, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.after_crash(Duration::from_secs(31)), FIRST_DELAY);
    }
}
