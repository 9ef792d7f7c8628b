//! What cells report of their events, on its way to those who want it: tails, and scripts that consume them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::StatusCode;
use serde_json::{Value as Json, json};
use skep_api::TailEvents;
use skep_fleet::{Exceeded, Worker};
use skep_wire::{BoxFuture, Request, Response, Service, empty, read_all, reply};
use tokio::sync::{broadcast, mpsc};

/// Events that a slow listener may lag behind.
const BEHIND: usize = 1024;
/// The engine cuts the trace of an event at 256 KiB; a report holds few events.
const MAX_REPORT: usize = 16 << 20;

/// Who listens to which script.
pub struct Tails {
    listeners: Mutex<HashMap<String, broadcast::Sender<Arc<Json>>>>,
    /// What the cells of a version report to, by the fleet's name of it.
    sinks: Mutex<HashMap<String, Weak<Sink>>>,
    /// Hears of scripts whose cells report to nobody.
    unwanted: mpsc::UnboundedSender<String>,
}

impl Tails {
    /// Nobody listens yet; what reports to nobody is told to `unwanted`.
    pub fn new(unwanted: mpsc::UnboundedSender<String>) -> Arc<Self> {
        Arc::new(Self { listeners: Mutex::default(), sinks: Mutex::default(), unwanted })
    }

    /// Whether anybody listens to `script`.
    pub fn is_wanted(&self, script: &str) -> bool {
        let mut all = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, sender| sender.receiver_count() > 0);
        all.contains_key(script)
    }

    /// The events of `script` from now on, and whether nobody listened before.
    pub fn listen(&self, script: &str) -> (TailEvents, bool) {
        let mut all = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = all.get(script) {
            return (sender.subscribe(), false);
        }
        let (sender, receiver) = broadcast::channel(BEHIND);
        all.insert(script.to_owned(), sender);
        (receiver, true)
    }

    /// The server that the cells of a version report to.
    pub fn sink(
        self: &Arc<Self>,
        script: &str,
        version: &str,
        consumers: Vec<Arc<Worker>>,
    ) -> Arc<dyn Service> {
        let sink = Arc::new(Sink {
            tails: self.clone(),
            script: script.to_owned(),
            version: version.to_owned(),
            consumers,
        });
        let mut all = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, sink| sink.strong_count() > 0);
        all.insert(script.to_owned(), Arc::downgrade(&sink));
        sink
    }

    /// Says for a cell that it was ended; `name` is the fleet's, of a script or one of its versions.
    pub fn exceeded(&self, name: &str, exceeded: Exceeded, now_ms: u64) {
        let script = name.split_once('@').map_or(name, |(script, _)| script);
        let sink =
            self.sinks.lock().unwrap_or_else(PoisonError::into_inner).get(script).and_then(Weak::upgrade);
        if let Some(sink) = sink {
            sink.deliver(vec![json!({
                "outcome": exceeded.outcome(), "eventTimestamp": now_ms, "event": null, "logs": [],
                "exceptions": [{ "name": "Error", "message": exceeded.message(), "timestamp": now_ms }],
                "diagnosticsChannelEvents": [], "truncated": false, "executionModel": "stateless",
                "wallTime": 0, "cpuTime": 0,
            })]);
        }
    }

    fn send(&self, script: &str, event: &Json) {
        let all = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = all.get(script) {
            // Nobody listens any more: no harm.
            let _ = sender.send(Arc::new(event.clone()));
        }
    }
}

/// Names in `shims/entry.js` and of it.
const OUR_ENTRYPOINT: &str = "skepEdge";
const OUR_REPORT: &str = "\u{1}skep-exception:";
const OUR_MODULES: [&str; 4] = ["skep-entry.js", "skep-limits.js", "skep-dispatched.js", "skep-outbound.js"];

struct Sink {
    tails: Arc<Tails>,
    script: String,
    version: String,
    consumers: Vec<Arc<Worker>>,
}

impl Service for Sink {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let Ok(body) = read_all(request.into_body(), MAX_REPORT).await else {
                return reply(StatusCode::PAYLOAD_TOO_LARGE, empty());
            };
            let Ok(Json::Array(events)) = serde_json::from_slice(&body) else {
                return reply(StatusCode::BAD_REQUEST, empty());
            };
            self.deliver(events);
            reply(StatusCode::NO_CONTENT, empty())
        })
    }
}

impl Sink {
    fn deliver(&self, mut events: Vec<Json>) {
        for event in &mut events {
            tidy(event);
            event["scriptName"] = self.script.clone().into();
            event["scriptVersion"] = json!({ "id": self.version });
            self.tails.send(&self.script, event);
        }
        if self.consumers.is_empty() && !self.tails.is_wanted(&self.script) {
            let _ = self.tails.unwanted.send(self.script.clone());
        }
        let report = json!({ "events": events }).to_string();
        for consumer in &self.consumers {
            let (consumer, report) = (consumer.clone(), report.clone().into_bytes());
            tokio::spawn(async move {
                if let Err(error) = consumer.event("/tail", report).await {
                    tracing::warn!(%error, consumer = consumer.name(), "a tail consumer did not take events");
                }
            });
        }
    }
}

/// Takes out what is ours and not the application's: the entrypoint that reports exceptions, its report, its
/// lines of the stack.
fn tidy(event: &mut Json) {
    if event["entrypoint"] == OUR_ENTRYPOINT
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
            "exceptions": [{ "stack": "    at fetch (a.js:1:2)\n    at call (skep-entry.js:3:4)\n    at invoke (skep-limits.js:3:4)" }],
        });
        tidy(&mut event);
        let tidied = json!({
            "logs": [{ "message": ["mine"] }], "exceptions": [{ "stack": "    at fetch (a.js:1:2)" }],
        });
        assert_eq!(event, tidied);
    }

    #[tokio::test]
    async fn events_are_named_after_their_script_and_reach_who_listens() {
        let (unwanted, mut nobody) = mpsc::unbounded_channel();
        let tails = Tails::new(unwanted);
        let (mut events, is_new) = tails.listen("s");
        assert!(is_new && !tails.listen("s").1 && tails.is_wanted("s") && !tails.is_wanted("t"));
        let sink = tails.sink("s", "v1", Vec::new());
        let request = http::Request::post("/").body(skep_wire::full(r#"[{"outcome":"ok"}]"#)).unwrap();
        assert_eq!(sink.call(request).await.status(), 204);
        let event = events.recv().await.unwrap();
        assert_eq!(*event, json!({ "outcome": "ok", "scriptName": "s", "scriptVersion": { "id": "v1" } }));
        let wrong = http::Request::post("/").body(skep_wire::full("{")).unwrap();
        assert_eq!(sink.call(wrong).await.status(), 400);
        tails.exceeded("s@v1", Exceeded::Cpu, 7);
        let event = events.recv().await.unwrap();
        assert_eq!((&event["outcome"], &event["scriptName"]), (&json!("exceededCpu"), &json!("s")));
        drop(events);
        assert!(!tails.is_wanted("s"));
        let late = http::Request::post("/").body(skep_wire::full("[]")).unwrap();
        sink.call(late).await;
        assert_eq!(nobody.recv().await.as_deref(), Some("s"));
    }
}
