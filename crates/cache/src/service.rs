//! The Cache API's HTTP protocol: `GET`, `PUT` with a response inside, `PURGE`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::ext::ReasonPhrase;
use skep_runtime::{Room, Taken};
use skep_store::{StoreError, read_pieces};
use skep_wire::{Body, BoxError, BoxFuture, Request, Response, Service};

use crate::freshness::{Verdict, judge};
use crate::head::{Head, MAX_HEAD, body_start};
use crate::key::{BadCf, key_of};
use crate::select::{Selection, select};
use crate::worker::{Content, Hit, INLINE_MAX, Incoming, WorkerCache};

/// `HIT` or `MISS`: by this alone the engine knows a hit.
const STATUS: HeaderName = HeaderName::from_static("cf-cache-status");
/// Bytes of a refused request that are read to the end, so that its sender gets the answer.
const MAX_DRAIN: usize = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error("Method Not Allowed")]
    Method,
    #[error("The cf object is not valid JSON")]
    Cf,
    #[error("The request does not hold an HTTP response")]
    NotHttp,
    /// What Miniflare and Cloudflare say of all that is too large or must not be stored.
    #[error("Cache storage failed")]
    NotStored,
    #[error("The response was not received in full")]
    Interrupted(#[source] Option<BoxError>),
    #[error("{}", .0.outside())]
    Store(#[from] StoreError),
}

impl CacheError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotStored => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Cf | Self::NotHttp | Self::Interrupted(_) => StatusCode::BAD_REQUEST,
            Self::Store(StoreError::DiskFull) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<BadCf> for CacheError {
    fn from(_: BadCf) -> Self {
        Self::Cf
    }
}

impl Service for WorkerCache {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let (head, mut body) = request.into_parts();
            match self.answer(&head, &mut body).await {
                Ok(response) => response,
                Err(error) => refused(error, &mut body).await,
            }
        })
    }
}

/// The answer to a request that came to nothing.
pub(crate) async fn refused(error: CacheError, body: &mut Body) -> Response {
    if let CacheError::Store(inner) = &error
        && !matches!(inner, StoreError::DiskFull)
    {
        tracing::error!(error = %inner, "a cache operation failed");
    }
    drain(body).await;
    skep_wire::reason(error.status(), &error.to_string())
}

impl WorkerCache {
    async fn answer(&self, head: &Parts, body: &mut Body) -> Result<Response, CacheError> {
        match head.method.as_str() {
            "GET" => self.answer_match(head),
            "PUT" => self.answer_put(head, body).await,
            "PURGE" => {
                let found = self.remove(key_of(head)?).await?;
                let status = if found { StatusCode::OK } else { StatusCode::NOT_FOUND };
                Ok(skep_wire::reply(status, skep_wire::empty()))
            }
            _ => Err(CacheError::Method),
        }
    }

    fn answer_match(&self, request: &Parts) -> Result<Response, CacheError> {
        let Some(hit) = self.find(&key_of(request)?)? else { return Ok(miss()) };
        // What is stored was parsed before it was stored; should it be damaged, it is as good as lost.
        let Ok(head) = Head::parse(&hit.head) else { return Ok(miss()) };
        let selection = select(&request.headers, &head, hit.size);
        Ok(respond(head, hit, &selection))
    }

    async fn answer_put(&self, request: &Parts, body: &mut Body) -> Result<Response, CacheError> {
        let key = key_of(request)?;
        let (head, first) = read_head(body).await?;
        match judge(&request.headers, &head, self.now_ms() / 1000) {
            Verdict::Refuse => Err(CacheError::NotStored),
            Verdict::Stale => {
                // As if it had been stored and had gone stale: what was there before is replaced.
                drain(body).await;
                self.remove(key).await?;
                Ok(no_content())
            }
            Verdict::Keep { fresh_for, age, stripped } => {
                let max = self.limits().object.min(self.limits().total);
                let mut sink = self.sink();
                sink.push(first).await?;
                let mut room = Incomplete::default();
                while let Some(frame) = body.frame().await {
                    let frame = frame.map_err(|error| CacheError::Interrupted(Some(error)))?;
                    if sink.len() > max {
                        return Err(CacheError::NotStored);
                    }
                    if let Ok(data) = frame.into_data() {
                        sink.push(data).await?;
                    }
                    room.hold(self.incoming(), self.share().incoming(), sink.len())?;
                }
                if sink.len() > max {
                    return Err(CacheError::NotStored);
                }
                if announced(&head).is_some_and(|len| len != sink.len()) {
                    return Err(CacheError::Interrupted(None));
                }
                let head = head.to_stored(&stripped);
                self.store(Incoming { key, head, age, fresh_for, body: sink }).await?;
                Ok(no_content())
            }
        }
    }
}

