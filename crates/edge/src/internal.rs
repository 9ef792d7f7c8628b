//! A request from one worker to another: no visitor, no page for an error.

use std::time::Duration;

use http::{StatusCode, header};
use http_body_util::BodyExt;
use skep_assets::Decision;
use skep_fleet::{Exceeded, Unavailable, Worker};
use skep_wire::{Request, Response};

use crate::body::EdgeBody;
use crate::cell::{Door, Failure, LOST, NO_UPGRADE, is_uncaught, send};
use crate::handler::Site;
use crate::headers::{RAY, new_ray, strip_response};
use crate::meter::{Outcome, Timing};
use crate::sendfile;
use crate::upgrade;

/// Why a call got no response.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Neither code nor an asset is there.
    #[error("nothing is deployed there")]
    NotThere,
    /// An exception left the code.
    #[error("internal error")]
    Uncaught,
    /// The cell ended while it worked on the request.
    #[error("{LOST}")]
    Lost,
    /// The cell was ended for what it used.
    #[error("{}", .0.message())]
    Exceeded(Exceeded),
    /// The code does not start, or not in time.
    #[error("{0}")]
    Unavailable(String),
    /// It answered with a WebSocket that nobody had asked for.
    #[error("{NO_UPGRADE}")]
    NotAsked,
}

impl CallError {
    /// What has come of the call, and the status that a visitor would get.
    fn outcome(&self) -> (Outcome, StatusCode) {
        match self {
            Self::Uncaught | Self::NotAsked => (Outcome::Exception, StatusCode::INTERNAL_SERVER_ERROR),
            Self::Lost | Self::Exceeded(_) => (Outcome::Resources, StatusCode::SERVICE_UNAVAILABLE),
            Self::NotThere | Self::Unavailable(_) => (Outcome::Internal, StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

/// The CPU time that a call may use, where that is less than the script's own limit: among the extensions of its request.
#[derive(Clone, Copy, Debug)]
pub struct CpuCap(pub Duration);

/// Passes a call on to a site: to its assets or to its code, as a visitor's request would go. Headers are those that
/// the code is to see.
pub async fn call(site: &Site, request: Request) -> Result<Response, CallError> {
    let timing = Timing::start(site.meter.clone());
    let answered = pass(site, request).await;
    let (outcome, status) = match &answered {
        Ok((response, outcome)) => (*outcome, response.status()),
        Err(error) => error.outcome(),
    };
    timing.finish(outcome, status);
    answered.map(|(response, _)| response)
}

async fn pass(site: &Site, request: Request) -> Result<(Response, Outcome), CallError> {
    let (parts, body) = request.into_parts();
    let Some(assets) = &site.assets else {
        let worker = site.worker.as_ref().ok_or(CallError::NotThere)?;
        let response = call_worker(worker, Door::Main, Request::from_parts(parts, body)).await?;
        return Ok((response, Outcome::Success));
    };
    match (assets.route(&parts), &site.worker) {
        (Decision::Answer(response), _) => Ok((*response, Outcome::Asset)),
        (Decision::Worker | Decision::WorkerImage, Some(worker)) => {
            let response = call_worker(worker, Door::Main, Request::from_parts(parts, body)).await?;
            Ok((response, Outcome::Success))
        }
        (Decision::Asset, _) | (_, None) => Ok((assets.serve(&parts).await, Outcome::Asset)),
    }
}

/// Passes a call on to code.
pub async fn call_worker(worker: &Worker, door: Door, request: Request) -> Result<Response, CallError> {
    let (mut parts, body) = request.into_parts();
    let upgrade = upgrade::take(&mut parts);
    if upgrade.is_none() {
        parts.headers.remove(header::UPGRADE);
        parts.headers.remove(header::CONNECTION);
    }
    // The code is told by it when its response has ended.
    parts.headers.entry(RAY).or_insert_with(new_ray);
    let cpu = parts.extensions.remove::<CpuCap>().map(|CpuCap(cpu)| cpu);
    parts.extensions = http::Extensions::new();
    let (mut response, lease) = match send(worker, door, Request::from_parts(parts, body), cpu, None).await {
        Ok(answered) => answered,
        Err(Failure::Unavailable(Unavailable::Exceeded)) => return Err(CallError::Lost),
        Err(Failure::Unavailable(why)) => return Err(CallError::Unavailable(why.to_string())),
        Err(Failure::Unanswered) => return Err(CallError::Uncaught),
        Err(Failure::Lost(None)) => return Err(CallError::Lost),
        Err(Failure::Lost(Some(exceeded))) => return Err(CallError::Exceeded(exceeded)),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let caller = upgrade.ok_or(CallError::NotAsked)?;
        return Ok(upgrade::switch(caller, &mut response, lease, None).map(BodyExt::boxed_unsync));
    }
    if is_uncaught(&response) {
        return Err(CallError::Uncaught);
    }
    strip_response(response.headers_mut());
    let content = sendfile::take(&mut response, &lease).map_err(|sendfile::Gone| CallError::Uncaught)?;
    Ok(response.map(|body| {
        let body = match content {
            None => EdgeBody::Cell(body, lease),
            Some(content) => EdgeBody::Sent(content, lease),
        };
        body.boxed_unsync()
    }))
}
