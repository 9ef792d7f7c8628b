//! What cells report of their events, on its way to those who want it: tails, scripts that consume them, kept logs.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value as Json, json};
use skep_api::{TailEvent, TailEvents};
use skep_fleet::{Exceeded, Worker};
use skep_logs::{LogStore, Observability, events_of};
use skep_otlp::Exporter;
use skep_runtime::Room;
use skep_wire::Service;
use tokio::sync::{broadcast, mpsc};

use super::export::log;
use crate::reports::{Consumer, Sink, TakeReports, pass_on, tidy};

/// Events that a slow listener may lag behind, and their bytes.
const BEHIND: usize = 1024;
const BEHIND_BYTES: usize = 4 << 20;
/// Bytes of events that wait for listeners and consumers of an account.
const WAITING_BYTES: usize = 64 << 20;

/// Who wants to hear of scripts' events: tails, scripts that consume them, and what is kept.
pub struct Tails {
    /// The account.
    account: String,
    logs: LogStore,
    /// Says to others what is kept.
    exporter: Option<Exporter>,
    listeners: Mutex<HashMap<String, Listeners>>,
    /// What waits for all of them, and for consumers.
    room: Arc<Room>,
    /// What waits for a consumer, by its name.
    backlogs: Mutex<HashMap<String, Arc<Room>>>,
    /// By script: what its settings want.
    wishes: Mutex<HashMap<String, Wishes>>,
    /// Hears of scripts whose cells report more than anybody wants.
    unwanted: mpsc::UnboundedSender<String>,
    /// Of invocations that have no request of a visitor, and for the sampling.
    count: AtomicU64,
}

/// Those who listen to one script.
struct Listeners {
    sender: broadcast::Sender<Arc<TailEvent>>,
    room: Arc<Room>,
    /// Events that were left out since the last one that was not.
    lost: u64,
}

/// What a script's settings want with its events.
#[derive(Clone, Default)]
pub struct Wishes {
    /// Scripts that get them.
    pub consumers: Vec<Consumer>,
    /// What of them is kept.
    pub observability: Observability,
}

