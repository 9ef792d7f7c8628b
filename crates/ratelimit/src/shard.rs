//! A part of all keys: their counters, and what happens when there are too many.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use crate::limits::Limits;
use crate::window::{Decision, Window};

/// What a counter counts: a hash of namespace, key and period. A long key takes no more room than a short
/// one.
pub(crate) type CounterId = [u8; 16];

#[derive(Debug)]
struct Counter {
    window: Window,
    period_ms: u64,
    /// Its namespace and period.
    shared: CounterId,
    /// Where it stands among those of its namespace.
    place: usize,
    /// Of its entry in the heap: an entry with another time is of a counter that is gone.
    look_at_ms: u64,
}

/// What is counted for keys without a counter of their own.
#[derive(Debug, Default)]
struct Together {
    window: Window,
    period_ms: u64,
}

/// The counters whose ids fall here. All costs are independent of how many there are, or logarithmic.
#[derive(Debug)]
pub(crate) struct Shard {
    counters: HashMap<CounterId, Counter>,
    /// When to look whether a counter is idle: one entry for each, not later than it can be.
    idle: BinaryHeap<Reverse<(u64, CounterId)>>,
    /// The counters of each namespace and period.
    namespaces: HashMap<CounterId, Vec<CounterId>>,
    /// The namespaces by how many they have.
    by_size: BTreeSet<(usize, CounterId)>,
    /// What is counted for keys that found no room, or lost theirs, by namespace and period.
    overflow: HashMap<CounterId, Together>,
    capacity: usize,
    now_ms: u64,
    wall_ms: u64,
}

impl Shard {
    pub fn new(capacity: usize) -> Self {
        let (counters, idle, namespaces, by_size, overflow) = Default::default();
        Self { counters, idle, namespaces, by_size, overflow, capacity, now_ms: 0, wall_ms: 0 }
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
        if self.counters.len() >= self.capacity && !self.displace(&shared) {
            return self.together(shared, period_ms).window.call(limits, now_ms);
        }
        // The key may have been counted with others while there was no room: so that count is its own too.
        let mut window = match self.overflow.get(&shared) {
            Some(together) if together.window.idle_at_ms(period_ms) > now_ms => together.window.clone(),
            _ => Window::default(),
        };
        let decision = window.call(limits, now_ms);
        let look_at_ms = window.idle_at_ms(period_ms);
        if look_at_ms > now_ms {
            self.insert(id, Counter { window, period_ms, shared, place: 0, look_at_ms });
        }
        decision
    }

    fn together(&mut self, shared: CounterId, period_ms: u64) -> &mut Together {
        self.overflow.entry(shared).or_insert_with(|| Together { period_ms, ..Together::default() })
    }

    /// Makes room for a key of the namespace `shared` if another one has more keys than it would have then: that one loses a counter, and what it
    /// counted is counted for all of its keys that have none. So a namespace with very many keys tightens its own limits, not those of others.
    fn displace(&mut self, shared: &CounterId) -> bool {
        let own = self.namespaces.get(shared).map_or(0, Vec::len);
        let Some((most, largest)) = self.by_size.last().copied() else { return false };
        let victim = self.namespaces.get(&largest).and_then(|ids| ids.last()).copied();
        let Some(counter) = victim.filter(|_| most > own + 1).and_then(|id| self.remove(&id)) else {
            return false;
        };
        self.together(largest, counter.period_ms).window.add(&counter.window);
        true
    }

    fn insert(&mut self, id: CounterId, mut counter: Counter) {
        let ids = self.namespaces.entry(counter.shared).or_default();
        counter.place = ids.len();
        ids.push(id);
        self.by_size.remove(&(ids.len() - 1, counter.shared));
        self.by_size.insert((ids.len(), counter.shared));
        self.idle.push(Reverse((counter.look_at_ms, id)));
        self.counters.insert(id, counter);
    }

