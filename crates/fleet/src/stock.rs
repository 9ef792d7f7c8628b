//! Which engines wait for a configuration, and which should: decisions without processes.
//!
//! What a process may do is fixed before it is the engine, so there are kinds of them. Those that wait are to be of the
//! kinds that were asked for last, so the next burst finds what the last one needed.

use std::collections::VecDeque;

/// What a waiting engine may do for whoever gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// Whether it may open connections to other machines.
    pub network: bool,
    /// Whether dispatchers can call it over RPC.
    pub dispatched: bool,
    /// Whether it listens for DevTools.
    pub inspector: bool,
}

impl Kind {
    /// Those that there are.
    #[cfg(test)]
    const ALL: [Self; 4] = [
        Self { network: true, dispatched: false, inspector: false },
        Self { network: true, dispatched: true, inspector: false },
        Self { network: false, dispatched: false, inspector: false },
        Self { network: true, dispatched: false, inspector: true },
    ];
}

/// Engines that wait, each a `T`.
#[derive(Debug)]
pub(crate) struct Stock<T> {
    most: usize,
    waiting: Vec<(Kind, T)>,
    /// The kinds that were asked for last, as many as may wait.
    wishes: VecDeque<Kind>,
}

/// What to do for the stock.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Need<T> {
    /// Nothing.
    Nothing,
    /// Start one.
    More(Kind),
    /// End this one: others are asked for.
    Less(T),
}

impl<T> Stock<T> {
    /// So many at most. Until they are asked for they are of the `first` kind, or there are none.
    pub fn new(most: usize, first: Option<Kind>) -> Self {
        let mut this = Self { most, waiting: Vec::new(), wishes: VecDeque::new() };
        first.into_iter().for_each(|kind| this.wish(kind));
        this
    }

    /// One of that kind is asked for; who asks first is taken for an example.
    fn wish(&mut self, kind: Kind) {
        if self.wishes.is_empty() {
            self.wishes = std::iter::repeat_n(kind, self.most).collect();
        } else {
            self.wishes.pop_front();
            self.wishes.push_back(kind);
        }
    }

    /// Has no more of them started, and gives away those that wait.
    pub fn close(&mut self) -> Vec<T> {
        self.most = 0;
        self.wishes.clear();
        std::mem::take(&mut self.waiting).into_iter().map(|(_, one)| one).collect()
    }

    /// Gives one of that kind away, and takes note that it is asked for.
    pub fn take(&mut self, kind: Kind) -> Option<T> {
        self.wish(kind);
        let place = self.waiting.iter().position(|(other, _)| *other == kind)?;
        Some(self.waiting.remove(place).1)
    }

    /// Another one waits.
    pub fn put(&mut self, kind: Kind, one: T) {
        self.waiting.push((kind, one));
    }

    /// Whether none may wait.
    pub fn is_closed(&self) -> bool {
        self.most == 0
    }

    /// What to do next.
    pub fn need(&mut self) -> Need<T> {
        let lacking = self.wishes.iter().find(|kind| self.lacks(**kind) > 0).copied();
        match lacking {
            None => Need::Nothing,
            Some(kind) if self.waiting.len() < self.most => Need::More(kind),
            Some(_) => match self.waiting.iter().position(|(kind, _)| self.lacks(*kind) < 0) {
                Some(place) => Need::Less(self.waiting.remove(place).1),
                None => Need::Nothing,
            },
        }
    }

    /// Takes out those that `keep` says no to.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) -> Vec<T> {
        let (kept, gone) = std::mem::take(&mut self.waiting).into_iter().partition(|(_, one)| keep(one));
        self.waiting = kept;
        gone.into_iter().map(|(_, one)| one).collect()
    }

    /// How many more of a kind should wait than do.
    fn lacks(&self, kind: Kind) -> isize {
        let wished = self.wishes.iter().filter(|other| **other == kind).count();
        let has = self.waiting.iter().filter(|(other, _)| *other == kind).count();
        wished.cast_signed() - has.cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORDINARY: Kind = Kind::ALL[0];
    const DISPATCHED: Kind = Kind::ALL[1];

    /// Fills it; returns how many were started.
    fn fill(stock: &mut Stock<u32>) -> u32 {
        let mut started = 0;
        for _ in 0..1000 {
            match stock.need() {
                Need::Nothing => return started,
                Need::More(kind) => {
                    stock.put(kind, started);
                    started += 1;
                }
                Need::Less(_) => {}
            }
        }
        panic!("it never has enough");
    }

    #[test]
    fn what_was_asked_for_last_waits() {
        let mut stock = Stock::new(3, Some(ORDINARY));
        assert_eq!(fill(&mut stock), 3);
        assert!((0..3).all(|_| stock.take(ORDINARY).is_some()));
        assert_eq!(stock.take(ORDINARY), None);
        assert_eq!(fill(&mut stock), 3);
        for _ in 0..5 {
            assert_eq!(stock.take(DISPATCHED), None);
        }
        // Those that nobody asks for any more make room.
        assert_eq!(fill(&mut stock), 3);
        assert!((0..3).all(|_| stock.take(DISPATCHED).is_some()));
    }

    #[test]
    fn where_nobody_has_asked_yet_none_waits() {
        let mut stock = Stock::new(2, None);
        assert_eq!(fill(&mut stock), 0);
        assert_eq!(stock.take(DISPATCHED), None);
        assert_eq!(fill(&mut stock), 2);
        assert!((0..2).all(|_| stock.take(DISPATCHED).is_some()));
    }

    #[test]
    fn kinds_that_take_turns_do_not_push_each_other_out() {
        let mut stock = Stock::new(4, Some(ORDINARY));
        for _ in 0..4 {
            stock.take(ORDINARY);
            stock.take(DISPATCHED);
        }
        fill(&mut stock);
        for _ in 0..10 {
            assert!(stock.take(ORDINARY).is_some() && stock.take(DISPATCHED).is_some());
            assert_eq!(fill(&mut stock), 2);
        }
    }

    #[test]
    fn none_at_all_is_none() {
        let mut stock = Stock::new(0, Some(ORDINARY));
        assert_eq!(fill(&mut stock), 0);
        assert_eq!(stock.take(ORDINARY), None);
        assert_eq!(fill(&mut stock), 0);
    }

    #[test]
    fn one_that_ended_is_replaced() {
        let mut stock = Stock::new(2, Some(ORDINARY));
        fill(&mut stock);
        assert_eq!(stock.retain(|one| *one != 0), [0]);
        assert_eq!(fill(&mut stock), 1);
    }

    proptest! {
        #[test]
        fn a_full_stock_holds_what_the_last_wishes_were(most in 0_usize..6, wishes in proptest::collection::vec(0_usize..4, 0..30)) {
            let mut stock = Stock::new(most, Some(ORDINARY));
            for wish in &wishes {
                stock.take(Kind::ALL[*wish]);
                fill(&mut stock);
                prop_assert_eq!(stock.waiting.len(), most);
            }
            for wish in wishes.iter().rev().take(most) {
                prop_assert!(stock.take(Kind::ALL[*wish]).is_some());
            }
        }
    }
}
