//! One request: which site, assets or worker.

use std::borrow::Cow;
use std::sync::Arc;

use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use skep_assets::{Assets, Decision, image_reply_allowed, pathname};
use skep_fleet::Worker;
use skep_wire::{Body, BoxFuture, empty, full, reply};

use crate::body::EdgeBody;
use crate::cell::{Context, forward};
use crate::chain;
use crate::error_page::ErrorCode;
use crate::guard::{CutOff, EdgeLimits, Guarded, refusal};
use crate::headers::{RAY, Visitor, new_ray};
use crate::meter::{Meter, Outcome, Timing};
use crate::relay::{Whole, relay};
use crate::server::EdgeOptions;
use crate::trace::{RequestSpan, Traced};

/// What serves a host.
#[derive(Clone, Default)]
pub struct Site {
    /// The script, if there is code.
    pub worker: Option<Arc<Worker>>,
    /// The static assets, if there are any.
    pub assets: Option<Arc<Assets>>,
    /// Paths that Skep itself answers.
    pub local: Option<Arc<dyn LocalHandler>>,
    /// Where to count its requests.
    pub meter: Option<Arc<Meter>>,
    /// Whose spans its requests are, if anybody wants them.
    pub traced: Option<Arc<Traced>>,
}

/// A path as it was sent, where a URL's is another: what was signed is that. An extension of the head.
#[derive(Clone, Debug)]
pub struct AskedPath(String);

impl AskedPath {
    /// The path of a request as it was sent.
    pub fn of(head: &Parts) -> &str {
        head.extensions.get::<Self>().map_or(head.uri.path(), |asked| &asked.0)
    }
}

/// Says which site a request is for. Called for every request: it must not block.
pub trait Router: Send + Sync + 'static {
    /// The site, or `None` if nothing is deployed there.
    fn route(&self, head: &Parts) -> Option<Site>;
}

/// Answers paths that belong neither to the worker nor to its assets, such as `/cdn-cgi/handler/scheduled`.
pub trait LocalHandler: Send + Sync + 'static {
    /// Whether the path is its own.
    fn handles(&self, path: &str) -> bool;
    /// Bytes of a body, at most; `None`: as many as scripts get.
    fn max_body(&self) -> Option<u64> {
        None
    }
    /// The answer. What it does not read of the body is thrown away.
    fn handle<'a>(&'a self, head: &'a Parts, body: Body) -> BoxFuture<'a, skep_wire::Response>;
}

/// Answers one request.
pub(crate) async fn handle(
    router: &dyn Router,
    visitor: &Visitor,
    options: &EdgeOptions,
    request: Request<Option<Incoming>>,
) -> Response<EdgeBody> {
    match Begun::new(router, visitor, options, request) {
        Ok(begun) => begun.answer().await,
        Err(response) => *response,
    }
}

/// A request whose site is known.
pub(crate) struct Begun<'a> {
    visitor: &'a Visitor,
    options: &'a EdgeOptions,
    ray: HeaderValue,
    site: Site,
    timing: Timing,
    span: Option<RequestSpan>,
    parts: Parts,
    body: Option<Incoming>,
}

impl<'a> Begun<'a> {
    /// Finds the site; the error is the answer to a request that has none or is refused.
    pub fn new(
        router: &dyn Router,
        visitor: &'a Visitor,
        options: &'a EdgeOptions,
        request: Request<Option<Incoming>>,
    ) -> Result<Self, Box<Response<EdgeBody>>> {
        let ray = new_ray();
        let (mut parts, body) = request.into_parts();
        if let Some(status) = options.limits.refuse(&parts) {
            options.traffic.note_refused();
            return Err(Box::new(named(refusal(status), ray)));
        }
        if let Some(uri) = normal(&parts.uri) {
            let asked = std::mem::replace(&mut parts.uri, uri);
            parts.extensions.insert(AskedPath(asked.path().to_owned()));
        }
        if visitor.scheme == "https" {
            parts.extensions.insert(Scheme::HTTPS);
        }
        let Some(site) = router.route(&parts) else {
            options.traffic.note_unrouted();
            let context = Context::new(visitor, options, &ray, None);
            let response = context.error(ErrorCode::NotFound, &parts.headers, None);
            return Err(Box::new(named(response, ray)));
        };
        let local = site.local.as_ref().filter(|local| local.handles(parts.uri.path()));
        let most = local.and_then(|local| local.max_body()).unwrap_or(options.limits.body);
        if let Some(status) = EdgeLimits::refuse_body(&parts, most) {
            options.traffic.note_refused();
            return Err(Box::new(named(refusal(status), ray)));
        }
        chain::note(&mut parts);
        let timing = Timing::start(site.meter.clone());
        let span = RequestSpan::begin(site.traced.as_ref(), visitor, &ray, &mut parts);
        Ok(Self { visitor, options, ray, site, timing, span, parts, body })
    }

    /// The answer.
    pub async fn answer(self) -> Response<EdgeBody> {
        let who = self.who();
        self.answer_by(who).await
    }

    async fn answer_by(self, who: Who) -> Response<EdgeBody> {
        let Self { visitor, options, ray, site, timing, span, parts, body } = self;
        let context = Context::new(visitor, options, &ray, span.as_ref());
        let response = answer(&site, &context, who, parts, body).await;
        finish(response, options, timing, span, ray)
    }

