//! The counter of one key: a pure function of its state, the limits and the time.

use std::collections::VecDeque;

use crate::limits::Limits;

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// It is within the limit, and was counted. A call that is not within it is not counted.
    pub success: bool,
    /// The limit that it was held against.
    pub limit: u64,
    /// How many more would be let through now.
    pub remaining: u64,
    /// In how many milliseconds nothing is counted any more, if no more calls come.
    pub reset_ms: u64,
    /// In how many milliseconds the next call will be let through, if no other comes: 0 if it would be now,
    /// none if the limit is 0.
    pub retry_after_ms: Option<u64>,
}

/// Calls that were let through within one bucket of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    /// Where it ends; every call in it is earlier. In milliseconds.
    end_ms: u64,
    count: u64,
}

/// The calls of one key that still count, oldest bucket first.
///
/// A call counts until the whole bucket that it is in lies before the window: so at most a bucket longer than
/// needed, and never shorter. Buckets of different sizes may follow each other, as the bindings of a
/// namespace may differ; none ends before the one before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    buckets: VecDeque<Bucket>,
    total: u64,
}

impl Window {
    /// Decides about a call at `now_ms`, which never goes back, and counts it if it is let through.
    pub fn call(&mut self, limits: &Limits, now_ms: u64) -> Decision {
        self.forget(limits.period_ms, now_ms);
        let success = self.room(limits, now_ms) > 0;
        if success {
            self.count(limits, now_ms);
        }
        Decision {
            success,
            limit: limits.limit,
            remaining: self.room(limits, now_ms),
            reset_ms: self.idle_at_ms(limits.period_ms).saturating_sub(now_ms),
            retry_after_ms: self.retry_after(limits, now_ms),
        }
    }

    /// Drops the buckets that lie before the window.
    fn forget(&mut self, period_ms: u64, now_ms: u64) {
        while let Some(first) = self.buckets.front() {
            if first.end_ms + period_ms > now_ms {
                return;
            }
            self.total -= first.count;
            self.buckets.pop_front();
        }
    }

    fn count(&mut self, limits: &Limits, now_ms: u64) {
        self.total += 1;
        match self.buckets.back_mut() {
            Some(last) if now_ms < last.end_ms => last.count += 1,
            _ => {
                let end_ms = now_ms - now_ms % limits.bucket_ms + limits.bucket_ms;
                self.buckets.push_back(Bucket { end_ms, count: 1 });
            }
        }
    }

    /// How many more calls may pass now.
    fn room(&self, limits: &Limits, now_ms: u64) -> u64 {
        let room = limits.limit.saturating_sub(self.total);
        match limits.burst {
            Some(burst) if room > 0 => {
                room.min(burst.limit.saturating_sub(self.recent(burst.window_ms, now_ms)))
            }
            _ => room,
        }
    }

    /// Calls that count within the last `window_ms`.
    fn recent(&self, window_ms: u64, now_ms: u64) -> u64 {
        let counts = |bucket: &&Bucket| bucket.end_ms + window_ms > now_ms;
        self.buckets.iter().rev().take_while(counts).map(|bucket| bucket.count).sum()
    }

    fn retry_after(&self, limits: &Limits, now_ms: u64) -> Option<u64> {
        let mut at_ms = self.room_at(self.total, limits.limit, limits.period_ms, now_ms)?;
        if let Some(burst) = limits.burst {
            let recent = self.recent(burst.window_ms, now_ms);
            at_ms = at_ms.max(self.room_at(recent, burst.limit, burst.window_ms, now_ms)?);
        }
        Some(at_ms - now_ms)
    }

    /// When fewer than `limit` of the newest `counted` calls count within a window.
    fn room_at(&self, counted: u64, limit: u64, window_ms: u64, now_ms: u64) -> Option<u64> {
        if limit == 0 {
            return None;
        }
        let mut left = counted;
        let newest = self.buckets.iter().skip_while(|b| b.end_ms + window_ms <= now_ms);
        for bucket in newest {
            if left < limit {
                break;
            }
            left -= bucket.count.min(left);
            if left < limit {
                return Some(bucket.end_ms + window_ms);
            }
        }
        Some(now_ms)
    }

    /// Counts what `other` counts, too.
    pub fn add(&mut self, other: &Self) {
        for bucket in &other.buckets {
            let place = self.buckets.partition_point(|own| own.end_ms < bucket.end_ms);
            match self.buckets.get_mut(place) {
                Some(own) if own.end_ms == bucket.end_ms => own.count += bucket.count,
                _ => self.buckets.insert(place, *bucket),
            }
        }
        self.total += other.total;
    }

