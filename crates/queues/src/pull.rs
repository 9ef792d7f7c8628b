//! Consumers that fetch their messages over HTTP.
//! <https://developers.cloudflare.com/queues/configuration/pull-consumers/>
//!
//! A message that is pulled becomes due again after its visibility time-out, with one delivery more, all on the disk: a
//! restart voids no lease and delivers nothing early. A lease names the message and the delivery, so that one that was
//! delivered again in the meantime is not acknowledged by an earlier lease.

use skep_store::StoreError;

use crate::message::Message;
use crate::queues::Queues;
use crate::storage::{self, Settlement};

/// Messages of one pull at most.
pub const MAX_PULL: u32 = 100;
/// The longest visibility time-out, in milliseconds: 12 hours.
pub const MAX_VISIBILITY_MS: u64 = 12 * 60 * 60 * 1000;

/// What a pull asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Messages at most: 1 to [`MAX_PULL`].
    pub batch_size: u32,
    /// How long they are nobody else's, in milliseconds.
    pub visibility_timeout_ms: u64,
    /// How often a message is delivered again.
    pub max_retries: u32,
    /// Where messages go whose retries are used up; without it they are dropped.
    pub dead_letter_queue: Option<String>,
}

/// The right to acknowledge one delivery of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    seq: i64,
    attempts: u32,
}

impl Lease {
    pub(crate) fn new(seq: i64, attempts: u32) -> Self {
        Self { seq, attempts }
    }

    /// Reads what [`Lease`]'s `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (seq, attempts) = text.split_once('-')?;
        Some(Self {
            seq: i64::from_str_radix(seq, 16).ok().filter(|seq| *seq >= 0)?,
            attempts: u32::from_str_radix(attempts, 16).ok()?,
        })
    }
}

impl std::fmt::Display for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}-{:x}", self.seq, self.attempts)
    }
}

impl Queues {
    /// Takes messages that are due; durable when it resolves.
    pub async fn pull(&self, queue: &str, pull: Pull) -> Result<Vec<(Lease, Message)>, StoreError> {
        let queue = self.queue(queue);
        let Some(id) = queue.id() else { return Ok(Vec::new()) };
        let (shared, clock) = (queue.shared.clone(), queue.shared.clock.clone());
        let leased = queue.leases().clone();
        let letters = pull.dead_letter_queue.clone();
        let (taken, moved) = shared
            .db
            .write(move |t| {
                let now_ms = clock.now_ms();
                let most = pull.max_retries.saturating_add(1);
                let visible_ms = now_ms.saturating_add(pull.visibility_timeout_ms.min(MAX_VISIBILITY_MS));
                let limit = pull.batch_size.clamp(1, MAX_PULL) as usize;
                let mut taken = Vec::new();
                let mut moved = None;
                while taken.len() < limit {
                    let due = storage::waiting(t, id, now_ms, &leased, limit - taken.len())?.due;
                    if due.is_empty() {
                        break;
                    }
                    let mut settlement = Settlement::default();
                    for (seq, message) in storage::load(t, due.iter().map(|(_, seq)| *seq))? {
                        if message.attempts > most {
                            match pull.dead_letter_queue {
                                Some(_) => settlement.dead.push(seq),
                                None => settlement.removed.push(seq),
                            }
                            continue;
                        }
                        settlement.retried.push((seq, visible_ms.max(now_ms + 1), message.attempts));
                        taken.push((Lease { seq, attempts: message.attempts }, message));
                    }
                    let used =
                        storage::settle(t, id, &settlement, pull.dead_letter_queue.as_deref(), now_ms)?;
                    moved = moved.or(used);
                }
                Ok((taken, moved))
            })
            .await?;
        if let (Some(id), Some(letters)) = (moved, &letters) {
            shared.sent_to(letters, id);
        }
        Ok(taken)
    }

    /// Removes the messages of `acks`, makes those of `retries` due after so many seconds; durable when it resolves.
    /// Says of each lease, in that order, whether it still held.
    pub async fn acknowledge(
        &self,
        queue: &str,
        acks: Vec<Lease>,
        retries: Vec<(Lease, u32)>,
    ) -> Result<(Vec<bool>, Vec<bool>), StoreError> {
        let queue = self.queue(queue);
        let Some(id) = queue.id() else {
            return Ok((vec![false; acks.len()], vec![false; retries.len()]));
        };
        let clock = queue.shared.clock.clone();
        let answered = queue.shared.db.write(move |t| {
            let now_ms = clock.now_ms();
            let mut settlement = Settlement::default();
            let mut seen = std::collections::HashSet::new();
            let mut holds = |lease: &Lease| -> Result<bool, StoreError> {
                let counted = storage::attempts(t, id, lease.seq)?;
                Ok(counted == Some(lease.attempts) && seen.insert(lease.seq))
            };
            let mut acked = Vec::new();
            for lease in &acks {
                let held = holds(lease)?;
                settlement.removed.extend(held.then_some(lease.seq));
                acked.push(held);
            }
            let mut retried = Vec::new();
            for (lease, delay) in &retries {
                let held = holds(lease)?;
                let due_ms = now_ms + u64::from(*delay) * 1000;
                settlement.retried.extend(held.then_some((lease.seq, due_ms, lease.attempts)));
                retried.push(held);
            }
            storage::settle(t, id, &settlement, None, now_ms)?;
            Ok((acked, retried))
        });
        let answered = answered.await;
        queue.free_from(0);
        answered
    }

    /// Makes leases last so long from now; durable when it resolves. Says of each whether it still held.
    pub async fn extend(
        &self,
        queue: &str,
        leases: Vec<Lease>,
        visibility_timeout_ms: u64,
    ) -> Result<Vec<bool>, StoreError> {
        let queue = self.queue(queue);
        let Some(id) = queue.id() else { return Ok(vec![false; leases.len()]) };
        let clock = queue.shared.clock.clone();
        let extended = queue.shared.db.write(move |t| {
            let now_ms = clock.now_ms();
            let due_ms = now_ms.saturating_add(visibility_timeout_ms.min(MAX_VISIBILITY_MS));
            let mut settlement = Settlement::default();
            let mut held = Vec::new();
            for Lease { seq, attempts } in leases {
                // Before its first delivery a message is nobody's.
                let holds = attempts > 0 && storage::attempts(t, id, seq)? == Some(attempts);
                settlement.retried.extend(holds.then_some((seq, due_ms, attempts)));
                held.push(holds);
            }
            storage::settle(t, id, &settlement, None, now_ms)?;
            Ok(held)
        });
        let extended = extended.await;
        queue.free_from(0);
        extended
    }
}
