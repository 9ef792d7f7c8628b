//! Bodies around bodies.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::{Body, BoxError};

/// What a body gives at a time.
pub type NextFrame = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

/// What is done with a body as it is read: it stays as long as it is.
pub trait Wrap: Unpin + Send + 'static {
    /// Its next piece.
    fn poll_frame(&mut self, body: Pin<&mut Body>, cx: &mut Context<'_>) -> NextFrame;
}

/// `body`, of which `wrap` sees each piece.
pub fn wrapped(body: Body, wrap: impl Wrap) -> Body {
    Wrapped { body, wrap }.boxed_unsync()
}

struct Wrapped<W> {
    body: Body,
    wrap: W,
}

impl<W: Wrap> HttpBody for Wrapped<W> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> NextFrame {
        let this = &mut *self;
        this.wrap.poll_frame(Pin::new(&mut this.body), cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
