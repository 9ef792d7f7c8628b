//! Paths that `skep dev` answers itself: events by hand, as wrangler offers them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use skep_edge::LocalHandler;
use skep_fleet::Worker;
use skep_wire::{BoxFuture, Response, full, reply};

use crate::events::run_scheduled;

/// The paths under which wrangler and Miniflare run the `scheduled` handler.
const SCHEDULED: [&str; 2] = ["/cdn-cgi/handler/scheduled", "/cdn-cgi/local/scheduled"];
/// The path that wrangler has with `--test-scheduled`.
const TEST_SCHEDULED: &str = "/__scheduled";

/// The handler of those paths for one worker.
#[derive(Debug)]
pub struct Local {
    /// The worker whose handlers are run.
    pub worker: Arc<Worker>,
    /// Whether `/__scheduled` is one of the paths.
    pub test_scheduled: bool,
}

impl LocalHandler for Local {
    fn handles(&self, path: &str) -> bool {
        SCHEDULED.contains(&path) || (self.test_scheduled && path == TEST_SCHEDULED)
    }

    fn handle<'a>(&'a self, head: &'a Parts) -> BoxFuture<'a, Response> {
        Box::pin(self.scheduled(head))
    }
}

impl Local {
    async fn scheduled(&self, head: &Parts) -> Response {
        let query = head.uri.query().unwrap_or_default();
        let parameter = |name: &str| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
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
