//! Bodies that a worker has compressed, or passes on compressed, for clients that do not take them so.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body, Frame};
use skep_runtime::Turns;
use skep_wire::BoxError;
use tokio::task::JoinHandle;

/// Bytes that are decoded before they are sent: a small body may decode to gigabytes.
const PIECE: usize = 32 << 10;
/// Bytes of a body that are decoded on the event loop: a page.
const HERE: usize = 128 << 10;
/// Bytes that are decoded at once elsewhere.
const ROUND: usize = 256 << 10;

/// What a body can be decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Brotli,
}

/// What the body of `response` has to be decoded from for a client that sent `request`. A client that names no
/// encoding takes none, as on Cloudflare.
pub(crate) fn needed(request: &HeaderMap, response: &HeaderMap) -> Option<Coding> {
    let encoding = response.get(header::CONTENT_ENCODING)?.to_str().ok()?.trim();
    let coding = match encoding {
        e if e.eq_ignore_ascii_case("gzip") => Coding::Gzip,
        e if e.eq_ignore_ascii_case("br") => Coding::Brotli,
        _ => return None,
    };
    (!takes(request, encoding)).then_some(coding)
}

/// Whether `Accept-Encoding` allows a coding (RFC 9110 §12.5.3).
fn takes(request: &HeaderMap, coding: &str) -> bool {
    let mut any = false;
    for value in request.get_all(header::ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            let name = name.trim();
            let refused = parameters
                .trim()
                .strip_prefix("q=")
                .is_some_and(|q| q.trim().parse::<f32>().is_ok_and(|q| q == 0.0));
            match name {
                name if name.eq_ignore_ascii_case(coding) => return !refused,
                "*" => any = !refused,
                _ => {}
            }
        }
    }
    any
}

/// Makes the head say what the decoded body is.
pub(crate) fn rewrite(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    // The bytes are others, what they mean is the same.
    let weak = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).filter(|tag| tag.starts_with('"'));
    if let Some(weak) = weak.and_then(|tag| HeaderValue::try_from(format!("W/{tag}")).ok()) {
        headers.insert(header::ETAG, weak);
    }
}

