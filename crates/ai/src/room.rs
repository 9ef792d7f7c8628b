//! What one script may have under way at once: calls, and bytes that they carry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::AiError;

/// Bytes of a call's body.
pub(crate) const MOST_BODY: usize = 32 << 20;
/// Bytes of all bodies of a script that are in memory.
const MOST_BYTES: usize = 64 << 20;
const UNIT: usize = 1 << 10;

/// A script's room.
#[derive(Debug)]
pub(crate) struct Room {
    calls: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// A place in a room; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Room {
    fn new(calls: usize) -> Self {
        Self { calls: Arc::new(Semaphore::new(calls)), bytes: Arc::new(Semaphore::new(MOST_BYTES / UNIT)) }
    }

    /// A place for a call. Without one it fails at once: who waits would be a call, too.
    pub fn enter(&self) -> Result<Place, AiError> {
        match self.calls.clone().try_acquire_owned() {
            Ok(permit) => Ok(Place { _permit: permit }),
            Err(_) => Err(AiError::busy()),
        }
    }

    /// A place for a body of at most `length` bytes, once there is one.
    pub async fn hold(&self, length: usize) -> Result<Place, AiError> {
        let units = u32::try_from(length.min(MOST_BODY).div_ceil(UNIT)).unwrap_or(u32::MAX);
        match self.bytes.clone().acquire_many_owned(units).await {
            Ok(permit) => Ok(Place { _permit: permit }),
            Err(_) => Err(AiError::busy()),
        }
    }
}

/// The rooms of all scripts that have one.
#[derive(Debug, Default)]
pub(crate) struct Rooms(Mutex<HashMap<String, Weak<Room>>>);

impl Rooms {
    /// The room of `owner`, the same for all its versions and processes.
    pub fn of(&self, owner: &str, calls: usize) -> Arc<Room> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = rooms.get(owner).and_then(Weak::upgrade) {
            return room;
        }
        rooms.retain(|_, room| room.strong_count() > 0);
        let room = Arc::new(Room::new(calls));
        rooms.insert(owner.to_owned(), Arc::downgrade(&room));
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_script_has_one_room_whoever_asks() {
        let rooms = Rooms::default();
        let (one, same, other) = (rooms.of("a", 2), rooms.of("a", 2), rooms.of("b", 2));
        let (first, _second) = (one.enter().unwrap(), same.enter().unwrap());
        assert_eq!(one.enter().unwrap_err(), AiError::busy());
        assert!(other.enter().is_ok());
        drop(first);
        assert!(same.enter().is_ok());
        drop((one, same));
        assert!(rooms.of("c", 2).enter().is_ok());
        assert_eq!(rooms.0.lock().unwrap().len(), 2, "a's has gone");
    }

    #[tokio::test]
    async fn bodies_wait_for_each_other() {
        let room = Room::new(1);
        let (first, _second) = (room.hold(MOST_BODY).await.unwrap(), room.hold(usize::MAX).await.unwrap());
        let mut third = Box::pin(room.hold(1));
        let soon = std::time::Duration::from_millis(5);
        assert!(tokio::time::timeout(soon, &mut third).await.is_err());
        drop(first);
        assert!(third.await.is_ok());
    }
}
