//! The queue to the thread that writes, and what it shares with readers.

mod follow;
mod stage;
#[cfg(test)]
mod tests;
mod thread;

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skep_runtime::Backlog;
use skep_store::Quota;
use tokio::sync::oneshot;

pub(crate) use self::stage::{Search, Stage};
use self::thread::Thread;
use crate::bookmark::{Bookmarks, Place};
use crate::error::D1Error;
use crate::gate::Gate;
use crate::held::Output;
use crate::history::{History, TimeTravelError};
use crate::plan::Plans;
use crate::request::{ResultsFormat, Statement};
use crate::run::Facts;
use crate::session::Session;

/// What readers report of the writer's work.
#[derive(Debug)]
pub(crate) struct Shared {
    pub path: PathBuf,
    pub plans: Plans,
    pub bookmarks: Arc<Bookmarks>,
    /// What the database was, where that is kept.
    pub history: Option<Mutex<History>>,
    pub gate: Arc<Gate>,
    /// What all databases of the account count towards.
    pub quota: Arc<Quota>,
    /// What results take until they are sent.
    pub results: Arc<Backlog>,
    pub last_row_id: AtomicI64,
    pub size: AtomicI64,
    pub stage: Stage,
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
pub(crate) type Body = Result<Output, D1Error>;

/// A call that waits for the writer.
struct Job {
    statements: Vec<Statement>,
    format: ResultsFormat,
    /// Whether it has a transaction to itself, as the thread sees when it takes the job.
    alone: bool,
    reply: oneshot::Sender<Body>,
}

/// What waits for the writer.
enum Message {
    Call(Job),
    /// An earlier state is to be the present one: after so many commits.
    GoBack(u64, oneshot::Sender<Result<(), TimeTravelError>>),
}

/// How long one waits for a search that writes, once nobody wants the database any more.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long who drops a writer waits for it, where others wait as well.
const SOON: Duration = Duration::from_millis(20);
/// How often one looks whether it is one.
const LOOK: Duration = Duration::from_millis(100);

/// The queue to the writer's thread; dropping it waits until all that is queued is written, but for a search without end.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Message>>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Ends with the thread; nothing comes.
    ended: Mutex<mpsc::Receiver<()>>,
    shared: Arc<Shared>,
}

impl Writer {
    /// Starts the thread. Its first transaction begins with the SQL `stamp`.
    pub(crate) fn start(session: Session, shared: Arc<Shared>, stamp: String) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel();
        let (theirs, (ends, ended)) = (shared.clone(), mpsc::channel());
        let thread = skep_runtime::thread("write d1", move || {
            Thread::run(session, theirs, stamp, &jobs);
            drop(ends);
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread), ended: Mutex::new(ended), shared })
    }

    /// Runs a call; resolves when what it wrote is on the disk.
    pub(crate) async fn run(&self, statements: Vec<Statement>, format: ResultsFormat) -> Body {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(D1Error::closed)?;
        let job = Job { statements, format, alone: false, reply };
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
        let Some(thread) = self.thread.take() else { return };
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let ended = std::mem::replace(ended, mpsc::channel().1);
        let rest = Rest { thread, ended, shared: self.shared.clone() };
        // Who drops it may be an event loop, on which everybody waits. What is queued is written all the same.
        let is_long = rest.ended.recv_timeout(SOON) == Err(RecvTimeoutError::Timeout);
        if is_long && tokio::runtime::Handle::try_current().is_ok() {
            let _ = std::thread::Builder::new().name("end d1".into()).spawn(|| rest.wait());
        } else {
            rest.wait();
        }
    }
}

/// A thread that writes what is left.
struct Rest {
    thread: std::thread::JoinHandle<()>,
    ended: mpsc::Receiver<()>,
    shared: Arc<Shared>,
}

impl Rest {
    fn wait(self) {
        let mut searched = Duration::ZERO;
        while self.ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            searched = if self.shared.stage.searches() { searched + LOOK } else { Duration::ZERO };
            if searched > PATIENCE && self.shared.stage.leave() {
                // What it was asked for is not committed, and nobody was told that it was.
                tracing::warn!(database = %self.shared.path.display(), "a D1 database is left while a search that writes goes on");
                // History has the file open. To close it would drop the locks of whoever opens the database next.
                std::mem::forget(self.shared);
                return;
            }
        }
        let _ = self.thread.join();
    }
}

fn mentions_deferral(sql: &str) -> bool {
    sql.as_bytes().windows(5).any(|w| w.eq_ignore_ascii_case(b"defer"))
}