/// A body, decoded as it is read.
///
/// Its beginning is decoded where it is read. What decodes to more is decoded by other threads, a few bodies at once and a round
/// of each in turn: who has a megabyte that decodes to a gigabyte would have the event loop else.
pub struct Decoded<B> {
    body: B,
    /// `None` while a round is under way.
    decoder: Option<Decoder>,
    pending: Bytes,
    round: Option<JoinHandle<Round>>,
    /// What was decoded and is not sent yet, and an error at its end.
    ready: VecDeque<io::Result<Bytes>>,
    /// Bytes that may still be decoded here.
    here: usize,
    /// Whose it is.
    who: u64,
    /// The encoded body has ended.
    ended: bool,
    finished: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Decoded<B>
where
    B::Error: Into<BoxError>,
{
    pub(crate) fn new(coding: Coding, body: B, who: u64) -> Self {
        Self {
            body,
            who,
            decoder: Some(Decoder::new(coding)),
            pending: Bytes::new(),
            round: None,
            ready: VecDeque::new(),
            here: HERE,
            ended: false,
            finished: false,
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        while !self.finished {
            match self.ready.pop_front() {
                Some(Ok(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Some(Err(error)) => {
                    self.finished = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => {}
            }
            let used_up = ready!(self.poll_decode(cx));
            if !used_up || !self.ready.is_empty() {
                continue;
            }
            if self.ended {
                self.finished = true;
                break;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.pending = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.ended = true,
            }
        }
        Poll::Ready(None)
    }

    /// Decodes some of what is there; says whether that gave nothing more.
    fn poll_decode(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Some(round) = &mut self.round {
            let done = ready!(Pin::new(round).poll(cx));
            self.round = None;
            match done {
                Ok(Round { decoder, rest, pieces }) => {
                    self.decoder = Some(decoder);
                    self.pending = rest;
                    self.ready = pieces;
                }
                // The process ends.
                Err(error) => self.ready.push_back(Err(io::Error::other(error))),
            }
            return Poll::Ready(self.ready.is_empty());
        }
        let Some(mut decoder) = self.decoder.take() else { return Poll::Ready(true) };
        let input = std::mem::take(&mut self.pending);
        let last = self.ended;
        if self.here == 0 && (last || !input.is_empty()) {
            self.round = Some(tokio::spawn(in_turn(self.who, decoder, input, last)));
            return self.poll_decode(cx);
        }
        let mut rest = input;
        let step = decoder.step(&mut rest, last);
        (self.decoder, self.pending) = (Some(decoder), rest);
        match step {
            Ok(piece) if piece.is_empty() => return Poll::Ready(true),
            Ok(piece) => {
                self.here = self.here.saturating_sub(piece.len());
                self.ready.push_back(Ok(piece));
            }
            Err(error) => self.ready.push_back(Err(error)),
        }
        Poll::Ready(false)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.finished
    }
}

impl<B> std::fmt::Debug for Decoded<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoded").finish_non_exhaustive()
    }
}

/// What a round came to.
struct Round {
    decoder: Decoder,
    /// Input that is left.
    rest: Bytes,
    pieces: VecDeque<io::Result<Bytes>>,
}

static TURNS: Turns = Turns::new();

/// Decodes a round when it is this body's turn.
async fn in_turn(who: u64, decoder: Decoder, input: Bytes, last: bool) -> Round {
    TURNS.aside(who, move || round(decoder, input, last)).await.unwrap_or_else(|error| Round {
        decoder: Decoder::Done,
        rest: Bytes::new(),
        pieces: [Err(io::Error::other(error))].into(),
    })
}

fn round(mut decoder: Decoder, mut rest: Bytes, last: bool) -> Round {
    let (mut pieces, mut made) = (VecDeque::new(), 0);
    while made < ROUND {
        match decoder.step(&mut rest, last) {
            Ok(piece) if piece.is_empty() => break,
            Ok(piece) => {
                made += piece.len();
                pieces.push_back(Ok(piece));
            }
            Err(error) => {
                pieces.push_back(Err(error));
                break;
            }
        }
    }
    Round { decoder, rest, pieces }
}

type BrotliDecoder = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

enum Decoder {
    /// Nothing has come yet: an empty body stays one.
    New(Coding),
    Gzip(Box<MultiGzDecoder<Piece>>),
    Brotli(Box<BrotliDecoder>),
    /// What follows the end is ignored.
    Done,
}

impl Decoder {
    fn new(coding: Coding) -> Self {
        Self::New(coding)
    }

    /// Decodes until there is a piece, or `input` is used up. Nothing, if `last`, is the end.
    fn step(&mut self, input: &mut Bytes, last: bool) -> io::Result<Bytes> {
        if let Self::New(coding) = self {
            if input.is_empty() {
                return Ok(Bytes::new());
            }
            *self = match coding {
                Coding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(Piece(Vec::new())))),
                Coding::Brotli => {
                    let alloc = StandardAlloc::default;
                    Self::Brotli(Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())))
                }
            };
        }
        match self {
            Self::Gzip(decoder) => gzip(decoder, input, last),
            Self::Brotli(decoder) => {
                let (piece, done) = brotli_piece(decoder, input, last)?;
                if done {
                    *self = Self::Done;
                }
                Ok(piece)
            }
            Self::New(_) | Self::Done => {
                input.clear();
                Ok(Bytes::new())
            }
        }
    }
}

fn gzip(decoder: &mut MultiGzDecoder<Piece>, input: &mut Bytes, last: bool) -> io::Result<Bytes> {
    let mut full = false;
    while !input.is_empty() && !full {
        match decoder.write(input) {
            Ok(0) => return Err(ErrorKind::InvalidData.into()),
            Ok(used) => input.advance(used),
            Err(error) if error.kind() == ErrorKind::WouldBlock => full = true,
            Err(error) => return Err(error),
        }
    }
    if !full {
        match if last { decoder.try_finish() } else { decoder.flush() } {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
    Ok(std::mem::take(&mut decoder.get_mut().0).into())
}

fn brotli_piece(decoder: &mut BrotliDecoder, input: &mut Bytes, last: bool) -> io::Result<(Bytes, bool)> {
    let mut piece = vec![0; PIECE];
    let (mut available, mut used, mut room, mut made, mut total) = (input.len(), 0, PIECE, 0, 0);
    let result = BrotliDecompressStream(
        &mut available,
        &mut used,
        input,
        &mut room,
        &mut made,
        &mut piece,
        &mut total,
        decoder,
    );
    input.advance(used);
    piece.truncate(made);
    match result {
        BrotliResult::ResultFailure => Err(ErrorKind::InvalidData.into()),
        BrotliResult::NeedsMoreInput if last && made == 0 => Err(ErrorKind::UnexpectedEof.into()),
        result => Ok((piece.into(), matches!(result, BrotliResult::ResultSuccess))),
    }
}

/// Takes what is decoded until it is full.
struct Piece(Vec<u8>);

impl Write for Piece {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() >= PIECE {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
