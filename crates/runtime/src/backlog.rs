//! What was made for somebody who has not taken it yet: who leaves much of it gets no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How often one looks again whose own bytes are few enough, and those of all are too many.
const AGAIN: Duration = Duration::from_millis(100);

/// Bytes that may wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Of one.
    pub own: usize,
    /// Of all together.
    pub all: usize,
    /// Of one, where all together have more.
    pub little: usize,
}

/// Bytes that wait for somebody, among those of all.
#[derive(Debug)]
pub struct Backlog {
    bytes: AtomicUsize,
    freed: Notify,
    all: Arc<AtomicUsize>,
}

/// Bytes that count until this is dropped.
#[derive(Debug)]
pub struct Waiting {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Backlog {
    /// An empty one; `all` has the bytes of all together.
    pub fn new(all: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), freed: Notify::new(), all })
    }

    /// Whether more waits than may.
    pub fn is_over(&self, bounds: Bounds) -> bool {
        let own = self.bytes.load(Ordering::Relaxed);
        own > bounds.own || own > bounds.little && self.all.load(Ordering::Relaxed) > bounds.all
    }

    /// Waits until less does. Whoever has waited comes one by one, so that each is counted before the next one goes on.
    pub async fn ready(&self, bounds: Bounds) {
        if !self.is_over(bounds) {
            return;
        }
        while self.is_over(bounds) {
            tokio::select! {
                () = self.freed.notified() => {}
                () = tokio::time::sleep(AGAIN), if self.bytes.load(Ordering::Relaxed) <= bounds.own => {}
            }
        }
        self.freed.notify_one();
    }

    /// Counts `bytes`.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Waiting {
        let mut waiting = Waiting { backlog: self.clone(), bytes: 0 };
        waiting.grow(bytes);
        waiting
    }
}

impl Waiting {
    /// It has `bytes` by now.
    pub fn grow(&mut self, bytes: usize) {
        let more = bytes.saturating_sub(self.bytes);
        self.bytes += more;
        self.backlog.bytes.fetch_add(more, Ordering::Relaxed);
        self.backlog.all.fetch_add(more, Ordering::Relaxed);
    }

    /// It has `bytes` by now, or as many of them as `bounds` let it; never fewer than before. Returns how many.
    pub fn grow_within(&mut self, bytes: usize, bounds: Bounds) -> usize {
        let own = self.backlog.bytes.load(Ordering::Relaxed);
        let more = bytes.saturating_sub(self.bytes).min(bounds.own.saturating_sub(own));
        let others = self.backlog.all.fetch_add(more, Ordering::Relaxed);
        let fits = others.saturating_add(more) <= bounds.all;
        let given = if fits { more } else { more.min(bounds.little.saturating_sub(own)) };
        self.backlog.all.fetch_sub(more - given, Ordering::Relaxed);
        self.backlog.bytes.fetch_add(given, Ordering::Relaxed);
        self.bytes += given;
        self.bytes
    }

    /// Whether more waits for whom it is for than may.
    pub fn is_over(&self, bounds: Bounds) -> bool {
        self.backlog.is_over(bounds)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.backlog.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
            self.backlog.all.fetch_sub(self.bytes, Ordering::Relaxed);
            self.backlog.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { own: 10, all: 15, little: 2 };

    #[test]
    fn who_leaves_much_has_too_much_and_where_all_have_much_little_is_much() {
        let all = Arc::new(AtomicUsize::new(0));
        let [one, other] = [(); 2].map(|()| Backlog::new(all.clone()));
        let ten = one.hold(10);
        assert!(!one.is_over(BOUNDS));
        let more = one.hold(1);
        assert!(one.is_over(BOUNDS) && !other.is_over(BOUNDS));
        drop(more);
        let mut five = other.hold(2);
        assert!(!one.is_over(BOUNDS) && !other.is_over(BOUNDS));
        five.grow(6);
        assert!(one.is_over(BOUNDS) && other.is_over(BOUNDS));
        five.grow(5);
        drop(ten);
        assert!(!one.is_over(BOUNDS) && !other.is_over(BOUNDS));
        drop(five);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_may_not_have_all_gets_as_much_as_he_may() {
        let all = Arc::new(AtomicUsize::new(0));
        let [mut one, mut other] = [(); 2].map(|()| Backlog::new(all.clone()).hold(0));
        assert_eq!(one.grow_within(100, BOUNDS), 10, "no more than its own");
        assert_eq!(other.grow_within(5, BOUNDS), 5);
        assert_eq!(other.grow_within(6, BOUNDS), 5, "all have as much as they may, and it has a little");
        assert_eq!(one.grow_within(3, BOUNDS), 10, "what it has it keeps");
        drop(other);
        let mut third = Backlog::new(all.clone()).hold(0);
        all.store(100, Ordering::Relaxed);
        assert_eq!(third.grow_within(5, BOUNDS), 2, "a little in any case");
        assert_eq!(all.load(Ordering::Relaxed), 102);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_goes_on_one_by_one_as_soon_as_there_is_less() {
        let backlog = Backlog::new(Arc::default());
        let first = backlog.hold(11);
        let done = Arc::new(AtomicUsize::new(0));
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let (backlog, done) = (backlog.clone(), done.clone());
            waiting.spawn(async move {
                backlog.ready(BOUNDS).await;
                done.fetch_add(1, Ordering::Relaxed);
                backlog.hold(6)
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(done.load(Ordering::Relaxed), 0);
        drop(first);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(done.load(Ordering::Relaxed), 2, "two of six are more than ten");
        while let Some(held) = waiting.join_next().await {
            drop(held.unwrap());
        }
        assert_eq!(done.load(Ordering::Relaxed), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_what_others_have_looks_again() {
        let all = Arc::new(AtomicUsize::new(100));
        let backlog = Backlog::new(all.clone());
        let _own = backlog.hold(5);
        assert!(tokio::time::timeout(Duration::from_secs(1), backlog.ready(BOUNDS)).await.is_err());
        all.store(5, Ordering::Relaxed);
        backlog.ready(BOUNDS).await;
    }
}
