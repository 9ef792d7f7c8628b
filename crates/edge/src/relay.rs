//! Requests without a body and their responses, passed on as texts.
//!
//! Most are like that, and to take them apart into maps of headers and put them together again is more work than all else that the
//! edge does with them. What has to be thought about goes the way of all, through [`forward`](crate::cell::forward).

use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use skep_assets::Assets;
use skep_fleet::{Lease, Worker};
use skep_wire::{ClientBody, RelayError, SENDFILE_HEADER, write_header};

use crate::body::EdgeBody;
use crate::cell::{Accept, Context, Failure, MAX_TRIES, failed, lost, received, replaced};
use crate::headers::{RAY, stays_behind};

/// The line with the request's id.
fn line(ray: &HeaderValue) -> Vec<u8> {
    let mut line = Vec::new();
    write_header(&mut line, RAY.as_str().as_bytes(), ray.as_bytes());
    line
}

/// What the head of a response says of its connection.
fn ending(is_last: bool) -> &'static [u8] {
    if is_last { b"connection: close\r\n" } else { b"" }
}

/// A response as it is sent to a visitor over HTTP/1.1, all of it.
pub(crate) struct Whole {
    pub status: StatusCode,
    pub text: Vec<u8>,
    /// Whether it says that the connection ends.
    pub is_last: bool,
    /// Counts the request in, in a cell, until the response was sent.
    pub _lease: Option<Lease>,
}

impl Whole {
    /// A file of `assets` that lies in memory, if that is what is asked for and nothing else.
    pub fn asset(assets: &Assets, parts: &Parts, ray: &HeaderValue, is_last: bool) -> Option<Self> {
        let (status, text) = assets.text(parts, &[&line(ray), ending(is_last)])?;
        Some(Self { status, text, is_last, _lease: None })
    }
}

/// Passes on a request without a body, of which `head` is what the worker is sent. A response that comes whole, and of which nothing has to
/// be changed but its headers, is copied once; any other one goes the way of all.
pub(crate) async fn relay(
    context: &Context<'_>,
    worker: &Worker,
    parts: &Parts,
    head: &[u8],
    last: impl Fn() -> bool,
) -> Result<Whole, Box<Response<EdgeBody>>> {
    let ray = line(context.ray);
    let take = |whole: skep_wire::Whole<'_>| {
        if whole.has("content-encoding") || whole.has(SENDFILE_HEADER) {
            return None;
        }
        let (mut text, is_last) = (Vec::new(), last());
        whole.write(&mut text, stays_behind, &[&ray, ending(is_last)]);
        Some((whole.status, text, is_last))
    };
    match pass_on(context, worker, parts, head, take).await {
        Ok((Ok((status, text, is_last)), lease)) => Ok(Whole { status, text, is_last, _lease: Some(lease) }),
        Ok((Err(response), lease)) => {
            Err(Box::new(received(context, &Accept::of(&parts.headers), response, lease)))
        }
        Err(failure) => Err(Box::new(failed(context, &Accept::of(&parts.headers), failure))),
    }
}

/// As [`send`](crate::cell::send) does it, for a request of which `head` is all there is.
async fn pass_on<T>(
    context: &Context<'_>,
    worker: &Worker,
    parts: &Parts,
    head: &[u8],
    take: impl Fn(skep_wire::Whole<'_>) -> Option<T>,
) -> Result<(Result<T, Response<ClientBody>>, Lease), Failure> {
    let mut tries = 0;
    loop {
        let mut lease = worker.acquire().await.map_err(Failure::Unavailable)?;
        lease.name(context.ray);
        match lease.generation().http().relay(head, &parts.method, &take).await {
            Ok(response) => return Ok((response, lease)),
            Err(RelayError::Connect(_)) if tries < MAX_TRIES => {
                tries += 1;
                replaced(worker, lease).await;
            }
            Err(error) => {
                tracing::debug!(%error, "a request was lost");
                return Err(lost(&lease).await);
            }
        }
    }
}
