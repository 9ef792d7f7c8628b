//! The thread that writes: calls that wait share a transaction, and so the flush to disk.
//!
//! Each call has its own savepoint: if it fails, nothing of it is kept and the others are not touched. Calls
//! hold nothing but SQL, so a call whose transaction was lost through no fault of its own is simply run
//! again. One kind of call cannot share: constraints that are checked at `COMMIT` (`PRAGMA
//! defer_foreign_keys`, `DEFERRABLE` keys) would be checked for the group as a whole, so that one call could
//! mend or break another; those calls have a transaction to themselves.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::bookmark::{Bookmarks, Place};
use crate::error::D1Error;
use crate::gate::Gate;
use crate::history::{History, TimeTravelError, write_back};
use crate::plan::Plans;
use crate::request::{ResultsFormat, Statement};
use crate::run::{Effects, Facts, Runner, Stop};
use crate::session::{Patience, Session};

/// Calls per transaction at most.
const GROUP: usize = 256;
/// After this long a transaction takes no further call: the first of a group waits for the last.
const GROUP_TIME: Duration = Duration::from_millis(10);

/// After this long without a write, what history knows is stored; a crash would lose when it happened.
const IDLE: Duration = Duration::from_secs(2);
/// The same where there is always a write.
const AHEAD: Duration = Duration::from_secs(20);

/// What readers report of the writer's work.
#[derive(Debug)]
pub(crate) struct Shared {
    pub path: PathBuf,
    pub plans: Plans,
    pub bookmarks: Bookmarks,
    /// What the database was, where that is kept.
    pub history: Option<Mutex<History>>,
    pub gate: Arc<Gate>,
    pub last_row_id: AtomicI64,
    pub size: AtomicI64,
}

