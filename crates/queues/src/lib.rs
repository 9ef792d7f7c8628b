//! Queues: producers, push consumers, retries, dead letters; durable, at least once.
//!
//! One SQLite file holds every queue. A send is acknowledged once its message is on the disk; a message
//! leaves the disk only when its consumer has acknowledged it, it went to its dead letter queue (in the same
//! transaction), its retries are used up, or it outlived its retention. Messages under delivery are leased
//! in memory alone: after a crash they are delivered again.
//!
//! This crate does not know cells, workers or the engine: a consumer is anything that implements
//! [`Deliver`]. It never looks into a message's body; the `v8` format is as opaque as the others.
//!
//! Entry points: [`Queues::open`], [`Queues::producer`], [`Queues::consume`].

mod consumer;
mod error;
mod leases;
mod message;
mod outcome;
mod peek;
mod plan;
mod producer;
mod pull;
mod queue;
mod queues;
mod request;
mod settings;
mod storage;
#[cfg(test)]
mod tests;

pub use consumer::{ConsumerHandle, Deliver};
pub use error::QueueError;
pub use message::{Batch, Format, Message, Metrics};
pub use outcome::{DeliveryOutcome, RetryBatch, RetryMessage};
pub use peek::Ref;
pub use pull::{Lease, MAX_PULL, MAX_VISIBILITY_MS, Pull};
pub use queues::Queues;
pub use settings::{
    ConsumerSettings, DEFAULT_RETENTION_SECS, MAX_BATCH_COUNT, MAX_BATCH_SIZE, MAX_BATCH_TIMEOUT,
    MAX_CONCURRENCY, MAX_DELAY_SECS, MAX_RETRIES, QueueSettings, RETENTION_SECS,
};
