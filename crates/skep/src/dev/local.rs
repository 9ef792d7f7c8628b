//! Paths that `skep dev` answers itself: events by hand, as wrangler offers them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use skep_edge::LocalHandler;
use skep_fleet::Worker;
use skep_r2::MAX_PUT_BYTES;
use skep_wire::{Body, BoxFuture, ReadError, Response, full, read_all, reply};

use super::origin;
use super::s3::{self, S3};
use crate::events::run_scheduled;
use crate::mail::{Inbox, MAX_MESSAGE, Wrong};

/// The paths under which wrangler and Miniflare run the `scheduled` handler.
const SCHEDULED: [&str; 2] = ["/cdn-cgi/handler/scheduled", "/cdn-cgi/local/scheduled"];
/// The paths under which they run the `email` handler.
const EMAIL: [&str; 2] = ["/cdn-cgi/handler/email", "/cdn-cgi/local/email"];
/// The path that wrangler has with `--test-scheduled`.
const TEST_SCHEDULED: &str = "/__scheduled";

/// All of them.
pub struct Local {
    /// Events of the worker, if there is one.
    pub events: Option<Events>,
    /// The S3 API of buckets, if any has one.
    pub s3: Option<S3>,
}

/// The handler of the paths for events of one worker.
pub struct Events {
    /// The worker whose handlers are run.
    pub worker: Arc<Worker>,
    /// Its name.
    pub script: String,
    /// Takes mail for it.
    pub inbox: Arc<Inbox>,
    /// Whether `/__scheduled` is one of the paths.
    pub test_scheduled: bool,
}

impl LocalHandler for Local {
    fn handles(&self, path: &str) -> bool {
        let events = self.events.as_ref().is_some_and(|events| events.handles(path));
        events || self.s3.is_some() && s3::is_below(path)
    }

    fn max_body(&self) -> Option<u64> {
        // What comes with an event has a bound of its own.
        self.s3.is_some().then_some(MAX_PUT_BYTES)
    }

    fn handle<'a>(&'a self, head: &'a Parts, body: Body) -> BoxFuture<'a, Response> {
        match (&self.s3, &self.events) {
            (Some(s3), _) if s3::is_below(head.uri.path()) => s3.answer(head, body),
            (_, Some(events)) => Box::pin(events.answer(head, body)),
            _ => Box::pin(async { plain_text(StatusCode::NOT_FOUND, String::new()) }),
        }
    }
}

impl Events {
    fn handles(&self, path: &str) -> bool {
        SCHEDULED.contains(&path) || EMAIL.contains(&path) || (self.test_scheduled && path == TEST_SCHEDULED)
    }

    async fn answer(&self, head: &Parts, body: Body) -> Response {
        let path = head.uri.path();
        match origin::check(head) {
            // Wrangler leaves the older path out, too.
            Err(text) if path != TEST_SCHEDULED => plain_text(StatusCode::FORBIDDEN, text.to_owned()),
            _ if EMAIL.contains(&path) => self.email(head, body).await,
            _ => self.scheduled(head).await,
        }
    }
}

/// A parameter of the query.
fn parameter(head: &Parts, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

impl Events {
    /// The texts are wrangler's.
    async fn email(&self, head: &Parts, body: Body) -> Response {
        let given = |name: &str| parameter(head, name).filter(|value| !value.is_empty());
        let raw = match read_all(body, MAX_MESSAGE).await {
            Ok(raw) => raw,
            Err(ReadError::TooLarge(_)) => {
                let text = "Email message size is bigger than the production size limit of 25 MiB.";
                return plain_text(StatusCode::BAD_REQUEST, text.to_owned());
            }
            Err(error) => return plain_text(StatusCode::BAD_REQUEST, error.to_string()),
        };
        let (Some(from), Some(to), false) = (given("from"), given("to"), raw.is_empty()) else {
            let text = "Invalid email. Your request must include URL parameters specifying the `from` and `to` addresses, as well as an \
                        email in the body";
            return plain_text(StatusCode::BAD_REQUEST, text.to_owned());
        };
        let handled = match self.inbox.deliver(&self.worker, &self.script, (&from, &to), &raw).await {
            Ok(handled) => handled,
            Err(Wrong(status, text)) => return plain_text(status, text),
        };
        let status = match handled.failure {
            Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
            None => StatusCode::OK,
        };
        if parameter(head, "format").as_deref() == Some("json") {
            return skep_wire::json(status, &handled);
        }
        match (handled.failure, handled.rejected) {
            (Some(failure), _) => plain_text(status, failure),
            (None, Some(reason)) => {
                let text = format!("Worker rejected email with the following reason: {reason}");
                plain_text(StatusCode::BAD_REQUEST, text)
            }
            (None, None) => plain_text(status, "Worker successfully processed email".to_owned()),
        }
    }

    async fn scheduled(&self, head: &Parts) -> Response {
        let parameter = |name: &str| parameter(head, name);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let time = match parameter("time").map(|text| text.parse::<u64>()) {
            None => now,
            Some(Ok(time)) => time,
            Some(Err(_)) => {
                let text = "`time` must be a number of milliseconds since the Unix epoch";
                return plain_text(StatusCode::BAD_REQUEST, text.to_owned());
            }
        };
        let result = run_scheduled(&self.worker, &parameter("cron").unwrap_or_default(), time, None).await;
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => return plain_text(StatusCode::INTERNAL_SERVER_ERROR, error),
        };
        let status = match outcome.outcome.as_str() {
            "ok" => StatusCode::OK,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if parameter("format").as_deref() == Some("json") {
            let body = json!({ "outcome": outcome.outcome, "noRetry": outcome.no_retry });
            return skep_wire::json(status, &body);
        }
        let text = match head.uri.path() == TEST_SCHEDULED {
            true => "Ran scheduled event".to_owned(),
            false => outcome.outcome,
        };
        plain_text(status, text)
    }
}

fn plain_text(status: StatusCode, text: String) -> Response {
    let mut response = reply(status, full(text));
    let plain = HeaderValue::from_static("text/plain;charset=UTF-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
