//! A body that is on its way to somebody, and may go to somebody else instead.
//!
//! A dispatcher that answers with what a tenant's script answered reads nothing of it. By the time it says so, the beginning has been
//! sent to its process already, as nobody could know. So what was sent is kept until that may no longer be said: who has been sent
//! more than lies between two processes has read some.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use skep_runtime::Waiting;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{Body, BoxError};

/// Who was sent so much has read some of it: a socket holds 208 KiB, and what is to be written next is 512 KiB at most.
const READ: usize = 1 << 20;
/// After so much there is a pause, in which most decide: what has not been sent need not be kept.
const FIRST: usize = 16 << 10;
/// How long after the beginning.
const PAUSE: Duration = Duration::from_millis(5);

/// A body as the one gets it to whom it is sent, and what another one may [take](Loan::take) it by. `room` counts what is kept.
pub fn lend(body: Body, room: Waiting) -> (Body, Loan) {
    let hint = body.size_hint();
    let state = State { rest: Some(Rest::Body(body)), sent: VecDeque::new(), length: 0, room: Some(room) };
    let shared = Arc::new(Mutex::new(state));
    let pause = Box::pin(sleep_until(Instant::now() + PAUSE));
    (Lent { shared: shared.clone(), hint, pause: Some(pause) }.boxed_unsync(), Loan(shared))
}

#[derive(Debug)]
struct State {
    /// `None` once it was taken.
    rest: Option<Rest>,
    /// What the first one was sent.
    sent: VecDeque<Bytes>,
    length: usize,
    /// `None` once somebody has read some of it.
    room: Option<Waiting>,
}

/// What is left of a body.
#[derive(Debug)]
enum Rest {
    Body(Body),
    /// Nothing.
    End,
    /// It broke off, which whoever takes it has to hear as well.
    Broken,
}

impl Rest {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = match self {
            Self::Body(body) => ready!(Pin::new(body).poll_frame(cx)),
            Self::End => None,
            Self::Broken => Some(Err("the body broke off".into())),
        };
        match &next {
            None => *self = Self::End,
            Some(Err(_)) => *self = Self::Broken,
            Some(Ok(_)) => {}
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Body(body) => body.is_end_stream(),
            Self::End => true,
            Self::Broken => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Body(body) => body.size_hint(),
            Self::End => SizeHint::with_exact(0),
            Self::Broken => SizeHint::default(),
        }
    }
}

/// The right to a body of which nothing was read.
#[derive(Clone, Debug)]
pub struct Loan(Arc<Mutex<State>>);