impl Shared {
    pub(crate) fn facts(&self) -> Facts {
        Facts {
            last_row_id: self.last_row_id.load(Ordering::Relaxed),
            size: self.size.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn history(&self) -> Option<MutexGuard<'_, History>> {
        self.history.as_ref().map(|history| history.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over where history is.
    pub(crate) fn mark(&self, history: &History) {
        if let Some((era, commits)) = history.now() {
            self.bookmarks.reached(Place { era, commits });
        }
    }
}

/// A reply's body.
pub(crate) type Body = Result<Vec<u8>, D1Error>;

/// A call that waits for the writer.
pub(crate) struct Job {
    statements: Vec<Statement>,
    format: ResultsFormat,
    alone: bool,
    reply: oneshot::Sender<Body>,
}

/// What waits for the writer.
enum Message {
    Call(Job),
    /// An earlier state is to be the present one: after so many commits.
    GoBack(u64, oneshot::Sender<Result<(), TimeTravelError>>),
}

/// The queue to the writer's thread; dropping it waits until all that is queued is written.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Message>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. Its first transaction begins with the SQL `stamp`.
    pub(crate) fn start(session: Session, shared: Arc<Shared>, stamp: String) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel();
        let thread = std::thread::Builder::new().name("write d1".into()).spawn(move || {
            let mut thread = Thread {
                session,
                shared,
                stamp: Some(stamp),
                deferred: true,
                group: VecDeque::new(),
                settled: Instant::now(),
            };
            thread.look_for_deferred_keys();
            thread.serve(&jobs);
            thread.end();
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Runs a call; resolves when what it wrote is on the disk.
    pub(crate) async fn run(&self, statements: Vec<Statement>, format: ResultsFormat) -> Body {
        let alone = statements.iter().any(|s| mentions_deferral(&s.sql));
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(D1Error::closed)?;
        let job = Job { statements, format, alone, reply };
        queue.send(Message::Call(job)).map_err(|_| D1Error::closed())?;
        answer.await.map_err(|_| D1Error::closed())?
    }

    /// Makes an earlier state the present one; resolves when that is on the disk.
    pub(crate) async fn go_back(&self, commits: u64) -> Result<(), TimeTravelError> {
        let closed = || TimeTravelError::Failed(D1Error::closed().to_string());
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue.send(Message::GoBack(commits, reply)).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn mentions_deferral(sql: &str) -> bool {
    sql.as_bytes().windows(5).any(|w| w.eq_ignore_ascii_case(b"defer"))
}

struct Thread {
    session: Session,
    shared: Arc<Shared>,
    /// What no transaction has committed yet.
    stamp: Option<String>,
    /// Whether the schema has keys that are checked at `COMMIT`.
    deferred: bool,
    group: VecDeque<Job>,
    /// When history was stored last.
    settled: Instant,
}

/// A call that has run, in a transaction not yet committed.
type Ran = (Job, Body);

impl Thread {
    fn serve(&mut self, jobs: &mpsc::Receiver<Message>) {
        while let Some(mut first) = self.next(jobs) {
            let go_back = loop {
                match first {
                    Message::Call(job) => self.group.push_back(job),
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
            if let Some((commits, reply)) = go_back {
                let _ = reply.send(self.go_back(commits));
            }
        }
    }

    fn write_group(&mut self) {
        let gate = self.shared.gate.clone();
        while !self.group.is_empty() {
            let _inside = gate.enter();
            self.transaction();
        }
    }

    /// Waits for work. While there is none, history is stored.
    fn next(&mut self, jobs: &mpsc::Receiver<Message>) -> Option<Message> {
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

    fn settle(&mut self) {
        if let Some(mut history) = self.shared.history() {
            history.settle();
        }
        self.settled = Instant::now();
    }

    /// Reads what was committed into history. The log is checkpointed once that is stored, and only then.
    fn follow(&mut self) {
        let Some(mut history) = self.shared.history() else { return self.shared.bookmarks.commit() };
        history.follow();
        self.shared.mark(&history);
        let checkpoint = history.wants_checkpoint();
        if checkpoint || (history.is_ahead() && self.settled.elapsed() > AHEAD) {
            history.settle();
            self.settled = Instant::now();
        }
        if checkpoint {
            if !history.is_ahead()
                && let Err(error) = self.session.checkpoint("PASSIVE")
            {
                tracing::warn!(%error, "the log of a D1 database cannot be taken over");
            }
            history.checkpointed();
        }
    }

    /// Stores what is known, and leaves no log behind.
    fn end(&mut self) {
        let Some(mut history) = self.shared.history() else { return };
        history.settle();
        if !history.is_ahead()
            && let Err(error) = self.session.checkpoint("TRUNCATE")
        {
            tracing::debug!(%error, "the log of a D1 database stays");
        }
    }

    fn go_back(&mut self, commits: u64) -> Result<(), TimeTravelError> {
        let gate = self.shared.gate.clone();
        let _inside = gate.enter();
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

    /// One transaction: as many waiting calls as may share it.
    fn transaction(&mut self) {
        if let Some(mut history) = self.shared.history() {
            history.begin();
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
        match self.session.own("COMMIT") {
            Ok(()) => {
                self.stamp = None;
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
            writes: true,
            alone: job.statements.len() == 1,
            facts,
            effects: Effects::default(),
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| runner.run(&job.statements)));
        let (effects, after) = (runner.effects, runner.facts);
        let body = match outcome {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(Stop::Failed(error))) => Err(error),
            Ok(Err(Stop::NeedsWriter | Stop::TooLong)) | Err(_) => Err(D1Error::closed()),
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

    fn look_for_deferred_keys(&mut self) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: &str =
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) INSERT INTO t SELECT x FROM c";

    fn writer(prepare: impl FnOnce(&mut Session)) -> (tempfile::TempDir, Writer) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        let mut session = Session::writer(&path).unwrap();
        session.trusted(|c| c.execute_batch("CREATE TABLE t (a)")).unwrap();
        prepare(&mut session);
        let shared = Shared {
            path,
            plans: Plans::default(),
            bookmarks: Bookmarks::new("a", Place { era: 1, commits: 0 }),
            history: None,
            gate: Arc::default(),
            last_row_id: AtomicI64::new(0),
            size: AtomicI64::new(0),
        };
        (dir, Writer::start(session, Arc::new(shared), String::new()).unwrap())
    }

    async fn run(writer: &Writer, sql: &str) -> Result<String, D1Error> {
        let body = writer.run(vec![Statement::new(sql)], ResultsFormat::RowsAndColumns).await?;
        Ok(String::from_utf8(body).unwrap())
    }

    async fn count(writer: &Writer) -> String {
        run(writer, "SELECT count(*) FROM t").await.unwrap()
    }

    #[tokio::test]
    async fn a_write_past_its_time_fails_alone() {
        let (_dir, writer) = writer(|session| session.query_time = Duration::from_millis(200));
        let insert = "INSERT INTO t VALUES (1)";
        let (a, slow, b) = tokio::join!(run(&writer, insert), run(&writer, SLOW), run(&writer, insert));
        assert!(a.is_ok() && b.is_ok());
        assert_eq!(slow.unwrap_err().to_string(), crate::error::TIMED_OUT);
        assert!(count(&writer).await.contains("\"rows\":[[2]]"));
    }

    #[tokio::test]
    async fn a_full_disk_fails_the_write_that_needs_room_and_no_other() {
        let full = |session: &mut Session| {
            session.trusted(|c| c.query_row("PRAGMA max_page_count = 40", [], |_| Ok(()))).unwrap();
        };
        let (_dir, writer) = writer(full);
        let insert = "INSERT INTO t VALUES (1)";
        let big = "INSERT INTO t VALUES (zeroblob(1000000))";
        for _ in 0..3 {
            let (a, big, b) = tokio::join!(run(&writer, insert), run(&writer, big), run(&writer, insert));
            assert!(a.is_ok() && b.is_ok());
            assert_eq!(big.unwrap_err().to_string(), "database or disk is full: SQLITE_FULL");
        }
        assert!(count(&writer).await.contains("\"rows\":[[6]]"));
    }

    #[tokio::test]
    async fn a_database_at_its_largest_says_so_and_can_be_emptied() {
        let small = |session: &mut Session| {
            session.trusted(|c| c.query_row("PRAGMA max_page_count = 200", [], |_| Ok(()))).unwrap();
        };
        let (_dir, writer) = writer(small);
        let outcome = loop {
            if let Err(error) = run(&writer, "INSERT INTO t VALUES (zeroblob(4000))").await {
                break error;
            }
        };
        assert_eq!(outcome.to_string(), crate::error::TOO_LARGE);
        run(&writer, "DELETE FROM t").await.unwrap();
        run(&writer, "INSERT INTO t VALUES (zeroblob(4000))").await.unwrap();
    }

    #[tokio::test]
    async fn what_is_queued_is_written_before_the_writer_ends() {
        let (dir, writer) = writer(|_| {});
        let (reply, _nobody_listens) = oneshot::channel();
        let statements = vec![Statement::new("INSERT INTO t VALUES (1)")];
        let job = Job { statements, format: ResultsFormat::Objects, alone: false, reply };
        writer.queue.as_ref().unwrap().send(Message::Call(job)).unwrap();
        drop(writer);
        let file = rusqlite::Connection::open(dir.path().join("a.sqlite")).unwrap();
        assert_eq!(file.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0)).unwrap(), 1);
    }
}
