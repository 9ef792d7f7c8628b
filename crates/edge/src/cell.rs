//! From a visitor's request to a cell and back.

use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use skep_fleet::{Exceeded, Lease, Unavailable, Worker};
use skep_wire::{Body, ClientBody, SendError, empty};

use crate::body::EdgeBody;
use crate::chain::{self, TooDeep};
use crate::decode::{self, Decoded};
use crate::error_page::{ErrorCode, error_page};
use crate::guard::{CutOff, EdgeLimits, Guarded, refusal};
use crate::headers::{RAY, Visitor, normalise_http2, strip_response};
use crate::sendfile;
use crate::server::EdgeOptions;
use crate::trace::RequestSpan;
use crate::upgrade;

/// What the edge knows of one request beside its head.
pub(crate) struct Context<'a> {
    pub visitor: &'a Visitor,
    pub ray: &'a HeaderValue,
    /// Whether error pages may show the inside.
    pub show_errors: bool,
    pub limits: &'a EdgeLimits,
    /// Its span, if its trace is recorded.
    pub span: Option<&'a RequestSpan>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        visitor: &'a Visitor,
        options: &'a EdgeOptions,
        ray: &'a HeaderValue,
        span: Option<&'a RequestSpan>,
    ) -> Self {
        Self { visitor, ray, show_errors: options.show_errors, limits: &options.limits, span }
    }

    pub(crate) fn error(
        &self,
        code: ErrorCode,
        headers: &HeaderMap,
        detail: Option<&str>,
    ) -> Response<EdgeBody> {
        let ray = self.ray.to_str().unwrap_or_default();
        error_page(code, headers, ray, detail.filter(|_| self.show_errors))
    }
}

/// Passes a request on to `worker` and returns its response.
pub(crate) async fn forward(
    context: &Context<'_>,
    worker: &Worker,
    mut parts: Parts,
    body: Option<Incoming>,
) -> Response<EdgeBody> {
    // What is asked once the request is gone.
    let accept = Accept::of(&parts.headers);
    let following = match chain::following(&parts) {
        Ok(following) => following,
        Err(TooDeep) => return context.error(ErrorCode::LoopLimit, &accept.headers(), Some(IN_CIRCLES)),
    };
    let upgrade = upgrade::take(&mut parts);
    prepare(context, &mut parts, upgrade.is_some());
    parts.headers.extend(following);
    let (body, cut_off) = match body.filter(|body| !http_body::Body::is_end_stream(body)) {
        None => (empty(), None),
        Some(body) => {
            let cut_off = CutOff::default();
            (
                Guarded::new(body, context.limits, context.limits.body, cut_off.clone()).boxed_unsync(),
                Some(cut_off),
            )
        }
    };
    let (mut response, lease) =
        match send(worker, Door::Main, Request::from_parts(parts, body), None, context.span).await {
            Ok(answered) => answered,
            Err(Failure::Lost(_) | Failure::Unanswered)
                if let Some(cut_off) = &cut_off
                    && let Some(status) = cut_off.status() =>
            {
                let mut response = refusal(status);
                response.extensions_mut().insert(cut_off.clone());
                return response;
            }
            Err(failure) => return failed(context, &accept, failure),
        };
    if let Some(visitor) = upgrade.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
        return upgrade::switch(visitor, &mut response, lease, context.visitor.open());
    }
    received(context, &accept, response, lease)
}

/// What a visitor is told of a failure.
pub(crate) fn failed(context: &Context<'_>, accept: &Accept, failure: Failure) -> Response<EdgeBody> {
    let (code, why) = match failure {
        Failure::Lost(_) | Failure::Unavailable(Unavailable::Exceeded) => {
            return context.error(ErrorCode::ResourceLimits, &accept.headers(), Some(LOST));
        }
        Failure::Unanswered => {
            return context.error(ErrorCode::WorkerException, &accept.headers(), Some(SEE_LOG));
        }
        Failure::Unavailable(why @ Unavailable::Crowded) => (ErrorCode::ResourceLimits, why),
        Failure::Unavailable(why) => (ErrorCode::Unavailable, why),
    };
    context.error(code, &accept.headers(), Some(&why.to_string()))
}

/// What a visitor gets of a cell's response that upgrades nothing.
pub(crate) fn received(
    context: &Context<'_>,
    accept: &Accept,
    mut response: Response<ClientBody>,
    lease: Lease,
) -> Response<EdgeBody> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return context.error(ErrorCode::WorkerException, &accept.headers(), Some(NO_UPGRADE));
    }
    if is_uncaught(&response) {
        return context.error(ErrorCode::WorkerException, &accept.headers(), Some(SEE_LOG));
    }
    match sendfile::take(&mut response, &lease) {
        Ok(None) => answer(response, accept, lease),
        Ok(Some(content)) => {
            strip_response(response.headers_mut());
            response.map(|_| EdgeBody::Sent(content, lease))
        }
        Err(sendfile::Gone) => context.error(ErrorCode::WorkerException, &accept.headers(), Some(GONE)),
    }
}

/// Why there is no response.
pub(crate) enum Failure {
    Unavailable(Unavailable),
    /// The cell ended while it worked on the request, perhaps for what it used.
    Lost(Option<Exceeded>),
    /// The cell lives and gave no answer: so the engine does where what the code threw is a lost connection of its own.
    Unanswered,
}

