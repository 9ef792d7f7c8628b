//! Which messages are under delivery, and where to look for those that are not.

use std::collections::HashSet;

/// Where a message is in the order of delivery: when it is due, and its number.
pub(crate) type Place = (i64, i64);

/// Messages under delivery of one queue.
///
/// There may be 25,000 of them, in front of all others: so a look begins behind the last one that was taken, and who sets a message
/// free, or adds one, says where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    seqs: HashSet<i64>,
    /// Whatever is due up to here is under delivery.
    taken: Option<Place>,
}

impl Leases {
    /// Their numbers.
    pub fn seqs(&self) -> &HashSet<i64> {
        &self.seqs
    }

    /// Behind which place there may be free ones, at `now_ms`.
    pub fn taken(&self, now_ms: i64) -> Option<Place> {
        // The clock was set back: what comes now may be due before.
        self.taken.filter(|(due, _)| *due <= now_ms)
    }

    /// Takes messages: all that were free up to the last of them.
    pub fn take(&mut self, places: &[Place]) {
        self.seqs.extend(places.iter().map(|(_, seq)| seq));
        self.taken = places.last().copied();
    }

    /// Gives messages back, of which those that are still there are due at `due_ms` or later.
    pub fn give_back(&mut self, seqs: &[i64], due_ms: i64) {
        for seq in seqs {
            self.seqs.remove(seq);
        }
        self.free_from(due_ms);
    }

    /// There may be free ones that are due at `due_ms` or later.
    pub fn free_from(&mut self, due_ms: i64) {
        // Numbers begin at 0.
        self.taken = self.taken.map(|taken| taken.min((due_ms, -1)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Event {
        Sent(i64),
        Taken(usize),
        Retried(usize, i64),
        Removed(usize),
        Later(i64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0i64..4).prop_map(Event::Sent),
            (1usize..4).prop_map(Event::Taken),
            (any::<usize>(), 0i64..4).prop_map(|(which, delay)| Event::Retried(which, delay)),
            any::<usize>().prop_map(Event::Removed),
            (-2i64..4).prop_map(Event::Later),
        ]
    }

    proptest! {
        /// A look behind what was taken finds what a look at everything finds.
        #[test]
        fn nothing_that_is_free_is_passed_over(events in proptest::collection::vec(event(), 1..60)) {
            let mut leases = Leases::default();
            let (mut rows, mut now, mut next) = (BTreeSet::<Place>::new(), 100, 0);
            for event in events {
                let held: Vec<Place> = rows.iter().filter(|(_, seq)| leases.seqs().contains(seq)).copied().collect();
                match event {
                    Event::Sent(delay) => {
                        rows.insert((now + delay, next));
                        next += 1;
                        leases.free_from(now + delay);
                    }
                    Event::Taken(count) => {
                        let free = |place: &&Place| place.0 <= now && !leases.seqs().contains(&place.1);
                        let all: Vec<Place> = rows.iter().filter(free).take(count).copied().collect();
                        let taken = leases.taken(now);
                        let behind = rows.iter().filter(|place| taken.is_none_or(|taken| **place > taken));
                        let found: Vec<Place> = behind.filter(free).take(count).copied().collect();
                        prop_assert_eq!(&found, &all);
                        if !found.is_empty() {
                            leases.take(&found);
                        }
                    }
                    Event::Retried(which, delay) if !held.is_empty() => {
                        let place = held[which % held.len()];
                        rows.remove(&place);
                        rows.insert((now + delay, place.1));
                        leases.give_back(&[place.1], now + delay);
                    }
                    Event::Removed(which) if !held.is_empty() => {
                        let place = held[which % held.len()];
                        rows.remove(&place);
                        leases.give_back(&[place.1], i64::MAX);
                    }
                    Event::Later(by) => now += by,
                    _ => {}
                }
            }
        }
    }
}
