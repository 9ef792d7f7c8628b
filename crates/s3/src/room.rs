//! Documents are read and written whole: how much of them an account may have in memory at once.

use std::sync::Arc;

use http_body_util::BodyExt;
use skep_wire::{Held, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of all documents of an account, until they are read, or sent. More wait.
const ROOM: u32 = 32 << 20;
/// What is as small as this has room anyway.
const SMALL: usize = 64 * 1024;

/// The room of one account.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM as usize)))
    }
}

impl Room {
    /// Takes room for so many bytes, when there is some; `None` for what needs none.
    pub(crate) async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes <= SMALL {
            return None;
        }
        let bytes = u32::try_from(bytes).unwrap_or(ROOM).min(ROOM);
        // Nobody closes it.
        self.0.clone().acquire_many_owned(bytes).await.ok()
    }

    /// An answer that has its room until it is sent.
    pub(crate) async fn hold(&self, response: Response, bytes: usize) -> Response {
        match self.take(bytes).await {
            None => response,
            Some(taken) => response.map(|body| Held::new(body, taken).boxed_unsync()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_all_room_lets_others_wait_until_it_is_sent() {
        let room = Room::default();
        let response = skep_wire::reply(http::StatusCode::OK, skep_wire::full("text"));
        let held = room.hold(response, ROOM as usize + 1).await;
        assert!(room.take(SMALL).await.is_none(), "what is small has room");
        let wait = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(wait, room.take(SMALL + 1)).await.is_err());
        assert_eq!(held.into_body().collect().await.unwrap().to_bytes(), "text");
        assert!(room.take(SMALL + 1).await.is_some());
    }
}
