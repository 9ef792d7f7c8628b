//! The thread that writes: everything that waits goes into one transaction.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::StoreError;
use crate::error::is_disk_full;

/// Writes per transaction at most: bounds how long the first of a group waits for the last.
const GROUP: usize = 512;

/// A queued write. `run` does the work inside the group's transaction; `finish` tells the caller.
trait Job: Send {
    fn run(&mut self, transaction: &Transaction<'_>) -> bool;
    fn finish(self: Box<Self>, commit: Result<(), CommitFailed>);
}

#[derive(Clone, Copy)]
enum CommitFailed {
    DiskFull,
    Other,
}

struct Pending<T, F> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Pending<T, F>
where
    T: Send,
    F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, transaction: &Transaction<'_>) -> bool {
        let Some(work) = self.work.take() else { return false };
        let result = catch_unwind(AssertUnwindSafe(|| work(transaction))).unwrap_or(Err(StoreError::Closed));
        let ok = result.is_ok();
        self.result = Some(result);
        ok
    }

    fn finish(self: Box<Self>, commit: Result<(), CommitFailed>) {
        let result = match (commit, self.result) {
            (Ok(()), Some(result)) => result,
            (Err(_), Some(Err(own))) => Err(own),
            (Err(CommitFailed::DiskFull), _) => Err(StoreError::DiskFull),
            _ => Err(StoreError::Closed),
        };
        let _ = self.reply.send(result);
    }
}

#[derive(Debug)]
pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for dyn Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

impl Writer {
    pub(crate) fn start(path: &Path, connection: Connection) -> Result<Self, StoreError> {
        let (queue, jobs) = mpsc::channel();
        let name = path.file_stem().map_or_else(|| "db".into(), |s| s.to_string_lossy().into_owned());
        let thread = skep_runtime::thread(format!("write {name}"), move || serve(connection, &jobs))
            .map_err(|e| StoreError::io("cannot start a writer thread", e))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Pending { work: Some(work), result: None, reply });
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.send(job).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Writer {
    /// Takes nothing more; the thread ends, and closes the file, when all that is queued is written.
    pub(crate) fn end(mut self) -> Option<std::thread::JoinHandle<()>> {
        self.queue = None;
        self.thread.take()
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

fn serve(mut connection: Connection, jobs: &mpsc::Receiver<Box<dyn Job>>) {
    let mut group: Vec<Box<dyn Job>> = Vec::new();
    while let Ok(first) = jobs.recv() {
        group.push(first);
        group.extend(jobs.try_iter().take(GROUP - 1));
        let outcome = commit(&mut connection, &mut group).map_err(|error| {
            tracing::error!(%error, "a group of writes failed");
            if is_disk_full(&error) { CommitFailed::DiskFull } else { CommitFailed::Other }
        });
        for job in group.drain(..) {
            job.finish(outcome);
        }
    }
}

fn commit(connection: &mut Connection, group: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in group.iter_mut() {
        transaction.prepare_cached("SAVEPOINT job")?.execute([])?;
        let end = if job.run(&transaction) { "RELEASE job" } else { "ROLLBACK TO job" };
        if transaction.is_autocommit() {
            // SQLite rolls the whole transaction back by itself when the disk is full.
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL),
                None,
            ));
        }
        transaction.prepare_cached(end)?.execute([])?;
        if end == "ROLLBACK TO job" {
            transaction.prepare_cached("RELEASE job")?.execute([])?;
        }
    }
    transaction.commit()
}
