//! How long a connection may rest, and how long the head of a request may take.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use skep_wire::{AsTcp, piece, together};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::connection::Stream;

/// What a connection is doing: it has requests, or it hears a head, or it rests.
#[derive(Debug)]
pub(crate) struct Activity {
    requests: AtomicUsize,
    start: Instant,
    /// When the last request ended, in milliseconds after the start.
    last: AtomicU64,
    /// When the head that is being heard began, in milliseconds after the start, plus one; 0: none is.
    head: AtomicU64,
    /// Bytes of HTTP/2 are not heads alone; how many streams there are is bounded otherwise.
    is_http2: AtomicBool,
}

impl Activity {
    pub fn new() -> Self {
        Self {
            requests: AtomicUsize::new(0),
            start: Instant::now(),
            last: AtomicU64::new(0),
            head: AtomicU64::new(0),
            is_http2: AtomicBool::new(false),
        }
    }

    /// Counts a request until the result is dropped.
    pub fn begin(self: &Arc<Self>) -> Active {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.head.store(0, Ordering::Relaxed);
        Active(self.clone())
    }

    /// The visitor has sent something.
    fn heard(&self) {
        let in_request = self.requests.load(Ordering::Relaxed) > 0;
        if !in_request && self.head.load(Ordering::Relaxed) == 0 {
            self.head.store(self.now() + 1, Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }

    /// When the visitor's time is over; `None` while there are requests.
    fn deadline(&self, idle: Duration, head: Duration) -> Option<Instant> {
        if self.requests.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let (since, time) = match self.head.load(Ordering::Relaxed) {
            began @ 1.. if !self.is_http2.load(Ordering::Relaxed) => (began - 1, head),
            _ => (self.last.load(Ordering::Relaxed), idle),
        };
        Some(self.start + Duration::from_millis(since) + time)
    }

    /// Resolves when the connection has rested for `idle`, or a head takes longer than `head`. To be polled after the
    /// connection, whenever that is: nobody wakes it for a head that begins.
    pub async fn over(&self, idle: Duration, head: Duration) {
        let mut timer = pin!(tokio::time::sleep(idle));
        std::future::poll_fn(|cx| {
            loop {
                // It fires too early rather than being set anew for each request.
                if let Some(deadline) = self.deadline(idle, head).filter(|at| *at < timer.deadline()) {
                    timer.as_mut().reset(deadline);
                }
                ready!(timer.as_mut().poll(cx));
                let now = Instant::now();
                match self.deadline(idle, head) {
                    Some(deadline) if deadline <= now => return Poll::Ready(()),
                    later => timer.as_mut().reset(later.unwrap_or(now + idle)),
                }
            }
        })
        .await;
    }
}

/// A request on a connection.
#[derive(Debug)]
pub(crate) struct Active(Arc<Activity>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.last.store(self.0.now(), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A visitor's bytes, which its [`Activity`] hears of.
pub(crate) struct Heard<S> {
    stream: S,
    activity: Arc<Activity>,
    /// So much of HTTP/2's preface has come; `None`: something else.
    preface: Option<usize>,
}

/// A head and a small body: copying is cheaper than a vector for the kernel.
const SMALL: usize = 2 << 10;

/// How HTTP/2 begins, and no request does (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI";

impl<S> Heard<S> {
    pub fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, preface: Some(0) }
    }

    /// The same with another stream, where that can be had.
    pub fn try_map<T>(self, change: impl FnOnce(S) -> io::Result<T>) -> io::Result<Heard<T>> {
        let Self { stream, activity, preface } = self;
        Ok(Heard { stream: change(stream)?, activity, preface })
    }

    fn note(&mut self, bytes: &[u8]) {
        if let Some(had) = self.preface.filter(|had| *had < PREFACE.len()) {
            let wanted = &PREFACE[had..];
            let length = wanted.len().min(bytes.len());
            self.preface = (bytes[..length] == wanted[..length]).then_some(had + length);
            self.activity.is_http2.store(self.preface == Some(PREFACE.len()), Ordering::Relaxed);
        }
        self.activity.heard();
    }
}

impl<S: Stream> AsTcp for Heard<S> {
    fn as_tcp(&mut self) -> Option<&mut TcpStream> {
        self.stream.as_tcp()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let stream = Pin::new(&mut this.stream);
        let most = piece();
        let polled = if buf.remaining() <= most {
            stream.poll_read(cx, buf)
        } else {
            // No more than will be sent on soon.
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
            let polled = stream.poll_read(cx, &mut part);
            let read = part.filled().len();
            buf.advance(read);
            polled
        };
        if buf.filled().len() > before {
            this.note(&buf.filled()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.get_mut().stream);
        match together::<SMALL>(data) {
            Some((small, length)) => stream.poll_write(cx, &small[..length]),
            None => stream.poll_write_vectored(cx, data),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SHORT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(60);

    /// Waits until a connection is over to which `sent` comes, after a request if `used`; how long that took.
    async fn over(used: bool, sent: &[&[u8]], idle: Duration, head: Duration) -> Duration {
        let (mut visitor, ours) = tokio::io::duplex(64);
        let activity = Arc::new(Activity::new());
        let mut heard = Heard::new(ours, activity.clone());
        if used {
            visitor.write_all(b"GET ").await.unwrap();
            heard.read_exact(&mut [0; 4]).await.unwrap();
            drop(activity.begin());
        }
        let start = Instant::now();
        let reads = async {
            // When its time is waited for already.
            tokio::task::yield_now().await;
            for piece in sent {
                visitor.write_all(piece).await.unwrap();
                heard.read_exact(&mut vec![0; piece.len()]).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = reads => {}
            () = activity.over(idle, head) => {}
        }
        start.elapsed()
    }

    #[tokio::test]
    async fn a_connection_may_rest_but_a_head_may_not() {
        let cases: [(bool, &[&[u8]], bool); 6] = [
            (false, &[], true),
            (true, &[], true),
            (false, &[b"P", b"RI", b" * HTTP/2.0"], true),
            (false, &[b"G"], false),
            (true, &[b"GET / HTTP"], false),
            (false, &[b"P", b"OST /"], false),
        ];
        for (used, sent, rests) in cases {
            let (idle, head) = if rests { (SHORT, LONG) } else { (LONG, SHORT) };
            let took = over(used, sent, idle, head).await;
            assert!(took >= SHORT * 9 / 10 && took < LONG / 2, "{used} {sent:?}: {took:?}");
        }
    }

    #[tokio::test]
    async fn a_request_takes_as_long_as_it_takes() {
        let activity = Arc::new(Activity::new());
        let active = activity.begin();
        let over = activity.over(SHORT, SHORT);
        tokio::pin!(over);
        assert!(tokio::time::timeout(3 * SHORT, &mut over).await.is_err(), "a request is in it");
        drop(active);
        let start = Instant::now();
        over.await;
        assert!(start.elapsed() >= SHORT * 9 / 10);
    }
}
