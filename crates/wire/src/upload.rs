//! A request's body on its way to a cell: how much of it is in memory, and whether it is still being sent.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::Body as _;

use crate::flow::{Writing, piece};
use crate::{Body, NextFrame, Wrap, wrapped};

/// Knows whether a request's body is still alive, which it is until all of it was sent.
pub(crate) struct Upload(Option<Arc<Unsent>>);

impl Upload {
    pub fn is_going_on(&self) -> bool {
        self.0.as_ref().is_some_and(|unsent| Arc::strong_count(unsent) > 1)
    }
}

/// `request`, and whether its body is still being sent.
pub(crate) fn watch_upload(request: http::Request<Body>) -> (http::Request<Body>, Upload) {
    if request.body().is_end_stream() {
        return (request, Upload(None));
    }
    let unsent = Arc::<Unsent>::default();
    let sent = unsent.clone();
    let sending = |body| wrapped(body, Sending { unsent: sent, _writing: Writing::begin() });
    (request.map(sending), Upload(Some(unsent)))
}

/// What was taken of a body and not written yet.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    bytes: AtomicUsize,
    waker: AtomicWaker,
}

/// A body that gives no more while much of it is unsent: hyper would keep 160 KiB for a cell that takes nothing.
#[derive(Debug)]
struct Sending {
    unsent: Arc<Unsent>,
    _writing: Writing,
}

/// A piece that has not been written.
struct Piece {
    bytes: Bytes,
    unsent: Arc<Unsent>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.unsent.bytes.fetch_sub(self.bytes.len(), Ordering::AcqRel);
        self.unsent.waker.wake();
    }
}

impl Unsent {
    fn is_much(&self) -> bool {
        self.bytes.load(Ordering::Acquire) >= piece()
    }
}

impl Wrap for Sending {
    fn poll_frame(&mut self, body: Pin<&mut Body>, cx: &mut Context<'_>) -> NextFrame {
        if self.unsent.is_much() {
            self.unsent.waker.register(cx.waker());
            // It may have been written meanwhile.
            if self.unsent.is_much() {
                return Poll::Pending;
            }
        }
        let count = |bytes: Bytes| {
            self.unsent.bytes.fetch_add(bytes.len(), Ordering::AcqRel);
            Bytes::from_owner(Piece { bytes, unsent: self.unsent.clone() })
        };
        let next = body.poll_frame(cx);
        next.map(|next| next.map(|frame| frame.map(|frame| frame.map_data(count))))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_util::stream;
    use http_body_util::BodyExt;

    use super::*;
    use crate::BoxError;

    #[test]
    fn a_body_waits_for_what_was_taken_of_it_to_be_sent() {
        let pieces =
            stream::iter([piece() - 1, 1, 5, 7].map(|length| Ok::<_, BoxError>(vec![1; length].into())));
        let (request, upload) = watch_upload(http::Request::new(crate::stream(pieces)));
        let mut body = request.into_body();
        let mut cx = Context::from_waker(Waker::noop());
        let mut next = || match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Ready(frame) => Some(frame.map(|frame| frame.unwrap().into_data().unwrap())),
            Poll::Pending => None,
        };
        let first = next().unwrap().unwrap();
        let second = next().unwrap().unwrap();
        assert!(next().is_none());
        drop(second);
        assert_eq!(next().unwrap().unwrap().len(), 5);
        drop(first);
        let last = next().unwrap().unwrap();
        assert!(next().unwrap().is_none() && upload.is_going_on());
        drop((body, last));
        assert!(!upload.is_going_on());
    }

    #[tokio::test]
    async fn a_body_that_is_sent_as_it_is_taken_comes_whole() {
        let pieces = stream::iter((0..100).map(|n| Ok::<_, BoxError>(vec![n; 100_000].into())));
        let (request, _) = watch_upload(http::Request::new(crate::stream(pieces)));
        let mut body = request.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!(length, 10_000_000);
    }
}
