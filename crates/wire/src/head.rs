//! Heads of requests and responses (RFC 9112 §2 to §5), as they are read and written.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, Version, header};
use hyper::ext::ReasonPhrase;

/// Bytes of a response's head.
const MAX_RESPONSE: usize = 512 << 10;
/// Headers of a response: most have fewer than the first number.
const RESPONSE_HEADERS: [usize; 2] = [64, 2048];
/// Headers of a request; as many as hyper reads.
const REQUEST_HEADERS: usize = 100;

/// An error of whoever sent this.
pub(crate) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Where something is in a head: from, length.
type Place = (usize, usize);

/// Where the headers are in a head.
fn places(start: &[u8], headers: &[httparse::Header<'_>]) -> Vec<[Place; 2]> {
    headers.iter().map(|h| [place(start, h.name.as_bytes()), place(start, h.value)]).collect()
}

fn place(start: &[u8], bytes: &[u8]) -> Place {
    (bytes.as_ptr().addr() - start.as_ptr().addr(), bytes.len())
}

fn part(head: &Bytes, (from, length): Place) -> Bytes {
    head.slice(from..from + length)
}

/// Takes `length` bytes off `buffer`, whose memory stays for what follows.
fn take(buffer: &mut BytesMut, length: usize) -> Bytes {
    let head = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
    take_off(buffer, length);
    head
}

fn header_map(head: &Bytes, places: &[[Place; 2]]) -> io::Result<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(places.len());
    for [name, value] in places {
        let name = head.get(name.0..name.0 + name.1).unwrap_or_default();
        let name = HeaderName::from_bytes(name).map_err(invalid)?;
        headers.append(name, HeaderValue::from_maybe_shared(part(head, *value)).map_err(invalid)?);
    }
    Ok(headers)
}

/// Whether a message of HTTP/1.1 leaves the connection open (RFC 9112 §9.3).
pub(crate) fn keeps_open(headers: &HeaderMap) -> bool {
    let mut said = headers.get_all(header::CONNECTION).iter();
    !said.any(|said| said.to_str().unwrap_or("close").to_ascii_lowercase().contains("close"))
}

