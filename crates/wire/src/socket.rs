//! A connection over a unix socket that wakes its reader only.

use std::io::{self, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

use crate::flow::{Flow, Full, ROOM, piece};

/// A connected unix socket.
///
/// The kernel says that a unix socket can be written whenever the peer has read something, whether or not anybody waits for
/// that. Who watches for both, as tokio's stream does, is woken once for each message that the peer takes, and
/// again for its answer. This one watches for writing only while the socket is full.
#[derive(Debug)]
pub struct Socket {
    stream: AsyncFd<StdStream>,
    /// While the peer does not keep up: a second descriptor of the same socket, watched, and what counts it in its flow.
    full: Option<(AsyncFd<StdStream>, Option<Full>)>,
    /// The sockets of the same cell, if it is one of a cell's.
    flow: Option<Arc<Flow>>,
    /// What the kernel was told to hold of what is written; 0 if that is not known.
    room: usize,
    /// How much to read next: what comes in large pieces is read in large pieces, and other buffers are not cleared for
    /// nothing.
    next: usize,
}

/// What is read at once: heads and small bodies, and no more than a socket holds by default.
const READ: std::ops::RangeInclusive<usize> = 8 << 10..=256 << 10;
/// Up to so many bytes, copying is cheaper than a vector for the kernel.
const SMALL: usize = 2 << 10;

impl Socket {
    /// Connects to the socket at `path`.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).await?.try_into()
    }

    /// The socket, which nobody watches.
    pub(crate) fn into_std(self) -> StdStream {
        self.stream.into_inner()
    }

    /// A socket that was taken from another event loop, to be watched by this one.
    pub(crate) fn from_std(stream: StdStream) -> io::Result<Self> {
        let (full, flow, room) = Default::default();
        Ok(Self { stream: watch(stream, Interest::READABLE)?, full, flow, room, next: *READ.start() })
    }

    /// One of the sockets that share `flow`.
    pub(crate) fn among(mut self, flow: &Arc<Flow>) -> Self {
        self.hold(flow.room());
        Self { flow: Some(flow.clone()), ..self }
    }

    /// It is full: what it holds from now on depends on how many are.
    fn fill(&mut self) -> Option<Full> {
        let flow = self.flow.clone()?;
        let full = flow.fill();
        self.hold(flow.room());
        Some(full)
    }

    /// Has the kernel hold so much of what is written.
    fn hold(&mut self, room: usize) {
        if std::mem::replace(&mut self.room, room) != room
            && let Err(error) = set_socket_send_buffer_size(self.stream.get_ref(), room)
        {
            tracing::debug!(%error, "the buffer of a cell's socket keeps its size");
        }
    }

    /// Waits for room if there was none before. Who was told to wait has to be woken, also if he asks again meanwhile and there happens to be
    /// room by then: hyper takes it that he will be, and stands still otherwise (it writes, waits, flushes what it has, and does not look
    /// whether that was all).
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.full {
            None => Poll::Ready(Ok(())),
            Some((watched, _)) => watched.poll_write_ready(cx).map_ok(drop),
        }
    }

    /// Waits for room if `result` says that there is none.
    fn written(
        &mut self,
        result: io::Result<usize>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<usize>>> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Poll::Ready(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let full = match self.full.take() {
                    Some(full) => full,
                    None => {
                        let again = self.stream.get_ref().try_clone();
                        match again.and_then(|again| watch(again, Interest::WRITABLE)) {
                            Ok(watched) => (watched, self.fill()),
                            Err(error) => return Poll::Ready(Some(Err(error))),
                        }
                    }
                };
                let (watched, _) = self.full.insert(full);
                match ready!(watched.poll_write_ready(cx)) {
                    Ok(mut guard) => guard.clear_ready(),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
                Poll::Ready(None)
            }
            other => {
                self.full = None;
                Poll::Ready(Some(other))
            }
        }
    }
}

impl TryFrom<UnixStream> for Socket {
    type Error = io::Error;

    fn try_from(stream: UnixStream) -> io::Result<Self> {
        // Stays non-blocking. As it is made it holds what is the most.
        Ok(Self { room: *ROOM.end(), ..Self::from_std(stream.into_std()?)? })
    }
}

