//! A body whose sender is not waited for without end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Sleep;

use crate::{Body, BoxError};

/// `body`, which breaks off once its sender has sent nothing for `patience` while it was waited for.
pub fn patient(body: Body, patience: Duration) -> Body {
    match body.is_end_stream() {
        true => body,
        false => Patient { body, patience: Patience::new(patience) }.boxed_unsync(),
    }
}

/// How long somebody is waited for who may go on at any time.
#[derive(Debug)]
pub struct Patience {
    most: Duration,
    /// Runs while somebody is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Of `most` at a time.
    pub fn new(most: Duration) -> Self {
        Self { most, waiting: None }
    }

    /// What was waited for has come.
    pub fn renew(&mut self) {
        self.waiting = None;
    }

    /// It has not come yet: ready when it has been waited for long enough.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let most = self.most;
        self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(most))).as_mut().poll(cx)
    }
}

struct Patient {
    body: Body,
    patience: Patience,
}

impl HttpBody for Patient {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(next) = Pin::new(&mut this.body).poll_frame(cx) {
            this.patience.renew();
            return Poll::Ready(next);
        }
        ready!(this.patience.poll_over(cx));
        Poll::Ready(Some(Err("the body came too slowly".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{full, read_all, stream};

    #[tokio::test]
    async fn who_sends_nothing_is_waited_for_no_longer() {
        let short = Duration::from_millis(20);
        let pieces = futures_util::stream::iter([Ok::<_, BoxError>(Bytes::from_static(b"ab"))]);
        let stalls = stream(futures_util::StreamExt::chain(pieces, futures_util::stream::pending()));
        assert!(read_all(patient(stalls, short), 100).await.is_err());
        assert_eq!(read_all(patient(full("abc"), short), 100).await.unwrap(), "abc");
    }
}
