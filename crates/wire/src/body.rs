//! Body types and replies.

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::ext::ReasonPhrase;
use serde::Serialize;

/// Any error, boxed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A message body, read or written frame by frame.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// A request to a binding server.
pub type Request = http::Request<Body>;
/// A binding server's reply.
pub type Response = http::Response<Body>;

/// A body of known content.
pub fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of no content.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that arrives piece by piece; an error cuts the connection, so that the reader notices.
pub fn stream<S, E>(pieces: S) -> Body
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data).map_err(Into::into))).boxed_unsync()
}

/// A reply of `status` with `body`.
pub fn reply(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// A reply whose reason phrase is `text`: the engine shows the phrase, not the body, to the application.
/// Bytes that a reason phrase may not hold (RFC 9112 §4) are replaced by `?`.
pub fn reason(status: StatusCode, text: &str) -> Response {
    let clean: Vec<u8> =
        text.bytes().map(|b| if b == b'\t' || (b >= b' ' && b != 0x7f) { b } else { b'?' }).collect();
    let mut response = reply(status, full(text.to_owned()));
    if let Ok(phrase) = ReasonPhrase::try_from(clean) {
        response.extensions_mut().insert(phrase);
    }
    response
}

/// A JSON reply.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = reply(status, full(bytes));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => reason(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// The raw bytes of a header; the engine sends UTF-8 here, which `HeaderValue::to_str` refuses.
pub fn header_bytes<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get(name).map(HeaderValue::as_bytes)
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// More bytes than the limit; the number is the limit.
    #[error("the body exceeds {0} bytes")]
    TooLarge(usize),
    /// The peer went away or broke the protocol.
    #[error("the body could not be read: {0}")]
    Broken(#[source] BoxError),
}

/// Bytes of a body past its limit that are read and thrown away: an engine that is still sending does not
/// read our answer, and the application would wait for ever. An application cannot send more than its memory.
const DISCARD: usize = 256 << 20;

/// Reads a whole body of at most `limit` bytes. Of a longer one the rest is discarded, in constant memory.
pub async fn read_all<B>(body: B, limit: usize) -> Result<Bytes, ReadError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = std::pin::pin!(body);
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|e| ReadError::Broken(e.into()))?.into_data() else { continue };
        let so_far = first.as_ref().map_or(0, Bytes::len).max(rest.len());
        if so_far + data.len() > limit {
            drop((first, rest));
            let mut discarded = data.len();
            while discarded < DISCARD
                && let Some(Ok(frame)) = body.frame().await
            {
                discarded += frame.data_ref().map_or(0, Bytes::len);
            }
            return Err(ReadError::TooLarge(limit));
        }
        match first.take() {
            None if rest.is_empty() => first = Some(data),
            None => rest.extend_from_slice(&data),
            Some(head) => {
                rest.extend_from_slice(&head);
                rest.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| rest.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reading_stops_at_the_limit() {
        let pieces = || {
            stream(futures_util::stream::iter(
                ["ab", "cd", "e"].map(|p| Ok::<_, std::io::Error>(Bytes::from_static(p.as_bytes()))),
            ))
        };
        assert_eq!(read_all(pieces(), 5).await.unwrap(), "abcde");
        assert!(matches!(read_all(pieces(), 4).await, Err(ReadError::TooLarge(4))));
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_read_to_its_end() {
        let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = sent.clone();
        let pieces = futures_util::stream::iter(0..50).map(move |_| {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok::<_, std::io::Error>(Bytes::from_static(b"abc"))
        });
        assert!(matches!(read_all(stream(pieces), 4).await, Err(ReadError::TooLarge(4))));
        assert_eq!(sent.load(std::sync::atomic::Ordering::SeqCst), 50);
    }

    #[test]
    fn a_reason_phrase_never_breaks_the_status_line() {
        let response = reason(StatusCode::BAD_REQUEST, "no\r\nSet-Cookie: é");
        let phrase = response.extensions().get::<ReasonPhrase>().unwrap();
        assert_eq!(phrase.as_bytes(), "no??Set-Cookie: é".as_bytes());
    }
}
