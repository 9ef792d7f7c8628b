//! Room for bytes that wait in memory for somebody slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Room for so many bytes at once, of everybody who shares it.
#[derive(Debug)]
pub struct Room {
    used: AtomicUsize,
    most: usize,
}

/// A part of a [`Room`]; given back when it is dropped.
#[derive(Debug)]
pub struct Taken {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    /// An empty one for `most` bytes.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), most })
    }

    /// Room for `bytes`; `None` if there is not as much left.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<Taken> {
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.most);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Taken { room: self.clone(), bytes })
    }

    /// Bytes that are taken.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_more_room_than_there_is() {
        let room = Room::new(10);
        let (first, second) = (room.take(6), room.take(4));
        assert!(first.is_some() && second.is_some() && room.take(1).is_none());
        drop(first);
        assert!(room.take(7).is_none() && room.take(usize::MAX).is_none());
        assert!(room.take(6).is_some());
        drop(second);
        assert_eq!(room.used(), 0);
    }
}
