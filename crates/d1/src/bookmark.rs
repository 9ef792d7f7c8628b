//! Bookmarks: how far a session has seen.

use std::sync::atomic::{AtomicU64, Ordering};

/// The place in a database's history: which opening of the file, and how many commits since.
///
/// The opening is counted in the file itself, so that a bookmark from before a restart is never greater
/// than one from after it.
#[derive(Debug)]
pub(crate) struct History {
    opening: u32,
    commits: AtomicU64,
}

impl History {
    /// The history that begins with this opening of the file.
    pub(crate) fn new(opening: u32) -> Self {
        Self { opening, commits: AtomicU64::new(0) }
    }

    /// Counts a commit.
    pub(crate) fn commit(&self) {
        self.commits.fetch_add(1, Ordering::Release);
    }

    /// The bookmark of everything committed by now: fixed width, so that the client's comparison of texts
    /// is a comparison in time.
    pub(crate) fn bookmark(&self) -> String {
        format!("{:08x}-{:016x}", self.opening, self.commits.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_bookmark_is_the_greater_text() {
        let mut seen = Vec::new();
        for opening in [9, 10, 0x1_0000] {
            let history = History::new(opening);
            for _ in 0..300 {
                seen.push(history.bookmark());
                history.commit();
            }
        }
        assert!(seen.is_sorted());
        assert!(seen.iter().all(|b| b.len() == seen[0].len()));
    }
}
