//! How much an account may store: one number for all of its stores.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::StoreError;

/// Beyond the limit, files that nobody can charge for (logs of databases, Durable Objects) may take this part of it
/// more before nothing at all is written; at least [`LEAST_SLACK`].
const SLACK: u64 = 20;
const LEAST_SLACK: u64 = 16 << 20;

/// This part of the limit is little.
const NEARLY: u64 = 16;

/// What an account stores, and the most that it may. Writes charge what they are about to add; now and then what the
/// disk holds is measured, and that is what counts from then on.
#[derive(Debug)]
pub struct Quota {
    limit: u64,
    measured: AtomicU64,
    /// Added and removed since the last measurement.
    since: AtomicI64,
}

/// A measurement under way.
#[derive(Debug)]
pub struct Measuring(i64);

impl Default for Quota {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Quota {
    /// Of `limit` bytes; `u64::MAX` is none.
    pub fn new(limit: u64) -> Self {
        Self { limit, measured: AtomicU64::new(0), since: AtomicI64::new(0) }
    }

    /// Whether there is one.
    pub fn is_limited(&self) -> bool {
        self.limit != u64::MAX
    }

    /// The most that may be stored, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that are stored, as far as is known.
    pub fn used(&self) -> u64 {
        self.measured.load(Ordering::Relaxed).saturating_add_signed(self.since.load(Ordering::Relaxed))
    }

    /// Bytes that may still be stored.
    pub fn room(&self) -> u64 {
        if self.is_limited() { self.limit.saturating_sub(self.used()) } else { u64::MAX }
    }

    /// Whether so little room is left that it is time to give back what can be done without.
    pub fn is_nearly_full(&self) -> bool {
        self.is_limited() && self.room() <= self.limit / NEARLY
    }

    /// Whether so much is stored that nothing may be written, not even what removes something.
    pub fn is_far_over(&self) -> bool {
        self.is_limited() && self.used() > self.limit.saturating_add((self.limit / SLACK).max(LEAST_SLACK))
    }

    /// Charges `bytes` that are about to be stored; nothing if there is no room for them.
    pub fn take(&self, bytes: u64) -> Result<(), StoreError> {
        if !self.is_limited() {
            return Ok(());
        }
        self.add(bytes);
        if self.used() > self.limit {
            self.give_back(bytes);
            return Err(StoreError::QuotaReached);
        }
        Ok(())
    }

    /// Charges what was stored without asking.
    pub fn add(&self, bytes: u64) {
        self.since.fetch_add(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Takes back what was charged, or is not stored any more.
    pub fn give_back(&self, bytes: u64) {
        self.since.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Begins a measurement. What is stored while it runs may count twice until the next one.
    pub fn begin(&self) -> Measuring {
        Measuring(self.since.load(Ordering::Relaxed))
    }

    /// Ends it: `bytes` are what the disk holds.
    pub fn end(&self, measuring: Measuring, bytes: u64) {
        self.measured.store(bytes, Ordering::Relaxed);
        self.since.fetch_sub(measuring.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_counts_until_it_is_measured() {
        let quota = Quota::new(100);
        assert!(quota.take(60).is_ok());
        assert!(matches!(quota.take(41), Err(StoreError::QuotaReached)));
        assert_eq!((quota.used(), quota.room()), (60, 40), "what is refused is not charged");
        let measuring = quota.begin();
        assert!(quota.take(10).is_ok());
        quota.end(measuring, 30);
        assert_eq!(quota.used(), 40, "what came meanwhile counts on");
        quota.give_back(500);
        assert_eq!((quota.used(), quota.room()), (0, 100));
    }

    #[test]
    fn what_nobody_asked_for_may_pass_the_limit_by_a_part_of_it() {
        let quota = Quota::new(1 << 30);
        quota.add(1 << 30);
        assert!(quota.room() == 0 && quota.is_nearly_full() && !quota.is_far_over());
        quota.add((1 << 30) / 20);
        assert!(!quota.is_far_over());
        quota.add(1);
        assert!(quota.is_far_over());
        let none = Quota::default();
        none.add(u64::MAX / 4);
        assert!(none.take(u64::MAX).is_ok() && !none.is_far_over() && none.room() == u64::MAX);
    }
}
