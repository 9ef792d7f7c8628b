//! A body whose sender is not waited for without end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::time::{Instant, Sleep};

use crate::{Body, NextFrame, Wrap, wrapped};

/// `body`, which breaks off once its sender was waited for as long as `patience` lets him.
pub fn patient(body: Body, patience: Patience) -> Body {
    match body.is_end_stream() {
        true => body,
        false => wrapped(body, Patient(patience)),
    }
}

/// How long somebody is waited for who may go on at any time.
///
/// A pause has a bound. So has the time that all pauses take together, to which every byte adds: else who sends one now and then keeps what is kept
/// for him for ever. Time in which nobody waits for him is not counted.
#[derive(Debug)]
pub struct Patience {
    most: Duration,
    rate: Rate,
    /// How long he may be waited for beside what his bytes add.
    left: Duration,
    /// Runs while somebody is waited for, since that moment.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// How slowly somebody may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How long he is waited for in all before he has to keep it.
    pub grace: Duration,
    /// Bytes in a second.
    pub least: u32,
}

impl Patience {
    /// Of `most` at a time, and in all what `rate` says.
    pub fn new(most: Duration, rate: Rate) -> Self {
        Self { most, rate, left: rate.grace, waiting: None }
    }

    /// What was waited for has come, and has so many bytes.
    pub fn renew(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        let added = Duration::from_secs_f64(bytes as f64 / f64::from(self.rate.least.max(1)));
        self.left = self.left.saturating_add(added);
    }

    /// It has not come yet: ready when it has been waited for long enough.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let most = self.most.min(self.left);
        let begin = || (Instant::now(), Box::pin(tokio::time::sleep(most)));
        self.waiting.get_or_insert_with(begin).1.as_mut().poll(cx)
    }
}

struct Patient(Patience);

impl Wrap for Patient {
    fn poll_frame(&mut self, body: Pin<&mut Body>, cx: &mut Context<'_>) -> NextFrame {
        if let Poll::Ready(next) = body.poll_frame(cx) {
            let bytes = |frame: &Frame<Bytes>| frame.data_ref().map_or(0, Bytes::len);
            self.0.renew(next.as_ref().and_then(|next| next.as_ref().ok()).map_or(0, bytes));
            return Poll::Ready(next);
        }
        ready!(self.0.poll_over(cx));
        Poll::Ready(Some(Err("the body came too slowly".into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BoxError, full, read_all, stream};

    const LONG: Rate = Rate { grace: Duration::from_secs(100), least: 1000 };

    /// Whether who sends `bytes` every `pause` is waited for until he has sent them `count` times.
    async fn comes(bytes: usize, pause: Duration, count: usize) -> bool {
        let pieces = futures_util::stream::unfold(0, move |sent| async move {
            if sent == count {
                return None;
            }
            tokio::time::sleep(pause).await;
            Some((Ok::<_, BoxError>(Bytes::from(vec![0; bytes])), sent + 1))
        });
        let patience = Patience::new(Duration::from_secs(100), LONG);
        read_all(patient(stream(pieces), patience), usize::MAX).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_a_byte_now_and_then_is_not_waited_for_for_ever() {
        let second = Duration::from_secs(1);
        assert!(!comes(1, second * 99, 3).await, "each pause was short enough");
        assert!(!comes(1, second, 200).await);
        assert!(comes(1, second, 90).await, "it is not long");
        // A line of 64 kbit/s, at a quarter of it, and one that rests for a minute between two minutes of it.
        assert!(comes(2000, second, 20_000).await);
        assert!(comes(8000 * 120, second * 60, 1000).await);
    }

    #[tokio::test]
    async fn who_sends_nothing_is_waited_for_no_longer() {
        let short = || Patience::new(Duration::from_millis(20), LONG);
        let pieces = futures_util::stream::iter([Ok::<_, BoxError>(Bytes::from_static(b"ab"))]);
        let stalls = stream(futures_util::StreamExt::chain(pieces, futures_util::stream::pending()));
        assert!(read_all(patient(stalls, short()), 100).await.is_err());
        assert_eq!(read_all(patient(full("abc"), short()), 100).await.unwrap(), "abc");
    }
}