    /// The answer for a connection of HTTP/1.1: what comes whole, from a cell or the assets, is a text. `last` says whether the
    /// connection ends with it.
    pub async fn answer_plain(self, last: impl Fn() -> bool) -> Handled {
        let site = &self.site;
        match self.who() {
            Who::Decided(Decision::Worker)
                if self.is_plain()
                    && let Some(worker) = &site.worker
                    && let Some(head) = self.visitor.head(&self.parts, &self.ray) =>
            {
                let context = Context::new(self.visitor, self.options, &self.ray, None);
                match relay(&context, worker, &self.parts, &head, last).await {
                    Ok(whole) => {
                        self.timing.finish(Outcome::Success, whole.status);
                        Handled::Whole(whole)
                    }
                    Err(response) => {
                        Handled::Response(finish(*response, self.options, self.timing, self.span, self.ray))
                    }
                }
            }
            Who::Decided(Decision::Asset)
                if self.is_plain()
                    && let Some(assets) = &site.assets
                    && let Some(whole) = Whole::asset(assets, &self.parts, &self.ray, last()) =>
            {
                self.timing.finish(Outcome::Asset, whole.status);
                Handled::Whole(whole)
            }
            who => Handled::Response(Box::pin(self.answer_by(who)).await),
        }
    }

    /// Whether there is nothing about it that has to be written down, or read.
    fn is_plain(&self) -> bool {
        self.span.is_none()
            && self.body.is_none()
            && self.parts.version == Version::HTTP_11
            && !chain::is_sent(&self.parts)
    }

    fn who(&self) -> Who {
        match &self.site.local {
            Some(local) if local.handles(self.parts.uri.path()) => Who::Local(local.clone()),
            _ => {
                let assets = self.site.assets.as_ref();
                Who::Decided(assets.map_or(Decision::Worker, |assets| assets.route(&self.parts)))
            }
        }
    }
}

/// Who answers a request.
enum Who {
    /// Skep itself.
    Local(Arc<dyn LocalHandler>),
    /// The worker or the assets, as far as there are any.
    Decided(Decision),
}

/// What there is for a visitor over HTTP/1.1.
pub(crate) enum Handled {
    /// Something to be sent as it is.
    Whole(Whole),
    Response(Response<EdgeBody>),
}

/// Counts a response, and names it.
fn finish(
    response: Response<EdgeBody>,
    options: &EdgeOptions,
    timing: Timing,
    span: Option<RequestSpan>,
    ray: HeaderValue,
) -> Response<EdgeBody> {
    let what = outcome(&response);
    match response.extensions().get::<CutOff>().is_some_and(CutOff::is_too_large) {
        // As if its length had been announced.
        true => {
            options.traffic.note_refused();
            timing.discard();
        }
        false => timing.finish(what, response.status()),
    }
    if let Some(span) = span {
        span.finish(what, response.status());
    }
    named(response, ray)
}

fn named(mut response: Response<EdgeBody>, ray: HeaderValue) -> Response<EdgeBody> {
    response.headers_mut().insert(RAY, ray);
    response
}

/// What came of a request, from what the visitor gets.
fn outcome(response: &Response<EdgeBody>) -> Outcome {
    match (response.extensions().get::<ErrorCode>(), response.body()) {
        (None, _) if response.extensions().get::<CutOff>().is_some() => Outcome::Disconnected,
        (Some(code), _) => code.outcome(),
        (None, EdgeBody::Own(_)) if response.status() != StatusCode::SWITCHING_PROTOCOLS => Outcome::Asset,
        (None, _) => Outcome::Success,
    }
}

async fn answer(
    site: &Site,
    context: &Context<'_>,
    who: Who,
    parts: Parts,
    body: Option<Incoming>,
) -> Response<EdgeBody> {
    let decision = match who {
        Who::Local(local) => {
            let most = local.max_body().unwrap_or(context.limits.body);
            let body = body.map_or_else(empty, |body| {
                Guarded::new(body, context.limits, most, CutOff::default()).boxed_unsync()
            });
            return local.handle(&parts, body).await.map(EdgeBody::Own);
        }
        Who::Decided(decision) => decision,
    };
    match (decision, &site.worker, &site.assets) {
        (Decision::Answer(response), ..) => response.map(EdgeBody::Own),
        (Decision::Worker, Some(worker), _) => forward(context, worker, parts, body).await,
        (Decision::WorkerImage, Some(worker), _) => {
            let response = forward(context, worker, parts, body).await;
            match image_reply_allowed(response.status(), response.headers()) {
                true => response,
                false => blocked(),
            }
        }
        (_, _, Some(assets)) => assets.serve(&parts).await.map(EdgeBody::Own),
        (_, _, None) => context.error(ErrorCode::NotFound, &parts.headers, None),
    }
}

/// The URL that a worker's `new URL(request.url)` makes of it, so that rules, assets and the worker see one path; `None` if it is the same.
fn normal(uri: &Uri) -> Option<Uri> {
    let path = match pathname(uri.path()) {
        Cow::Owned(path) if uri.path().starts_with('/') && path != uri.path() => path,
        _ => return None,
    };
    let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = format!("{path}{query}").try_into().ok();
    Uri::from_parts(parts).ok()
}

/// Cloudflare's answer to an image optimiser that would fetch something else than an image.
fn blocked() -> Response<EdgeBody> {
    reply(StatusCode::FORBIDDEN, full("Blocked")).map(EdgeBody::Own)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_a_url_parser_makes_of_it() {
        for (raw, expected) in [
            ("/a/b?c=/../d", "/a/b?c=/../d"),
            ("/a/../b/./c?d", "/b/c?d"),
            ("/a/%2e%2E/b", "/b"),
            ("http://host/x/../y?z", "http://host/y?z"),
            ("/../..", "/"),
            ("//a//b", "//a//b"),
            ("*", "*"),
        ] {
            let uri: Uri = raw.parse().unwrap();
            assert_eq!(normal(&uri).unwrap_or(uri).to_string(), expected, "{raw}");
        }
    }
}
