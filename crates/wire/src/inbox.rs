//! Bodies of a cell's calls that are read whole: how much of this process's memory they may have at once.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock};

use http::header::CONTENT_LENGTH;
use skep_runtime::{Backlog, Bounds, Waiting};

use crate::Request;

/// What is read with a call's head needs no room.
const SMALL: usize = 64 << 10;

static ALL: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// Of the bodies of one cell, with each of its requests that has a large one.
#[derive(Clone, Debug)]
pub(crate) struct Inbox(Arc<Backlog>);

impl Inbox {
    pub fn of_a_cell() -> Self {
        Self(Backlog::new(ALL.clone()))
    }
}

/// Waits until there is room for a request's body, of at most `limit` bytes, within `bounds`; it takes it until the result is dropped.
/// Small ones, and those of others than cells, need none.
pub fn room_for(
    request: &Request,
    limit: usize,
    bounds: Bounds,
) -> impl Future<Output = Option<Waiting>> + Send + use<> {
    let inbox = request.extensions().get::<Inbox>().cloned();
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse().ok());
    let size = announced.unwrap_or(limit).min(limit);
    async move {
        let Inbox(bodies) = inbox.filter(|_| size > SMALL)?;
        bodies.ready(bounds).await;
        Some(bodies.hold(size))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::empty;

    #[tokio::test(start_paused = true)]
    async fn large_bodies_wait_for_each_other_and_small_ones_do_not() {
        let inbox = Inbox::of_a_cell();
        let request = |size: Option<usize>| {
            let mut request = http::Request::new(empty());
            request.extensions_mut().insert(inbox.clone());
            request.headers_mut().extend(size.map(|size| (CONTENT_LENGTH, size.into())));
            request
        };
        let bounds = Bounds { own: 100_000, all: usize::MAX, little: 0 };
        let room = |size| {
            let request = request(size);
            async move {
                let room = room_for(&request, 200_000, bounds);
                tokio::time::timeout(Duration::from_secs(1), room).await
            }
        };
        let first = room(Some(100_000)).await.unwrap();
        let second = room(None).await.unwrap();
        assert!(first.is_some() && second.is_some());
        assert!(room(Some(100_000)).await.is_err());
        assert!(room(Some(SMALL)).await.unwrap().is_none());
        drop(second);
        assert!(room(Some(usize::MAX)).await.unwrap().is_some());
        assert!(room_for(&http::Request::new(empty()), 200_000, bounds).await.is_none());
    }
}
