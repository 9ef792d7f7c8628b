//! The thread that writes: calls that wait share a transaction, and so the flush to disk.
//!
//! Each call has its own savepoint: if it fails, nothing of it is kept and the others are not touched. Calls
//! hold nothing but SQL, so a call whose transaction was lost through no fault of its own is simply run
//! again. One kind of call cannot share: constraints that are checked at `COMMIT` (`PRAGMA
//! defer_foreign_keys`, `DEFERRABLE` keys) would be checked for the group as a whole, so that one call could
//! mend or break another; those calls have a transaction to themselves.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::follow::IDLE;
use super::{Body, Job, Message, Shared, mentions_deferral};
use crate::error::{D1Error, TOO_LARGE};
use crate::run::{Effects, Facts, Runner, Searches, Stop};
use crate::session::{Patience, Session};

/// Calls per transaction at most.
const GROUP: usize = 256;
/// After this long a transaction takes no further call: the first of a group waits for the last.
const GROUP_TIME: Duration = Duration::from_millis(10);

pub(super) struct Thread {
    pub session: Session,
    pub shared: Arc<Shared>,
    /// What no transaction has committed yet.
    stamp: Option<String>,
    /// Whether the schema has keys that are checked at `COMMIT`.
    deferred: bool,
    group: VecDeque<Job>,
    /// When history was stored last.
    pub settled: Instant,
    /// How large the file was when a transaction began, where that counts.
    before: u64,
}

/// A call that has run, in a transaction not yet committed.
type Ran = (Job, Body);

impl Thread {
    /// Writes what comes until nobody can send any more.
    pub fn run(session: Session, shared: Arc<Shared>, stamp: String, jobs: &mpsc::Receiver<Message>) {
        let mut thread = Self {
            session,
            shared,
            stamp: Some(stamp),
            deferred: true,
            group: VecDeque::new(),
            settled: Instant::now(),
            before: 0,
        };
        thread.look_for_deferred_keys();
        thread.serve(jobs);
        if !thread.shared.stage.is_left() {
            thread.end();
        }
    }

    fn serve(&mut self, jobs: &mpsc::Receiver<Message>) {
        while let Some(mut first) = self.next(jobs) {
            let go_back = loop {
                match first {
                    Message::Call(mut job) => {
                        job.alone = job.statements.iter().any(|s| mentions_deferral(&s.sql));
                        self.group.push_back(job);
                    }
                    Message::GoBack(commits, reply) => break Some((commits, reply)),
                }
                match jobs.try_recv() {
                    Ok(next) if self.group.len() < GROUP => first = next,
                    Ok(next) => {
                        self.write_group();
                        first = next;
                    }
                    Err(_) => break None,
                }
            };
            self.write_group();
            if self.shared.stage.is_left() {
                return;
            }
            if let Some((commits, reply)) = go_back {
                let _ = reply.send(self.go_back(commits));
            }
        }
    }

    fn write_group(&mut self) {
        let gate = self.shared.gate.clone();
        while !self.group.is_empty() && !self.shared.stage.is_left() {
            let _inside = gate.enter();
            self.transaction();
        }
    }

