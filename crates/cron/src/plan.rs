//! What fires when, as a pure function of what has fired and the time.

use std::collections::VecDeque;

use crate::expression::Expression;
use crate::scheduler::Fired;

/// How long ago a moment may be that is still made up for, in milliseconds: the machine slept, or was too
/// busy. What is older is left out.
const MISSED_MS: u64 = 60 * 60 * 1000;
/// So many firings of a schedule are remembered: two days of every minute. For as long a clock that was set
/// back does not fire a minute again.
const REMEMBERED: usize = 2 * 24 * 60;

/// The state of all schedules of a worker.
#[derive(Debug)]
pub(crate) struct Plan {
    entries: Vec<Entry>,
    /// Everything up to here was looked at.
    seen_ms: u64,
}

#[derive(Debug)]
struct Entry {
    cron: Expression,
    fired: VecDeque<u64>,
}

impl Plan {
    /// Schedules from `now_ms` on; the same expression twice counts once.
    pub fn new(schedules: Vec<Expression>, now_ms: u64) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        for cron in schedules {
            if !entries.iter().any(|entry| entry.cron == cron) {
                entries.push(Entry { cron, fired: VecDeque::new() });
            }
        }
        Self { entries, seen_ms: now_ms }
    }

    /// What fires at `now_ms`. Of the moments of one schedule that were missed, only the last fires.
    pub fn wake(&mut self, now_ms: u64) -> Vec<Fired> {
        // The clock was set back: what fired meanwhile does not again.
        let from_ms = self.seen_ms.min(now_ms).max(now_ms.saturating_sub(MISSED_MS));
        self.seen_ms = now_ms;
        self.entries.iter_mut().filter_map(|entry| entry.wake(from_ms, now_ms)).collect()
    }

    /// When something fires next.
    pub fn next_ms(&self) -> Option<u64> {
        self.entries.iter().filter_map(|entry| entry.next_after(self.seen_ms)).min()
    }
}

impl Entry {
    fn wake(&mut self, from_ms: u64, now_ms: u64) -> Option<Fired> {
        let mut last = None;
        let mut from_ms = from_ms;
        while let Some(next) = self.next_after(from_ms).filter(|next| *next <= now_ms) {
            last = Some(next);
            from_ms = next;
        }
        let scheduled_time_ms = last?;
        if self.fired.len() == REMEMBERED {
            self.fired.pop_front();
        }
        self.fired.push_back(scheduled_time_ms);
        Some(Fired { cron: self.cron.to_string(), scheduled_time_ms })
    }

    /// Its next moment that has not fired yet.
    fn next_after(&self, time_ms: u64) -> Option<u64> {
        let mut next = self.cron.next_after(time_ms)?;
        while self.fired.contains(&next) {
            next = self.cron.next_after(next)?;
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60_000;

    fn plan(texts: &[&str], now_ms: u64) -> Plan {
        Plan::new(texts.iter().map(|text| text.parse().unwrap()).collect(), now_ms)
    }

    fn times(fired: &[Fired]) -> Vec<u64> {
        fired.iter().map(|f| f.scheduled_time_ms / MINUTE).collect()
    }

    #[test]
    fn each_schedule_fires_at_its_own_minutes() {
        let mut plan = plan(&["*/2 * * * *", "*/3 * * * *", "*/2 * * * *"], 0);
        assert_eq!(plan.next_ms(), Some(2 * MINUTE));
        assert_eq!(times(&plan.wake(2 * MINUTE - 1)), [] as [u64; 0]);
        assert_eq!(times(&plan.wake(2 * MINUTE)), [2]);
        assert_eq!(times(&plan.wake(3 * MINUTE + 7)), [3]);
        plan.wake(4 * MINUTE);
        assert_eq!(times(&plan.wake(6 * MINUTE)), [6, 6]);
    }

    #[test]
    fn after_a_sleep_the_last_moment_that_was_missed_fires_unless_it_is_long_ago() {
        let mut short = plan(&["*/10 * * * *"], 0);
        assert_eq!(times(&short.wake(45 * MINUTE)), [40]);
        let mut long = plan(&["0 0 * * *"], 1);
        assert_eq!(times(&long.wake(26 * 60 * MINUTE)), [] as [u64; 0]);
        assert_eq!(long.next_ms(), Some(48 * 60 * MINUTE));
    }

    #[test]
    fn a_clock_that_is_set_back_fires_no_minute_again_but_goes_on() {
        let mut plan = plan(&["* * * * *"], 100 * MINUTE);
        assert_eq!(times(&plan.wake(101 * MINUTE)), [101]);
        assert_eq!(times(&plan.wake(99 * MINUTE)), [] as [u64; 0]);
        assert_eq!(times(&plan.wake(100 * MINUTE)), [100]);
        assert_eq!(plan.next_ms(), Some(102 * MINUTE));
        assert_eq!(times(&plan.wake(101 * MINUTE)), [] as [u64; 0]);
    }

    proptest! {
        #[test]
        fn whatever_the_clock_does_no_minute_fires_twice_nor_early(
            steps in proptest::collection::vec(prop_oneof![
                8 => 0i64..150_000, 1 => -7_200_000i64..0, 1 => 0i64..7_200_000,
            ], 1..200),
        ) {
            let mut now = 1_700_000_000_000u64;
            let mut plan = plan(&["* * * * *", "*/7 * * * *"], now);
            let mut seen = HashSet::new();
            for step in steps {
                now = now.saturating_add_signed(step);
                for fired in plan.wake(now) {
                    prop_assert!(fired.scheduled_time_ms <= now);
                    prop_assert!(fired.scheduled_time_ms + MISSED_MS >= now);
                    prop_assert!(seen.insert((fired.cron, fired.scheduled_time_ms)));
                }
                prop_assert!(plan.next_ms().is_some_and(|next| next > now));
            }
        }

        #[test]
        fn while_the_clock_runs_every_minute_fires(gaps in proptest::collection::vec(1u64..60_000, 1..200)) {
            let mut now = 1_700_000_000_000u64;
            let mut plan = plan(&["* * * * *"], now);
            let mut expected = now / MINUTE + 1;
            for gap in gaps {
                now += gap;
                for minute in times(&plan.wake(now)) {
                    prop_assert_eq!(minute, expected);
                    expected += 1;
                }
                prop_assert!(now / MINUTE < expected);
            }
        }
    }
}
