//! A request's body on its way through a process that passes it on.
//!
//! A dispatcher that hands a visitor's upload to a tenant reads nothing of it, and its engine takes what it gets until its buffers are full,
//! 0.6 MB. Three hundred uploads that a tenant does not read were all of the memory that the dispatcher has for everybody. So it gets
//! no more than a little that the tenant has not asked for.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http_body::Body as _;
use tokio::time::{Sleep, sleep};

use crate::flow::window;
use crate::{Body, NextFrame, Wrap, wrapped};

/// How soon a process passes a body on that does so without looking at it. Who has not by then reads it, it seems.
const DECIDES: Duration = Duration::from_millis(20);
/// How long a reader who waits for more is believed to get some of what is on its way: a process may also make one byte of many.
const COMES: Duration = Duration::from_millis(5);

/// Joins the two ends of a body that goes through a process.
#[derive(Clone, Debug, Default)]
pub struct Through(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Bytes that the process got since some came out of it.
    given: usize,
    reader: Reader,
    /// Of who gives.
    waker: Option<Waker>,
}

/// Who reads what comes out of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reader {
    /// Nobody yet.
    #[default]
    None,
    /// It waits for more.
    Waits,
    /// It has got some, and does something else.
    Rests,
    /// It makes no difference: the process itself reads, or nobody does any more.
    Any,
}

impl Through {
    /// `body` as the process is to get it.
    pub fn enter(&self, body: Body) -> Body {
        wrapped(body, Entering { through: self.clone(), pause: None })
    }

    /// What has come out of the process, for its reader.
    pub fn leave(&self, body: Body) -> Body {
        self.lock().tell(Reader::Waits);
        wrapped(body, Leaving(self.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What the reader does now.
    fn tell(&mut self, reader: Reader) {
        let before = std::mem::replace(&mut self.reader, reader);
        if reader == Reader::Rests {
            // It has got some.
            self.given = 0;
        } else if before == reader {
            return;
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// How long who gives is to wait, at most; `None` if he is not.
    fn wait(&mut self, cx: &Context<'_>) -> Option<Duration> {
        let wait = match self.reader {
            Reader::Any => return None,
            _ if self.given < window() => return None,
            Reader::None => DECIDES,
            Reader::Waits => COMES,
            Reader::Rests => Duration::MAX,
        };
        self.waker = Some(cx.waker().clone());
        Some(wait)
    }

    /// He has waited for as long.
    fn waited(&mut self) {
        match self.reader {
            Reader::None => self.reader = Reader::Any,
            Reader::Waits => self.given = 0,
            Reader::Rests | Reader::Any => {}
        }
    }
}

struct Entering {
    through: Through,
    /// For whom who gives waits, and how long.
    pause: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl Wrap for Entering {
    fn poll_frame(&mut self, body: Pin<&mut Body>, cx: &mut Context<'_>) -> NextFrame {
        loop {
            let Some(wait) = self.through.lock().wait(cx) else { break };
            if wait == Duration::MAX {
                return Poll::Pending;
            }
            let (_, sleep) = match self.pause.take_if(|(length, _)| *length == wait) {
                Some(pause) => self.pause.insert(pause),
                None => self.pause.insert((wait, Box::pin(sleep(wait)))),
            };
            ready!(sleep.as_mut().poll(cx));
            self.pause = None;
            self.through.lock().waited();
        }
        self.pause = None;
        let next = ready!(body.poll_frame(cx));
        if let Some(bytes) = next.as_ref().and_then(|next| next.as_ref().ok()?.data_ref()) {
            self.through.lock().given += bytes.len();
        }
        Poll::Ready(next)
    }
}

struct Leaving(Through);

impl Wrap for Leaving {
    fn poll_frame(&mut self, body: Pin<&mut Body>, cx: &mut Context<'_>) -> NextFrame {
        let next = body.poll_frame(cx);
        self.0.lock().tell(match &next {
            Poll::Pending => Reader::Waits,
            Poll::Ready(Some(Ok(_))) => Reader::Rests,
            Poll::Ready(None | Some(Err(_))) => Reader::Any,
        });
        next
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.lock().tell(Reader::Any);
    }
}

#[cfg(test)]
#[path = "through_tests.rs"]
mod tests;
