//! Whether the writing thread can be left behind.

use std::sync::atomic::{AtomicU8, Ordering};

const WRITES: u8 = 0;
const SEARCHES: u8 = 1;
const LEFT: u8 = 2;

/// What the writing thread is at. It may search a full-text index for longer than anybody waits (`apart/`): then it is left behind, and
/// must not commit any more, as another one may have the database by then.
#[derive(Debug, Default)]
pub(crate) struct Stage(AtomicU8);

/// A search, until it is dropped.
#[derive(Debug)]
pub(crate) struct Search<'a>(&'a Stage);

impl Stage {
    /// The thread begins to search.
    pub fn search(&self) -> Search<'_> {
        let _ = self.0.compare_exchange(WRITES, SEARCHES, Ordering::SeqCst, Ordering::SeqCst);
        Search(self)
    }

    /// Whether it searches now.
    pub fn searches(&self) -> bool {
        self.0.load(Ordering::SeqCst) == SEARCHES
    }

    /// Leaves it behind, if it searches; returns whether it is.
    pub fn leave(&self) -> bool {
        self.0.compare_exchange(SEARCHES, LEFT, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Whether it was left behind.
    pub fn is_left(&self) -> bool {
        self.0.load(Ordering::SeqCst) == LEFT
    }
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        let _ = self.0.0.compare_exchange(SEARCHES, WRITES, Ordering::SeqCst, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_left_while_it_searches_and_stays_left() {
        let stage = Stage::default();
        assert!(!stage.leave() && !stage.is_left());
        drop(stage.search());
        assert!(!stage.searches() && !stage.leave());
        let search = stage.search();
        assert!(stage.searches() && stage.leave());
        drop(search);
        assert!(stage.is_left() && !stage.searches());
        drop(stage.search());
        assert!(stage.is_left());
    }
}