impl Tails {
    /// Nobody listens yet; what reports to nobody is told to `unwanted`.
    pub fn new(
        account: &str,
        logs: LogStore,
        exporter: Option<Exporter>,
        unwanted: mpsc::UnboundedSender<String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            account: account.to_owned(),
            logs,
            exporter,
            listeners: Mutex::default(),
            room: Room::new(WAITING_BYTES),
            backlogs: Mutex::default(),
            wishes: Mutex::default(),
            unwanted,
            count: AtomicU64::new(1),
        })
    }

    /// Whether anybody listens to `script`.
    pub fn is_wanted(&self, script: &str) -> bool {
        let mut all = lock(&self.listeners);
        all.retain(|_, listeners| listeners.sender.receiver_count() > 0);
        all.contains_key(script)
    }

    /// The events of `script` from now on, and whether nobody listened before.
    pub fn listen(&self, script: &str) -> (TailEvents, bool) {
        let mut all = lock(&self.listeners);
        if let Some(listeners) = all.get(script) {
            return (listeners.sender.subscribe(), false);
        }
        let (sender, receiver) = broadcast::channel(BEHIND);
        all.insert(script.to_owned(), Listeners { sender, room: Room::new(BEHIND_BYTES), lost: 0 });
        (receiver, true)
    }

    /// `worker` as one that consumes events. What waits for it is counted together, whoever sends it.
    pub fn consumer(&self, worker: Arc<Worker>) -> Consumer {
        let mut all = lock(&self.backlogs);
        all.retain(|_, backlog| Arc::strong_count(backlog) > 1);
        let backlog = all.entry(worker.name().to_owned()).or_insert_with(Consumer::room).clone();
        Consumer { worker, backlog, all: Some(self.room.clone()) }
    }

    /// The settings of `script` are these now.
    pub fn wish(&self, script: &str, wishes: Wishes) {
        lock(&self.wishes).insert(script.to_owned(), wishes);
    }

    /// The script is gone.
    pub fn forget(&self, script: &str) {
        lock(&self.wishes).remove(script);
    }

    /// What the settings of `script` want.
    pub fn wishes(&self, script: &str) -> Wishes {
        lock(&self.wishes).get(script).cloned().unwrap_or_default()
    }

    /// Whether what `consumer` reports comes to `script`, directly or through other consumers.
    fn leads_to(&self, consumer: &str, script: &str) -> bool {
        let wishes = lock(&self.wishes);
        let (mut seen, mut next) = (HashSet::from([consumer]), vec![consumer]);
        while let Some(from) = next.pop() {
            for to in wishes.get(from).into_iter().flat_map(|wishes| &wishes.consumers) {
                if to.worker.name() == script {
                    return true;
                }
                if seen.insert(to.worker.name()) {
                    next.push(to.worker.name());
                }
            }
        }
        false
    }

    /// The share of its events that the cells of `script` have to report.
    pub fn rate(&self, script: &str) -> f64 {
        let wishes = self.wishes(script);
        match self.is_wanted(script) || !wishes.consumers.is_empty() {
            true => 1.0,
            false => wishes.observability.logs.map_or(0.0, |logs| logs.rate),
        }
    }

    /// The server that the cells of a version report to: so much of their events.
    pub fn sink(self: &Arc<Self>, script: &str, version: &str, rate: f64) -> Arc<dyn Service> {
        let reports =
            Reports { tails: self.clone(), script: script.to_owned(), version: version.to_owned(), rate };
        Arc::new(Sink::new(reports))
    }

    /// Says for a cell that it was ended; `name` is the fleet's, of a script or one of its versions, `main` the version of the
    /// script itself.
    pub fn exceeded(self: &Arc<Self>, name: &str, main: &str, exceeded: Exceeded, now_ms: u64) {
        let (script, version) = name.split_once('@').unwrap_or((name, main));
        let rate = self.rate(script);
        if rate > 0.0 {
            let reports = Reports {
                tails: self.clone(),
                script: script.to_owned(),
                version: version.to_owned(),
                rate: 1.0,
            };
            reports.take(vec![json!({
                "outcome": exceeded.outcome(), "eventTimestamp": now_ms, "event": null, "logs": [],
                "exceptions": [{ "name": "Error", "message": exceeded.message(), "timestamp": now_ms }],
                "diagnosticsChannelEvents": [], "truncated": false, "executionModel": "stateless",
                "wallTime": 0, "cpuTime": 0,
            })]);
        }
    }

    fn send(&self, script: &str, event: &Json) {
        let mut all = lock(&self.listeners);
        let Some(Listeners { sender, room, lost }) = all.get_mut(script) else { return };
        let text = event.to_string();
        let (Some(own), Some(shared)) = (room.take(text.len()), self.room.take(text.len())) else {
            *lost += 1;
            return;
        };
        let event = TailEvent { text, lost: std::mem::take(lost), room: vec![own, shared] };
        // Nobody listens any more: no harm.
        let _ = sender.send(Arc::new(event));
    }

    /// A number that is not used again; it names invocations and spreads the sampling.
    fn number(&self) -> u64 {
        // splitmix64
        let mut z =
            self.count.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ now_bits();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Keeps events that were reported with `rate`.
    fn keep(&self, script: &str, events: &[Json], rate: f64) {
        let observability = self.wishes(script).observability;
        let Some(logs) = observability.logs else { return };
        let kept = events.iter().flat_map(|event| {
            let number = self.number();
            // Some were left out already where they were seen.
            let passes = ((number >> 11) as f64 / (1u64 << 53) as f64) * rate < logs.rate;
            let request = format!("{number:016X}");
            match passes {
                true => events_of(event, &self.account, &request, observability.invocation_logs),
                false => Vec::new(),
            }
        });
        let kept: Vec<_> = kept.collect();
        if let Some(exporter) = &self.exporter {
            kept.iter().for_each(|event| exporter.log(&log(&self.account, event)));
        }
        if !kept.is_empty() {
            self.logs.append(kept);
        }
    }
}

/// Whether the event is that somebody was told of events. It is told to nobody who tells of it where it comes from: two scripts that
/// consume each other's events would never come to an end.
fn is_tail(event: &Json) -> bool {
    // Our worker that delivers events calls the handler by its name.
    event["event"]["rpcMethod"] == "tail" && event["entrypoint"].is_null()
}

