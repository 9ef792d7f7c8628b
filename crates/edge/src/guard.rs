//! What a visitor may ask for, and how slowly.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use skep_wire::{BoxError, Held, Patience, Rate, full, reply};

use crate::activity::Active;
use crate::body::EdgeBody;

/// Limits of requests. Where Cloudflare has one, it is the default.
/// <https://developers.cloudflare.com/workers/platform/limits/#request-and-response-limits>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeLimits {
    /// Bytes of a URL's path and query.
    pub url: usize,
    /// Bytes of all headers of a request.
    pub headers: usize,
    /// Headers of a request.
    pub header_count: usize,
    /// Bytes of a request's body.
    pub body: u64,
    /// How long the head of a request may take.
    pub head_time: Duration,
    /// How long a visitor may send nothing of a body that is waited for.
    pub body_time: Duration,
    /// How long a connection without a request is kept.
    pub idle_time: Duration,
    /// Connections at once.
    pub connections: u64,
    /// Connections at once from one address; 0: any number.
    pub connections_per_address: u64,
    /// Requests at once on an HTTP/2 connection.
    pub streams: u32,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            url: 16 << 10,
            headers: 128 << 10,
            header_count: 100,
            body: 100_000_000,
            head_time: Duration::from_secs(30),
            body_time: Duration::from_secs(100),
            idle_time: Duration::from_secs(400),
            connections: 10_000,
            connections_per_address: 1000,
            streams: 100,
        }
    }
}

/// Bytes that a visitor sends in a second, at least, once he was waited for three times as long as he may send nothing: a sixteenth of what a line of
/// 64 kbit/s takes.
const LEAST: u32 = 500;

impl EdgeLimits {
    /// How slowly a visitor may send a body.
    fn rate(&self) -> Rate {
        Rate { grace: self.body_time.saturating_mul(3), least: LEAST }
    }

    /// The status for a request that is refused for what its head says.
    pub(crate) fn refuse(&self, head: &Parts) -> Option<StatusCode> {
        let url = head.uri.path_and_query().map_or(0, |text| text.as_str().len());
        if url > self.url {
            return Some(StatusCode::URI_TOO_LONG);
        }
        let bytes = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
        if head.headers.len() > self.header_count || bytes.sum::<usize>() > self.headers {
            return Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        // Which of them it is for, two readers may see differently (RFC 9112 §3.2).
        if head.headers.get_all(header::HOST).iter().nth(1).is_some() {
            return Some(StatusCode::BAD_REQUEST);
        }
        None
    }

    /// The status for a request that says that its body is larger than `most`.
    pub(crate) fn refuse_body(head: &Parts, most: u64) -> Option<StatusCode> {
        (announced(&head.headers) > most).then_some(StatusCode::PAYLOAD_TOO_LARGE)
    }
}

fn announced(headers: &HeaderMap) -> u64 {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    length.unwrap_or(0)
}

/// The answer to a request that is refused for its size or its slowness.
pub(crate) fn refusal(status: StatusCode) -> Response<EdgeBody> {
    let text = format!("{} {}\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    reply(status, full(text)).map(EdgeBody::Own)
}

/// Why a body was cut off, for whoever has its [`Guarded`] no more.
#[derive(Clone, Debug, Default)]
pub(crate) struct CutOff(Arc<AtomicU8>);

const TOO_LARGE: u8 = 1;
const TOO_SLOW: u8 = 2;

impl CutOff {
    /// Whether it was cut off for its size.
    pub fn is_too_large(&self) -> bool {
        self.status() == Some(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// The status to answer with, if it was.
    pub fn status(&self) -> Option<StatusCode> {
        match self.0.load(Ordering::Relaxed) {
            TOO_LARGE => Some(StatusCode::PAYLOAD_TOO_LARGE),
            TOO_SLOW => Some(StatusCode::REQUEST_TIMEOUT),
            _ => None,
        }
    }
}

/// A visitor's body, cut off where it is too large or too slow.
pub(crate) struct Guarded {
    body: Incoming,
    left: u64,
    /// With the visitor.
    patience: Patience,
    cut_off: CutOff,
}

impl Guarded {
    /// `most` bytes of it are let through.
    pub fn new(body: Incoming, limits: &EdgeLimits, most: u64, cut_off: CutOff) -> Self {
        Self { body, left: most, patience: Patience::new(limits.body_time, limits.rate()), cut_off }
    }

    fn cut(&self, why: u8, text: &'static str) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.cut_off.0.store(why, Ordering::Relaxed);
        Poll::Ready(Some(Err(text.into())))
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(next) = Pin::new(&mut this.body).poll_frame(cx) {
            let size = match &next {
                Some(Ok(frame)) => frame.data_ref().map_or(0, Buf::remaining),
                _ => 0,
            };
            this.patience.renew(size);
            return match this.left.checked_sub(size as u64) {
                Some(left) => {
                    this.left = left;
                    Poll::Ready(next.map(|frame| frame.map_err(Into::into)))
                }
                None => this.cut(TOO_LARGE, "the request's body is too large"),
            };
        }
        ready!(this.patience.poll_over(cx));
        this.cut(TOO_SLOW, "the request's body is too slow")
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body; while it is sent, the connection is in use.
pub(crate) type Answer = Held<EdgeBody, Active>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_refused_by_what_is_too_large_in_them() {
        let limits = EdgeLimits { url: 10, headers: 40, header_count: 2, body: 5, ..EdgeLimits::default() };
        let refused = |uri: &str, headers: &[(&str, &str)]| {
            let mut request = http::Request::get(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let head = request.body(()).unwrap().into_parts().0;
            let status = limits.refuse(&head).or_else(|| EdgeLimits::refuse_body(&head, limits.body));
            status.map(|status| status.as_u16())
        };
        assert_eq!(refused("/234567890", &[("a", "b"), ("c", "d")]), None);
        assert_eq!(refused("/2345678901", &[]), Some(414));
        assert_eq!(refused("http://a.long.host/2345678", &[]), None);
        assert_eq!(refused("/", &[("a", "b"), ("a", "b"), ("a", "b")]), Some(431));
        assert_eq!(refused("/", &[("a", &"x".repeat(36))]), Some(431));
        assert_eq!(refused("/", &[("host", "a"), ("host", "b")]), Some(400));
        assert_eq!(refused("/", &[("content-length", "5")]), None);
        assert_eq!(refused("/", &[("content-length", "6")]), Some(413));
    }
}
