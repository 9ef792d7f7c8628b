//! What cells report of their events (`shims/tail.js`), on its way to scripts that consume it.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use skep_fleet::Worker;
use skep_runtime::{Room, Taken, Turns};
use skep_wire::{BoxFuture, Request, Response, Service, empty, read_all, reply};

/// The engine cuts the trace of an event at 256 KiB; `shims/tail.js` makes reports of a few megabytes.
const MAX_REPORT: usize = 16 << 20;
/// Bytes of events that are made values at once: these may take forty times as much.
const AT_ONCE: usize = 1 << 20;
/// A report up to this many bytes is read at once.
const SMALL: usize = 64 << 10;
/// Turns at reading large ones.
static READING: Turns = Turns::new();
/// Bytes of events that wait for a consumer.
const BACKLOG: usize = 8 << 20;

/// Names in `shims/entry.js` and of it that the application knows nothing of.
pub const OUR_ENTRYPOINTS: [&str; 4] = ["skepEdge", "skepDispatched", "skepCalled", "skepOutbound"];
const OUR_REPORT: &str = "\u{1}skep-exception:";
const OUR_MODULES: [&str; 5] =
    ["skep-entry.js", "skep-internal:", "skep-dispatched.js", "skep-outbound.js", "skep-sendfile.js"];

/// Takes what cells report.
pub trait TakeReports: Send + Sync {
    /// Events as the engine saw them.
    fn take(&self, events: Vec<Json>);
}

/// The server that cells report to.
pub struct Sink<T>(Arc<T>);

/// The events of a report, given to `take` in pieces of about [`AT_ONCE`], each before the next one is read.
fn read(report: &[u8], take: &dyn Fn(Vec<Json>)) -> serde_json::Result<()> {
    let (mut events, mut bytes) = (Vec::new(), 0);
    for text in serde_json::from_slice::<Vec<&RawValue>>(report)? {
        events.push(serde_json::from_str(text.get())?);
        bytes += text.get().len();
        if bytes >= AT_ONCE {
            take(std::mem::take(&mut events));
            bytes = 0;
        }
    }
    take(events);
    Ok(())
}

impl<T: TakeReports + 'static> Sink<T> {
    /// Gives what is reported to `takes`.
    pub fn new(takes: T) -> Self {
        Self(Arc::new(takes))
    }

    /// A large report is read by a thread aside, in turns: what it says can be a hundred thousand values, and nobody but the cell that
    /// sent it waits for them. `None` if it is none.
    async fn take(&self, report: Bytes) -> Option<()> {
        let (takes, is_large) = (self.0.clone(), report.len() > SMALL);
        let read = move || read(&report, &|events| takes.take(events)).ok();
        READING.aside_if(is_large, skep_runtime::who(&self.0), read).await.ok()?
    }
}

impl<T: TakeReports + 'static> Service for Sink<T> {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let Ok(body) = read_all(request.into_body(), MAX_REPORT).await else {
                return reply(StatusCode::PAYLOAD_TOO_LARGE, empty());
            };
            match self.take(body).await {
                Some(()) => reply(StatusCode::NO_CONTENT, empty()),
                None => reply(StatusCode::BAD_REQUEST, empty()),
            }
        })
    }
}

/// A script that consumes the events of others.
#[derive(Clone)]
pub struct Consumer {
    /// The script.
    pub worker: Arc<Worker>,
    /// Room for what waits for it; what does not fit is lost.
    pub backlog: Arc<Room>,
    /// Room for what waits for all of an account's.
    pub all: Option<Arc<Room>>,
}

impl Consumer {
    /// Room for what waits for one.
    pub fn room() -> Arc<Room> {
        Room::new(BACKLOG)
    }

    /// Room for a report; `None` if there is not as much left.
    fn take(&self, bytes: usize) -> Option<(Taken, Option<Taken>)> {
        let own = self.backlog.take(bytes)?;
        match &self.all {
            Some(all) => Some((own, Some(all.take(bytes)?))),
            None => Some((own, None)),
        }
    }
}

/// Gives events to the `tail()` of each consumer, without waiting for it. Who does not keep up is not told of all.
pub fn pass_on(events: &[Json], consumers: &[Consumer]) {
    if consumers.is_empty() || events.is_empty() {
        return;
    }
    let report = Bytes::from(json!({ "events": events }).to_string());
    for consumer in consumers {
        let Some(taken) = consumer.take(report.len()) else {
            tracing::debug!(consumer = consumer.worker.name(), "a tail consumer does not keep up");
            continue;
        };
        let (consumer, report) = (consumer.worker.clone(), report.clone());
        tokio::spawn(async move {
            if let Err(error) = consumer.event("/tail", report).await {
                tracing::warn!(%error, consumer = consumer.name(), "a tail consumer did not take events");
            }
            drop(taken);
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