/// What tells this start from the one before.
fn now_bits() -> u64 {
    static START: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *START.get_or_init(|| uuid::Uuid::new_v4().as_u64_pair().0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a version's cells report.
struct Reports {
    tails: Arc<Tails>,
    script: String,
    version: String,
    /// The share of events that comes here.
    rate: f64,
}

impl TakeReports for Reports {
    fn take(&self, mut events: Vec<Json>) {
        let listened = self.tails.is_wanted(&self.script);
        for event in &mut events {
            tidy(event);
            event["scriptName"] = self.script.clone().into();
            event["scriptVersion"] = json!({ "id": self.version });
            if listened {
                self.tails.send(&self.script, event);
            }
        }
        self.tails.keep(&self.script, &events, self.rate);
        if self.rate > self.tails.rate(&self.script) {
            let _ = self.tails.unwanted.send(self.script.clone());
        }
        let consumers = self.tails.wishes(&self.script).consumers;
        if consumers.is_empty() {
            return;
        }
        let (tails, others): (Vec<Json>, Vec<Json>) = events.into_iter().partition(is_tail);
        pass_on(&others, &consumers);
        if !tails.is_empty() {
            let leads_here = |consumer: &Consumer| self.tails.leads_to(consumer.worker.name(), &self.script);
            let consumers: Vec<_> = consumers.into_iter().filter(|consumer| !leads_here(consumer)).collect();
            pass_on(&tails, &consumers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tails(dir: &std::path::Path) -> (Arc<Tails>, mpsc::UnboundedReceiver<String>, LogStore) {
        let clock = skep_runtime::Clock::system();
        let (_, shutdown) = skep_runtime::Shutdown::new();
        let jobs = skep_runtime::Jobs::new(clock.clone(), shutdown.clone());
        let retention = skep_logs::Retention { age: std::time::Duration::from_secs(60), bytes: 1 << 20 };
        let logs = LogStore::open(dir, "acc", retention, clock, &jobs, shutdown).unwrap();
        let (unwanted, nobody) = mpsc::unbounded_channel();
        (Tails::new("acc", logs.clone(), None, unwanted), nobody, logs)
    }

    async fn report(sink: &Arc<dyn Service>, body: &'static str) -> u16 {
        let request = http::Request::post("/").body(skep_wire::full(body)).unwrap();
        sink.call(request).await.status().as_u16()
    }

    #[tokio::test]
    async fn events_are_named_after_their_script_and_reach_who_listens() {
        let dir = tempfile::tempdir().unwrap();
        let (tails, mut nobody, _) = tails(dir.path());
        let (mut events, is_new) = tails.listen("s");
        assert!(is_new && !tails.listen("s").1 && tails.is_wanted("s") && !tails.is_wanted("t"));
        assert_eq!((tails.rate("s"), tails.rate("t")), (1.0, 0.0));
        let sink = tails.sink("s", "v1", 1.0);
        assert_eq!(report(&sink, r#"[{"outcome":"ok"}]"#).await, 204);
        let event = events.recv().await.unwrap();
        let event: Json = serde_json::from_str(&event.text).unwrap();
        assert_eq!(event, json!({ "outcome": "ok", "scriptName": "s", "scriptVersion": { "id": "v1" } }));
        assert_eq!(report(&sink, "{").await, 400);
        tails.exceeded("s@v1", "v0", Exceeded::Cpu, 7);
        let event: Json = serde_json::from_str(&events.recv().await.unwrap().text).unwrap();
        assert_eq!((&event["outcome"], &event["scriptName"]), (&json!("exceededCpu"), &json!("s")));
        assert_eq!(event["scriptVersion"]["id"], "v1");
        drop(events);
        assert!(!tails.is_wanted("s"));
        report(&sink, "[]").await;
        assert_eq!(nobody.recv().await.as_deref(), Some("s"));
    }

    #[tokio::test]
    async fn what_nobody_reads_takes_the_room_that_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let (tails, _nobody, _) = tails(dir.path());
        let (mut events, _) = tails.listen("s");
        let event = json!({ "text": "x".repeat(256 << 10) });
        let said = event.to_string().len();
        (0..100).for_each(|_| tails.send("s", &event));
        let fits = BEHIND_BYTES / said;
        assert_eq!(tails.room.used(), fits * said);
        for _ in 0..fits {
            assert_eq!(events.recv().await.unwrap().lost, 0);
        }
        assert_eq!(tails.room.used(), 0);
        // Who reads again is told what it has missed.
        tails.send("s", &json!({}));
        assert_eq!(events.recv().await.unwrap().lost, 100 - fits as u64);
        // Scripts share what there is for the account.
        let many: Vec<_> = (0..50).map(|n| tails.listen(&n.to_string()).0).collect();
        (0..50).for_each(|n| (0..20).for_each(|_| tails.send(&n.to_string(), &event)));
        assert!((WAITING_BYTES - said..=WAITING_BYTES).contains(&tails.room.used()));
        drop(many);
    }

    #[tokio::test]
    async fn what_is_kept_is_the_share_that_is_asked_for_of_what_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let (tails, mut nobody, logs) = tails(dir.path());
        let wish = |settings: Json| {
            let observability = Observability::of(Some(&settings));
            tails.wish("s", Wishes { observability, ..Wishes::default() });
        };
        wish(json!({ "enabled": true, "head_sampling_rate": 0.25 }));
        assert_eq!(tails.rate("s"), 0.25);
        let (whole, part) = (tails.sink("s", "v", 1.0), tails.sink("s", "v", 0.25));
        let mut kept = Vec::new();
        for sink in [&part, &whole] {
            for _ in 0..1000 {
                report(sink, r#"[{"outcome":"ok","eventTimestamp":1}]"#).await;
            }
            logs.flush().await;
            kept.push(logs.counts().0);
        }
        // What was sampled in the cell is kept; what was not is sampled here: 250 of 1000, give or take.
        assert_eq!(kept[0], 1000);
        assert!((150..350).contains(&(kept[1] - kept[0])), "{kept:?}");
        assert_eq!(nobody.recv().await.as_deref(), Some("s"), "cells that report too much are told of");
        wish(json!({ "enabled": false }));
        report(&whole, r#"[{"outcome":"ok"}]"#).await;
        logs.flush().await;
        assert_eq!(logs.counts().0, kept[1]);
    }
}
