//! Whether a request is still being sent when its response comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use crate::{Body, BoxError};

/// Knows whether a request's body is still alive, which it is until all of it was sent.
pub(crate) struct Upload(Option<Arc<()>>);

impl Upload {
    pub fn is_going_on(&self) -> bool {
        self.0.as_ref().is_some_and(|alive| Arc::strong_count(alive) > 1)
    }
}

/// `request`, and whether its body is still being sent.
pub(crate) fn watch_upload(request: http::Request<Body>) -> (http::Request<Body>, Upload) {
    if request.body().is_end_stream() {
        return (request, Upload(None));
    }
    let alive = Arc::new(());
    let held = alive.clone();
    let watched = request.map(|inner| Body::new(Watched { inner, _held: held }));
    (watched, Upload(Some(alive)))
}

/// A body that holds something for as long as it lives.
struct Watched {
    inner: Body,
    _held: Arc<()>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
