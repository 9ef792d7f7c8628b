//! How much of the event loop a cell has used lately, and whether that is more than its share.

use std::sync::LazyLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

/// Time beyond its share after which a cell is noisy, in nanoseconds: a page of a long list takes a tenth of it.
const LIMIT: u64 = 10_000_000;
/// What counts of the past, so that who was noisy for an hour is quiet again after two seconds.
const MOST: u64 = 100_000_000;

/// The past of one cell. Time is in nanoseconds.
///
/// A cell may use a quarter of the loop; while all cells together use more than half of it, a sixteenth. One that was noisy is
/// quiet once it uses less than a sixteenth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Past {
    at: u64,
    /// Time beyond a quarter.
    quarter: u64,
    /// Time beyond a sixteenth.
    sixteenth: u64,
    noisy: bool,
}

impl Past {
    /// After `busy` of work, which ended `now`.
    fn after(self, now: u64, busy: u64, crowded: bool) -> Self {
        let elapsed = now.saturating_sub(self.at);
        let quarter = beyond(self.quarter, elapsed / 4, busy);
        let sixteenth = beyond(self.sixteenth, elapsed / 16, busy);
        let noisy = match self.noisy {
            true => sixteenth > LIMIT / 2,
            false => quarter > LIMIT || crowded && sixteenth > LIMIT,
        };
        Self { at: now.max(self.at), quarter, sixteenth, noisy }
    }
}

fn beyond(before: u64, allowed: u64, busy: u64) -> u64 {
    (before.saturating_sub(allowed) + busy).min(MOST)
}

/// What all cells use of the loop on which everybody is served.
static ALL: Level = Level::new();
/// What times are counted from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Time beyond a share, and when that was.
#[derive(Debug)]
struct Level {
    at: AtomicU64,
    beyond: AtomicU64,
}

impl Level {
    const fn new() -> Self {
        Self { at: AtomicU64::new(0), beyond: AtomicU64::new(0) }
    }

    /// Counts `busy`, of which half is allowed; returns what is beyond that.
    fn add(&self, now: u64, busy: u64) -> u64 {
        let elapsed = now.saturating_sub(self.at.load(Relaxed));
        let level = beyond(self.beyond.load(Relaxed), elapsed / 2, busy);
        self.at.store(now, Relaxed);
        self.beyond.store(level, Relaxed);
        level
    }
}

/// The meter of one cell. Without locks, and nowhere read and written in one step: that would cost more than being wrong by
/// a call now and then, where a cell is served by two threads for a moment.
#[derive(Debug)]
pub(crate) struct Meter {
    at: AtomicU64,
    quarter: AtomicU64,
    sixteenth: AtomicU64,
    noisy: AtomicBool,
}

impl Meter {
    pub const fn new() -> Self {
        let [at, quarter, sixteenth] = [const { AtomicU64::new(0) }; 3];
        Self { at, quarter, sixteenth, noisy: AtomicBool::new(false) }
    }

    /// Counts work that began at `start` and has just ended; `is_shared` if it was done where everybody is served.
    pub fn count(&self, start: Instant, is_shared: bool) {
        let start = nanos(start.saturating_duration_since(*START));
        let now = nanos(START.elapsed());
        let busy = now.saturating_sub(start);
        let crowded = match is_shared {
            true => ALL.add(now, busy),
            false => ALL.beyond.load(Relaxed),
        };
        let before = Past {
            at: self.at.load(Relaxed),
            quarter: self.quarter.load(Relaxed),
            sixteenth: self.sixteenth.load(Relaxed),
            noisy: self.noisy.load(Relaxed),
        };
        let past = before.after(now, busy, crowded > LIMIT);
        self.at.store(past.at, Relaxed);
        self.quarter.store(past.quarter, Relaxed);
        self.sixteenth.store(past.sixteenth, Relaxed);
        self.noisy.store(past.noisy, Relaxed);
    }

    /// Whether it has used more than its share.
    pub fn is_noisy(&self) -> bool {
        self.noisy.load(Relaxed)
    }
}

/// Enough for five hundred years.
fn nanos(time: Duration) -> u64 {
    time.as_secs().wrapping_mul(1_000_000_000).wrapping_add(u64::from(time.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// What becomes of a cell that works for `busy` of every `period`, for a second.
    fn second(mut past: Past, busy: u64, period: u64, crowded: bool) -> Past {
        for _ in 0..1000 * MS / period {
            past = past.after(past.at + period, busy, crowded);
        }
        past
    }

    #[test]
    fn who_uses_more_than_a_quarter_is_noisy_and_who_uses_less_is_not() {
        assert!(second(Past::default(), 300_000, MS, false).noisy);
        assert!(!second(Past::default(), 200_000, MS, false).noisy);
        // In large pieces, too.
        assert!(second(Past::default(), 30 * MS, 100 * MS, false).noisy);
    }

    #[test]
    fn where_many_want_to_be_served_a_share_is_smaller() {
        assert!(second(Past::default(), 100_000, MS, true).noisy);
        assert!(!second(Past::default(), 50_000, MS, true).noisy);
    }

    #[test]
    fn a_moment_of_much_work_is_nothing() {
        assert!(!Past { at: MS, ..Past::default() }.after(11 * MS, 9 * MS, true).noisy);
    }

    #[test]
    fn who_was_noisy_is_quiet_after_two_seconds_and_does_not_come_and_go() {
        let noisy = second(Past::default(), MS, MS, false);
        assert!(noisy.noisy);
        assert!(second(noisy, 200_000, MS, false).noisy, "less than a quarter does not bring it back");
        let rested = second(second(noisy, 10_000, MS, false), 10_000, MS, false);
        assert!(!rested.noisy);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_counts_what_was_done() {
        let past = Past { at: 50 * MS, ..Past::default() }.after(40 * MS, 11 * MS, false);
        assert_eq!((past.at, past.noisy), (50 * MS, true));
    }
}
