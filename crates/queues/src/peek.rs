//! Messages that are looked at and stay where they are. <https://developers.cloudflare.com/queues/examples/list-messages-from-dash/>

use skep_store::StoreError;

use crate::message::Message;
use crate::pull::{Lease, MAX_PULL};
use crate::queues::Queues;
use crate::storage::{self, Settlement};

/// Names a message of a queue, however often it is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ref(i64);

impl Ref {
    /// Reads what [`Ref`]'s `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        i64::from_str_radix(text, 16).ok().filter(|seq| *seq >= 0).map(Self)
    }
}

impl std::fmt::Display for Ref {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl Queues {
    /// Up to `limit` messages that wait to be delivered, with what names them, what acknowledges them until their next
    /// delivery, and the deliveries so far. Nothing changes by it.
    pub fn peek(&self, queue: &str, limit: u32) -> Result<Vec<(Ref, Lease, Message)>, StoreError> {
        let queue = self.queue(queue);
        let Some(id) = queue.id() else { return Ok(Vec::new()) };
        let (now_ms, leased) = (queue.shared.clock.now_ms(), queue.leases().clone());
        let limit = limit.clamp(1, MAX_PULL) as usize;
        let loaded = queue.shared.db.read(move |c| {
            let due = storage::waiting(c, id, now_ms, &leased, limit)?.due;
            storage::load(c, due.into_iter().map(|(_, seq)| seq))
        })?;
        let shown = loaded.into_iter().map(|(seq, message)| {
            let attempts = message.attempts.saturating_sub(1);
            (Ref(seq), Lease::new(seq, attempts), Message { attempts, ..message })
        });
        Ok(shown.collect())
    }

    /// Removes messages, delivered or not; durable when it resolves. Says of each whether it was there.
    pub async fn remove(&self, queue: &str, refs: Vec<Ref>) -> Result<Vec<bool>, StoreError> {
        let queue = self.queue(queue);
        let Some(id) = queue.id() else { return Ok(vec![false; refs.len()]) };
        let clock = queue.shared.clock.clone();
        let removed = queue.shared.db.write(move |t| {
            let mut settlement = Settlement::default();
            let mut there = Vec::new();
            for Ref(seq) in &refs {
                let found = storage::attempts(t, id, *seq)?.is_some() && !settlement.removed.contains(seq);
                settlement.removed.extend(found.then_some(*seq));
                there.push(found);
            }
            storage::settle(t, id, &settlement, None, clock.now_ms())?;
            Ok(there)
        });
        removed.await
    }
}
