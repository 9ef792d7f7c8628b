//! The binding: `POST /limit`.

use http::{Method, StatusCode};
use serde::Serialize;
use skep_wire::{BoxFuture, ReadError, Request, Response, Service, json, read_all, reason};

use crate::limiter::RateLimiter;
use crate::limits::Limits;
use crate::request;
use crate::window::Decision;

/// The largest call: a key of this many bytes is no key.
const MAX_CALL: usize = 1 << 20;

/// The counters of one namespace under the limits of one binding.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub limiter: RateLimiter,
    pub id: String,
    pub limits: Limits,
}

/// Cloudflare's answer is `success` alone; the rest is ours.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    success: bool,
    limit: u64,
    remaining: u64,
    reset_ms: u64,
    retry_after_ms: Option<u64>,
}

impl From<Decision> for Answer {
    fn from(decision: Decision) -> Self {
        let Decision { success, limit, remaining, reset_ms, retry_after_ms } = decision;
        Self { success, limit, remaining, reset_ms, retry_after_ms }
    }
}

impl Namespace {
    async fn answer(&self, request: Request) -> Response {
        if request.method() != Method::POST || request.uri().path() != "/limit" {
            return reason(StatusCode::NOT_FOUND, "no such operation on a rate limit");
        }
        let body = match read_all(request.into_body(), MAX_CALL).await {
            Ok(body) => body,
            Err(error @ ReadError::TooLarge(_)) => {
                return reason(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string());
            }
            Err(error) => return reason(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        match request::read(&body, &self.limits) {
            Ok(call) => {
                let decision = self.limiter.call(&self.id, &call.key, &call.limits);
                json(StatusCode::OK, &Answer::from(decision))
            }
            Err(text) => reason(StatusCode::BAD_REQUEST, &text),
        }
    }
}

impl Service for Namespace {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(self.answer(request))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;
    use skep_runtime::{Jobs, ManualClock, Shutdown};
    use skep_wire::full;

    use super::*;

    async fn call(service: &Arc<dyn Service>, body: &str) -> (u16, String) {
        let request = http::Request::post("/limit").body(full(body.to_owned())).unwrap();
        let response = service.call(request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn limiter() -> (RateLimiter, ManualClock) {
        let clock = ManualClock::at(1_700_000_000_000);
        let (_, shutdown) = Shutdown::new();
        (RateLimiter::new(clock.clock(), &Jobs::new(clock.clock(), shutdown)), clock)
    }

    #[tokio::test]
    async fn a_call_is_answered_with_what_remains() {
        let (limiter, _clock) = limiter();
        let service = limiter.namespace("1001", Limits::simple(1, 10.0).unwrap().with_bucket(1.0).unwrap());
        assert_eq!(
            call(&service, r#"{"key":"a"}"#).await,
            (200, r#"{"success":true,"limit":1,"remaining":0,"resetMs":11000,"retryAfterMs":11000}"#.into())
        );
        assert!(call(&service, r#"{"key":"a"}"#).await.1.starts_with(r#"{"success":false,"#));
        assert!(call(&service, r#"{"key":"b"}"#).await.1.starts_with(r#"{"success":true,"#));
        assert_eq!(call(&service, r#"{"a":1}"#).await, (400, "bad rate limit options: [a]".to_owned()));
    }

    #[tokio::test]
    async fn bindings_of_one_namespace_share_counters_and_others_do_not() {
        let (limiter, clock) = limiter();
        let limits = Limits::simple(2, 10.0).unwrap();
        let first = limiter.namespace("1001", limits);
        let second = limiter.namespace("1001", Limits::simple(1, 10.0).unwrap());
        let other = limiter.namespace("1002", limits);
        let minute = limiter.namespace("1001", Limits::simple(1, 60.0).unwrap());
        let passes = async |service: &Arc<dyn Service>| call(service, "{}").await.1.contains("true");
        assert!(passes(&first).await);
        assert!(!passes(&second).await);
        assert!(passes(&first).await);
        assert!(!passes(&first).await);
        assert!(passes(&other).await);
        assert!(passes(&minute).await, "another period is another counter");
        clock.advance_ms(10_400);
        assert!(passes(&second).await);
    }
}
