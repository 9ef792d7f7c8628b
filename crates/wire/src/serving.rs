//! The server's side of a connection whose requests have no body, or a small one.
//!
//! Most calls of a cell, and most requests of visitors, are a head that comes in one read, and an answer that goes out in one
//! write. Whoever has the connection reads, works and writes here in turn: there is no state to keep of a body that comes
//! while an answer goes. All else (larger bodies, upgrades, HTTP/1.0 and HTTP/2, heads that are wrong) is left, as it came, to
//! a general server, [`Rewound`]: a request is only taken here if there is one way to read it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Response, StatusCode, header};
use http_body::Body;
use hyper::ext::ReasonPhrase;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::flow::{Writing, piece};
use crate::head::{
    Begun, date, invalid, keeps_open, read_request, write_header, write_headers, write_status,
};
use crate::{AsTcp, BoxError, Rewound, SendFile};

/// A head that takes more is left to the general server, which bounds it.
const MAX_HEAD: usize = 16 << 10;
/// Read at once.
const PIECE: usize = 4 << 10;
/// Pieces of an answer up to this size are joined before they are written. An asset of 10 KiB took 15.9 µs of CPU time this way, and
/// 17.0 with its body named beside the head (medians of eight rounds in turn).
const JOINED: usize = 16 << 10;

/// A connection, between two requests or in one.
#[derive(Debug)]
pub struct Serving<S> {
    stream: S,
    /// What came and was not taken yet.
    buffer: BytesMut,
    max_body: usize,
    /// A request whose body has not come yet.
    begun: Option<(Box<http::Request<()>>, usize)>,
}

/// What comes next on a connection.
#[derive(Debug)]
pub enum Next {
    /// A request, with its whole body.
    Request(Box<http::Request<Bytes>>),
    /// Something for a general server; see [`Serving::into_rest`].
    Other,
    /// Nothing more.
    Over,
}

/// A connection between two requests, taken apart.
#[derive(Debug)]
pub struct Parts<S> {
    stream: S,
    buffer: BytesMut,
    max_body: usize,
}

impl<S> Parts<S> {
    /// The same with another stream.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> Parts<T> {
        let Self { stream, buffer, max_body } = self;
        Parts { stream: change(stream), buffer, max_body }
    }

    /// The same where that may fail.
    pub fn try_map<T>(self, change: impl FnOnce(S) -> io::Result<T>) -> io::Result<Parts<T>> {
        let Self { stream, buffer, max_body } = self;
        Ok(Parts { stream: change(stream)?, buffer, max_body })
    }
}

/// What an answer has to know of its request.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    is_head: bool,
    keeps: bool,
}

impl Asked {
    /// By `request`.
    pub fn by<B>(request: &http::Request<B>) -> Self {
        Self { is_head: request.method() == Method::HEAD, keeps: keeps_open(request.headers()) }
    }

    /// Whether another request may follow.
    pub fn keeps(self) -> bool {
        self.keeps
    }

