//! Connections that only read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_runtime::Backlog;

use crate::held::Output;
use crate::plan::Plans;
use crate::request::{ResultsFormat, Statement};
use crate::run::{Effects, Facts, Runner, Searches, Stop};
use crate::session::{Patience, Session};

/// Reading connections kept for reuse; more may exist for a moment under load.
const IDLE: usize = 4;

/// A call that only reads.
pub(crate) struct Call<'a> {
    pub statements: &'a [Statement],
    pub format: ResultsFormat,
    pub patience: Patience,
    pub searches: Searches<'a>,
    /// Called when a statement begins.
    pub begins: &'a dyn Fn(),
    pub plans: &'a Plans,
    pub facts: Facts,
    pub results: &'a Arc<Backlog>,
}

impl Call<'_> {
    /// Runs it on a connection that can only read; several statements see one state.
    pub fn run(&self, session: &Session) -> Result<Output, Stop> {
        let mut runner = Runner {
            session,
            plans: self.plans,
            format: self.format,
            patience: self.patience,
            searches: self.searches,
            begins: self.begins,
            writes: false,
            alone: self.statements.len() == 1,
            facts: self.facts,
            effects: Effects::default(),
            results: self.results,
        };
        if runner.alone {
            session.start_timer(self.patience);
            return runner.run(self.statements);
        }
        session.own("BEGIN")?;
        session.start_timer(self.patience);
        let result = runner.run(self.statements);
        session.own("COMMIT")?;
        result
    }
}

/// Those of a database that nobody uses.
#[derive(Debug, Default)]
pub(crate) struct Readers(Mutex<Vec<Session>>);

impl Readers {
    /// Lends a connection, which `open` makes where there is none. One that is left inside a transaction is not lent again.
    pub fn lend<T, E: From<rusqlite::Error>>(
        &self,
        open: impl FnOnce() -> rusqlite::Result<Session>,
        work: impl FnOnce(&Session) -> Result<T, E>,
    ) -> Result<T, E> {
        let idle = self.idle().pop();
        let session = match idle {
            Some(session) => session,
            None => open()?,
        };
        let result = work(&session);
        session.rests();
        if session.connection.is_autocommit() {
            let mut idle = self.idle();
            if idle.len() < IDLE {
                idle.push(session);
            }
        }
        result
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
