//! What cells report of their events (`shims/tail.js`), on its way to scripts that consume it.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value as Json, json};
use skep_fleet::Worker;
use skep_wire::{BoxFuture, Request, Response, Service, empty, read_all, reply};

/// The engine cuts the trace of an event at 256 KiB; a report holds few events.
const MAX_REPORT: usize = 16 << 20;

/// Names in `shims/entry.js` and of it that the application knows nothing of.
pub const OUR_ENTRYPOINTS: [&str; 4] = ["skepEdge", "skepDispatched", "skepCalled", "skepOutbound"];
const OUR_REPORT: &str = "\u{1}skep-exception:";
const OUR_MODULES: [&str; 4] = ["skep-entry.js", "skep-internal:", "skep-dispatched.js", "skep-outbound.js"];

/// Takes what cells report.
pub trait TakeReports: Send + Sync {
    /// Events as the engine saw them.
    fn take(&self, events: Vec<Json>);
}

/// The server that cells report to.
pub struct Sink<T>(pub T);

impl<T: TakeReports + 'static> Service for Sink<T> {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let Ok(body) = read_all(request.into_body(), MAX_REPORT).await else {
                return reply(StatusCode::PAYLOAD_TOO_LARGE, empty());
            };
            let Ok(Json::Array(events)) = serde_json::from_slice(&body) else {
                return reply(StatusCode::BAD_REQUEST, empty());
            };
            self.0.take(events);
            reply(StatusCode::NO_CONTENT, empty())
        })
    }
}

/// Gives events to the `tail()` of each consumer, without waiting for it.
pub fn pass_on(events: &[Json], consumers: &[Arc<Worker>]) {
    if consumers.is_empty() || events.is_empty() {
        return;
    }
    let report = json!({ "events": events }).to_string();
    for consumer in consumers {
        let (consumer, report) = (consumer.clone(), report.clone().into_bytes());
        tokio::spawn(async move {
            if let Err(error) = consumer.event("/tail", report).await {
                tracing::warn!(%error, consumer = consumer.name(), "a tail consumer did not take events");
            }
        });
    }
}

/// Takes out what is ours and not the application's: the entrypoint that reports exceptions, its report, its
/// lines of the stack.
pub fn tidy(event: &mut Json) {
    if event["entrypoint"].as_str().is_some_and(|name| OUR_ENTRYPOINTS.contains(&name))
        && let Some(fields) = event.as_object_mut()
    {
        fields.remove("entrypoint");
    }
    if let Some(logs) = event.get_mut("logs").and_then(Json::as_array_mut) {
        logs.retain(|log| !log["message"][0].as_str().is_some_and(|text| text.starts_with(OUR_REPORT)));
    }
    let exceptions = event.get_mut("exceptions").and_then(Json::as_array_mut);
    for exception in exceptions.into_iter().flatten() {
        if let Some(stack) = exception["stack"].as_str() {
            let ours = |line: &str| OUR_MODULES.iter().any(|module| line.contains(module));
            let own: Vec<&str> = stack.lines().filter(|line| !ours(line)).collect();
            exception["stack"] = own.join("\n").into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_taken_out() {
        let mut event = json!({
            "entrypoint": "skepEdge", "logs": [{ "message": ["mine"] }, { "message": ["\u{1}skep-exception:{}"] }],
            "exceptions": [{ "stack": "    at fetch (a.js:1:2)\n    at call (skep-entry.js:3:4)\n    at invoke (skep-internal:limits:3:4)" }],
        });
        tidy(&mut event);
        let tidied = json!({
            "logs": [{ "message": ["mine"] }], "exceptions": [{ "stack": "    at fetch (a.js:1:2)" }],
        });
        assert_eq!(event, tidied);
    }
}
