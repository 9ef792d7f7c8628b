//! The task that feeds one consumer, and the handle that ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use skep_runtime::{Turns, Waiting};
use skep_store::StoreError;
use skep_wire::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::message::{Batch, Message, is_large};
use crate::outcome::{DeliveryOutcome, Verdict, verdicts};
use crate::plan::Backoff;
use crate::queue::{Cut, Queue};
use crate::settings::{ConsumerSettings, MAX_DELIVERY};
use crate::storage::{self, Settlement};

/// How long to wait after the storage failed, at first and at most.
const STORAGE_PAUSE: Duration = Duration::from_millis(500);
const LAST_STORAGE_PAUSE: Duration = Duration::from_secs(30);

/// Whatever takes batches: a worker's `queue()` handler in its cell.
pub trait Deliver: Send + Sync + 'static {
    /// By whom turns are given to what takes a while: the same for all consumers of one worker.
    fn who(&self) -> u64;

    /// Waits until this process has room for a batch whose bodies have so many bytes; it takes that room until the result is dropped.
    fn room(&self, bytes: usize) -> BoxFuture<'_, Waiting>;

    /// Delivers a batch and resolves when the handler has ended.
    ///
    /// `Err` means that the handler never began, because its cell is not up: the batch is delivered again
    /// soon, with growing pauses, and the attempt does not count. A cell that broke down *during* the
    /// handler is `Ok(DeliveryOutcome::ended("internalError"))`: that attempt counts, or else a message that
    /// kills its cell would be delivered for ever. A delivery of more than 15 minutes is given up and
    /// counts as `exceededWallTime`; the future is dropped. `room` is to be held while the bodies are in memory.
    fn deliver(&self, batch: Batch, room: Waiting) -> BoxFuture<'_, Result<DeliveryOutcome, String>>;
}

/// How a dispatcher is told to look again, or to end.
#[derive(Debug)]
pub(crate) struct Control {
    wake: Notify,
    stopped: AtomicBool,
    finished: watch::Sender<bool>,
}

impl Control {
    pub fn new() -> Self {
        Self { wake: Notify::new(), stopped: AtomicBool::new(false), finished: watch::Sender::new(false) }
    }

