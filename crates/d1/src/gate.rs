//! What lets all writers of a folder be stopped between two transactions.
//!
//! A transaction that takes long is not waited for: what is not committed is not there. It may not commit meanwhile.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long transactions may take to end, while no other one begins.
const PATIENCE: Duration = Duration::from_secs(5);

/// Transactions go through it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inside: usize,
    committing: usize,
    closed: usize,
    /// Nobody may commit.
    sealed: bool,
}

/// A transaction that runs.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a Gate);

/// A transaction that is being committed.
#[derive(Debug)]
pub(crate) struct Committing<'a>(&'a Gate);

/// Nothing is committed until this is dropped.
#[derive(Debug)]
pub(crate) struct Closed(Arc<Gate>);

impl Gate {
    /// Begins a transaction, once the gate is open.
    pub fn enter(&self) -> Inside<'_> {
        let mut state = self.lock();
        while state.closed > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.inside += 1;
        Inside(self)
    }

    /// Commits a transaction that is inside, once it may.
    pub fn commit(&self) -> Committing<'_> {
        let mut state = self.lock();
        while state.sealed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.committing += 1;
        Committing(self)
    }

    /// Closes the gate, and waits until nobody is inside, or whoever still is cannot commit.
    pub fn close(self: &Arc<Self>) -> Closed {
        self.close_within(PATIENCE)
    }

    fn close_within(self: &Arc<Self>, patience: Duration) -> Closed {
        let mut state = self.lock();
        state.closed += 1;
        let waited = self.changed.wait_timeout_while(state, patience, |state| state.inside > 0);
        (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.sealed = true;
        while state.committing > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        Closed(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.inside -= 1;
        if state.closed > 0 {
            self.0.changed.notify_all();
        }
    }
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        self.0.lock().committing -= 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed -= 1;
        state.sealed = state.closed > 0;
        drop(state);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn nobody_is_inside_while_it_is_closed() {
        let gate = Arc::new(Gate::default());
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let _entered = gate.enter();
                        inside.fetch_add(1, Ordering::SeqCst);
                        drop(gate.commit());
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
            for _ in 0..200 {
                let _closed = gate.close();
                assert_eq!(inside.load(Ordering::SeqCst), 0);
            }
        });
    }
    #[test]
    fn who_takes_long_is_not_waited_for_and_cannot_commit_meanwhile() {
        let gate = Arc::new(Gate::default());
        let committed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let entered = gate.enter();
            let closed = gate.close_within(Duration::from_millis(10));
            scope.spawn(|| {
                let _committing = gate.commit();
                committed.fetch_add(1, Ordering::SeqCst);
            });
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(committed.load(Ordering::SeqCst), 0);
            drop(closed);
            drop(entered);
        });
        assert_eq!(committed.load(Ordering::SeqCst), 1);
        drop(gate.close());
        drop(gate.enter());
    }

    #[test]
    fn a_commit_that_has_begun_is_waited_for() {
        let gate = Arc::new(Gate::default());
        let over = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let entered = gate.enter();
            let committing = gate.commit();
            let closing = scope.spawn(|| {
                let _closed = gate.close_within(Duration::ZERO);
                assert_eq!(over.load(Ordering::SeqCst), 1);
            });
            std::thread::sleep(Duration::from_millis(50));
            over.store(1, Ordering::SeqCst);
            drop(committing);
            closing.join().unwrap();
            drop(entered);
        });
    }
}
