//! A part of all keys: their counters, and what happens when there are too many.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};

use crate::limits::Limits;
use crate::window::{Decision, Window};

/// What a counter counts: a hash of namespace, key and period. A long key takes no more room than a short
/// one.
pub(crate) type CounterId = [u8; 16];

#[derive(Debug)]
struct Counter {
    window: Window,
    period_ms: u64,
}

/// The counters whose ids fall here. All costs are independent of how many there are, or logarithmic.
#[derive(Debug)]
pub(crate) struct Shard {
    counters: HashMap<CounterId, Counter>,
    /// When to look whether a counter is idle: one entry for each, not later than it can be.
    idle: BinaryHeap<Reverse<(u64, CounterId)>>,
    /// What is counted for keys that found no room, by namespace and period.
    overflow: HashMap<CounterId, Counter>,
    capacity: usize,
    now_ms: u64,
    wall_ms: u64,
}

impl Shard {
    pub fn new(capacity: usize) -> Self {
        let (counters, idle, overflow) = Default::default();
        Self { counters, idle, overflow, capacity, now_ms: 0, wall_ms: 0 }
    }

    /// Decides about a call. `shared` stands for its namespace and period.
    pub fn call(&mut self, id: CounterId, shared: CounterId, limits: &Limits, wall_ms: u64) -> Decision {
        let now_ms = self.tick(wall_ms);
        if let Some(counter) = self.counters.get_mut(&id) {
            return counter.window.call(limits, now_ms);
        }
        if self.counters.len() >= self.capacity {
            self.evict(now_ms, 2);
        }
        let period_ms = limits.period_ms;
        if self.counters.len() >= self.capacity {
            let fresh = || Counter { window: Window::default(), period_ms };
            return self.overflow.entry(shared).or_insert_with(fresh).window.call(limits, now_ms);
        }
        // The key may have been counted with others while there was no room: so that count is its own too.
        let mut window = match self.overflow.get(&shared) {
            Some(counter) if counter.window.idle_at_ms(period_ms) > now_ms => counter.window.clone(),
            _ => Window::default(),
        };
        let decision = window.call(limits, now_ms);
        let idle_at_ms = window.idle_at_ms(period_ms);
        if idle_at_ms > now_ms
            && let Entry::Vacant(place) = self.counters.entry(id)
        {
            place.insert(Counter { window, period_ms });
            self.idle.push(Reverse((idle_at_ms, id)));
        }
        decision
    }

    /// Removes what counts nothing any more; returns how many counters are left.
    pub fn clean_up(&mut self, wall_ms: u64) -> usize {
        let now_ms = self.tick(wall_ms);
        self.evict(now_ms, usize::MAX);
        self.overflow.retain(|_, counter| counter.window.idle_at_ms(counter.period_ms) > now_ms);
        if self.counters.len() * 4 < self.counters.capacity() {
            self.counters.shrink_to(self.counters.len() * 2);
            self.idle.shrink_to(self.idle.len() * 2);
        }
        self.counters.len()
    }

    /// Removes up to `most` idle counters; never one that still counts something.
    fn evict(&mut self, now_ms: u64, most: usize) {
        let mut removed = 0;
        while removed < most
            && let Some(Reverse((at_ms, id))) = self.idle.peek().copied()
            && at_ms <= now_ms
        {
            self.idle.pop();
            let Some(counter) = self.counters.get(&id) else { continue };
            let idle_at_ms = counter.window.idle_at_ms(counter.period_ms);
            if idle_at_ms <= now_ms {
                self.counters.remove(&id);
                removed += 1;
            } else {
                self.idle.push(Reverse((idle_at_ms, id)));
            }
        }
    }

    /// The time of the counters: it follows the wall clock, but stands still for a moment where that is
    /// set back, so that no window is ever shortened, nor anybody locked out for long.
    fn tick(&mut self, wall_ms: u64) -> u64 {
        if self.now_ms == 0 {
            self.now_ms = wall_ms;
        } else {
            self.now_ms += wall_ms.saturating_sub(self.wall_ms);
        }
        self.wall_ms = wall_ms;
        self.now_ms
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMESPACE: CounterId = [255; 16];

    fn id(n: u8) -> CounterId {
        [n; 16]
    }

    #[test]
    fn where_there_is_no_room_new_keys_share_one_counter() {
        let limits = Limits::simple(2, 10.0).unwrap();
        let mut shard = Shard::new(2);
        let mut passes = |n, now| shard.call(id(n), NAMESPACE, &limits, now).success;
        assert!(passes(1, 1_000) && passes(2, 1_000));
        assert!(passes(3, 5_000) && passes(4, 5_000));
        assert!(!passes(5, 5_100), "three keys beyond the room share a limit of two");
        assert!(passes(1, 5_200), "who has a counter keeps it");
        assert!(!passes(4, 11_400), "key 2 made room for key 4, which inherits what was counted");
        assert!(passes(4, 15_400));
    }

    #[test]
    fn a_clock_that_is_set_back_neither_opens_a_window_nor_locks_anybody_out() {
        let limits = Limits::simple(1, 10.0).unwrap();
        let mut shard = Shard::new(8);
        let mut passes = |now| shard.call(id(1), NAMESPACE, &limits, now).success;
        assert!(passes(1_000_000));
        assert!(!passes(500_000));
        assert!(!passes(509_000));
        assert!(passes(511_000));
    }

    #[test]
    fn idle_counters_are_cleaned_up_and_active_ones_stay() {
        let limits = Limits::simple(5, 10.0).unwrap();
        let mut shard = Shard::new(100);
        for n in 0..50 {
            shard.call(id(n), NAMESPACE, &limits, 1_000);
        }
        shard.call(id(7), NAMESPACE, &limits, 9_000);
        assert_eq!(shard.clean_up(9_500), 50);
        assert_eq!(shard.clean_up(12_000), 1);
        assert_eq!(shard.clean_up(30_000), 0);
        assert!(shard.idle.is_empty());
    }

    proptest! {
        #[test]
        fn no_key_gets_more_than_its_limit_however_full_it_is(
            capacity in 1usize..4,
            calls in proptest::collection::vec((0u8..8, 0u64..1_500, any::<bool>()), 1..300),
        ) {
            let limits = Limits::simple(3, 5.0).unwrap();
            let mut shard = Shard::new(capacity);
            let mut passed: HashMap<u8, Vec<u64>> = HashMap::new();
            let mut now = 1_000;
            for (key, gap, clean) in calls {
                now += gap;
                if clean { shard.clean_up(now); }
                if shard.call(id(key), NAMESPACE, &limits, now).success {
                    passed.entry(key).or_default().push(now);
                }
                prop_assert!(shard.counters.len() <= capacity);
                prop_assert_eq!(shard.idle.len(), shard.counters.len());
            }
            for times in passed.values() {
                for start in times {
                    prop_assert!(times.iter().filter(|t| *t >= start && **t < start + 5_000).count() <= 3);
                }
            }
        }
    }
}
