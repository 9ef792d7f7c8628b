//! One queue as the process knows it: its number, what is under delivery, who consumes it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use skep_runtime::{Clock, Shutdown};
use skep_store::{Database, Quota, StoreError};

use crate::consumer::Control;
use crate::error::QueueError;
use crate::leases::Leases;
use crate::message::{Metrics, NewMessage};
use crate::plan::{Backoff, Step, View, step};
use crate::queues::Registry;
use crate::settings::{ConsumerSettings, MAX_BACKLOG_BYTES, QueueSettings};
use crate::storage;

/// What all queues share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub db: Database,
    pub clock: Clock,
    pub shutdown: Shutdown,
    pub quota: Arc<Quota>,
    pub registry: Weak<Registry>,
}

impl Shared {
    /// Tells the queue `name`, whose number is `id`, that it got messages from another one.
    pub fn sent_to(self: &Arc<Self>, name: &str, id: i64) {
        if let Some(registry) = self.registry.upgrade() {
            let queue = registry.get_or_add(name, self);
            queue.learn(id);
            queue.free_from(0);
        }
    }
}

/// One queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub name: String,
    pub shared: Arc<Shared>,
    /// Its number in the rows; none before its first message.
    id: OnceLock<i64>,
    /// Messages under delivery, by whichever consumer. Held while looking for messages to deliver, and
    /// given back only after what happened to them is on the disk: so none is delivered twice at once.
    leased: Mutex<Leases>,
    consumer: Mutex<Option<Arc<Control>>>,
    settings: Mutex<QueueSettings>,
}

/// Bytes that a message takes beside its body, about.
const ROW: u64 = 64;

impl Queue {
    pub fn new(name: &str, id: Option<i64>, shared: Arc<Shared>) -> Self {
        let cell = OnceLock::new();
        if let Some(id) = id {
            let _ = cell.set(id);
        }
        let (leased, consumer, settings) = Default::default();
        Self { name: name.to_owned(), shared, id: cell, leased, consumer, settings }
    }

    /// What holds for its messages.
    pub fn settings(&self) -> QueueSettings {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes that.
    pub fn configure(&self, settings: QueueSettings) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Its number in the rows, once it has one.
    pub fn id(&self) -> Option<i64> {
        self.id.get().copied()
    }

    /// Notes its number; the first message made it.
    pub fn learn(&self, id: i64) {
        let _ = self.id.set(id);
    }

    /// Stores messages, all or none; durable when it resolves.
    pub async fn send(&self, messages: Vec<NewMessage>) -> Result<Metrics, QueueError> {
        let bytes = messages.iter().map(|message| message.body.len() as u64 + ROW).sum();
        self.shared.quota.take(bytes)?;
        let (name, clock) = (self.name.clone(), self.shared.clock.clone());
        let stored = self
            .shared
            .db
            .write(move |t| {
                let now_ms = clock.now_ms();
                let Some(id) = storage::insert(t, &name, &messages, now_ms, MAX_BACKLOG_BYTES)? else {
                    return Ok(None);
                };
                Ok(Some((id, storage::metrics(t, id)?, now_ms)))
            })
            .await?;
        let (id, metrics, now_ms) = stored.ok_or(QueueError::QueueFull)?;
        self.learn(id);
        self.free_from(now_ms);
        Ok(metrics)
    }

    /// What it holds.
    pub fn metrics(&self) -> Result<Metrics, StoreError> {
        match self.id() {
            Some(id) => self.shared.db.read(|c| storage::metrics(c, id)),
            None => Ok(Metrics::default()),
        }
    }

    /// Looks at what waits; takes the messages of a batch if it is time for one.
    pub fn cut(
        &self,
        settings: &ConsumerSettings,
        in_flight: usize,
        backoff: &Backoff,
    ) -> Result<Cut, StoreError> {
        let Some(id) = self.id() else { return Ok(Cut::Wait(None)) };
        if in_flight >= settings.concurrency() {
            return Ok(Cut::Wait(None));
        }
        let mut leased = self.leases();
        let now_ms = self.shared.clock.now_ms();
        let limit = settings.max_batch_size as usize;
        let mut waiting = self.shared.db.read(|c| storage::waiting(c, id, now_ms, &leased, limit))?;
        let view = View {
            ready: waiting.due.len(),
            oldest_due_ms: waiting.due.first().map_or(0, |(due, _)| *due as u64),
            next_due_ms: waiting.next_due_ms,
            in_flight,
        };
        Ok(match step(&view, backoff, settings, now_ms) {
            Step::Wait(until) => Cut::Wait(until),
            Step::Deliver(count) => {
                waiting.due.truncate(count);
                let bytes = self.shared.db.read(|c| storage::bytes(c, &waiting.due))?;
                leased.take(&waiting.due);
                Cut::Batch { seqs: waiting.due.into_iter().map(|(_, seq)| seq).collect(), bytes }
            }
        })
    }

    /// Messages that a worker has right now.
    pub fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leased.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives messages back: they are settled, or may be delivered again, which they are due for at `due_ms` or later.
    pub fn release(&self, seqs: &[i64], due_ms: u64) {
        self.leases().give_back(seqs, i64::try_from(due_ms).unwrap_or(i64::MAX));
        self.wake();
    }

    /// Tells the consumer that there are messages which are due at `due_ms` or later.
    pub fn free_from(&self, due_ms: u64) {
        self.leases().free_from(i64::try_from(due_ms).unwrap_or(i64::MAX));
        self.wake();
    }

    /// Makes `control` its consumer; the one before takes no more messages.
    pub fn attach(&self, control: Arc<Control>) {
        let before = self.slot().replace(control);
        if let Some(before) = before {
            before.stop();
        }
    }

    /// Ends `control`, which may have been replaced already.
    pub fn detach(&self, control: &Arc<Control>) {
        let mut slot = self.slot();
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, control)) {
            *slot = None;
        }
        drop(slot);
        control.stop();
    }

    fn wake(&self) {
        if let Some(consumer) = &*self.slot() {
            consumer.wake();
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Control>>> {
        self.consumer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a look at the queue gave.
#[derive(Debug)]
pub(crate) enum Cut {
    /// These messages are leased now; their bodies have so many bytes together.
    Batch { seqs: Vec<i64>, bytes: usize },
    /// Nothing to do until somebody wakes the consumer, or until this moment.
    Wait(Option<u64>),
}
