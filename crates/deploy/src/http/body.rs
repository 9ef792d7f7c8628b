//! What a request carries: bytes, or pieces that are made, or arrive from elsewhere, while they are sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use tokio::sync::mpsc;

/// Pieces that are made ahead of the connection.
const AHEAD: usize = 2;

/// A body whose length is known.
pub struct Body {
    left: u64,
    source: Source,
}

enum Source {
    Whole(Bytes),
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
    /// The connection lives as long as its handle.
    Arriving {
        body: Incoming,
        _connection: SendRequest<Body>,
    },
}

/// What the error of a body is called whose other end was lost: another attempt may do better.
pub(super) const LOST: io::ErrorKind = io::ErrorKind::ConnectionAborted;

/// Where the maker of a body's pieces puts them.
pub struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Pieces {
    /// The next piece; waits until the connection has taken those before it. `false` if nobody wants it any more.
    pub fn push(&self, piece: Bytes) -> bool {
        piece.is_empty() || self.0.blocking_send(Ok(piece)).is_ok()
    }
}

impl Body {
    /// `length` bytes that `make` hands over piece by piece, on a thread where it may block. Its error ends the request.
    pub fn in_pieces(length: u64, make: impl FnOnce(&Pieces) -> io::Result<()> + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || {
            let pieces = Pieces(sender);
            if let Err(error) = make(&pieces) {
                // Nobody waits for it if the connection has gone.
                let _ = pieces.0.blocking_send(Err(error));
            }
        });
        Self { left: length, source: Source::Pieces(receiver) }
    }
}

impl Body {
    /// An answer of `length` bytes, as they arrive over a connection of its own.
    pub(super) fn arriving(length: u64, body: Incoming, connection: SendRequest<Body>) -> Self {
        Self { left: length, source: Source::Arriving { body, _connection: connection } }
    }

    /// Bytes that are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }
}

/// An answer of any length, as it arrives.
pub struct Arriving {
    body: Incoming,
    /// Given back with the last byte: the connection can be used again then.
    connection: Option<(SendRequest<Body>, Rest)>,
}

type Rest = Box<dyn FnOnce(SendRequest<Body>) + Send>;

impl Arriving {
    pub(super) fn new(body: Incoming, connection: SendRequest<Body>, rest: Rest) -> Self {
        Self { body, connection: Some((connection, rest)) }
    }
}

impl hyper::body::Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None) = polled
            && let Some((connection, rest)) = self.connection.take()
        {
            rest(connection);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        // Read to its end all the same: that is when the connection is given back.
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self { left: bytes.len() as u64, source: Source::Whole(bytes) }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match &mut self.source {
            Source::Whole(bytes) => Some(Ok(std::mem::take(bytes))).filter(|_| self.left > 0),
            Source::Pieces(receiver) => match receiver.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(piece) => piece,
            },
            Source::Arriving { body, .. } => match Pin::new(body).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(frame) => frame.map(|frame| match frame {
                    // What is no data are trailers, which nobody asked for.
                    Ok(frame) => Ok(frame.into_data().unwrap_or_default()),
                    Err(error) => Err(io::Error::new(LOST, error)),
                }),
            },
        };
        Poll::Ready(match piece {
            None if self.left > 0 => Some(Err(io::Error::other("the body ends too early"))),
            None => None,
            Some(Err(error)) => Some(Err(error)),
            Some(Ok(piece)) => match self.left.checked_sub(piece.len() as u64) {
                None => Some(Err(io::Error::other("the body is longer than it should be"))),
                Some(left) => {
                    self.left = left;
                    Some(Ok(Frame::data(piece)))
                }
            },
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