/// As what a cell's code is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// As what was deployed.
    Main,
    /// As the outbound worker of a dispatch namespace.
    Outbound,
}

/// Sends a request to a cell of `worker`, starting one if need be. `cpu` is the time that it may use, if that is less than
/// the script's own limit.
pub(crate) async fn send(
    worker: &Worker,
    door: Door,
    mut request: Request<Body>,
    cpu: Option<Duration>,
    span: Option<&RequestSpan>,
) -> Result<(Response<ClientBody>, Lease), Failure> {
    let mut tries = 0;
    loop {
        let began = span.map(|_| Instant::now());
        let mut lease = worker.acquire().await.map_err(Failure::Unavailable)?;
        if let Some((span, began)) = span.zip(began) {
            span.note_cell(began);
        }
        if let Some(cpu) = cpu {
            lease.cap_cpu(cpu);
        }
        if let Some(ray) = request.headers().get(RAY) {
            lease.name(ray);
        }
        let client = match door {
            Door::Main => lease.generation().http().clone(),
            Door::Outbound => lease.generation().outbound().clone(),
        };
        match client.send(lease.generation().admit(request)).await {
            Ok(response) => return Ok((response, lease)),
            // The process ended before it saw the request: the next one may have it.
            Err(SendError::Connect { unsent, .. }) if tries < MAX_TRIES => {
                tries += 1;
                replaced(worker, lease).await;
                request = *unsent;
            }
            Err(error) => {
                tracing::debug!(%error, "a request was lost");
                return Err(lost(&lease).await);
            }
        }
    }
}

/// Why a connection to a cell broke.
pub(crate) async fn lost(lease: &Lease) -> Failure {
    let exceeded = lease.generation().exceeded();
    match exceeded.is_none() && lease.generation().lives().await {
        true => Failure::Unanswered,
        false => Failure::Lost(exceeded),
    }
}

/// Waits until no more requests are given to a process that is gone, or nearly so.
pub(crate) async fn replaced(worker: &Worker, lease: Lease) {
    let generation = lease.generation().clone();
    drop(lease);
    let _ = tokio::time::timeout(GOING, worker.replaced(&generation)).await;
}

/// How often a request that found no process behind its socket is given to the next one.
pub(crate) const MAX_TRIES: u32 = 2;
/// A process that was ended is known to be gone after so long, also on a machine that has much to do.
const GOING: Duration = Duration::from_secs(2);
const SEE_LOG: &str = "The exception and its stack are in the log.";
const IN_CIRCLES: &str = "Workers have called each other too many times for one request. Behind a worker there is no other server here: \
     its fetch() of an address that leads to it calls it again.";
pub(crate) const LOST: &str = "The cell ended while it worked on this request.";
const GONE: &str = "The object that the worker answered with is not there any more.";
pub(crate) const NO_UPGRADE: &str =
    "The worker answered with a WebSocket, but the request did not ask for one.";

fn prepare(context: &Context<'_>, parts: &mut Parts, upgrading: bool) {
    if parts.version == http::Version::HTTP_2 {
        let authority = parts.uri.authority().map(|a| a.as_str().to_owned());
        normalise_http2(&mut parts.headers, authority.as_deref());
    }
    context.visitor.prepare(&mut parts.headers, parts.version, context.ray);
    if upgrading {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    } else {
        parts.headers.remove(header::UPGRADE);
    }
    if parts.uri.authority().is_some() {
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.map_or(Uri::from_static("/"), Uri::from);
    }
    parts.version = http::Version::HTTP_11;
    parts.extensions = http::Extensions::new();
}

/// What the client takes: for the form of an error page, and for encodings.
pub(crate) struct Accept([Option<HeaderValue>; 2]);

impl Accept {
    const NAMES: [HeaderName; 2] = [header::ACCEPT, header::ACCEPT_ENCODING];

    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self(Self::NAMES.map(|name| headers.get(name).cloned()))
    }

    fn headers(&self) -> HeaderMap {
        let both = Self::NAMES.into_iter().zip(&self.0);
        both.filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}

/// The cell's response as the visitor gets it.
fn answer(response: Response<ClientBody>, accept: &Accept, lease: Lease) -> Response<EdgeBody> {
    let (mut head, body) = response.into_parts();
    strip_response(&mut head.headers);
    let is_encoded = head.headers.contains_key(header::CONTENT_ENCODING);
    let body = match is_encoded.then(|| decode::needed(&accept.headers(), &head.headers)).flatten() {
        // A part of an encoded body cannot be decoded.
        Some(coding)
            if head.status != StatusCode::PARTIAL_CONTENT && !http_body::Body::is_end_stream(&body) =>
        {
            decode::rewrite(&mut head.headers);
            EdgeBody::Decoded(
                Box::new(Decoded::new(coding, body, skep_runtime::who(lease.generation()))),
                lease,
            )
        }
        _ => EdgeBody::Cell(body, lease),
    };
    Response::from_parts(head, body)
}

/// Whether this is the engine's own answer to an exception. An application cannot send it: a text body of its
/// would have a content type, and `Connection` is not its to set.
pub(crate) fn is_uncaught<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    response.status() == StatusCode::INTERNAL_SERVER_ERROR
        && headers.get(header::CONNECTION).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"close"))
        && headers.get(header::CONTENT_LENGTH).is_some_and(|v| v == "21")
        && !headers.contains_key(header::CONTENT_TYPE)
}
