//! A request's body on its way through a process that passes it on.
//!
//! A dispatcher that hands a visitor's upload to a tenant reads nothing of it, and its engine takes what it gets until its buffers are full,
//! 0.6 MB. Three hundred uploads that a tenant does not read were all of the memory that the dispatcher has for everybody. So it gets
//! no more than a little that the tenant has not asked for.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use tokio::time::{Instant, Sleep, sleep};

use crate::flow::{are_many, window};
use crate::{Body, NextFrame, Wrap, wrapped};

/// How soon a process passes a body on that does so without looking at it. Who has not by then reads it, it seems.
const DECIDES: Duration = Duration::from_millis(20);
/// The same where there are many, of a process that has not read one itself before: it has other things to do meanwhile, and what
/// it gets is its memory. A collection of garbage alone takes up to 0.1 s.
const DECIDES_AMONG_MANY: Duration = Duration::from_millis(500);
/// How long a reader who waits for more is believed to get some of what is on its way: a process may also make one byte of many.
/// Twice as long after each time, up to [`COMES_LATE`], until some has come.
const COMES: Duration = Duration::from_millis(20);
const COMES_LATE: Duration = Duration::from_millis(160);
/// Among many, one is believed to be read so often, until one was: hundreds that come at once take a process seconds.
const BELIEVES: Duration = Duration::from_millis(250);
/// More than a process's buffers hold: who has taken so much of a body that has not come out reads it.
const READ: usize = 1 << 20;

/// What a process does with bodies.
#[derive(Debug, Default)]
pub struct Habit {
    /// Whether it was seen to read the last one itself of which that had to be found out.
    reads: AtomicBool,
    /// When one among many was believed to be read, as it had not come out.
    believed: Mutex<Option<Instant>>,
}

impl Habit {
    /// Whether a body that has not come out among many is believed to be read.
    fn believes(&self) -> bool {
        if self.reads.load(Ordering::Relaxed) {
            return true;
        }
        let mut last = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let may = last.is_none_or(|last| now - last >= BELIEVES);
        if may {
            *last = Some(now);
        }
        may
    }
}

/// Joins the two ends of a body that goes through a process.
#[derive(Clone, Debug, Default)]
pub struct Through(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Bytes that the process got and that have not come out of it, and how often it got more since some came out.
    given: usize,
    more: u32,
    habit: Arc<Habit>,
    reader: Reader,
    /// Whether it has come out.
    left: bool,
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
    /// Of a process with this habit.
    pub fn of(habit: &Arc<Habit>) -> Self {
        Self(Arc::new(Mutex::new(State { habit: habit.clone(), ..State::default() })))
    }

    /// `body` as the process is to get it.
    pub fn enter(&self, body: Body) -> Body {
        wrapped(body, Entering { through: self.clone(), pause: None })
    }

    /// What has come out of the process, for its reader.
    pub fn leave(&self, body: Body) -> Body {
        let mut state = self.lock();
        state.habit.reads.store(false, Ordering::Relaxed);
        // It has not asked for any yet: its cell may still have to start.
        (state.reader, state.left) = (Reader::Rests, true);
        drop(state);
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
        if before == reader {
            return;
        }
        if reader == Reader::Any {
            self.take_out(usize::MAX);
        }
        self.wake();
    }

    /// The reader has got some.
    fn got(&mut self, bytes: usize) {
        self.reader = Reader::Rests;
        self.take_out(bytes);
        self.more = 0;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// How long who gives is to wait, at most; `None` if he is not.
    fn wait(&mut self, cx: &Context<'_>) -> Option<Duration> {
        let wait = match self.reader {
            Reader::Any => return None,
            _ if self.given < window() => return None,
            Reader::None if are_many() && !self.habit.reads.load(Ordering::Relaxed) => DECIDES_AMONG_MANY,
            Reader::None => DECIDES,
            Reader::Waits => COMES_LATE.min(COMES * (1 << self.more.min(4))),
            Reader::Rests => Duration::MAX,
        };
        self.waker = Some(cx.waker().clone());
        Some(wait)
    }

    /// He gave some, and that was all or not.
    fn give(&mut self, bytes: usize, all: bool) {
        self.given = self.given.saturating_add(bytes);
        let is_believed = self.reader == Reader::Any && !self.left;
        if is_believed && (all || self.given >= READ) {
            self.habit.reads.store(true, Ordering::Relaxed);
        }
    }

    /// So much of what was given has come out, or does not matter any more.
    fn take_out(&mut self, bytes: usize) {
        self.given = self.given.saturating_sub(bytes);
    }

    /// He has waited for as long.
    fn waited(&mut self) {
        match self.reader {
            Reader::None if are_many() && !self.habit.believes() => {}
            Reader::None => {
                self.take_out(usize::MAX);
                self.reader = Reader::Any;
            }
            Reader::Waits => {
                self.take_out(usize::MAX);
                self.more = self.more.saturating_add(1);
            }
            Reader::Rests | Reader::Any => {}
        }
    }
}

struct Entering {
    through: Through,
    /// For whom who gives waits, since when.
    pause: Option<(Reader, Instant, Pin<Box<Sleep>>)>,
}

impl Wrap for Entering {
    fn poll_frame(&mut self, mut body: Pin<&mut Body>, cx: &mut Context<'_>) -> NextFrame {
        loop {
            let mut state = self.through.lock();
            let Some(wait) = state.wait(cx) else { break };
            if wait == Duration::MAX {
                return Poll::Pending;
            }
            let reader = state.reader;
            drop(state);
            let (_, since, sleep) = match self.pause.take_if(|(whom, ..)| *whom == reader) {
                Some(pause) => self.pause.insert(pause),
                None => self.pause.insert((reader, Instant::now(), Box::pin(sleep(wait)))),
            };
            // It may be longer by now: more came, or one of them was passed on.
            let until = *since + wait;
            if until > sleep.deadline() {
                sleep.as_mut().reset(until);
            }
            ready!(sleep.as_mut().poll(cx));
            self.pause = None;
            self.through.lock().waited();
        }
        self.pause = None;
        let next = ready!(body.as_mut().poll_frame(cx));
        if let Some(bytes) = next.as_ref().and_then(|next| next.as_ref().ok()?.data_ref()) {
            self.through.lock().give(bytes.len(), body.is_end_stream());
        } else if next.is_none() {
            self.through.lock().give(0, true);
        }
        Poll::Ready(next)
    }
}

struct Leaving(Through);

impl Wrap for Leaving {
    fn poll_frame(&mut self, body: Pin<&mut Body>, cx: &mut Context<'_>) -> NextFrame {
        let next = body.poll_frame(cx);
        let mut state = self.0.lock();
        match &next {
            Poll::Pending => state.tell(Reader::Waits),
            Poll::Ready(Some(Ok(frame))) => state.got(frame.data_ref().map_or(0, Bytes::len)),
            Poll::Ready(None | Some(Err(_))) => state.tell(Reader::Any),
        }
        drop(state);
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