    /// Waits for work. While there is none, history is stored.
    fn next(&mut self, jobs: &mpsc::Receiver<Message>) -> Option<Message> {
        self.session.rests();
        loop {
            if !self.shared.history().is_some_and(|history| history.is_ahead()) {
                return jobs.recv().ok();
            }
            match jobs.recv_timeout(IDLE) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.settle(),
            }
        }
    }

    /// One transaction: as many waiting calls as may share it.
    fn transaction(&mut self) {
        if let Some(mut history) = self.shared.history() {
            history.begin();
        }
        if let Err(error) = self.allow() {
            return self.begin_failed(&error);
        }
        if let Err(error) = self.begin() {
            return self.begin_failed(&error.into());
        }
        let started = Instant::now();
        let mut facts = self.shared.facts();
        let mut ran: Vec<Ran> = Vec::new();
        while let Some(job) = self.group.pop_front() {
            let alone = job.alone || self.deferred;
            if alone && !ran.is_empty() {
                self.group.push_front(job);
                break;
            }
            let (body, after) = self.savepoint(&job, facts);
            if self.shared.stage.is_left() {
                // Nobody waits any more for any of them.
                return self.roll_back();
            }
            if self.session.connection.is_autocommit() {
                // A full disk or a stopped statement makes SQLite roll back everything. This call fails;
                // those before it are run again.
                reply(job, body.and(Err(D1Error::closed())));
                return self.again(ran);
            }
            facts = after;
            ran.push((job, body));
            if alone || started.elapsed() > GROUP_TIME {
                break;
            }
        }
        self.commit(ran, facts);
    }

    /// Lets the database grow by what the account may still store.
    fn allow(&mut self) -> Result<(), D1Error> {
        let quota = &self.shared.quota;
        if !quota.is_limited() {
            return Ok(());
        }
        // What its log and its history take cannot be refused page by page.
        if quota.is_far_over() {
            return Err(D1Error::new(TOO_LARGE));
        }
        self.before = self.session.let_grow(quota.room())?;
        Ok(())
    }

    /// Charges what the database has grown by.
    fn charge(&self) {
        let quota = &self.shared.quota;
        if quota.is_limited() {
            let now = self.session.file_size().unwrap_or(self.before);
            quota.add(now.saturating_sub(self.before));
        }
    }

    fn begin(&self) -> rusqlite::Result<()> {
        self.session.own("BEGIN IMMEDIATE")?;
        match &self.stamp {
            Some(stamp) => self.session.trusted(|connection| connection.execute_batch(stamp)),
            None => Ok(()),
        }
    }

    /// Puts calls back at the head of the queue, in their order.
    fn again(&mut self, ran: Vec<Ran>) {
        for (job, _) in ran.into_iter().rev() {
            self.group.push_front(job);
        }
    }

    /// Nothing can be begun: the next call hears why.
    fn begin_failed(&mut self, error: &D1Error) {
        self.roll_back();
        if let Some(job) = self.group.pop_front() {
            reply(job, Err(error.clone()));
        }
    }

    fn commit(&mut self, ran: Vec<Ran>, facts: Facts) {
        let gate = self.shared.gate.clone();
        let _committing = gate.commit();
        match self.session.own("COMMIT") {
            Ok(()) => {
                self.stamp = None;
                self.charge();
                self.follow();
                self.shared.last_row_id.store(facts.last_row_id, Ordering::Relaxed);
                self.shared.size.store(facts.size, Ordering::Relaxed);
                for (job, body) in ran {
                    reply(job, body);
                }
            }
            Err(error) => {
                self.roll_back();
                self.shared.plans.clear();
                self.look_for_deferred_keys();
                match <[Ran; 1]>::try_from(ran) {
                    Ok([(job, body)]) => reply(job, body.and(Err(error.into()))),
                    Err(mut ran) => {
                        // One of them is at fault: each gets a transaction to itself.
                        ran.iter_mut().for_each(|(job, _)| job.alone = true);
                        self.again(ran);
                    }
                }
            }
        }
    }

    /// Runs one call inside the transaction; if it fails, nothing of it stays.
    fn savepoint(&mut self, job: &Job, facts: Facts) -> (Body, Facts) {
        if let Err(error) = self.session.own("SAVEPOINT call") {
            return (Err(error.into()), facts);
        }
        let mut runner = Runner {
            session: &self.session,
            plans: &self.shared.plans,
            format: job.format,
            patience: Patience::Full,
            searches: Searches::InTurn(&self.shared.stage),
            begins: &|| (),
            writes: true,
            alone: job.statements.len() == 1,
            facts,
            effects: Effects::default(),
            results: &self.shared.results,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| runner.run(&job.statements)));
        let (effects, after) = (runner.effects, runner.facts);
        let body = match outcome {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(Stop::Failed(error))) => Err(error),
            Ok(Err(Stop::NeedsWriter | Stop::TooLong | Stop::Apart)) | Err(_) => Err(D1Error::closed()),
        };
        let ended = self.end_savepoint(body.is_ok(), effects);
        match (body, ended) {
            (Ok(body), Ok(())) => (Ok(body), after),
            (Ok(_), Err(error)) => (Err(error.into()), facts),
            (Err(error), _) => (Err(error), facts),
        }
    }

    fn end_savepoint(&mut self, keep: bool, effects: Effects) -> rusqlite::Result<()> {
        if effects.switches {
            self.reset_switches()?;
        }
        if self.session.connection.is_autocommit() {
            self.shared.plans.clear();
            return Ok(());
        }
        if !keep {
            self.session.own("ROLLBACK TO call")?;
        }
        self.session.own("RELEASE call")?;
        if effects.schema {
            self.shared.plans.clear();
            self.look_for_deferred_keys();
        }
        Ok(())
    }

    /// Switches last for the call that set them: the next call may be another worker's.
    fn reset_switches(&self) -> rusqlite::Result<()> {
        self.session.trusted(|connection| {
            connection.execute_batch(
                "PRAGMA case_sensitive_like = 0; PRAGMA ignore_check_constraints = 0; PRAGMA legacy_alter_table = 0; \
                 PRAGMA recursive_triggers = 0; PRAGMA reverse_unordered_selects = 0",
            )
        })
    }

    pub fn look_for_deferred_keys(&mut self) {
        let found = self.session.trusted(|connection| {
            connection
                .prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%deferred%'")?
                .exists([])
        });
        // If it cannot be told, calls run alone: slower, never wrong.
        self.deferred = found.unwrap_or(true);
    }

    fn roll_back(&self) {
        if !self.session.connection.is_autocommit()
            && let Err(error) = self.session.own("ROLLBACK")
        {
            tracing::error!(%error, "a D1 transaction could not be rolled back");
        }
    }
}

/// The caller may be gone; its write stands nevertheless.
fn reply(job: Job, body: Body) {
    let _ = job.reply.send(body);
}
