//! Content in files, which the kernel can send without its passing through this process.
//!
//! A script that answers with an object of R2 as it is reads nothing of it: its engine would only copy it from one of our sockets to
//! another. So such an answer of a binding server says, beside what it sends, what files it is made of; a script's response names it
//! in a header instead of having a body, and who has that response sends the content. nginx calls it `X-Accel-Redirect`, others
//! `X-Sendfile`.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::sendfile;
use rustix::io::retry_on_intr;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use crate::Body;

/// The header of a cell's response that names the content it stands for.
pub const SENDFILE_HEADER: &str = "x-skep-sendfile";

/// Bytes of the smallest content that a cell has sent this way. To leave the engine's stream costs it a connection, and what lies in that
/// connection's buffers was read in vain.
pub const SENDFILE_LEAST: u64 = 1 << 20;

/// What a thread hands to the kernel before others get their turn.
const TURN: u64 = 16 << 20;

/// How long a thread waits for a reader who is nearly as fast. To wake the one that watches the socket and be woken by it takes longer: 2,790 MiB/s
/// instead of 2,610 over the loopback (medians of six rounds in turn, two readers).
const NEARLY: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
/// So many threads may wait like that: the others of the pool are for those who have something to do.
const WAITERS: usize = 8;
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Content that lies in files.
pub trait Content: Send + Sync + 'static {
    /// Its piece number `n`, from 0; `None` after the last one.
    fn piece(&self, n: usize) -> io::Result<Option<Piece>>;
    /// All of it, for whoever cannot have the kernel send it.
    fn body(&self) -> io::Result<Body>;
}

/// A piece of a content.
#[derive(Debug)]
pub enum Piece {
    /// One that is in memory.
    Bytes(Bytes),
    /// A part of a file.
    File {
        /// The file.
        file: File,
        /// Where the part begins.
        offset: u64,
        /// Its bytes.
        length: u64,
    },
}

/// Content of an answer: among the extensions of a response whose body it is.
#[derive(Clone)]
pub struct SendFile {
    length: u64,
    content: Arc<dyn Content>,
}

impl SendFile {
    /// `content`, which has `length` bytes.
    pub fn new(length: u64, content: impl Content) -> Self {
        Self { length, content: Arc::new(content) }
    }

    /// Its bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// All of it.
    pub fn body(&self) -> io::Result<Body> {
        self.content.body()
    }

    /// Sends all of it.
    pub(crate) async fn send(&self, socket: &mut TcpStream) -> io::Result<()> {
        let (mut left, mut n) = (self.length, 0);
        while left > 0 {
            let content = self.content.clone();
            let piece =
                tokio::task::spawn_blocking(move || content.piece(n)).await.map_err(io::Error::other)??;
            let piece = piece.ok_or(io::ErrorKind::UnexpectedEof)?;
            let length = match &piece {
                Piece::Bytes(bytes) => bytes.len() as u64,
                Piece::File { length, .. } => *length,
            };
            left = left.checked_sub(length).ok_or(io::ErrorKind::InvalidData)?;
            match piece {
                Piece::Bytes(bytes) => socket.write_all(&bytes).await?,
                Piece::File { file, offset, length } => {
                    let to = socket.as_fd().try_clone_to_owned()?;
                    let mut copy = Copy { file, to, offset, left: length };
                    while copy.left > 0 {
                        // A file that is not in memory yet would hold up whoever else is served by this thread.
                        let turn = tokio::task::spawn_blocking(move || copy.turn().map(|()| copy));
                        copy = turn.await.map_err(io::Error::other)??;
                        if copy.left > 0 {
                            has_room(socket).await?;
                        }
                    }
                }
            }
            n += 1;
        }
        Ok(())
    }
}

impl fmt::Debug for SendFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendFile").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Content that a cell is given, and may have sent instead: among the extensions of the answer that brings it.
#[derive(Clone, Debug)]
pub struct NamedFile {
    /// What the cell calls it. Two with one name are the same bytes.
    pub name: Arc<str>,
    /// The content.
    pub file: SendFile,
}

/// A part of a file on its way into a socket.
struct Copy {
    file: File,
    to: OwnedFd,
    offset: u64,
    left: u64,
}

impl Copy {
    /// Sends what the socket takes, and no more than a turn's.
    fn turn(&mut self) -> io::Result<()> {
        let end = self.left.saturating_sub(TURN);
        while self.left > end {
            let most = usize::try_from(self.left - end).unwrap_or(usize::MAX);
            match sendfile(&self.to, &self.file, Some(&mut self.offset), most) {
                // Somebody has cut it short.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(sent) => self.left = self.left.saturating_sub(sent as u64),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.waits()? {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits a moment for room in the socket, if not many do; whether there is some.
    fn waits(&self) -> io::Result<bool> {
        let others = WAITING.fetch_add(1, Ordering::Relaxed);
        let has_room = if others < WAITERS { can_be_written(&self.to, NEARLY) } else { Ok(false) };
        WAITING.fetch_sub(1, Ordering::Relaxed);
        has_room
    }
}

fn can_be_written(socket: &impl AsFd, limit: Timespec) -> io::Result<bool> {
    let mut fds = [PollFd::new(socket, PollFlags::OUT)];
    Ok(retry_on_intr(|| poll(&mut fds, Some(&limit)))? > 0)
}

/// Waits until the socket takes more. What it said when another thread wrote to it is asked again.
async fn has_room(socket: &TcpStream) -> io::Result<()> {
    let ask = || match can_be_written(socket, Timespec::default())? {
        true => Ok(()),
        false => Err(io::ErrorKind::WouldBlock.into()),
    };
    socket.async_io(Interest::WRITABLE, ask).await
}

/// What may be a TCP socket and nothing else.
pub trait AsTcp {
    /// The socket.
    fn as_tcp(&mut self) -> Option<&mut TcpStream>;
}

impl AsTcp for TcpStream {
    fn as_tcp(&mut self) -> Option<&mut TcpStream> {
        Some(self)
    }
}

#[cfg(test)]
#[path = "sendfile_tests.rs"]
mod tests;
