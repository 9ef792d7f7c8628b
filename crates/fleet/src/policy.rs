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

/// A process that was ended for what it used, or would have to be, is watched for longer: the time that it may use
/// must not make it look healthy.
const HEALTHY_AGAIN: Duration = Duration::from_secs(300);

/// Requests do not wait for a process that is started again later than this because of what it did.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Delays between restarts: doubling from 50 ms to 10 s, from the start again after 30 s of life, or after 5 min if it
/// was ended for using too much.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    crashes: u32,
    offended: bool,
}

impl Backoff {
    /// The delay before the restart of a process that lived for `lived` and ended for using too much, or not.
    pub(crate) fn after_crash(&mut self, lived: Duration, offended: bool) -> Duration {
        self.offended |= offended;
        if lived >= if self.offended { HEALTHY_AGAIN } else { HEALTHY } {
            self.crashes = 0;
            self.offended = offended;
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
            (0..10).map(|_| backoff.after_crash(Duration::from_secs(1), false).as_millis()).collect();
        assert_eq!(delays, [50, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.after_crash(Duration::from_secs(31), false), FIRST_DELAY);
    }

    #[test]
    fn who_uses_too_much_again_and_again_waits_longer_each_time() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> =
            (0..4).map(|_| backoff.after_crash(Duration::from_secs(40), true).as_millis()).collect();
        assert_eq!(delays, [50, 100, 200, 400]);
        assert_eq!(backoff.after_crash(Duration::from_secs(301), false), FIRST_DELAY);
        assert_eq!(backoff.after_crash(Duration::from_secs(31), false), FIRST_DELAY);
    }
}
