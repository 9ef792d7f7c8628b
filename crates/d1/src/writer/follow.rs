//! What is committed goes into the database's history.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::thread::Thread;
use crate::history::{TimeTravelError, write_back};

/// After this long without a write, what history knows is stored; a crash would lose when it happened.
pub(super) const IDLE: Duration = Duration::from_secs(2);
/// The same where there is always a write.
const AHEAD: Duration = Duration::from_secs(20);

impl Thread {
    /// Stores what is known.
    pub fn settle(&mut self) {
        if let Some(mut history) = self.shared.history() {
            history.settle();
        }
        self.settled = Instant::now();
    }

    /// Reads what was committed into history. The log is checkpointed once that is stored, and only then.
    pub fn follow(&mut self) {
        let Some(mut history) = self.shared.history() else { return self.shared.bookmarks.commit() };
        history.follow();
        self.shared.mark(&history);
        // Where the account is full the log has to be as short as it can be, and the file to say what is free in it.
        let is_full = self.shared.quota.is_nearly_full();
        let checkpoint = is_full || history.wants_checkpoint();
        if checkpoint || (history.is_ahead() && self.settled.elapsed() > AHEAD) {
            history.settle();
            self.settled = Instant::now();
        }
        if checkpoint {
            if !history.is_ahead()
                && let Err(error) = self.session.checkpoint(if is_full { "TRUNCATE" } else { "PASSIVE" })
            {
                tracing::warn!(%error, "the log of a D1 database cannot be taken over");
            }
            history.checkpointed();
        }
    }

    /// Stores it, and leaves no log behind.
    pub fn end(&mut self) {
        let gate = self.shared.gate.clone();
        let _inside = gate.enter();
        let _committing = gate.commit();
        let Some(mut history) = self.shared.history() else { return };
        history.settle();
        if !history.is_ahead()
            && let Err(error) = self.session.checkpoint("TRUNCATE")
        {
            tracing::debug!(%error, "the log of a D1 database stays");
        }
    }

    /// Makes an earlier state the present one.
    pub fn go_back(&mut self, commits: u64) -> Result<(), TimeTravelError> {
        let gate = self.shared.gate.clone();
        let _inside = gate.enter();
        let _committing = gate.commit();
        {
            let mut history = self.shared.history().ok_or(TimeTravelError::Off)?;
            let state = history.rewind(commits)?;
            write_back(&self.shared.path, &state)?;
        }
        self.follow();
        self.shared.plans.clear();
        self.look_for_deferred_keys();
        self.shared.size.store(self.session.size()?, Ordering::Relaxed);
        Ok(())
    }
}