/// The room that a body takes on the disk until it is complete, in pieces. Small ones take none.
#[derive(Debug, Default)]
struct Incomplete(Vec<[Taken; 2]>);

impl Incomplete {
    const PIECE: usize = 1 << 20;

    fn hold(&mut self, own: &Arc<Room>, all: &Arc<Room>, bytes: u64) -> Result<(), CacheError> {
        let take = |room: &Arc<Room>| room.take(Self::PIECE).ok_or(CacheError::NotStored);
        while self.0.len() as u64 * Self::PIECE as u64 + (INLINE_MAX as u64) < bytes {
            self.0.push([take(own)?, take(all)?]);
        }
        Ok(())
    }
}

/// Reads the head of the response inside `body`, and what of its payload came along.
async fn read_head(body: &mut Body) -> Result<(Head, Bytes), CacheError> {
    let mut text = BytesMut::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| CacheError::Interrupted(Some(error)))?.into_data() else {
            continue;
        };
        text.extend_from_slice(&data);
        match body_start(&text, seen) {
            Some(start) if start > MAX_HEAD => return Err(CacheError::NotStored),
            Some(start) => {
                let payload = text.split_off(start).freeze();
                return Ok((Head::parse(&text).map_err(|_| CacheError::NotHttp)?, payload));
            }
            None if text.len() > MAX_HEAD => return Err(CacheError::NotStored),
            None => seen = text.len(),
        }
    }
    Err(CacheError::NotHttp)
}

/// The payload's length as the head has it. `Transfer-Encoding: chunked` says nothing: the payload is never chunked.
fn announced(head: &Head) -> Option<u64> {
    head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

fn respond(head: Head, hit: Hit, selection: &Selection) -> Response {
    let (status, body) = match *selection {
        Selection::NotModified => (StatusCode::NOT_MODIFIED, None),
        Selection::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, None),
        Selection::Part { start, len } => (StatusCode::PARTIAL_CONTENT, Some((start, len))),
        Selection::Whole => {
            (StatusCode::from_u16(head.status).unwrap_or(StatusCode::OK), Some((0, hit.size)))
        }
    };
    let mut response = match (body, hit.content) {
        (Some((start, len)), Content::Inline(all)) => {
            let end = (start + len).min(all.len() as u64);
            skep_wire::reply(status, skep_wire::full(all.slice(start.min(end) as usize..end as usize)))
        }
        (Some((start, len)), Content::File(file)) => {
            skep_wire::reply(status, skep_wire::stream(read_pieces(file, start, len)))
        }
        (None, _) => skep_wire::reply(status, skep_wire::empty()),
    };
    if *selection == Selection::Whole
        && status.canonical_reason() != Some(&head.reason)
        && let Ok(phrase) = ReasonPhrase::try_from(head.reason.into_bytes())
    {
        response.extensions_mut().insert(phrase);
    }
    let headers = response.headers_mut();
    if *selection != Selection::Unsatisfiable {
        *headers = head.headers;
        headers.insert(header::AGE, hit.age.into());
    }
    headers.insert(STATUS, HeaderValue::from_static("HIT"));
    if let Some((_, len)) = body
        && has_body(status)
    {
        headers.insert(header::CONTENT_LENGTH, len.into());
    }
    let range = match *selection {
        Selection::Part { start, len } => format!("bytes {start}-{}/{}", start + len - 1, hit.size),
        Selection::Unsatisfiable => format!("bytes */{}", hit.size),
        _ => return response,
    };
    if let Ok(range) = HeaderValue::from_str(&range) {
        headers.insert(header::CONTENT_RANGE, range);
    }
    response
}

/// 204 and 304 have none, not even one of no bytes.
fn has_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn miss() -> Response {
    let mut response = skep_wire::reply(StatusCode::GATEWAY_TIMEOUT, skep_wire::empty());
    response.headers_mut().insert(STATUS, HeaderValue::from_static("MISS"));
    response
}

fn no_content() -> Response {
    skep_wire::reply(StatusCode::NO_CONTENT, skep_wire::empty())
}

async fn drain(body: &mut Body) {
    let mut left = MAX_DRAIN;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        left = rest;
    }
}
