//! A response that is all there, as it is passed on: looked at where it lies, copied once.

use std::mem::MaybeUninit;

use http::{Method, StatusCode};
use httparse::Header;

use crate::head::{date, write_header, write_status};

/// Headers of a response; one with more is read the general way.
const HEADERS: usize = 64;

/// A complete response after which the connection stays open: its length is said, and nothing follows.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    /// The status; none that is interim.
    pub status: StatusCode,
    reason: &'a str,
    headers: &'a [Header<'a>],
    body: &'a [u8],
}

impl Whole<'_> {
    /// Whether there is a header with this name, in whatever case.
    pub fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name))
    }

    /// Writes the response as a visitor gets it: without the headers that `without` names (they come in the case that they have), but with
    /// `more`, which are whole lines, and the time of day. Names are in lower case, as others write them.
    pub fn write(&self, out: &mut Vec<u8>, without: impl Fn(&str) -> bool, more: &[&[u8]]) {
        let lines = self.headers.iter().map(|header| header.name.len() + header.value.len() + 4);
        let more_bytes: usize = more.iter().map(|line| line.len()).sum();
        out.reserve(LINE + self.reason.len() + lines.sum::<usize>() + more_bytes + self.body.len());
        let usual = || self.status.canonical_reason().unwrap_or_default();
        write_status(out, self.status, if self.reason.is_empty() { usual() } else { self.reason }.as_bytes());
        if !self.has("date") {
            write_header(out, b"date", date().as_bytes());
        }
        // RFC 9110 §8.6.
        let is_bare = self.status == StatusCode::NO_CONTENT;
        let unwanted = |name: &str| without(name) || is_bare && name.eq_ignore_ascii_case("content-length");
        for header in self.headers.iter().filter(|header| !unwanted(header.name)) {
            let from = out.len();
            write_header(out, header.name.as_bytes(), header.value);
            if let Some(name) = out.get_mut(from..from + header.name.len()) {
                name.make_ascii_lowercase();
            }
        }
        for line in more {
            out.extend_from_slice(line);
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.body);
    }
}

/// The line with the status, the date, and the empty line.
const LINE: usize = 80;

/// Gives `take` the response to a request by `method`, if `buffer` holds one that is [`Whole`].
pub(crate) fn with_whole<T>(
    buffer: &[u8],
    method: &Method,
    take: &mut impl FnMut(Whole<'_>) -> Option<T>,
) -> Option<T> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        buffer,
        &mut headers,
    );
    let Ok(httparse::Status::Complete(head)) = parsed else { return None };
    let status = StatusCode::from_u16(response.code?).ok()?;
    let body = buffer.get(head..)?;
    let headers: &[Header<'_>] = response.headers;
    let bare = *method == Method::HEAD || matches!(status.as_u16(), 204 | 304);
    let is_clear = response.version == Some(1) && !status.is_informational();
    let length = said(headers)?;
    (is_clear && length.filter(|_| !bare).unwrap_or(0) == body.len() && (bare || length.is_some()))
        .then_some(())?;
    take(Whole { status, reason: response.reason.unwrap_or_default(), headers, body })
}

/// The length that the headers say, if they do; `None` if there is anything about the message that has to be thought about.
#[allow(clippy::option_option, reason = "one is a refusal")]
fn said(headers: &[Header<'_>]) -> Option<Option<usize>> {
    let mut length = None;
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("connection") || is("transfer-encoding") {
            return None;
        }
        if is("content-length") {
            let text = std::str::from_utf8(header.value).ok()?;
            let clear = length.is_none() && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            length = Some(clear.then(|| text.parse().ok()).flatten()?);
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(method: &Method, text: &str) -> Option<String> {
        with_whole(text.as_bytes(), method, &mut |whole| {
            let mut out = Vec::new();
            whole.write(&mut out, |name| name.eq_ignore_ascii_case("x-secret"), &[b"cf-ray: 1\r\n"]);
            let text = String::from_utf8(out).ok()?;
            let (line, rest) = text.split_once("\r\n")?;
            let (date, rest) = rest.split_once("\r\n")?;
            assert!(date.starts_with("date: ") || whole.has("date"));
            Some(format!("{line}\r\n{rest}"))
        })
    }

    #[test]
    fn a_response_that_is_all_there_is_written_as_it_is() {
        let own = "HTTP/1.1 201 Sure\r\nContent-Length: 2\r\nX-Secret: 1\r\nSet-Cookie: a\r\nset-cookie: B\r\n\r\nhi";
        assert_eq!(
            written(&Method::GET, own).unwrap(),
            "HTTP/1.1 201 Sure\r\ncontent-length: 2\r\nset-cookie: a\r\nset-cookie: B\r\ncf-ray: 1\r\n\r\nhi"
        );
        let bare = "HTTP/1.1 304 \r\netag: \"x\"\r\n\r\n";
        assert_eq!(
            written(&Method::GET, bare).unwrap(),
            "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\ncf-ray: 1\r\n\r\n"
        );
        let empty = "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(written(&Method::GET, empty).unwrap(), "HTTP/1.1 204 No Content\r\ncf-ray: 1\r\n\r\n");
        assert!(written(&Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n").is_some());
    }

    #[test]
    fn what_has_to_be_thought_about_is_not_taken() {
        for text in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi!",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
        ] {
            assert_eq!(written(&Method::GET, text), None, "{text}");
        }
        assert_eq!(written(&Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), None);
    }

    proptest::proptest! {
        /// What is taken is what the general way reads: the same status, length and body.
        #[test]
        fn it_is_read_as_the_general_way_reads_it(
            text in "HTTP/1\\.[01] (200|204|304|500|101)( OK)?\r\n((content-length|connection|a): ?[0-9a-z, ]{0,3}\r\n){0,3}\r\n[a-z]{0,4}",
        ) {
            let mut whole = None;
            let taken = with_whole(text.as_bytes(), &Method::GET, &mut |w| {
                whole = Some((w.status, w.body.to_vec()));
                Some(())
            });
            if let (Some(()), Some((status, body))) = (taken, whole) {
                let mut buffer = bytes::BytesMut::from(text.as_str());
                let (response, keeps) = crate::head::read_response(&mut buffer).unwrap().unwrap();
                proptest::prop_assert!(keeps);
                proptest::prop_assert_eq!(response.status(), status);
                let mut framing = crate::framing::Framing::of(&Method::GET, status, response.headers()).unwrap();
                let read = framing.take(&mut buffer).unwrap().unwrap_or_default();
                proptest::prop_assert!(framing.is_over() && buffer.is_empty());
                proptest::prop_assert_eq!(read, body);
            }
        }
    }
}
