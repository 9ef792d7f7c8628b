//! Bodies that are read whole take turns by their size: else one token could have all of the node's memory for its uploads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyDataStream, BodyExt};
use skep_wire::{Body, BoxError, ReadError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::reply::ApiError;

/// Bytes of a body that waits for nothing.
pub(crate) const SMALL: usize = 64 << 10;
/// KiB of all bodies of an account at once: two of the largest.
const ACCOUNT: u32 = 256 << 10;
/// KiB of all bodies at once.
const ALL: u32 = 1 << 20;

/// Who has how much.
#[derive(Debug)]
pub(crate) struct Bodies {
    all: Arc<Semaphore>,
    accounts: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Room for a body; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    _account: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL as usize)), accounts: Mutex::default() }
    }
}

impl Bodies {
    /// Waits for room for `bytes` of an account; small bodies need none.
    pub async fn seat(&self, account: &str, bytes: usize) -> Result<Option<Seat>, ApiError> {
        if bytes <= SMALL {
            return Ok(None);
        }
        let wanted = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(ACCOUNT);
        // Its own line first: who waits there holds up nobody else.
        let account = self.account(account).acquire_many_owned(wanted).await.map_err(ApiError::internal)?;
        let all = self.all.clone().acquire_many_owned(wanted).await.map_err(ApiError::internal)?;
        Ok(Some(Seat { _account: account, _all: all }))
    }

    fn account(&self, account: &str) -> Arc<Semaphore> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|_, room| Arc::strong_count(room) > 1);
        let room = accounts.entry(account.to_owned());
        room.or_insert_with(|| Arc::new(Semaphore::new(ACCOUNT as usize))).clone()
    }
}

/// The first pieces of `body`, until they are more than `enough` bytes, and the rest unless that was all.
pub(crate) async fn beginning(mut body: Body, enough: usize) -> Result<(Vec<Bytes>, Option<Body>), ApiError> {
    let (mut pieces, mut length) = (Vec::new(), 0);
    while length <= enough {
        let Some(frame) = body.frame().await else { return Ok((pieces, None)) };
        let Ok(piece) = frame.map_err(broken_off)?.into_data() else { continue };
        length += piece.len();
        pieces.push(piece);
    }
    Ok((pieces, Some(body)))
}

/// What [`beginning`] took apart.
pub(crate) fn rejoined(first: Vec<Bytes>, rest: Option<Body>) -> Body {
    let first = futures_util::stream::iter(first.into_iter().map(Ok::<_, BoxError>));
    match rest {
        None => skep_wire::stream(first),
        Some(rest) => skep_wire::stream(first.chain(BodyDataStream::new(rest))),
    }
}

/// What a call whose body does not come to its end is told.
pub(crate) fn broken_off(error: BoxError) -> ApiError {
    let error = ReadError::Broken(error);
    ApiError::bad(10004, format!("The request broke off: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_account_has_a_part_of_the_room_and_small_bodies_need_none() {
        let bodies = Bodies::default();
        let (large, soon) = (200 << 20, Duration::from_millis(20));
        let first = bodies.seat("a", large).await.unwrap();
        assert!(first.is_some());
        assert!(tokio::time::timeout(soon, bodies.seat("a", large)).await.is_err(), "it waits");
        assert!(bodies.seat("a", SMALL).await.unwrap().is_none());
        let other = bodies.seat("b", usize::MAX).await.unwrap();
        assert!(other.is_some(), "more than there is counts as all of an account's");
        drop(first);
        assert!(bodies.seat("a", large).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_looked_at_before_room_is_asked_for() {
        let pieces = || {
            let pieces =
                ["ab", "cd", "ef"].map(|piece| Ok::<_, BoxError>(Bytes::from_static(piece.as_bytes())));
            skep_wire::stream(futures_util::stream::iter(pieces))
        };
        let (first, rest) = beginning(pieces(), 6).await.unwrap();
        assert!(first.len() == 3 && rest.is_none(), "all of it");
        let (first, rest) = beginning(pieces(), 3).await.unwrap();
        assert!(first.len() == 2 && rest.is_some());
        assert_eq!(skep_wire::read_all(rejoined(first, rest), 9).await.unwrap(), "abcdef");
    }
}
