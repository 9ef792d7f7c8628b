//! All queues of one machine.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use skep_runtime::{Clock, Jobs, Shutdown};
use skep_store::{Database, Quota, StoreError};
use skep_wire::Service;

use crate::consumer::{self, ConsumerHandle, Deliver};
use crate::message::Metrics;
use crate::producer::Producer;
use crate::queue::{Queue, Shared};
use crate::settings::{ConsumerSettings, MAX_DELAY_SECS, QueueSettings};
use crate::storage;

/// How often old messages are looked for.
const RETENTION_PERIOD: Duration = Duration::from_secs(60);

/// The broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queues(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
}

/// The queues that are known, by name.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<HashMap<String, Arc<Queue>>>);

impl Registry {
    pub fn get(&self, name: &str) -> Option<Arc<Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub fn get_or_add(&self, name: &str, shared: &Arc<Shared>) -> Arc<Queue> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(name) {
            return queue.clone();
        }
        let queue = Arc::new(Queue::new(name, None, shared.clone()));
        queues.insert(name.to_owned(), queue.clone());
        queue
    }

    fn all(&self) -> Vec<Arc<Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Queues {
    /// Opens or creates the queues in the folder `dir`. Call it, and everything else here, inside a tokio
    /// runtime. Adds the job `queues retention` to `jobs`. At `shutdown` consumers take no more batches.
    pub fn open(dir: &Path, clock: Clock, jobs: &Jobs, shutdown: Shutdown) -> Result<Self, StoreError> {
        Self::open_within(dir, clock, jobs, shutdown, Arc::default())
    }

    /// As [`Queues::open`]; what is stored counts towards `quota`.
    pub fn open_within(
        dir: &Path,
        clock: Clock,
        jobs: &Jobs,
        shutdown: Shutdown,
        quota: Arc<Quota>,
    ) -> Result<Self, StoreError> {
        let db = Database::open(&dir.join("queues.sqlite"), storage::SCHEMA)?;
        let known = db.read(storage::queues)?;
        let registry = Arc::new(Registry::default());
        let shared = Arc::new(Shared { db, clock, shutdown, quota, registry: Arc::downgrade(&registry) });
        {
            let mut queues = registry.0.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, id) in known {
                queues.insert(name.clone(), Arc::new(Queue::new(&name, Some(id), shared.clone())));
            }
        }
        let inner = Arc::new(Inner { shared, registry });
        let weak = Arc::downgrade(&inner);
        jobs.every("queues retention", RETENTION_PERIOD, move || expire(weak.clone()));
        Ok(Self(inner))
    }

    /// The binding that sends to `queue`, which need not exist yet. Messages whose call says no delay get
    /// `default_delay_secs`, wrangler's `delivery_delay`, and without it the queue's own.
    pub fn producer(&self, queue: &str, default_delay_secs: Option<u32>) -> Arc<dyn Service> {
        let default_delay = default_delay_secs.map(|delay| delay.min(MAX_DELAY_SECS));
        Arc::new(Producer { queue: self.queue(queue), default_delay })
    }

    /// Sets what holds for all messages of `queue`, those that are there included. It is not stored.
    pub fn configure(&self, queue: &str, settings: QueueSettings) {
        self.queue(queue).configure(settings);
    }

    /// Delivers the messages of `queue` to `deliver` until the handle is stopped or dropped. A queue has one
    /// consumer: this one takes the place of the one before, whose batches under delivery are finished
    /// and settled there; nothing is lost, nor delivered to both.
    pub fn consume(
        &self,
        queue: &str,
        settings: ConsumerSettings,
        deliver: Arc<dyn Deliver>,
    ) -> ConsumerHandle {
        consumer::start(self.queue(queue), settings, deliver)
    }

    /// What `queue` holds.
    pub fn metrics(&self, queue: &str) -> Result<Metrics, StoreError> {
        self.0.registry.get(queue).map_or_else(|| Ok(Metrics::default()), |queue| queue.metrics())
    }

    /// Removes all messages of `queue`; returns how many.
    pub async fn purge(&self, queue: &str) -> Result<u64, StoreError> {
        let Some(id) = self.0.registry.get(queue).and_then(|queue| queue.id()) else { return Ok(0) };
        let mut total = 0;
        loop {
            match self.0.shared.db.write(move |t| storage::expire(t, id, i64::MAX as u64)).await? {
                0 => return Ok(total),
                count => total += count,
            }
        }
    }

    /// The names of all queues that have ever held a message or are bound now, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.registry.all().iter().map(|queue| queue.name.clone()).collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn queue(&self, name: &str) -> Arc<Queue> {
        self.0.registry.get_or_add(name, &self.0.shared)
    }
}

/// Removes what outlived its retention from every queue, consumed or not, and has all that is left looked at: whoever sent something
/// and hung up before it was on the disk has told nobody.
async fn expire(inner: Weak<Inner>) -> Result<String, String> {
    let Some(inner) = inner.upgrade() else { return Ok("closed".to_owned()) };
    let mut total = 0;
    for queue in inner.registry.all() {
        let Some(id) = queue.id() else { continue };
        let kept_ms = u64::from(queue.settings().retention_secs) * 1000;
        let before_ms = inner.shared.clock.now_ms().saturating_sub(kept_ms);
        loop {
            let removed = inner.shared.db.write(move |t| storage::expire(t, id, before_ms)).await;
            match removed.map_err(|error| error.to_string())? {
                0 => break,
                count => total += count,
            }
        }
        queue.free_from(0);
    }
    Ok(format!("{total} messages outlived their retention"))
}

impl Queues {
    /// Runs the retention job now.
    #[cfg(test)]
    pub(crate) async fn expire_now(&self) -> Result<String, String> {
        expire(Arc::downgrade(&self.0)).await
    }
}
