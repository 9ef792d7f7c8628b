//! What all workers of a store cache together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_runtime::Room;

/// Bytes of bodies that are not complete which there is room for, however little may be cached.
const LEAST_INCOMING: u64 = 64 << 20;

/// The sum of what is cached. What a worker cached whom nobody has asked for yet counts once it was looked for.
#[derive(Debug)]
pub(crate) struct Account {
    limit: u64,
    total: AtomicU64,
    workers: Mutex<HashMap<String, Arc<AtomicU64>>>,
    /// For bodies that are not complete.
    incoming: Arc<Room>,
    /// Held by who makes room.
    pub making_room: tokio::sync::Mutex<()>,
}

/// What one worker caches, among the rest.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    account: Arc<Account>,
    bytes: Arc<AtomicU64>,
}

impl Account {
    /// Of at most `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        let incoming = usize::try_from((limit / 2).max(LEAST_INCOMING)).unwrap_or(usize::MAX);
        Arc::new(Self {
            limit,
            total: AtomicU64::new(0),
            workers: Mutex::default(),
            incoming: Room::new(incoming),
            making_room: tokio::sync::Mutex::default(),
        })
    }

    /// By how many bytes there is more than may be.
    pub fn excess(&self) -> u64 {
        self.total.load(Ordering::Relaxed).saturating_sub(self.limit)
    }

    /// How many have to go where there is more than may be: a tenth goes at once, so that not every further put has to wait.
    pub fn to_go(&self) -> u64 {
        self.total.load(Ordering::Relaxed).saturating_sub(self.limit / 10 * 9)
    }

    /// The share of a worker.
    pub fn share(self: &Arc<Self>, id: &str) -> Share {
        Share { account: self.clone(), bytes: self.workers().entry(id.to_owned()).or_default().clone() }
    }

    /// Whether something is known of a worker's share.
    pub fn knows(&self, id: &str) -> bool {
        self.workers().contains_key(id)
    }

    fn workers(&self) -> MutexGuard<'_, HashMap<String, Arc<AtomicU64>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// It is so many bytes now.
    pub fn set(&self, bytes: u64) {
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        self.account.total.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Room for bodies that are not complete, of all workers.
    pub fn incoming(&self) -> &Arc<Room> {
        &self.account.incoming
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_together_and_the_last_word_counts() {
        let account = Account::new(100);
        let [one, other] = ["one", "other"].map(|id| account.share(id));
        one.set(90);
        other.set(30);
        assert_eq!((account.excess(), account.to_go()), (20, 30));
        account.share("one").set(60);
        assert_eq!((account.excess(), account.to_go()), (0, 0));
        assert!(account.knows("one") && !account.knows("third"));
    }
}
