//! Turns that are waited for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};

use crate::lines::{Lines, Ticket};

/// Lets a few at a time do something, each of those who want to in turn however much each wants.
#[derive(Debug)]
pub struct Fair {
    state: Mutex<State>,
    quiet: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    lines: Lines,
    /// Whom to tell.
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
}

/// A turn, or a place in the line, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    fair: Arc<Fair>,
    who: u64,
    ticket: Ticket,
}

impl Fair {
    /// So many at once.
    pub fn new(most: usize) -> Arc<Self> {
        let state = State { lines: Lines::new(most), waiting: HashMap::new() };
        Arc::new(Self { state: Mutex::new(state), quiet: watch::Sender::new(true) })
    }

    /// Waits for a turn of `who`.
    pub async fn turn(self: &Arc<Self>, who: u64) -> Turn {
        self.wait(who, Lines::ask).await
    }

    /// Gives a turn up, and waits for the next one, before others of the same.
    pub(crate) async fn again(self: &Arc<Self>, turn: Turn) -> Turn {
        let who = turn.who;
        drop(turn);
        self.wait(who, Lines::ask_again).await
    }

    /// Whether anybody else than `who` waits.
    pub(crate) fn others_wait(&self, who: u64) -> bool {
        self.state().lines.others_wait(who)
    }

    async fn wait(self: &Arc<Self>, who: u64, ask: fn(&mut Lines, u64) -> Ticket) -> Turn {
        let (tell, told) = oneshot::channel();
        let turn = {
            let mut state = self.state();
            let ticket = ask(&mut state.lines, who);
            state.waiting.insert(ticket, tell);
            self.give(&mut state);
            Turn { fair: self.clone(), who, ticket }
        };
        // Whoever is told has it; nobody is dropped untold.
        let _ = told.await;
        turn
    }

    /// Resolves while nobody has a turn, or waits for one.
    pub async fn quiet(&self) {
        let _ = self.quiet.subscribe().wait_for(|quiet| *quiet).await;
    }

    fn give(&self, state: &mut State) {
        while let Some(ticket) = state.lines.give() {
            if let Some(tell) = state.waiting.remove(&ticket) {
                // Who is not there any more gives the turn back by its own end.
                let _ = tell.send(());
            }
        }
        let quiet = state.lines.is_quiet();
        self.quiet.send_if_modified(|known| std::mem::replace(known, quiet) != quiet);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.fair.state();
        state.waiting.remove(&self.ticket);
        state.lines.end(self.who, self.ticket);
        self.fair.give(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_gives_up_leaves_the_turn_to_others() {
        let fair = Fair::new(1);
        fair.quiet().await;
        let first = fair.turn(1).await;
        let waits = tokio::spawn({
            let fair = fair.clone();
            async move { fair.turn(1).await }
        });
        let leaves = tokio::spawn({
            let fair = fair.clone();
            async move { fair.turn(2).await }
        });
        tokio::task::yield_now().await;
        leaves.abort();
        assert!(leaves.await.unwrap_err().is_cancelled());
        assert!(!waits.is_finished());
        assert!(tokio::time::timeout(Duration::from_millis(10), fair.quiet()).await.is_err());
        drop(first);
        drop(waits.await.unwrap());
        fair.quiet().await;
    }
}
