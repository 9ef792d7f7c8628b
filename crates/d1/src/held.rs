//! What results take of this process's memory, until they have been sent: else who has many databases, and asks each for as much as
//! a result may be, or asks and reads no answer, would have all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use skep_runtime::{Backlog, Bounds, Waiting};

use crate::error::{D1Error, TOO_MUCH_MEMORY};

/// Bytes of all results at once, beyond which larger ones are refused.
const ALL: usize = 512 << 20;
/// Bytes of a result that is never refused.
const SMALL: usize = 4 << 20;
/// Results are looked at when they have grown by this.
const STEP: usize = 256 << 10;
/// What waits to be sent when a query that takes long waits: of its database, and of the account's databases together.
pub(crate) const BEFORE: Bounds = Bounds { own: 16 << 20, all: 256 << 20, little: 1 << 20 };
/// What waits when a result is refused, of those that write and waited for nothing.
const AFTER: Bounds = Bounds { own: 128 << 20, all: ALL, little: SMALL };

static HELD: AtomicUsize = AtomicUsize::new(0);

/// The memory of one result; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: usize,
    own: Waiting,
    all: &'static AtomicUsize,
}

impl Held {
    fn new(results: &Arc<Backlog>) -> Self {
        Self { bytes: 0, own: results.hold(0), all: &HELD }
    }

    /// Takes note that the result has `bytes` now.
    pub fn grow(&mut self, bytes: usize) -> Result<(), D1Error> {
        if bytes < self.bytes + STEP {
            return Ok(());
        }
        let all = self.all.fetch_add(bytes - self.bytes, Ordering::Relaxed) + (bytes - self.bytes);
        self.bytes = bytes;
        self.own.grow(bytes);
        let too_much = bytes > SMALL && all > ALL || self.own.is_over(AFTER);
        if too_much { Err(D1Error::new(TOO_MUCH_MEMORY)) } else { Ok(()) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A result, and what it holds.
#[derive(Debug)]
pub(crate) struct Output {
    pub bytes: Vec<u8>,
    held: Held,
}

impl Output {
    /// An empty one of a database, among its `results`.
    pub fn new(results: &Arc<Backlog>) -> Self {
        Self { bytes: Vec::new(), held: Held::new(results) }
    }

    /// Takes note of what has been written.
    pub fn note(&mut self) -> Result<(), D1Error> {
        self.held.grow(self.bytes.len())
    }

    /// For sending: the memory is given back when it is sent, or nobody wants it any more.
    pub fn into_bytes(self) -> Bytes {
        match self.held.bytes {
            0 => self.bytes.into(),
            _ => Bytes::from_owner(self),
        }
    }
}

impl AsRef<[u8]> for Output {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_results_have_an_end_together_and_small_ones_go_on() {
        static ALL_OF_THEM: AtomicUsize = AtomicUsize::new(0);
        let account = Arc::<AtomicUsize>::default();
        let empty = || Held { bytes: 0, own: Backlog::new(account.clone()).hold(0), all: &ALL_OF_THEM };
        let mut held: Vec<Held> = Vec::new();
        let refused = loop {
            let mut next = empty();
            if next.grow(100 << 20).is_err() {
                break next;
            }
            held.push(next);
        };
        assert_eq!(held.len(), 5);
        drop(refused);
        assert!(empty().grow(SMALL).is_ok());
        held.pop();
        assert!(empty().grow(100 << 20).is_ok());
        drop(held);
        assert_eq!(ALL_OF_THEM.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn results_of_one_database_have_an_end_together_however_small_they_are() {
        static ALL_OF_THEM: AtomicUsize = AtomicUsize::new(0);
        let account = Arc::<AtomicUsize>::default();
        let [own, other] = [(); 2].map(|()| Backlog::new(account.clone()));
        let empty = |results: &Arc<Backlog>| Held { bytes: 0, own: results.hold(0), all: &ALL_OF_THEM };
        let mut held: Vec<Held> = Vec::new();
        loop {
            let mut next = empty(&own);
            if next.grow(SMALL).is_err() {
                break;
            }
            held.push(next);
        }
        assert_eq!(held.len(), 32);
        assert!(own.is_over(BEFORE) && !other.is_over(BEFORE));
        assert!(empty(&own).grow(STEP - 1).is_ok() && empty(&other).grow(SMALL).is_ok());
        drop(held);
        assert!(!own.is_over(BEFORE) && empty(&own).grow(100 << 20).is_ok());
    }
}
