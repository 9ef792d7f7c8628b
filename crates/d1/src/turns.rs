//! Queries that take long compute in turns, few at once whatever there is of databases: else who has many of them, each with a
//! query that does not end, would have the whole machine. Databases take turns, not queries.

use std::collections::VecDeque;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Those of this process: half of the cores are left to what is not a query.
pub(crate) static TURNS: LazyLock<Turns> = LazyLock::new(|| Turns::new(skep_runtime::half_of_the_cores()));

/// Those of statements that ask a full-text index and write: they cannot run elsewhere, and nobody can stop them.
pub(crate) static SEARCHES: LazyLock<Turns> = LazyLock::new(|| Turns::new(1));

/// Who waits for a turn: queries by their database. The database that waits longest comes first.
#[derive(Debug, Default)]
struct Line {
    free: usize,
    next: u64,
    waiting: VecDeque<(u64, VecDeque<u64>)>,
}

impl Line {
    fn join(&mut self, database: u64) -> u64 {
        self.next += 1;
        match self.waiting.iter_mut().find(|(other, _)| *other == database) {
            Some((_, queries)) => queries.push_back(self.next),
            None => self.waiting.push_back((database, [self.next].into())),
        }
        self.next
    }

    /// Takes a turn, if it is this query's.
    fn take(&mut self, query: u64) -> bool {
        if self.free == 0 || self.waiting.front().and_then(|(_, queries)| queries.front()) != Some(&query) {
            return false;
        }
        if let Some((database, mut queries)) = self.waiting.pop_front() {
            queries.pop_front();
            if !queries.is_empty() {
                self.waiting.push_back((database, queries));
            }
        }
        self.free -= 1;
        true
    }

    fn leave(&mut self, query: u64) {
        for (_, queries) in &mut self.waiting {
            queries.retain(|other| *other != query);
        }
        self.waiting.retain(|(_, queries)| !queries.is_empty());
    }
}

/// Some turns at once.
#[derive(Debug)]
pub(crate) struct Turns {
    line: Mutex<Line>,
    changed: Condvar,
}

impl Turns {
    fn new(at_once: usize) -> Self {
        Self { line: Mutex::new(Line { free: at_once, ..Line::default() }), changed: Condvar::new() }
    }

    /// Waits for a turn of a query of `database`, for at most `patience`; returns whether it has one.
    pub fn take(&self, database: u64, patience: Duration) -> bool {
        let mut line = self.line();
        let query = line.join(database);
        let (mut line, _) = self
            .changed
            .wait_timeout_while(line, patience, |line| !line.take(query))
            .unwrap_or_else(PoisonError::into_inner);
        // The one before may have been taken at the last moment, and then it is in no line.
        let has = !line.waiting.iter().any(|(_, queries)| queries.contains(&query));
        if !has {
            line.leave(query);
        }
        drop(line);
        // There may be more than one to take.
        self.changed.notify_all();
        has
    }

    /// The same; the turn is given back when the result is dropped.
    pub fn turn(&self, database: u64, patience: Duration) -> Option<Turn<'_>> {
        self.take(database, patience).then_some(Turn(self))
    }

    /// Gives a turn back.
    pub fn give_back(&self) {
        self.line().free += 1;
        self.changed.notify_all();
    }

    /// Whether somebody waits for one.
    pub fn are_wanted(&self) -> bool {
        !self.line().waiting.is_empty()
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A turn that somebody has.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_take_turns_however_many_queries_they_have() {
        let mut line = Line { free: 1, ..Line::default() };
        let [a, b, c] = [1, 1, 1].map(|database| line.join(database));
        let other = line.join(2);
        let mut order = Vec::new();
        while !line.waiting.is_empty() {
            let next = [a, b, c, other].into_iter().find(|query| line.take(*query)).unwrap();
            assert!([a, b, c, other].into_iter().all(|query| !line.take(query)), "there is one at a time");
            order.push(next);
            line.free += 1;
        }
        assert_eq!(order, [a, other, b, c]);
    }

    #[test]
    fn who_waits_no_longer_holds_nobody_up() {
        let turns = Turns::new(1);
        assert!(turns.take(1, Duration::ZERO));
        assert!(!turns.take(1, Duration::from_millis(5)));
        assert!(!turns.are_wanted());
        turns.give_back();
        assert!(turns.take(2, Duration::from_secs(9)));
    }

    #[test]
    fn as_many_compute_as_there_are_turns() {
        let (turns, inside) = (Turns::new(2), Mutex::new((0, 0)));
        std::thread::scope(|scope| {
            for database in 0..8 {
                let (turns, inside) = (&turns, &inside);
                scope.spawn(move || {
                    for _ in 0..200 {
                        assert!(turns.take(database % 3, Duration::from_secs(60)));
                        let mut count = inside.lock().unwrap();
                        count.0 += 1;
                        count.1 = count.1.max(count.0);
                        drop(count);
                        std::thread::yield_now();
                        inside.lock().unwrap().0 -= 1;
                        turns.give_back();
                    }
                });
            }
        });
        assert!(matches!(inside.into_inner().unwrap(), (0, 1..=2)));
    }
}
