//! Whose turn it is, while more want one than may have one at once: decisions without a clock.
//!
//! What is asked for by one (an account, a database) waits in one line. The next turn goes to the one with the fewest under way, and
//! among these to the one that has waited longest since it was last given one: whoever asks for hundreds waits behind himself.

use std::collections::{BTreeMap, VecDeque};

/// One turn.
pub(crate) type Ticket = u64;

/// Who waits and who has a turn.
#[derive(Debug)]
pub(crate) struct Lines {
    /// So many at once.
    most: usize,
    running: usize,
    lines: BTreeMap<u64, Line>,
    /// Tickets, and moments in the order in which things happen here.
    next: u64,
}

/// Those of one.
#[derive(Debug, Default)]
struct Line {
    running: usize,
    /// When it was last given a turn, or came.
    since: u64,
    waiting: VecDeque<Ticket>,
}

impl Lines {
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), running: 0, lines: BTreeMap::new(), next: 0 }
    }

    /// Another one of `who` waits from now on.
    pub fn ask(&mut self, who: u64) -> Ticket {
        let now = self.now();
        let line = self.lines.entry(who).or_insert_with(|| Line { since: now, ..Line::default() });
        line.waiting.push_back(now);
        now
    }

    /// The same, before the others of `who`, and after whoever waits now: one that has begun is to be over before another one begins.
    pub fn ask_again(&mut self, who: u64) -> Ticket {
        let now = self.now();
        let line = self.lines.entry(who).or_insert_with(|| Line { since: now, ..Line::default() });
        line.since = now;
        line.waiting.push_front(now);
        now
    }

    /// Whether anybody else than `who` waits.
    pub fn others_wait(&self, who: u64) -> bool {
        self.lines.iter().any(|(other, line)| *other != who && !line.waiting.is_empty())
    }

    /// Gives the next turn, if there is one to give and somebody waits.
    pub fn give(&mut self) -> Option<Ticket> {
        if self.running >= self.most {
            return None;
        }
        let now = self.now();
        let waiting = self.lines.values_mut().filter(|line| !line.waiting.is_empty());
        let line = waiting.min_by_key(|line| (line.running, line.since))?;
        let ticket = line.waiting.pop_front()?;
        line.running += 1;
        line.since = now;
        self.running += 1;
        Some(ticket)
    }

    /// A turn of `who` is over, or is given up while it waits.
    pub fn end(&mut self, who: u64, ticket: Ticket) {
        let Some(line) = self.lines.get_mut(&who) else { return };
        match line.waiting.iter().position(|waiting| *waiting == ticket) {
            Some(place) => drop(line.waiting.remove(place)),
            None => {
                line.running = line.running.saturating_sub(1);
                self.running = self.running.saturating_sub(1);
            }
        }
        if line.running == 0 && line.waiting.is_empty() {
            self.lines.remove(&who);
        }
    }

    /// Whether nobody has a turn, or waits for one.
    pub fn is_quiet(&self) -> bool {
        self.lines.is_empty()
    }

    fn now(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_start_is_not_behind_another_accounts_hundreds() {
        let mut turns = Lines::new(4);
        let many: Vec<Ticket> = (0..300).map(|_| turns.ask(1)).collect();
        let given: Vec<Ticket> = std::iter::from_fn(|| turns.give()).collect();
        assert_eq!(given, many[..4]);
        let one = turns.ask(2);
        assert_eq!(turns.give(), None);
        turns.end(1, many[0]);
        assert_eq!(turns.give(), Some(one));
    }

    #[test]
    fn accounts_share_the_turns() {
        let mut turns = Lines::new(1);
        let mut of = BTreeMap::new();
        for account in [1, 1, 1, 1, 2, 2, 3] {
            of.insert(turns.ask(account), account);
        }
        let mut order = Vec::new();
        while let Some(ticket) = turns.give() {
            order.push(of[&ticket]);
            turns.end(of[&ticket], ticket);
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 1, 1]);
    }

    #[test]
    fn what_has_begun_goes_on_before_the_next_of_its_own_begins_and_after_others() {
        let mut turns = Lines::new(1);
        let [first, second] = [turns.ask(1), turns.ask(1)];
        assert_eq!(turns.give(), Some(first));
        assert!(!turns.others_wait(1));
        let other = turns.ask(2);
        assert!(turns.others_wait(1));
        turns.end(1, first);
        let again = turns.ask_again(1);
        for (account, ticket) in [(2, other), (1, again), (1, second)] {
            assert_eq!(turns.give(), Some(ticket));
            turns.end(account, ticket);
        }
        assert!(turns.is_quiet());
    }

    #[test]
    fn who_comes_later_again_and_again_does_not_hold_up_who_waits() {
        let mut turns = Lines::new(1);
        let running = turns.ask(1);
        assert_eq!(turns.give(), Some(running));
        let waits = turns.ask(1);
        let mut last = (1, running);
        for account in 2..5 {
            let newcomer = turns.ask(account);
            turns.end(last.0, last.1);
            let given = turns.give().unwrap();
            if given == waits {
                return;
            }
            last = (account, newcomer);
        }
        panic!("three came later and went first");
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ask(u64),
        /// One that has a turn is over.
        End(usize),
        /// One that waits gives up.
        Leave(usize),
        /// One that has a turn lets others go first.
        Pause(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u64..5).prop_map(Step::Ask),
            any::<usize>().prop_map(Step::End),
            any::<usize>().prop_map(Step::Leave),
            any::<usize>().prop_map(Step::Pause)
        ]
    }

    proptest! {
        #[test]
        fn turns_are_given_fairly_and_none_is_lost(most in 1_usize..5, steps in proptest::collection::vec(step(), 1..200)) {
            let mut turns = Lines::new(most);
            let mut waiting: Vec<(u64, Ticket)> = Vec::new();
            let mut running: Vec<(u64, Ticket)> = Vec::new();
            // By account that waits: who has been given turns since it did.
            let mut passed: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Ask(account) => {
                        waiting.push((account, turns.ask(account)));
                        passed.entry(account).or_default();
                    }
                    Step::End(which) if !running.is_empty() => {
                        let (account, ticket) = running.remove(which % running.len());
                        turns.end(account, ticket);
                    }
                    Step::Leave(which) if !waiting.is_empty() => {
                        let (account, ticket) = waiting.remove(which % waiting.len());
                        turns.end(account, ticket);
                    }
                    Step::Pause(which) if !running.is_empty() => {
                        let (account, ticket) = running.remove(which % running.len());
                        turns.end(account, ticket);
                        let first = waiting.iter().position(|(other, _)| *other == account);
                        waiting.insert(first.unwrap_or(waiting.len()), (account, turns.ask_again(account)));
                        // It is behind all who wait now.
                        passed.insert(account, Vec::new());
                    }
                    _ => {}
                }
                while let Some(ticket) = turns.give() {
                    let place = waiting.iter().position(|(_, other)| *other == ticket).unwrap();
                    let (account, _) = waiting[place];
                    // The first of its line.
                    prop_assert!(waiting[..place].iter().all(|(other, _)| *other != account));
                    let count = |of: u64| running.iter().filter(|(other, _)| *other == of).count();
                    // Nobody who waits has fewer.
                    prop_assert!(waiting.iter().all(|(other, _)| count(*other) >= count(account)));
                    waiting.remove(place);
                    running.push((account, ticket));
                    for by in passed.values_mut() {
                        by.push(account);
                    }
                    passed.insert(account, Vec::new());
                }
                let still: BTreeSet<u64> = waiting.iter().map(|(account, _)| *account).collect();
                passed.retain(|account, _| still.contains(account));
                for (account, by) in &mut passed {
                    // Who has nothing under way sees each other account go first once at most.
                    if running.iter().any(|(other, _)| other == account) {
                        by.clear();
                    }
                    let since: BTreeSet<u64> = by.iter().copied().collect();
                    prop_assert_eq!(since.len(), by.len(), "{} waits while {:?} go", account, by);
                }
                // No turn is kept back.
                prop_assert!(running.len() <= most);
                prop_assert!(waiting.is_empty() || running.len() == most);
                prop_assert_eq!(turns.is_quiet(), waiting.is_empty() && running.is_empty());
            }
        }
    }
}