impl Loan {
    /// All of the body, from its beginning, for whoever asks first. The one to whom it is sent gets no more.
    pub fn take(&self) -> Option<Body> {
        let mut state = lock(&self.0);
        state.room.take()?;
        let rest = state.rest.take()?;
        let sent = std::mem::take(&mut state.sent);
        Some(Taken { sent, rest }.boxed_unsync())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Lent {
    shared: Arc<Mutex<State>>,
    hint: SizeHint,
    pause: Option<Pin<Box<Sleep>>>,
}

impl State {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(Some(Err("somebody else has it".into()))) };
        let next = ready!(rest.poll(cx));
        if let (Some(Ok(frame)), Some(room)) = (&next, &mut self.room)
            && let Some(data) = frame.data_ref()
        {
            self.length += data.len();
            self.sent.push_back(data.clone());
            room.grow(self.length);
            if self.length > READ {
                (self.sent, self.room) = Default::default();
            }
        }
        Poll::Ready(next)
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut state = lock(&this.shared);
        if let Some(pause) = &mut this.pause
            && state.length >= FIRST
            && state.rest.is_some()
        {
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        state.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.shared).rest.as_ref().is_some_and(Rest::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

/// What was sent to somebody else, and the rest.
struct Taken {
    sent: VecDeque<Bytes>,
    rest: Rest,
}

impl HttpBody for Taken {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.sent.pop_front() {
            Some(sent) => Poll::Ready(Some(Ok(Frame::data(sent)))),
            None => self.rest.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.sent.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let sent: u64 = self.sent.iter().map(|piece| piece.len() as u64).sum();
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + sent);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + sent);
        }
        hint
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::StreamExt;
    use futures_util::stream;
    use skep_runtime::Backlog;
    use tokio::sync::mpsc;

    use super::*;
    use crate::full;

    /// A body whose pieces come as they are sent, and what counts what is kept of it.
    fn live() -> (mpsc::UnboundedSender<Bytes>, Body, Waiting, Arc<AtomicUsize>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let pieces = stream::unfold(receiver, async |mut receiver: mpsc::UnboundedReceiver<Bytes>| {
            Some((Ok::<_, std::io::Error>(receiver.recv().await?), receiver))
        });
        let all = Arc::<AtomicUsize>::default();
        (sender, crate::stream(pieces.boxed()), Backlog::new(all.clone()).hold(10), all)
    }

    async fn next(body: &mut Body) -> Option<Bytes> {
        Some(body.frame().await?.unwrap().into_data().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_it_gets_it_from_the_beginning() {
        let (sender, body, room, all) = live();
        let (mut lent, loan) = lend(body, room);
        for piece in ["one", "two", "three"] {
            sender.send(piece.into()).unwrap();
        }
        assert_eq!(next(&mut lent).await.unwrap(), "one");
        assert_eq!(next(&mut lent).await.unwrap(), "two");
        let taken = loan.take().unwrap();
        assert!(loan.take().is_none());
        assert!(lent.frame().await.unwrap().is_err());
        drop(lent);
        sender.send("four".into()).unwrap();
        drop(sender);
        assert_eq!(taken.collect().await.unwrap().to_bytes(), "onetwothreefour");
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_ended_before_it_was_taken_is_there_still() {
        let all = Backlog::new(Arc::default());
        let (lent, loan) = lend(full("all"), all.hold(10));
        assert_eq!(lent.size_hint().exact(), Some(3));
        assert_eq!(lent.collect().await.unwrap().to_bytes(), "all");
        let taken = loan.take().unwrap();
        assert_eq!(taken.size_hint().exact(), Some(3));
        assert_eq!(taken.collect().await.unwrap().to_bytes(), "all");
        // One that must not be asked again after its end.
        let (sender, body, room, _) = live();
        let (mut lent, loan) = lend(body, room);
        sender.send("all".into()).unwrap();
        drop(sender);
        assert_eq!(next(&mut lent).await.unwrap(), "all");
        assert!(lent.frame().await.is_none() && lent.is_end_stream());
        assert_eq!(loan.take().unwrap().collect().await.unwrap().to_bytes(), "all");
    }

    #[tokio::test(start_paused = true)]
    async fn what_broke_off_before_it_was_taken_is_broken_for_who_takes_it() {
        let pieces = [Ok(Bytes::from_static(b"some")), Err(std::io::Error::other("broken"))];
        let (mut lent, loan) =
            lend(crate::stream(stream::iter(pieces)), Backlog::new(Arc::default()).hold(1));
        assert_eq!(next(&mut lent).await.unwrap(), "some");
        assert!(lent.frame().await.unwrap().is_err());
        let mut taken = loan.take().unwrap();
        assert_eq!(next(&mut taken).await.unwrap(), "some");
        assert!(!taken.is_end_stream() && taken.frame().await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_much_keeps_it_and_nothing_is_kept_for_others() {
        let (sender, body, room, all) = live();
        let (mut lent, loan) = lend(body, room);
        let began = Instant::now();
        let piece = Bytes::from(vec![1; FIRST]);
        for _ in 0..=READ / FIRST {
            sender.send(piece.clone()).unwrap();
            assert_eq!(next(&mut lent).await.unwrap().len(), FIRST);
        }
        // It paused once.
        assert!((PAUSE..PAUSE * 2).contains(&began.elapsed()));
        assert_eq!(all.load(Ordering::Relaxed), 0);
        assert!(loan.take().is_none());
        drop(sender);
        assert!(lent.frame().await.is_none());
    }
}
