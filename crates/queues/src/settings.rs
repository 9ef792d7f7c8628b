//! What a consumer may choose, and the limits of the service.
//!
//! Source: <https://developers.cloudflare.com/queues/platform/limits/> and
//! <https://developers.cloudflare.com/queues/configuration/configure-queues/>.

use std::time::Duration;

/// The longest delay of a message, a retry or a queue's deliveries: 24 hours, in seconds.
pub const MAX_DELAY_SECS: u32 = 86_400;
/// The largest message, in bytes.
pub(crate) const MAX_MESSAGE_BYTES: usize = 128_000;
/// Messages in one `sendBatch` at most.
pub const MAX_BATCH_COUNT: usize = 100;
/// Bytes of all bodies of one `sendBatch` at most.
pub(crate) const MAX_BATCH_BYTES: usize = 256_000;
/// Bytes of all bodies that one queue may hold.
pub(crate) const MAX_BACKLOG_BYTES: u64 = 25_000_000_000;
/// How long a message is kept that nobody acknowledges, in seconds, where the queue does not say: four days.
pub const DEFAULT_RETENTION_SECS: u32 = 345_600;
/// What a queue may say.
pub const RETENTION_SECS: std::ops::RangeInclusive<u32> = 60..=1_209_600;
/// How long a consumer may work on one batch.
pub(crate) const MAX_DELIVERY: Duration = Duration::from_secs(15 * 60);

/// Messages in a delivered batch at most.
pub const MAX_BATCH_SIZE: u32 = 100;
/// Seconds to wait for a batch to fill at most.
pub const MAX_BATCH_TIMEOUT: u32 = 60;
/// Retries of a message at most.
pub const MAX_RETRIES: u32 = 100;
/// Batches of one queue under delivery at once, at most.
pub const MAX_CONCURRENCY: u32 = 250;
/// The same where the consumer does not say: one machine is not a fleet of data centres.
const DEFAULT_CONCURRENCY: u32 = 10;

/// What holds for all messages of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Seconds before a message is delivered, where neither its call nor its producer says: 0 to 86,400.
    pub delivery_delay_secs: u32,
    /// How long a message is kept that nobody acknowledges, in seconds.
    pub retention_secs: u32,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self { delivery_delay_secs: 0, retention_secs: DEFAULT_RETENTION_SECS }
    }
}

/// How a consumer wants its messages: wrangler's `queues.consumers[]`. Values past Cloudflare's limits are
/// brought down to them; to refuse them is the work of whoever reads the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// A batch is delivered as soon as it holds this many messages: 1 to 100.
    pub max_batch_size: u32,
    /// Or as soon as its oldest message has waited for this many seconds: 0 to 60.
    pub max_batch_timeout_s: u32,
    /// How often a message is delivered again after its first delivery failed: 0 to 100.
    pub max_retries: u32,
    /// Seconds before a message is delivered again where the consumer's code does not say: 0 to 86,400.
    pub retry_delay: Option<u32>,
    /// Where messages go whose retries are used up; they are dropped where there is none.
    pub dead_letter_queue: Option<String>,
    /// Batches under delivery at once: 1 to 250; where it is absent, up to 10 as the backlog demands.
    pub max_concurrency: Option<u32>,
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        Self {
            max_batch_size: 10,
            max_batch_timeout_s: 5,
            max_retries: 3,
            retry_delay: None,
            dead_letter_queue: None,
            max_concurrency: None,
        }
    }
}

impl ConsumerSettings {
    /// The same within the limits of the service.
    pub(crate) fn clamped(mut self) -> Self {
        self.max_batch_size = self.max_batch_size.clamp(1, MAX_BATCH_SIZE);
        self.max_batch_timeout_s = self.max_batch_timeout_s.min(MAX_BATCH_TIMEOUT);
        self.max_retries = self.max_retries.min(MAX_RETRIES);
        self.retry_delay = self.retry_delay.map(|delay| delay.min(MAX_DELAY_SECS));
        self.max_concurrency = self.max_concurrency.map(|n| n.clamp(1, MAX_CONCURRENCY));
        self
    }

    /// Batches under delivery at once, at most.
    pub(crate) fn concurrency(&self) -> usize {
        self.max_concurrency.unwrap_or(DEFAULT_CONCURRENCY) as usize
    }
}