    /// Its entry in the heap stays until its time.
    fn remove(&mut self, id: &CounterId) -> Option<Counter> {
        let counter = self.counters.remove(id)?;
        if let Some(ids) = self.namespaces.get_mut(&counter.shared) {
            self.by_size.remove(&(ids.len(), counter.shared));
            ids.swap_remove(counter.place);
            if let Some(moved) = ids.get(counter.place).and_then(|id| self.counters.get_mut(id)) {
                moved.place = counter.place;
            }
            match ids.len() {
                0 => drop(self.namespaces.remove(&counter.shared)),
                left => drop(self.by_size.insert((left, counter.shared))),
            }
        }
        Some(counter)
    }

    /// Removes what counts nothing any more; returns how many counters are left.
    pub fn clean_up(&mut self, wall_ms: u64) -> usize {
        let now_ms = self.tick(wall_ms);
        self.evict(now_ms, usize::MAX);
        self.overflow.retain(|_, together| together.window.idle_at_ms(together.period_ms) > now_ms);
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
            let Some(counter) = self.counters.get_mut(&id).filter(|it| it.look_at_ms == at_ms) else {
                continue;
            };
            let idle_at_ms = counter.window.idle_at_ms(counter.period_ms);
            if idle_at_ms <= now_ms {
                self.remove(&id);
                removed += 1;
            } else {
                counter.look_at_ms = idle_at_ms;
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
    fn a_namespace_with_very_many_keys_takes_the_room_of_none() {
        let limits = Limits::simple(1, 10.0).unwrap();
        let mut shard = Shard::new(8);
        let mut passes = |namespace: u8, key: u8, now| {
            let mut id = id(key);
            id[1] = namespace;
            shard.call(id, [namespace; 16], &limits, now).success
        };
        for key in 0..50 {
            passes(1, key, 1_000);
        }
        // Four keys of another one each have a limit of their own, as half of the room is theirs.
        for key in 0..4 {
            assert!(passes(2, key, 1_100), "{key}");
            assert!(!passes(2, key, 1_200), "{key}");
        }
        assert!(passes(2, 4, 1_300) && !passes(2, 5, 1_300), "beyond that they share one");
        assert!(!passes(1, 60, 1_400), "who has no room is counted with those who lost theirs");
        for key in 0..50 {
            assert!(!passes(1, key, 1_500), "{key}");
        }
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
            calls in proptest::collection::vec((0u8..3, 0u8..8, 0u64..1_500, any::<bool>()), 1..300),
        ) {
            let limits = Limits::simple(3, 5.0).unwrap();
            let mut shard = Shard::new(capacity);
            let mut passed: HashMap<CounterId, Vec<u64>> = HashMap::new();
            let mut now = 1_000;
            for (namespace, key, gap, clean) in calls {
                now += gap;
                if clean { shard.clean_up(now); }
                let mut id = id(key);
                id[1] = namespace;
                if shard.call(id, [100 + namespace; 16], &limits, now).success {
                    passed.entry(id).or_default().push(now);
                }
                prop_assert!(shard.counters.len() <= capacity);
                let listed: usize = shard.namespaces.values().map(Vec::len).sum();
                let sized: usize = shard.by_size.iter().map(|(size, _)| size).sum();
                prop_assert_eq!((listed, sized), (shard.counters.len(), shard.counters.len()));
                for (id, counter) in &shard.counters {
                    prop_assert_eq!(&shard.namespaces[&counter.shared][counter.place], id);
                    let entry = Reverse((counter.look_at_ms, *id));
                    prop_assert!(shard.idle.iter().any(|other| *other == entry));
                }
            }
            shard.clean_up(now + 20_000);
            prop_assert!(shard.idle.is_empty() && shard.by_size.is_empty() && shard.overflow.is_empty());
            for times in passed.values() {
                for start in times {
                    prop_assert!(times.iter().filter(|t| *t >= start && **t < start + 5_000).count() <= 3);
                }
            }
        }
    }
}
