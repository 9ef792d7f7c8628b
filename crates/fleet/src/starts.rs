//! Starts of processes that wait for their turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};

use crate::turns::{Ticket, Turns};

/// Lets a few processes start at a time: many that start at once would all be late; some are on time.
#[derive(Debug)]
pub(crate) struct Starts {
    state: Mutex<State>,
    quiet: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    turns: Turns,
    /// Whom to tell.
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
}

/// A turn, or a place in the line, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    starts: Arc<Starts>,
    account: u64,
    ticket: Ticket,
}

impl Starts {
    /// So many at once.
    pub fn new(most: usize) -> Arc<Self> {
        let state = State { turns: Turns::new(most), waiting: HashMap::new() };
        Arc::new(Self { state: Mutex::new(state), quiet: watch::Sender::new(true) })
    }

    /// Waits for a turn of `account`.
    pub async fn turn(self: &Arc<Self>, account: u64) -> Turn {
        let (tell, told) = oneshot::channel();
        let turn = {
            let mut state = self.state();
            let ticket = state.turns.ask(account);
            state.waiting.insert(ticket, tell);
            self.give(&mut state);
            Turn { starts: self.clone(), account, ticket }
        };
        // Whoever is told has it; nobody is dropped untold.
        let _ = told.await;
        turn
    }

    /// Resolves while nobody starts anything, or waits for it.
    pub async fn quiet(&self) {
        let _ = self.quiet.subscribe().wait_for(|quiet| *quiet).await;
    }

    fn give(&self, state: &mut State) {
        while let Some(ticket) = state.turns.give() {
            if let Some(tell) = state.waiting.remove(&ticket) {
                // Who is not there any more gives the turn back by its own end.
                let _ = tell.send(());
            }
        }
        let quiet = state.turns.is_quiet();
        self.quiet.send_if_modified(|known| std::mem::replace(known, quiet) != quiet);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.starts.state();
        state.waiting.remove(&self.ticket);
        state.turns.end(self.account, self.ticket);
        self.starts.give(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_gives_up_leaves_the_turn_to_others() {
        let starts = Starts::new(1);
        starts.quiet().await;
        let first = starts.turn(1).await;
        let waits = tokio::spawn({
            let starts = starts.clone();
            async move { starts.turn(1).await }
        });
        let leaves = tokio::spawn({
            let starts = starts.clone();
            async move { starts.turn(2).await }
        });
        tokio::task::yield_now().await;
        leaves.abort();
        assert!(leaves.await.unwrap_err().is_cancelled());
        assert!(!waits.is_finished());
        assert!(tokio::time::timeout(Duration::from_millis(10), starts.quiet()).await.is_err());
        drop(first);
        drop(waits.await.unwrap());
        starts.quiet().await;
    }
}