    pub fn wake(&self) {
        self.wake.notify_one();
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

/// Keeps a consumer fed; dropping it, or a newer consumer of the same queue, ends that: no more batches
/// are taken, those under delivery are finished and settled.
#[derive(Debug)]
pub struct ConsumerHandle {
    queue: Arc<Queue>,
    control: Arc<Control>,
}

impl ConsumerHandle {
    /// Ends the consumer and resolves when every batch under delivery is settled.
    pub async fn stop(self) {
        self.queue.detach(&self.control);
        let _ = self.control.finished.subscribe().wait_for(|finished| *finished).await;
    }
}

impl Drop for ConsumerHandle {
    fn drop(&mut self) {
        self.queue.detach(&self.control);
    }
}

/// Starts a consumer, in place of the one before.
pub(crate) fn start(
    queue: Arc<Queue>,
    settings: ConsumerSettings,
    deliver: Arc<dyn Deliver>,
) -> ConsumerHandle {
    let control = Arc::new(Control::new());
    queue.attach(control.clone());
    let job = Arc::new(Job { queue: queue.clone(), settings: settings.clamped(), deliver });
    tokio::spawn(dispatch(job, control.clone()));
    ConsumerHandle { queue, control }
}

struct Job {
    queue: Arc<Queue>,
    settings: ConsumerSettings,
    deliver: Arc<dyn Deliver>,
}

/// Whether a delivery got through to a handler. If not, the dispatcher gives the messages back, after it
/// has noted that they must wait.
enum Reached {
    Yes,
    No(Lease),
}

async fn dispatch(job: Arc<Job>, control: Arc<Control>) {
    let shared = job.queue.shared.clone();
    let mut running: JoinSet<Reached> = JoinSet::new();
    let mut backoff = Backoff::default();
    while !control.is_stopped() && !shared.shutdown.is_requested() {
        let until = match job.queue.cut(&job.settings, running.len(), &backoff) {
            Ok(Cut::Batch { seqs, bytes }) => {
                let lease = Lease { queue: job.queue.clone(), seqs, due_ms: 0 };
                running.spawn(deliver(job.clone(), lease, bytes));
                continue;
            }
            Ok(Cut::Wait(until)) => until,
            Err(error) => {
                tracing::error!(queue = %job.queue.name, %error, "a queue cannot be read");
                Some(shared.clock.now_ms() + STORAGE_PAUSE.as_millis() as u64)
            }
        };
        tokio::select! {
            () = control.wake.notified() => {}
            () = shared.shutdown.requested() => {}
            () = shared.clock.sleep_until(until.unwrap_or(0)), if until.is_some() => {}
            Some(ended) = running.join_next() => match ended {
                Ok(Reached::Yes) => backoff.reached(),
                Ok(Reached::No(lease)) => {
                    backoff.unreachable(shared.clock.now_ms());
                    drop(lease);
                }
                Err(error) => {
                    tracing::error!(queue = %job.queue.name, %error, "a delivery panicked");
                    backoff.unreachable(shared.clock.now_ms());
                }
            },
        }
    }
    while running.join_next().await.is_some() {}
    control.finished.send_replace(true);
}

/// Messages under delivery; they are given back when it is dropped.
struct Lease {
    queue: Arc<Queue>,
    seqs: Vec<i64>,
    /// When those that are still there are due, or later.
    due_ms: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.queue.release(&self.seqs, self.due_ms);
    }
}

/// Reading a batch of which the event loop would take notice.
static READING: Turns = Turns::new();

async fn deliver(job: Arc<Job>, mut lease: Lease, bytes: usize) -> Reached {
    let room = job.deliver.room(bytes).await;
    let loaded = match is_large(lease.seqs.len(), bytes) {
        true => {
            let (queue, seqs) = (job.queue.clone(), lease.seqs.clone());
            let read = READING.aside(job.deliver.who(), move || load(&queue, &seqs)).await;
            read.unwrap_or_else(|failed| {
                Err(StoreError::Io { context: "reading a batch".to_owned(), source: failed.into() })
            })
        }
        false => load(&job.queue, &lease.seqs),
    };
    let (numbers, batch) = match loaded {
        Ok(Some(loaded)) => loaded,
        Ok(None) => return Reached::Yes,
        Err(error) => {
            tracing::error!(queue = %job.queue.name, %error, "messages cannot be read");
            return Reached::No(lease);
        }
    };
    // What is kept of the messages to settle them; the bodies go with the batch.
    let messages: Vec<Message> =
        batch.messages.iter().map(|m| Message { body: Default::default(), ..m.clone() }).collect();
    let outcome = match tokio::time::timeout(MAX_DELIVERY, job.deliver.deliver(batch, room)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => {
            tracing::debug!(queue = %job.queue.name, %error, "a queue's consumer is not up");
            return Reached::No(lease);
        }
        Err(_) => DeliveryOutcome::ended("exceededWallTime"),
    };
    // What is delivered again is due then or later.
    lease.due_ms = job.queue.shared.clock.now_ms();
    settle(&job, settlement(&outcome, &numbers, &messages, &job.settings, lease.due_ms)).await;
    Reached::Yes
}

/// Reads the messages of a batch; none if retention took them all.
fn load(queue: &Queue, seqs: &[i64]) -> Result<Option<(Vec<i64>, Batch)>, StoreError> {
    let Some(id) = queue.id() else { return Ok(None) };
    queue.shared.db.read(|connection| {
        let (numbers, messages): (Vec<i64>, Vec<Message>) =
            storage::load(connection, seqs.iter().copied())?.into_iter().unzip();
        if messages.is_empty() {
            return Ok(None);
        }
        let mut metrics = storage::metrics(connection, id)?;
        let bytes: usize = messages.iter().map(|m| m.body.len()).sum();
        metrics.backlog_count = metrics.backlog_count.saturating_sub(messages.len() as u64);
        metrics.backlog_bytes = metrics.backlog_bytes.saturating_sub(bytes as u64);
        metrics.oldest_message_timestamp = storage::oldest_except(connection, id, &numbers)?;
        Ok(Some((numbers, Batch { queue: queue.name.clone(), messages, metrics })))
    })
}

fn settlement(
    outcome: &DeliveryOutcome,
    numbers: &[i64],
    messages: &[Message],
    settings: &ConsumerSettings,
    now_ms: u64,
) -> Settlement {
    let (mut settlement, mut exhausted) = (Settlement::default(), Vec::new());
    for ((seq, message), verdict) in numbers.iter().zip(messages).zip(verdicts(outcome, messages, settings)) {
        match verdict {
            Verdict::Acked => settlement.removed.push(*seq),
            Verdict::Retried(delay) => {
                settlement.retried.push((*seq, now_ms + u64::from(delay) * 1000, message.attempts));
            }
            Verdict::Exhausted if settings.dead_letter_queue.is_some() => settlement.dead.push(*seq),
            Verdict::Exhausted => settlement.removed.push(*seq),
        }
        if verdict == Verdict::Exhausted {
            exhausted.push(message);
        }
    }
    // One line for all: two queues that are each other's dead letters have no end.
    if let Some(first) = exhausted.first() {
        let (id, attempts) = (&first.id, first.attempts);
        tracing::warn!(%id, attempts, messages = exhausted.len(), "a message's retries are used up");
    }
    settlement
}

/// Writes what became of a batch. While the storage fails (a full disk) it is tried again, so that an
/// acknowledged message is not delivered once more; at shutdown it is left to the next start.
async fn settle(job: &Job, settlement: Settlement) {
    let (queue, shared) = (&job.queue, &job.queue.shared);
    let Some(id) = queue.id() else { return };
    let settlement = Arc::new(settlement);
    let mut pause = STORAGE_PAUSE;
    loop {
        let (changes, clock) = (settlement.clone(), shared.clock.clone());
        let dead_letters = job.settings.dead_letter_queue.clone();
        let written = shared.db.write(move |transaction| {
            storage::settle(transaction, id, &changes, dead_letters.as_deref(), clock.now_ms())
        });
        match written.await {
            Ok(moved) => {
                if let (Some(id), Some(letters)) = (moved, &job.settings.dead_letter_queue) {
                    shared.sent_to(letters, id);
                }
                return;
            }
            Err(error) => tracing::error!(queue = %queue.name, %error, "a batch cannot be settled"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST_STORAGE_PAUSE),
            () = shared.shutdown.requested() => return,
        }
    }
}
