//! How much lies between this process and a cell that does not take what is sent to it.
//!
//! An answer that a script passes on to a visitor who is slow stands still, and so do the engine's buffers: it has read 16 pieces of
//! it, each as large as what the socket held, 1.7 MB in all. A hundred visitors who download something were a script's whole memory. So
//! the more of a cell's sockets are full, the less each of them holds; and the more readers are slow, the less is read ahead for each.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What sockets hold that are full, together, where they are many: the engine takes forty times as much.
const TOGETHER: usize = 1 << 20;
/// What one may be told to hold: the kernel makes none that is smaller, and twice the largest is what it has by default.
pub(crate) const ROOM: RangeInclusive<usize> = 4 << 10..=104 << 10;

/// What this process may hold for readers of answers that are slow, together, where they are many.
const SLOW: usize = 16 << 20;
/// Of one of them, where they are few, and where they are many.
const PIECE: RangeInclusive<usize> = 16 << 10..=256 << 10;
/// Answers whose reader is waited for, and bodies that are being sent to a cell.
static WRITING: AtomicUsize = AtomicUsize::new(0);

/// Counts one, until it is dropped.
#[derive(Debug)]
pub(crate) struct Writing(());

impl Writing {
    pub fn begin() -> Self {
        WRITING.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How much of an answer, or of a request's body, is read ahead of its reader.
pub fn piece() -> usize {
    piece_among(WRITING.load(Ordering::Relaxed))
}

fn piece_among(writing: usize) -> usize {
    (SLOW / writing.max(1)).clamp(*PIECE.start(), *PIECE.end())
}

/// What processes hold, together, of bodies that they pass on, where those are many.
const PASSED: usize = 4 << 20;

/// How much of a body a process gets that passes it on to a reader who has not asked for more.
pub(crate) fn window() -> usize {
    (PASSED / WRITING.load(Ordering::Relaxed).max(1)).clamp(*PIECE.start(), *PIECE.end())
}

/// Whether bodies are so many that what a process gets of each is less than of one alone.
pub(crate) fn are_many() -> bool {
    window() < *PIECE.end()
}

/// The sockets of one cell.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    full: AtomicUsize,
}

/// A socket that is full, until it is dropped.
#[derive(Debug)]
pub(crate) struct Full(Arc<Flow>);

impl Flow {
    /// One more is full.
    pub fn fill(self: &Arc<Self>) -> Full {
        self.full.fetch_add(1, Ordering::Relaxed);
        Full(self.clone())
    }

    /// What each is to hold.
    pub fn room(&self) -> usize {
        room_among(self.full.load(Ordering::Relaxed))
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        self.0.full.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What each of so many holds. In steps: to change it is a system call.
fn room_among(full: usize) -> usize {
    let share = TOGETHER / full.max(1).next_power_of_two();
    share.clamp(*ROOM.start(), *ROOM.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_are_full_the_less_each_holds() {
        let rooms = [0, 1, 8, 9, 16, 17, 100, 10_000].map(|n| room_among(n) >> 10);
        assert_eq!(rooms, [104, 104, 104, 64, 64, 32, 8, 4]);
        assert_eq!([0, 1, 64, 256, 100_000].map(|n| piece_among(n) >> 10), [256, 256, 256, 64, 16]);
        let flow = Arc::new(Flow::default());
        let all: Vec<_> = (0..64).map(|_| flow.fill()).collect();
        assert_eq!(flow.room(), 16 << 10);
        drop(all);
        assert_eq!(flow.room(), *ROOM.end());
    }
}