/// Writes headers, but those of `without`, and the empty line.
pub(crate) fn write_headers(
    out: &mut Vec<u8>,
    headers: &HeaderMap,
    without: impl Fn(&HeaderName, &HeaderValue) -> bool,
) {
    for (name, value) in headers {
        if !without(name, value) {
            write_header(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the line with a response's status.
pub fn write_status(out: &mut Vec<u8>, status: StatusCode, reason: &[u8]) {
    for part in [b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Writes one header.
pub fn write_header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

thread_local! {
    /// The second that [`date`] was asked for last, and its text.
    static DATE: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
}

/// The time of day, as `Date` has it (RFC 9110 §6.6.1).
pub fn date() -> HeaderValue {
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(last, text)| {
        if *last != second
            && let Ok(new) = HeaderValue::try_from(httpdate::fmt_http_date(now))
        {
            (*last, *text) = (second, new);
        }
        text.clone()
    })
}

/// Takes a response's head off `buffer` once all of it is there, and whether the connection stays open.
pub(crate) fn read_response(buffer: &mut BytesMut) -> io::Result<Option<(Response<()>, bool)>> {
    let mut few = [const { MaybeUninit::uninit() }; RESPONSE_HEADERS[0]];
    let parsed = match parse_response(buffer, &mut few) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![MaybeUninit::uninit(); RESPONSE_HEADERS[1]];
            parse_response(buffer, &mut many)
        }
        done => done,
    };
    match parsed.map_err(invalid)? {
        None if buffer.len() > MAX_RESPONSE => Err(invalid("the response's head is too long")),
        None => Ok(None),
        Some(parsed) => parsed.take(buffer).map(Some),
    }
}

struct ParsedResponse {
    length: usize,
    is_1_1: bool,
    status: u16,
    reason: Option<Vec<u8>>,
    headers: Vec<[Place; 2]>,
}

fn parse_response<'a>(
    buffer: &'a [u8],
    headers: &'a mut [MaybeUninit<httparse::Header<'a>>],
) -> Result<Option<ParsedResponse>, httparse::Error> {
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let httparse::Status::Complete(length) =
        config.parse_response_with_uninit_headers(&mut response, buffer, headers)?
    else {
        return Ok(None);
    };
    let status = response.code.unwrap_or_default();
    let usual = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let reason = response.reason.filter(|reason| Some(*reason) != usual && !reason.is_empty());
    Ok(Some(ParsedResponse {
        length,
        is_1_1: response.version == Some(1),
        status,
        reason: reason.map(|reason| reason.as_bytes().to_vec()),
        headers: places(buffer, response.headers),
    }))
}

impl ParsedResponse {
    fn take(self, buffer: &mut BytesMut) -> io::Result<(Response<()>, bool)> {
        let head = take(buffer, self.length);
        let headers = header_map(&head, &self.headers)?;
        let keeps = self.is_1_1 && keeps_open(&headers);
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(self.status).map_err(invalid)?;
        *response.version_mut() = if self.is_1_1 { Version::HTTP_11 } else { Version::HTTP_10 };
        *response.headers_mut() = headers;
        if let Some(reason) = self.reason.and_then(|reason| ReasonPhrase::try_from(reason).ok()) {
            response.extensions_mut().insert(reason);
        }
        Ok((response, keeps))
    }
}

/// What is at the beginning of what came.
#[derive(Debug)]
pub(crate) enum Begun {
    /// Not all of a head yet.
    Partly,
    /// Something that this module leaves to a general server; nothing was taken off.
    Other,
    /// A request, whose head was taken off, and the bytes of its body that follow.
    Request(Box<http::Request<()>>, usize),
}

/// Takes a request's head off `buffer` if it is a plain one: HTTP/1.1, with a body of at most `max_body` bytes whose length
/// is said, that does not ask to become something else. What is not, or is wrong in any way, is [`Begun::Other`], so that only one
/// server has to know how that is answered.
pub(crate) fn read_request(buffer: &mut BytesMut, max_body: usize) -> Begun {
    let mut headers = [const { MaybeUninit::uninit() }; REQUEST_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let (length, method, target, headers) = match request.parse_with_uninit_headers(buffer, &mut headers) {
        Ok(httparse::Status::Partial) => return Begun::Partly,
        Ok(httparse::Status::Complete(length)) if request.version == Some(1) => {
            let (Some(method), Some(target)) = (request.method, request.path) else { return Begun::Other };
            let Ok(method) = method.parse::<Method>() else { return Begun::Other };
            let target = place(buffer, target.as_bytes());
            (length, method, target, places(buffer, request.headers))
        }
        _ => return Begun::Other,
    };
    // Looked at before anything is taken off.
    let Some(body) = plain_body(&method, buffer, &headers).filter(|body| *body <= max_body) else {
        return Begun::Other;
    };
    let head = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
    let Ok(uri) = Uri::from_maybe_shared(part(&head, target)) else { return Begun::Other };
    let Ok(headers) = header_map(&head, &headers) else { return Begun::Other };
    take_off(buffer, length);
    let mut request = http::Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Begun::Request(Box::new(request), body)
}

fn take_off(buffer: &mut BytesMut, length: usize) {
    buffer.advance(length);
    if buffer.is_empty() {
        // Its memory serves what comes next.
        buffer.clear();
    }
}

/// The bytes of the body of a plain request.
fn plain_body(method: &Method, head: &[u8], headers: &[[Place; 2]]) -> Option<usize> {
    if method == Method::CONNECT {
        return None;
    }
    let text = |(from, length): Place| head.get(from..from + length).unwrap_or_default();
    let mut body = None;
    for [name, value] in headers {
        let name = text(*name);
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("transfer-encoding") || is("upgrade") || is("expect") {
            return None;
        }
        if is("content-length") {
            let digits = std::str::from_utf8(text(*value)).ok()?;
            let plain = body.is_none() && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            body = Some(plain.then(|| digits.parse().ok()).flatten()?);
        }
    }
    Some(body.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Begun {
        read_request(&mut text.into(), 10)
    }

    #[test]
    fn a_plain_request_is_taken_off() {
        let mut buffer =
            BytesMut::from("PUT /a?b HTTP/1.1\r\nHost: h\r\nX: ä\r\nContent-Length: 3\r\n\r\nabcGET");
        let Begun::Request(request, 3) = read_request(&mut buffer, 10) else { panic!("no request") };
        assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::PUT, "/a?b"));
        assert_eq!(request.headers()["x"].as_bytes(), "ä".as_bytes());
        assert_eq!(&buffer[..], b"abcGET");
    }

    #[test]
    fn what_is_not_plain_is_left_as_it_is() {
        for head in [
            "CONNECT h:1 HTTP/1.1\r\n",
            "GET / HTTP/1.0\r\n",
            "PRI * HTTP/2.0\r\n",
            "GET / HTTP/1.1\r\nUpgrade: websocket\r\n",
            "PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 11\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: +1\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 1, 1\r\n",
            "PUT / HTTP/1.1\r\nContent-Length:\r\n",
            "GET / HTTP/1.1\r\nX : y\r\n",
            "GET / HTTP/1.1\r\nX: y\r\n folded\r\n",
            "GET http://[ HTTP/1.1\r\n",
            "nonsense\r\n",
        ] {
            let text = format!("{head}\r\n");
            let mut buffer = BytesMut::from(text.as_str());
            assert!(matches!(read_request(&mut buffer, 10), Begun::Other), "{head}");
            assert_eq!(&buffer[..], text.as_bytes());
        }
        let many: String = (0..101).map(|n| format!("a{n}: b\r\n")).collect();
        assert!(matches!(read(&format!("GET / HTTP/1.1\r\n{many}\r\n")), Begun::Other));
        assert!(matches!(read("GET / HTTP/1.1\r\nHost: h\r\n"), Begun::Partly));
        assert!(matches!(read(""), Begun::Partly));
    }

    #[test]
    fn a_connection_is_closed_when_one_side_says_so() {
        let keeps = |said: &[&str]| {
            let said = said.iter().map(|said| (header::CONNECTION, HeaderValue::from_str(said).unwrap()));
            keeps_open(&said.collect())
        };
        assert!(keeps(&[]) && keeps(&["keep-alive"]) && keeps(&["x", "y"]));
        assert!(!keeps(&["close"]) && !keeps(&["x, Close"]) && !keeps(&["x", "close"]));
    }

    proptest! {
        /// What is read is what hyper would read: the same parser, and framing that cannot be taken in two ways.
        #[test]
        fn anything_that_comes_is_read_without_harm(
            text in "(GET|PUT|X) /[a-z?]{0,5} HTTP/1\\.[01]\r\n((host|content-length|a): [0-9a-z, ]{0,4}\r\n){0,4}(\r\n)?[a-z\r\n]{0,10}",
        ) {
            let mut buffer = BytesMut::from(text.as_str());
            if let Begun::Request(request, body) = read_request(&mut buffer, 1000) {
                let said = request.headers().get_all(header::CONTENT_LENGTH).iter().count();
                prop_assert!(said <= 1);
                prop_assert_eq!(said == 0 && body > 0, false);
                prop_assert!(text.ends_with(std::str::from_utf8(&buffer).unwrap()));
            } else {
                prop_assert_eq!(&buffer[..], text.as_bytes());
            }
        }
    }
}