#[expect(deprecated, reason = "it is for types that lend out others' descriptors; a stream owns its own")]
fn watch<T: AsRawFd>(owner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owner, interest)
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let mut guard = ready!(this.stream.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled_to(buf.remaining().min(this.next));
            let wanted = room.len();
            match recv(this.stream.get_ref(), room, RecvFlags::empty()) {
                Ok((_, read)) => {
                    // Less than there was room for: there is no more, and the next piece will be announced.
                    if read > 0 && read < wanted {
                        guard.clear_ready();
                    }
                    let next = if read == this.next { this.next * 2 } else { read.next_power_of_two() };
                    this.next = next.clamp(*READ.start(), (*READ.end()).min(piece()));
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            ready!(this.poll_room(cx))?;
            let result = send(this.stream.get_ref(), data, SendFlags::NOSIGNAL).map_err(Into::into);
            if let Some(done) = ready!(this.written(result, cx)) {
                return Poll::Ready(done);
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some((small, length)) = together::<SMALL>(data) {
            return self.poll_write(cx, &small[..length]);
        }
        loop {
            ready!(self.poll_room(cx))?;
            let result = self.stream.get_ref().write_vectored(data);
            if let Some(done) = ready!(self.written(result, cx)) {
                return Poll::Ready(done);
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(self.stream.get_ref(), Shutdown::Write).map_err(Into::into))
    }
}

/// What `pieces` hold, one after the other, and how much; `None` if it is more than `N` bytes.
pub fn together<const N: usize>(pieces: &[IoSlice<'_>]) -> Option<([u8; N], usize)> {
    let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
    if length > N {
        return None;
    }
    let mut all = [0; N];
    let mut at = 0;
    for piece in pieces {
        all.get_mut(at..at + piece.len())?.copy_from_slice(piece);
        at += piece.len();
    }
    Some((all, length))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (Socket, Socket) {
        let (left, right) = UnixStream::pair().unwrap();
        (left.try_into().unwrap(), right.try_into().unwrap())
    }

    #[tokio::test]
    async fn what_is_written_arrives_also_when_the_socket_was_full() {
        let (mut left, mut right) = pair();
        let sent: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            left.write_all(&sent).await.unwrap();
            assert!(left.full.is_none());
            left.shutdown().await.unwrap();
            left
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut read = Vec::new();
        right.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, expected);
        // The other direction is still open.
        right.write_all(b"late").await.unwrap();
        let mut late = [0; 4];
        writer.await.unwrap().read_exact(&mut late).await.unwrap();
        assert_eq!(&late, b"late");
    }

    /// How often the event loop slept until the peer said, over another way, that it had read what `stream` sent.
    async fn sleeps(mut stream: impl AsyncWrite + Unpin, mut peer: StdStream) -> u64 {
        // What comes of the beginning is over.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let (tell, told) = tokio::sync::oneshot::channel();
        let metrics = tokio::runtime::Handle::current().metrics();
        let before = metrics.worker_park_count(0);
        stream.write_all(b"question").await.unwrap();
        let peer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            std::io::Read::read_exact(&mut peer, &mut [0; 8]).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            let _ = tell.send(());
        });
        told.await.unwrap();
        peer.join().unwrap();
        metrics.worker_park_count(0) - before
    }

    #[tokio::test]
    async fn nobody_is_woken_because_the_peer_reads() {
        let streams = || {
            let (ours, peer) = StdStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            (UnixStream::from_std(ours).unwrap(), peer)
        };
        let (tokios, peer) = streams();
        let both = sleeps(tokios, peer).await;
        let (ours, peer) = streams();
        let readable = sleeps(Socket::try_from(ours).unwrap(), peer).await;
        assert_eq!(readable + 1, both);
    }

    #[tokio::test]
    async fn who_was_told_to_wait_is_woken_also_if_he_asks_again_before() {
        let (mut left, right) = pair();
        let mut right = right.into_std();
        let woken = Arc::new(Woken::default());
        let waker = woken.clone().into();
        let cx = &mut Context::from_waker(&waker);
        let mut write = |cx: &mut Context<'_>| Pin::new(&mut left).poll_write(cx, &[7; 1000]);
        while write(cx).is_ready() {}
        let mut read = [0; 4096];
        while std::io::Read::read(&mut right, &mut read).is_ok() {}
        let _ = write(cx);
        tokio::time::timeout(Duration::from_secs(5), woken.0.notified()).await.unwrap();
        assert!(write(cx).is_ready());
    }

    #[derive(Default)]
    struct Woken(tokio::sync::Notify);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.notify_one();
        }
    }

    #[tokio::test]
    async fn pieces_arrive_in_order_whether_few_or_many() {
        for size in [1, 500, 3000] {
            let (mut left, mut right) = pair();
            let (a, b) = (vec![b'a'; size], vec![b'b'; size]);
            let written = left.write_vectored(&[IoSlice::new(&a), IoSlice::new(&b)]).await.unwrap();
            assert_eq!(written, 2 * size);
            let mut read = vec![0; written];
            right.read_exact(&mut read).await.unwrap();
            assert_eq!(read, [a, b].concat());
        }
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_an_error_or_an_end() {
        let (mut left, right) = pair();
        drop(right);
        assert_eq!(left.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(left.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
