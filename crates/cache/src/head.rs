//! The head of a response, as it comes in a put and as it is stored: the same HTTP/1.1 text. Pure.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Bytes of a head at most; the engine's own limit for the headers of one message.
pub(crate) const MAX_HEAD: usize = 128 * 1024;
/// Fields of a head at most.
const MAX_FIELDS: usize = 512;

/// Fields that describe one connection or one delivery, not the response.
const NOT_STORED: [&str; 12] = [
    "age",
    "cf-cache-status",
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A response without its body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub status: u16,
    pub reason: String,
    pub headers: HeaderMap,
}

/// The text is not the head of an HTTP response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotHttp;

impl Head {
    /// Reads a head that ends with its blank line.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, NotHttp> {
        let mut fields = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut parsed, text, &mut fields) {
            Ok(httparse::Status::Complete(end)) if end == text.len() => {}
            _ => return Err(NotHttp),
        }
        let mut headers = HeaderMap::with_capacity(parsed.headers.len());
        for field in parsed.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| NotHttp)?;
            let value = HeaderValue::from_bytes(field.value).map_err(|_| NotHttp)?;
            headers.try_append(name, value).map_err(|_| NotHttp)?;
        }
        let status = parsed.code.ok_or(NotHttp)?;
        Ok(Self { status, reason: parsed.reason.unwrap_or_default().to_owned(), headers })
    }

    /// The head as it is stored: without what belongs to one connection, and without the fields `stripped`.
    pub(crate) fn to_stored(&self, stripped: &[String]) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {:03} {}\r\n", self.status, self.reason).into_bytes();
        for (name, value) in &self.headers {
            let name = name.as_str();
            if NOT_STORED.contains(&name) || stripped.iter().any(|other| other == name) {
                continue;
            }
            for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                text.extend_from_slice(part);
            }
        }
        text.extend_from_slice(b"\r\n");
        text
    }
}

/// Where the body begins: after the first blank line. `seen` bytes have been searched before.
pub(crate) fn body_start(text: &[u8], seen: usize) -> Option<usize> {
    let from = seen.saturating_sub(3).min(text.len());
    text[from..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| from + at + 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stored_head_reads_as_it_was_less_the_connections_part() {
        let text = "HTTP/1.1 404 Gone fishing\r\nX-A: 1\r\nx-a: é\r\nTransfer-Encoding: chunked\r\n\
                    Set-Cookie: a\r\nCF-Cache-Status: MISS\r\n\r\n";
        let head = Head::parse(text.as_bytes()).unwrap();
        let stored = head.to_stored(&["set-cookie".to_owned()]);
        assert_eq!(
            String::from_utf8(stored.clone()).unwrap(),
            "HTTP/1.1 404 Gone fishing\r\nx-a: 1\r\nx-a: é\r\n\r\n"
        );
        let read = Head::parse(&stored).unwrap();
        assert_eq!((read.status, read.reason.as_str(), read.headers.len()), (404, "Gone fishing", 2));
    }

    #[test]
    fn the_body_starts_after_the_first_blank_line() {
        assert_eq!(body_start(b"a\r\n\r\nb\r\n\r\n", 0), Some(5));
        assert_eq!(body_start(b"a\r\n\r\n", 4), Some(5));
        assert_eq!(body_start(b"a\r\n\r", 0), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200), start in any::<bool>()) {
            let mut all = if start { b"HTTP/1.1 200 OK\r\n".to_vec() } else { Vec::new() };
            all.extend(text);
            if let Ok(head) = Head::parse(&all) {
                prop_assert!(Head::parse(&head.to_stored(&[])).is_ok());
            }
        }
    }
}