    /// From when on nothing is counted, if no more calls come.
    pub fn idle_at_ms(&self, period_ms: u64) -> u64 {
        self.buckets.back().map_or(0, |last| last.end_ms + period_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(limit: u64, period: f64) -> Limits {
        Limits::simple(limit, period).unwrap()
    }

    #[test]
    fn what_remains_is_counted_down_and_comes_back() {
        let limits = limits(3, 10.0).with_bucket(1.0).unwrap();
        let mut window = Window::default();
        let mut at = |now| window.call(&limits, now);
        assert_eq!(
            at(1_500),
            Decision { success: true, limit: 3, remaining: 2, reset_ms: 10_500, retry_after_ms: Some(0) }
        );
        assert_eq!(at(1_600).remaining, 1);
        let third = at(4_000);
        assert_eq!((third.success, third.remaining, third.retry_after_ms), (true, 0, Some(8_000)));
        let refused = at(11_999);
        assert_eq!((refused.success, refused.retry_after_ms), (false, Some(1)));
        let again = at(12_000);
        assert_eq!((again.success, again.remaining), (true, 1));
    }

    #[test]
    fn a_burst_is_stopped_before_the_limit_is_reached() {
        let limits = limits(100, 60.0).with_burst(2, 1.0).unwrap().with_bucket(0.5).unwrap();
        let mut window = Window::default();
        assert_eq!(window.call(&limits, 0).remaining, 1);
        assert_eq!(window.call(&limits, 10).remaining, 0);
        let third = window.call(&limits, 20);
        assert_eq!((third.success, third.retry_after_ms), (false, Some(1_480)));
        assert!(window.call(&limits, 1_500).success);
    }

    #[test]
    fn a_limit_of_nothing_lets_nothing_through() {
        let decision = Window::default().call(&limits(0, 10.0), 5);
        assert_eq!((decision.success, decision.remaining, decision.retry_after_ms), (false, 0, None));
    }

    /// Limits, and calls as the milliseconds since the one before.
    fn case() -> impl Strategy<Value = (Limits, Vec<u64>)> {
        let limits = (1u64..30, 1u64..20_000, 0.0..1.0f64, any::<bool>(), 1u64..20, 0.01..1.0f64).prop_map(
            |(limit, period_ms, bucket, bursts, burst, burst_window)| {
                let period = period_ms as f64 / 1000.0;
                let mut limits = Limits::simple(limit, period).unwrap();
                if bursts {
                    limits = limits.with_burst(burst, period * burst_window).unwrap();
                }
                let longest = limits.burst.map_or(period_ms, |b| b.window_ms) as f64 / 1000.0;
                limits.with_bucket(bucket * longest).unwrap_or(limits)
            },
        );
        limits.prop_flat_map(|limits| {
            let gap = limits.period_ms * 2 / limits.limit.max(1) + 2;
            (Just(limits), proptest::collection::vec(0..gap, 1..200))
        })
    }

    /// The most of `passed` in any window of `length`: the fullest begins at one of them.
    fn fullest(passed: &[u64], length: u64) -> u64 {
        let within = |start: &u64| passed.iter().filter(|t| *t >= start && **t < start + length).count();
        passed.iter().map(within).max().unwrap_or(0) as u64
    }

    proptest! {
        #[test]
        fn no_window_wherever_it_begins_lets_more_than_the_limit_through((limits, gaps) in case()) {
            let (mut window, mut now, mut passed) = (Window::default(), 1_000_000, Vec::new());
            for gap in gaps {
                now += gap;
                let decision = window.call(&limits, now);
                prop_assert_eq!(decision.success || decision.retry_after_ms != Some(0), true);
                if decision.success { passed.push(now); }
            }
            prop_assert!(fullest(&passed, limits.period_ms) <= limits.limit);
            if let Some(burst) = limits.burst {
                prop_assert!(fullest(&passed, burst.window_ms) <= burst.limit);
            }
        }

        #[test]
        fn bindings_that_share_a_counter_each_keep_their_limit(
            gaps in proptest::collection::vec((0u64..900, any::<bool>()), 1..200),
        ) {
            let coarse = limits(8, 10.0).with_bucket(3.0).unwrap();
            let fine = limits(5, 10.0).with_bucket(0.1).unwrap();
            let (mut window, mut now, mut passed) = (Window::default(), 77, Vec::new());
            for (gap, which) in gaps {
                now += gap;
                let limits = if which { coarse } else { fine };
                if window.call(&limits, now).success {
                    passed.push(now);
                    let recent = passed.iter().filter(|t| **t + 10_000 > now).count() as u64;
                    prop_assert!(recent <= limits.limit);
                }
            }
        }

        #[test]
        fn a_call_passes_when_the_refusal_said_it_would((limits, gaps) in case()) {
            let (mut window, mut now) = (Window::default(), 5_000);
            for gap in gaps {
                now += gap;
                let before = window.clone();
                let decision = window.call(&limits, now);
                if !decision.success {
                    let wait = decision.retry_after_ms.unwrap();
                    prop_assert!(before.clone().call(&limits, now + wait).success);
                    prop_assert!(!before.clone().call(&limits, now + wait - 1).success);
                }
                prop_assert!(window.buckets.len() as u64 <= limits.period_ms / limits.bucket_ms + 2);
                prop_assert_eq!(window.total, window.buckets.iter().map(|b| b.count).sum::<u64>());
            }
        }
    }
}
