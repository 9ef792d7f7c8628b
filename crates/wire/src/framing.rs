//! How far a response's body goes (RFC 9112 §6.3).

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, header};

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// All that comes.
    UntilClose,
}

/// What comes next of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// The line with a size.
    Size,
    /// So many bytes of a chunk.
    Data(u64),
    /// The line end after a chunk.
    DataEnd,
    /// Trailers, after so many bytes of them.
    Trailers(usize),
    /// Nothing.
    Over,
}

/// Bytes of a line with a size; what comes after the size means nothing to us.
const MAX_LINE: usize = 4 << 10;
/// Bytes of all trailers, which are thrown away.
const MAX_TRAILERS: usize = 64 << 10;

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Framing {
    /// That of the response to a request by `method`.
    pub fn of(method: &Method, status: StatusCode, headers: &HeaderMap) -> io::Result<Self> {
        let none = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED, StatusCode::SWITCHING_PROTOCOLS];
        if method == Method::HEAD || none.contains(&status) {
            return Ok(Self::Length(0));
        }
        if let Some(last) = headers.get_all(header::TRANSFER_ENCODING).iter().next_back() {
            let last = last.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
            return Ok(match last.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                true => Self::Chunked(Chunk::Size),
                false => Self::UntilClose,
            });
        }
        let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
        let Some(first) = lengths.next() else { return Ok(Self::UntilClose) };
        let text = first.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let length = text.and_then(|text| text.parse().ok()).filter(|_| lengths.all(|other| other == first));
        length.map(Self::Length).ok_or_else(|| invalid("the response's length is not clear"))
    }

    /// Whether nothing more belongs to the body.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Over))
    }

    /// Whether the end of the connection is the end of the body.
    pub fn ends_here(&self) -> bool {
        *self == Self::UntilClose
    }

    /// The bytes that are left, if that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            _ => self.is_over().then_some(0),
        }
    }

    /// Takes what `buffer` has of the body; `None` if that is over, or more has to come first.
    pub fn take(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
        match self {
            Self::Length(left) => Ok(piece(left, buffer)),
            Self::UntilClose => Ok((!buffer.is_empty()).then(|| buffer.split().freeze())),
            Self::Chunked(chunk) => chunk.take(buffer),
        }
    }
}

/// At most `left` bytes.
fn piece(left: &mut u64, buffer: &mut BytesMut) -> Option<Bytes> {
    let size = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= size as u64;
    (size > 0).then(|| buffer.split_to(size).freeze())
}

impl Chunk {
    fn take(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
        loop {
            match self {
                Self::Size => {
                    let Some(line) = line(buffer, MAX_LINE)? else { return Ok(None) };
                    let size = line[..].split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
                    let text = std::str::from_utf8(size).ok();
                    let digits = text.filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_hexdigit()));
                    let size = digits.and_then(|text| u64::from_str_radix(text, 16).ok());
                    *self = match size.ok_or_else(|| invalid("a chunk has no size"))? {
                        0 => Self::Trailers(0),
                        size => Self::Data(size),
                    };
                }
                Self::Data(left) => {
                    let piece = piece(left, buffer);
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                    // What ends the chunk, and perhaps the body, is mostly there already.
                    if piece.is_some() && *self == Self::DataEnd {
                        let rest = self.take_end(buffer);
                        return rest.map(|()| piece);
                    }
                    return Ok(piece);
                }
                Self::DataEnd | Self::Trailers(_) => {
                    let before = *self;
                    self.take_end(buffer)?;
                    if *self == before {
                        return Ok(None);
                    }
                }
                Self::Over => return Ok(None),
            }
        }
    }

    /// Takes line ends, the last size and trailers, as far as they are there.
    fn take_end(&mut self, buffer: &mut BytesMut) -> io::Result<()> {
        if *self == Self::DataEnd {
            match line(buffer, 0)? {
                Some(_) => *self = Self::Size,
                None => return Ok(()),
            }
            if buffer.starts_with(b"0\r\n") {
                buffer.advance(3);
                *self = Self::Trailers(0);
            }
        }
        while let Self::Trailers(so_far) = self {
            match line(buffer, MAX_TRAILERS - *so_far)? {
                None => return Ok(()),
                Some(line) if line.is_empty() => *self = Self::Over,
                Some(line) => *so_far += line.len(),
            }
        }
        Ok(())
    }
}

