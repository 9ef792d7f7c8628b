//! What of an account's is whole in memory: manifests that come and go, and lists. Work on it is done where nobody waits for it.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use skep_runtime::{Backlog, Bounds, Slices, Turns, Waiting, who};
use skep_wire::held;

use crate::error::RegistryError;

/// Bytes that need no room, and are looked at at once.
const SMALL: usize = 64 << 10;
/// Bytes that an account may have when it gets more.
const BOUNDS: Bounds = Bounds { own: 32 << 20, all: 256 << 20, little: 1 << 20 };

static ALL: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);
static TURNS: Turns = Turns::new();

/// The room of one account, and its turns.
#[derive(Debug)]
pub(crate) struct Memory(Arc<Backlog>);

impl Default for Memory {
    fn default() -> Self {
        Self(Backlog::new(ALL.clone()))
    }
}

impl Memory {
    /// Room for `bytes`, once there is some; `None` for what needs none.
    pub async fn room(&self, bytes: usize) -> Option<Waiting> {
        if bytes <= SMALL {
            return None;
        }
        self.0.ready(BOUNDS).await;
        Some(self.0.hold(bytes))
    }

    /// Does `work` on `size` bytes: at once if they are few, else in a thread of its own when it is the account's turn.
    pub async fn aside<T: Send + 'static>(
        &self,
        size: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RegistryError> {
        TURNS.aside_if(size > SMALL, who(&self.0), work).await.map_err(RegistryError::internal)
    }

    /// An answer that `work` makes of at most `most` bytes, in a thread of its own when it is the account's turn, and what else it says. The
    /// answer has room until the last of it was sent.
    pub async fn made<T: Send + 'static>(
        &self,
        most: usize,
        work: impl FnOnce(&mut Slices) -> Result<(Vec<u8>, T), RegistryError> + Send + 'static,
    ) -> Result<(Bytes, T), RegistryError> {
        let room = self.room(most).await;
        // With the work: who gives up waiting for it has not stopped it.
        let work = move |slices: &mut Slices| (work(slices), room);
        let (made, _room) = TURNS.in_slices(who(&self.0), work).await.map_err(RegistryError::internal)?;
        let (answer, rest) = made?;
        let answer = Bytes::from(answer.into_boxed_slice());
        let room = (answer.len() > SMALL).then(|| self.0.hold(answer.len()));
        Ok((kept(answer, room), rest))
    }
}

/// `bytes`, which have their room until the last of them is gone.
pub(crate) fn kept(bytes: Bytes, room: Option<Waiting>) -> Bytes {
    match room {
        Some(room) => held(bytes, room),
        None => bytes,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_has_all_room_waits_and_others_do_not() {
        let (one, other) = (Memory::default(), Memory::default());
        let soon = Duration::from_millis(20);
        let first = one.room(BOUNDS.own + 1).await;
        assert!(one.room(SMALL).await.is_none(), "what is small needs none");
        assert!(tokio::time::timeout(soon, one.room(SMALL + 1)).await.is_err());
        assert!(other.room(SMALL + 1).await.is_some());
        drop(first);
        assert!(one.room(SMALL + 1).await.is_some());
    }

    #[tokio::test]
    async fn an_answer_is_made_elsewhere_and_has_room_for_what_it_came_to_until_it_is_sent() {
        let (memory, soon) = (Memory::default(), Duration::from_millis(20));
        let make = |len: usize| {
            memory.made(BOUNDS.own + 1, move |_| Ok((vec![7; len], std::thread::current().id())))
        };
        let (small, there) = make(SMALL).await.unwrap();
        assert_ne!(there, std::thread::current().id());
        let (large, _) = make(BOUNDS.own + 1).await.unwrap();
        let rest = large.slice(1..2);
        drop(large);
        assert!(tokio::time::timeout(soon, make(1)).await.is_err());
        drop(rest);
        assert_eq!((small.len(), make(1).await.unwrap().0.len()), (SMALL, 1));
    }
}
