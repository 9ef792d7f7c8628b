//! Bodies in memory, bounded in total.
//!
//! A body hangs on its asset, so that serving it takes no lookup; this cache only knows how many bytes all
//! bodies have, and whose to drop: the oldest that was not served since the last time round (CLOCK).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::asset::Asset;
use crate::encoding::Encoding;

/// Memory of all bodies, in bytes, unless said otherwise: 64 MiB.
pub const DEFAULT_CAPACITY: usize = 64 * 1024 * 1024;

/// How much memory bodies may take, and how many are compressed at once. One may be shared by many
/// [`crate::Assets`].
#[derive(Debug)]
pub struct ContentCache {
    capacity: usize,
    used: AtomicUsize,
    queue: Mutex<VecDeque<(Weak<Asset>, Encoding)>>,
    /// One compression per core: the others wait.
    pub(crate) compressors: Semaphore,
}

impl Default for ContentCache {
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY)
    }
}

impl ContentCache {
    /// A cache of at most `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            capacity,
            used: AtomicUsize::new(0),
            queue: Mutex::default(),
            compressors: Semaphore::new(cores),
        }
    }

    /// Bytes in memory now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Keeps `body`, dropping others where there is no room. A body that alone exceeds the capacity is not kept.
    pub(crate) fn keep(&self, asset: &Arc<Asset>, encoding: Encoding, body: &Bytes) {
        if body.len() > self.capacity {
            return;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !asset.slot(encoding).fill(body.clone()) {
            return;
        }
        self.used.fetch_add(body.len(), Ordering::Relaxed);
        queue.push_back((Arc::downgrade(asset), encoding));
        // Twice round at most: the first time round clears every mark.
        let mut turns = queue.len() * 2;
        while self.used() > self.capacity && turns > 0 {
            turns -= 1;
            let Some((weak, encoding)) = queue.pop_front() else { break };
            let Some(asset) = weak.upgrade() else { continue };
            if asset.slot(encoding).was_used() {
                queue.push_back((weak, encoding));
            } else {
                self.release(asset.slot(encoding).take());
            }
        }
        // Assets that are gone have given their bytes back themselves; do not let their names pile up.
        while queue.front().is_some_and(|(weak, _)| weak.strong_count() == 0) {
            queue.pop_front();
        }
    }

    pub(crate) fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Forgets assets that are gone; called when a folder was read anew.
    pub(crate) fn sweep(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.retain(|(weak, _)| weak.strong_count() > 0);
    }
}

/// One body of an asset, when it is in memory.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    body: RwLock<Option<Bytes>>,
    used: AtomicBool,
}

impl Slot {
    pub(crate) fn get(&self) -> Option<Bytes> {
        let body = self.body.read().unwrap_or_else(PoisonError::into_inner).clone();
        if body.is_some() && !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        body
    }

    /// Whether it was served since this was last asked.
    fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// `false` when there is a body already.
    fn fill(&self, content: Bytes) -> bool {
        let mut body = self.body.write().unwrap_or_else(PoisonError::into_inner);
        let empty = body.is_none();
        if empty {
            *body = Some(content);
        }
        empty
    }

    /// Empties it; says how many bytes it had.
    pub(crate) fn take(&self) -> usize {
        self.body.write().unwrap_or_else(PoisonError::into_inner).take().map_or(0, |body| body.len())
    }
}