/// Takes a line of at most `limit` bytes; without its end.
fn line(buffer: &mut BytesMut, limit: usize) -> io::Result<Option<BytesMut>> {
    match buffer.iter().position(|byte| *byte == b'\n') {
        Some(end) if end <= limit + 1 => {
            let mut line = buffer.split_to(end + 1);
            let text = line.strip_suffix(b"\r\n").ok_or_else(|| invalid("a line ends wrongly"))?.len();
            line.truncate(text);
            Ok(Some(line))
        }
        None if buffer.len() <= limit + 1 => Ok(None),
        _ => Err(invalid("a line is too long")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(method: &str, status: u16, headers: &[(&str, &str)]) -> Option<Framing> {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let head = response.body(()).unwrap();
        Framing::of(&method.parse().unwrap(), head.status(), head.headers()).ok()
    }

    #[test]
    fn a_head_says_how_far_the_body_goes() {
        let chunked = Some(Framing::Chunked(Chunk::Size));
        assert_eq!(of("GET", 200, &[("content-length", "5")]), Some(Framing::Length(5)));
        assert_eq!(of("HEAD", 200, &[("content-length", "5")]), Some(Framing::Length(0)));
        assert_eq!(of("GET", 304, &[("content-length", "5")]), Some(Framing::Length(0)));
        assert_eq!(of("GET", 204, &[]), Some(Framing::Length(0)));
        assert_eq!(of("GET", 200, &[]), Some(Framing::UntilClose));
        assert_eq!(of("GET", 200, &[("transfer-encoding", "Chunked"), ("content-length", "5")]), chunked);
        assert_eq!(of("GET", 200, &[("transfer-encoding", "gzip, chunked")]), chunked);
        assert_eq!(of("GET", 200, &[("transfer-encoding", "gzip")]), Some(Framing::UntilClose));
        assert_eq!(
            of("GET", 200, &[("content-length", "5"), ("content-length", "5")]),
            Some(Framing::Length(5))
        );
        for wrong in ["", "+5", "5, 6", "-1", "99999999999999999999"] {
            assert_eq!(of("GET", 200, &[("content-length", wrong)]), None, "{wrong}");
        }
        assert_eq!(of("GET", 200, &[("content-length", "5"), ("content-length", "6")]), None);
    }

    /// What a chunked body that comes in `pieces` holds, and what is left behind it.
    fn read(pieces: &[&[u8]]) -> io::Result<(Vec<u8>, bool, Vec<u8>)> {
        let (mut framing, mut buffer, mut all) = (Framing::Chunked(Chunk::Size), BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(data) = framing.take(&mut buffer)? {
                all.extend_from_slice(&data);
            }
        }
        Ok((all, framing.is_over(), buffer.to_vec()))
    }

    #[test]
    fn chunks_are_joined_and_what_follows_is_left() {
        let body = b"5\r\nhello\r\n1;x=y\r\n \r\n00A \r\n0123456789\r\n0\r\nA: b\r\n\r\nHTTP/1.1";
        let expected = (b"hello 0123456789".to_vec(), true, b"HTTP/1.1".to_vec());
        assert_eq!(read(&[body]).unwrap(), expected);
        let single: Vec<&[u8]> = body.chunks(1).collect();
        assert_eq!(read(&single).unwrap(), expected);
    }

    #[test]
    fn a_chunk_that_says_wrong_things_is_an_error() {
        for wrong in
            [&b"\r\n"[..], b"x\r\n", b"5\nhello", b"1\r\nab\r\n", b"-1\r\n", b"10000000000000000\r\n"]
        {
            assert!(read(&[wrong]).is_err(), "{wrong:?}");
        }
        assert!(read(&[&[b'0'; 5000]]).is_err());
        assert!(read(&[b"0\r\n", &[b'a'; 70_000]]).is_err());
    }

    #[test]
    fn the_end_is_seen_with_the_last_bytes() {
        let (mut framing, mut buffer) =
            (Framing::Chunked(Chunk::Size), BytesMut::from("2\r\nab\r\n0\r\n\r\n"));
        assert_eq!(framing.take(&mut buffer).unwrap().unwrap(), "ab");
        assert!(framing.is_over() && buffer.is_empty());
    }

    proptest! {
        #[test]
        fn anything_that_comes_is_read_without_harm(
            pieces in proptest::collection::vec("[0-9a-f;\r\n x]{0,20}", 0..20),
        ) {
            let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            let _ = read(&pieces);
        }
    }
}