    /// The last answer on its connection.
    #[must_use]
    pub fn last(self) -> Self {
        Self { keeps: false, ..self }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Serving<S> {
    /// Serves `stream`. Requests with a body of more than `max_body` bytes are [`Next::Other`].
    pub fn new(stream: S, max_body: usize) -> Self {
        Self { stream, buffer: BytesMut::new(), max_body, begun: None }
    }

    /// A connection that was taken apart.
    pub fn from_parts(parts: Parts<S>) -> Self {
        let Parts { stream, buffer, max_body } = parts;
        Self { stream, buffer, max_body, begun: None }
    }

    /// Takes it apart, between two requests or after [`Serving::next`] has said that something is there.
    pub fn into_parts(self) -> Parts<S> {
        Parts { stream: self.stream, buffer: self.buffer, max_body: self.max_body }
    }

    /// Waits for the next request. May be given up and begun again: nothing is lost.
    pub async fn next(&mut self) -> io::Result<Next> {
        loop {
            if self.begun.is_none() && !self.buffer.is_empty() {
                match read_request(&mut self.buffer, self.max_body) {
                    Begun::Request(request, body) => self.begun = Some((request, body)),
                    Begun::Partly if self.buffer.len() <= MAX_HEAD => {}
                    Begun::Partly | Begun::Other => return Ok(Next::Other),
                }
            }
            if let Some((request, body)) = self.begun.take_if(|(_, body)| *body <= self.buffer.len()) {
                let body = match body {
                    0 => Bytes::new(),
                    body => self.buffer.split_to(body).freeze(),
                };
                return Ok(Next::Request(Box::new(request.map(|()| body))));
            }
            if poll_fn(|cx| self.poll_more(cx)).await? == 0 {
                return match self.buffer.is_empty() && self.begun.is_none() {
                    true => Ok(Next::Over),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buffer.reserve(PIECE);
        pin!(self.stream.read_buf(&mut self.buffer)).poll(cx)
    }

    /// Whether the peer is gone, as far as one can know without reading more than it may send ahead.
    fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        self.buffer.is_empty() && matches!(self.poll_more(cx), Poll::Ready(Ok(0) | Err(_)))
    }

    /// Does `work` while the peer is there; `None` once it is gone. It comes pinned, as it may be large and is not to be moved.
    pub async fn unless_gone<T>(&mut self, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.is_gone(cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Sends the answer; returns whether another request may follow. An error of the body cuts the connection off, so that the
    /// peer notices.
    pub async fn answer<B>(&mut self, asked: Asked, response: &mut Response<B>) -> io::Result<bool>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let keeps = asked.keeps && keeps_open(response.headers());
        let (text, mut framing) = begin(response, asked.is_head, keeps)?;
        let mut out = Outgoing { text, ..Outgoing::default() };
        let mut body = Pin::new(response.body_mut());
        while !framing.is_over() {
            // What is there at once goes with the head.
            match poll_fn(|cx| self.poll_body(cx, body.as_mut(), out.is_empty())).await {
                Step::Wait => self.write(&mut out).await?,
                Step::Gone => return Err(io::ErrorKind::ConnectionReset.into()),
                Step::Piece(None) => framing.end(&mut out.text)?,
                Step::Piece(Some(Err(error))) => return Err(io::Error::other(error)),
                Step::Piece(Some(Ok(piece))) if piece.is_empty() => {}
                Step::Piece(Some(Ok(piece))) => {
                    framing.begin(&mut out.text, piece.len())?;
                    out.push(piece);
                    framing.after(&mut out.text);
                    if body.is_end_stream() && !framing.is_over() {
                        framing.end(&mut out.text)?;
                    }
                    if out.is_full() {
                        self.write(&mut out).await?;
                    }
                }
            }
        }
        self.write(&mut out).await?;
        Ok(keeps)
    }

    /// Whether the kernel can send files over it.
    pub fn is_tcp(&mut self) -> bool
    where
        S: AsTcp,
    {
        self.stream.as_tcp().is_some()
    }

    /// Sends the answer that `response` is the head of, and the kernel its body; returns whether another request may follow. Only
    /// over [TCP](Self::is_tcp).
    pub async fn answer_file<B: Body>(
        &mut self,
        asked: Asked,
        response: &mut Response<B>,
        body: &SendFile,
    ) -> io::Result<bool>
    where
        S: AsTcp,
    {
        let keeps = asked.keeps && keeps_open(response.headers());
        let (text, framing) = begin(response, asked.is_head, keeps)?;
        let is_sent = match framing {
            Framing::Over => false,
            Framing::Length(length) if length == body.length() => true,
            _ => return Err(invalid("the answer's length is not its content's")),
        };
        self.stream.write_all(&text).await?;
        self.stream.flush().await?;
        if is_sent {
            body.send(self.stream.as_tcp().ok_or(io::ErrorKind::Unsupported)?).await?;
        }
        Ok(keeps)
    }

    /// Sends an answer that was written elsewhere, all of it.
    pub async fn send(&mut self, text: &[u8]) -> io::Result<()> {
        self.stream.write_all(text).await?;
        self.stream.flush().await
    }

    fn poll_body<B>(&mut self, cx: &mut Context<'_>, body: Pin<&mut B>, written: bool) -> Poll<Step>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        Poll::Ready(match body.poll_frame(cx) {
            Poll::Pending if !written => Step::Wait,
            Poll::Pending if self.is_gone(cx) => Step::Gone,
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => Step::Piece(None),
            Poll::Ready(Some(Err(error))) => Step::Piece(Some(Err(error.into()))),
            // Trailers are for those who asked for them, and nobody does.
            Poll::Ready(Some(Ok(frame))) => Step::Piece(Some(Ok(frame.into_data().unwrap_or_default()))),
        })
    }

    /// Writes all of `out`, which is empty afterwards.
    async fn write(&mut self, out: &mut Outgoing) -> io::Result<()> {
        let _writing = Writing::begin();
        if out.queue.is_empty() {
            self.stream.write_all(&out.text).await?;
            out.text.clear();
        } else {
            out.seal();
            self.stream.write_all_buf(out).await?;
        }
        self.stream.flush().await
    }

    /// The connection for a general server, which reads first what was not taken here.
    pub fn into_rest(self) -> Rewound<S> {
        Rewound::new(self.buffer.freeze(), self.stream)
    }

    /// Says that nothing more will come.
    pub async fn close(&mut self) {
        let _ = poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await;
    }
}

/// What is to be written.
#[derive(Debug, Default)]
struct Outgoing {
    /// Large pieces, and what came before them.
    queue: VecDeque<Bytes>,
    /// Bytes in the queue.
    queued: usize,
    /// What comes after them.
    text: Vec<u8>,
}

impl Outgoing {
    fn push(&mut self, piece: Bytes) {
        if self.text.len() + piece.len() <= JOINED {
            self.text.extend_from_slice(&piece);
            return;
        }
        self.seal();
        self.queued += piece.len();
        self.queue.push_back(piece);
    }

    /// Puts the text into the queue.
    fn seal(&mut self) {
        if !self.text.is_empty() {
            self.queued += self.text.len();
            self.queue.push_back(std::mem::take(&mut self.text).into());
        }
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.text.is_empty()
    }

    /// Whether it is to be written: a reader that is behind need not be woken for each piece.
    fn is_full(&self) -> bool {
        self.queued + self.text.len() >= piece()
    }
}

/// The queue.
impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.queued
    }

    fn chunk(&self) -> &[u8] {
        self.queue.front().map_or(&[], |first| first)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pairs = slices.iter_mut().zip(&self.queue);
        pairs.map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    fn advance(&mut self, mut count: usize) {
        self.queued -= count;
        while let Some(first) = self.queue.front_mut().filter(|_| count > 0) {
            let size = first.len().min(count);
            first.advance(size);
            count -= size;
            if first.is_empty() {
                self.queue.pop_front();
            }
        }
    }
}

/// What there is of a body.
enum Step {
    Piece(Option<Result<Bytes, BoxError>>),
    /// Nothing yet: what was joined should go out.
    Wait,
    Gone,
}

/// What is left to send of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    Over,
}

/// An answer's head, and how its body is sent (RFC 9112 §6).
fn begin<B: Body>(answer: &Response<B>, is_head: bool, keeps: bool) -> io::Result<(Vec<u8>, Framing)> {
    let (status, headers) = (answer.status(), answer.headers());
    let is_bare = status.is_informational() || status == StatusCode::NO_CONTENT;
    let said = match headers.get(header::CONTENT_LENGTH) {
        Some(said) => {
            let said = said.to_str().ok().and_then(|said| said.parse().ok());
            Some(said.ok_or_else(|| invalid("the answer's length is not a number"))?)
        }
        None => None,
    };
    let known = said.or_else(|| answer.body().size_hint().exact());
    let framing = match known {
        _ if is_head || is_bare || status == StatusCode::NOT_MODIFIED => Framing::Over,
        Some(0) => Framing::Over,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    let mut out = Vec::with_capacity(1 << 10);
    let reason = answer.extensions().get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
    let usual = || status.canonical_reason().unwrap_or_default().as_bytes();
    write_status(&mut out, status, reason.unwrap_or_else(usual));
    match (framing, known) {
        (Framing::Chunked, _) => write_header(&mut out, b"transfer-encoding", b"chunked"),
        (_, Some(length)) if said.is_none() && !is_head && !is_bare && status != StatusCode::NOT_MODIFIED => {
            write_header(&mut out, b"content-length", length.to_string().as_bytes());
        }
        _ => {}
    }
    if !headers.contains_key(header::DATE) {
        write_header(&mut out, b"date", date().as_bytes());
    }
    if !keeps && keeps_open(headers) {
        write_header(&mut out, b"connection", b"close");
    }
    write_headers(&mut out, headers, |name, _| {
        name == header::TRANSFER_ENCODING || is_bare && name == header::CONTENT_LENGTH
    });
    Ok((out, framing))
}

impl Framing {
    fn is_over(self) -> bool {
        self == Self::Over
    }

    /// Before a piece of `size` bytes.
    fn begin(&mut self, out: &mut Vec<u8>, size: usize) -> io::Result<()> {
        match self {
            Self::Chunked => out.extend_from_slice(format!("{size:x}\r\n").as_bytes()),
            Self::Length(left) => {
                *left = left
                    .checked_sub(size as u64)
                    .ok_or_else(|| invalid("the answer's body is longer than it says"))?;
                if *left == 0 {
                    *self = Self::Over;
                }
            }
            Self::Over => {}
        }
        Ok(())
    }

    /// After a piece.
    fn after(self, out: &mut Vec<u8>) {
        if self == Self::Chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// After the last one.
    fn end(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match std::mem::replace(self, Self::Over) {
            Self::Chunked => out.extend_from_slice(b"0\r\n\r\n"),
            Self::Length(_) => return Err(invalid("the answer's body is shorter than it says")),
            Self::Over => {}
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "serving_tests.rs"]
mod tests;
