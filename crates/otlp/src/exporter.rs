//! Queues, batches, requests, tries.

use std::collections::VecDeque;
use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use prost::Message;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use url::Url;

use crate::context::TraceContext;
use crate::log::Log;
use crate::metric::Metric;
use crate::proto;
use crate::retry::{Outcome, outcome, retry_after};
use crate::settings::{Settings, Target, shown};
use crate::span::{Attribute, Resource, Span, nanos};

/// Bytes that wait at most, of spans and of log records, each, and bytes of one request.
const MAX_WAITING: usize = 32 << 20;
const MAX_REQUEST: usize = 4 << 20;

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Series of metrics.
    Metrics,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Logs, Self::Metrics];

    /// Its name in paths and variables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

/// Sends a request over HTTP.
pub trait Post: Send + Sync + 'static {
    /// The answer, or why there is none: without what is in the request.
    fn post<'a>(&'a self, url: &'a Url, request: Request<Bytes>, timeout: Duration) -> Posted<'a>;
}

/// What a request comes to.
pub type Posted<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, String>> + Send + 'a>>;

/// Reads what is counted.
pub trait Measure: Send + Sync + 'static {
    /// All metrics now. Blocking.
    fn read(&self) -> Vec<Metric>;
}

/// What came of spans, log records or series since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// The collector took them.
    pub sent: u64,
    /// There was no room, or the collector did not take them.
    pub dropped: u64,
}

/// Exports. Cheap to clone.
#[derive(Clone)]
pub struct Exporter(Arc<Inner>);

struct Inner {
    settings: Settings,
    http: Arc<dyn Post>,
    started: SystemTime,
    spans: Queue<proto::Span>,
    logs: Queue<proto::LogRecord>,
    counts: [Counts; 3],
    finishing: AtomicBool,
    finish: Notify,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
    failing: AtomicBool,
}

/// Messages on their way into a request.
struct Queue<M> {
    waiting: Mutex<Waiting<M>>,
    more: Notify,
}

/// Messages by whose they are.
type ByResource<M> = Vec<(Resource, Vec<M>)>;

struct Waiting<M> {
    messages: VecDeque<(Resource, M, usize)>,
    bytes: usize,
}

impl<M> Default for Queue<M> {
    fn default() -> Self {
        Self { waiting: Mutex::new(Waiting { messages: VecDeque::new(), bytes: 0 }), more: Notify::new() }
    }
}

impl<M: Message> Queue<M> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<M>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was room.
    fn push(&self, resource: Resource, message: M, most: usize, batch: usize) -> bool {
        let size = message.encoded_len();
        let mut waiting = self.waiting();
        if waiting.messages.len() >= most || waiting.bytes + size > MAX_WAITING {
            return false;
        }
        waiting.bytes += size;
        waiting.messages.push_back((resource, message, size));
        if waiting.messages.len() == 1 || waiting.messages.len() == batch {
            self.more.notify_one();
        }
        true
    }

    /// What one request takes, by whose it is.
    fn take(&self, batch: usize) -> ByResource<M> {
        let (mut taken, mut count, mut bytes): (ByResource<M>, _, _) = (Vec::new(), 0, 0);
        let mut waiting = self.waiting();
        while let Some((_, _, size)) = waiting.messages.front() {
            if count == batch || count > 0 && bytes + size > MAX_REQUEST {
                break;
            }
            let Some((resource, message, size)) = waiting.messages.pop_front() else { break };
            waiting.bytes -= size;
            (count, bytes) = (count + 1, bytes + size);
            match taken.iter_mut().find(|(other, _)| *other == resource) {
                Some((_, messages)) => messages.push(message),
                None => taken.push((resource, vec![message])),
            }
        }
        taken
    }

    fn len(&self) -> usize {
        self.waiting().messages.len()
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Exporter").field(&self.0.settings).finish()
    }
}

impl Exporter {
    /// Begins to export spans and log records. Must be called inside a tokio runtime.
    pub fn start(settings: Settings, http: Arc<dyn Post>) -> Self {
        let this = Self(Arc::new(Inner {
            settings,
            http,
            started: SystemTime::now(),
            spans: Queue::default(),
            logs: Queue::default(),
            counts: Default::default(),
            finishing: AtomicBool::new(false),
            finish: Notify::new(),
            tasks: Mutex::default(),
        }));
        let (traces, logs) = (this.clone(), this.clone());
        this.spawn(async move { traces.drain(Signal::Traces, &traces.0.spans, pack_spans).await });
        this.spawn(async move { logs.drain(Signal::Logs, &logs.0.logs, pack_logs).await });
        this
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(tokio::spawn(task));
    }

    /// How it was asked to export.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Exports a span, soon.
    pub fn span(&self, span: &Span) {
        let Settings { queue, batch, .. } = self.0.settings;
        if self.0.settings.exports(Signal::Traces)
            && !self.0.spans.push(span.resource.clone(), span.encoded(), queue, batch)
        {
            self.lost(Signal::Traces, 1);
        }
    }

    /// Exports a log record, soon.
    pub fn log(&self, log: &Log) {
        let Settings { queue, batch, .. } = self.0.settings;
        if self.0.settings.exports(Signal::Logs)
            && !self.0.logs.push(log.resource.clone(), log.encoded(), queue, batch)
        {
            self.lost(Signal::Logs, 1);
        }
    }

    /// The context of a span of somebody with this share of traces, if he has one of his own; `None` if it is not recorded.
    pub fn sample(&self, parent: Option<&TraceContext>, ratio: Option<f64>) -> Option<TraceContext> {
        let sampler = self.0.settings.sampler;
        if !self.0.settings.exports(Signal::Traces) {
            return None;
        }
        ratio.map_or(sampler, |ratio| sampler.with_ratio(ratio)).decide(parent)
    }

    /// Reads and exports metrics from now on.
    pub fn measure(&self, source: Arc<dyn Measure>) {
        if !self.0.settings.exports(Signal::Metrics) {
            return;
        }
        let this = self.clone();
        self.spawn(async move {
            loop {
                let finishing = this.wait(this.0.settings.interval).await;
                this.export_metrics(source.clone()).await;
                if finishing {
                    return;
                }
            }
        });
    }

    async fn export_metrics(&self, source: Arc<dyn Measure>) {
        let read = tokio::task::spawn_blocking(move || source.read()).await;
        let (start, now) = (nanos(self.0.started), nanos(SystemTime::now()));
        let metrics: Vec<proto::Metric> = read
            .unwrap_or_default()
            .iter()
            .filter(|metric| !metric.points.is_empty())
            .map(|metric| metric.encoded(start, now))
            .collect();
        let count = metrics.len() as u64;
        let scopes = vec![proto::ScopeMetrics { scope: Some(scope()), metrics }];
        let service = Attribute::text("service.name", self.0.settings.service.as_str());
        let resource = Some(Resource::new(vec![service]).encoded(&self.0.settings.attributes));
        let request = proto::Metrics { resources: vec![proto::ResourceMetrics { resource, scopes }] };
        self.send(Signal::Metrics, &request.encode_to_vec(), count).await;
    }

    /// Waits so long, or until Skep ends; whether it does.
    async fn wait(&self, time: Duration) -> bool {
        let ends = self.0.finish.notified();
        if self.0.finishing.load(Ordering::Acquire) {
            return true;
        }
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = ends => {}
        }
        self.0.finishing.load(Ordering::Acquire)
    }

    async fn drain<M: Message>(
        &self,
        signal: Signal,
        queue: &Queue<M>,
        pack: fn(ByResource<M>, &[Attribute]) -> Vec<u8>,
    ) {
        let Settings { batch, delay, .. } = self.0.settings;
        let mut finishing = false;
        while !finishing {
            let ends = self.0.finish.notified();
            if !self.0.finishing.load(Ordering::Acquire) && queue.len() == 0 {
                tokio::select! {
                    () = queue.more.notified() => {}
                    () = ends => {}
                }
            }
            if queue.len() < batch {
                let full = queue.more.notified();
                tokio::select! {
                    _ = self.wait(delay) => {}
                    () = full => {}
                }
            }
            finishing = self.0.finishing.load(Ordering::Acquire);
            loop {
                let taken = queue.take(batch);
                let count: usize = taken.iter().map(|(_, messages)| messages.len()).sum();
                if count == 0 {
                    break;
                }
                let body = pack(taken, &self.0.settings.attributes);
                self.send(signal, &body, count as u64).await;
                if queue.len() < batch && !finishing {
                    break;
                }
            }
        }
    }

    /// Sends a request until it is taken, or will never be.
    async fn send(&self, signal: Signal, body: &[u8], count: u64) {
        let Some(target) = &self.0.settings.targets[signal as usize] else { return };
        let body = match target.gzip {
            true => zipped(body),
            false => Ok(Bytes::copy_from_slice(body)),
        };
        let Ok(body) = body else { return self.lost(signal, count) };
        let mut tries = 0;
        loop {
            let finishing = self.0.finishing.load(Ordering::Acquire);
            let answer = self.0.http.post(&target.url, request(target, body.clone()), target.timeout).await;
            tries += 1;
            let (status, after) = match &answer {
                Ok(answer) => {
                    let after =
                        answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
                    (
                        Some(answer.status().as_u16()),
                        after.and_then(|text| retry_after(text, SystemTime::now())),
                    )
                }
                Err(_) => (None, None),
            };
            let chance = f64::from(u8::from_le_bytes([uuid::Uuid::new_v4().as_bytes()[0]])) / 255.0;
            match outcome(status, after, tries, chance) {
                Outcome::Taken => {
                    return self.taken(signal, count, answer.map(Response::into_body).unwrap_or_default());
                }
                // There is no time for another try.
                Outcome::Again(_) if finishing => {}
                Outcome::Again(wait) => {
                    self.complain(signal, target, &said(&answer));
                    self.wait(wait).await;
                    continue;
                }
                Outcome::Lost => {}
            }
            self.complain(signal, target, &said(&answer));
            return self.lost(signal, count);
        }
    }

    fn taken(&self, signal: Signal, count: u64, body: Bytes) {
        let counts = &self.0.counts[signal as usize];
        // An answer that cannot be read says nothing against what was sent.
        let partial = proto::Answer::decode(body).ok().and_then(|answer| answer.partial_success);
        let rejected =
            partial.as_ref().map_or(0, |partial| partial.rejected.max(0).unsigned_abs()).min(count);
        counts.sent.fetch_add(count - rejected, Ordering::Relaxed);
        if let Some(partial) = partial.filter(|_| rejected > 0) {
            self.lost(signal, rejected);
            tracing::warn!(
                signal = signal.name(),
                rejected,
                why = partial.error_message,
                "a collector took a part only"
            );
        }
        if counts.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(signal = signal.name(), "a collector takes what it is sent again");
        }
    }

    fn lost(&self, signal: Signal, count: u64) {
        self.0.counts[signal as usize].dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Says once that a collector does not take what it is sent. Neither headers nor queries are said.
    fn complain(&self, signal: Signal, target: &Target, why: &str) {
        if !self.0.counts[signal as usize].failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                signal = signal.name(),
                to = shown(&target.url),
                why,
                "a collector does not take what it is sent"
            );
        }
    }

    /// What came of a signal since the start.
    pub fn exported(&self, signal: Signal) -> Exported {
        let counts = &self.0.counts[signal as usize];
        Exported {
            sent: counts.sent.load(Ordering::Relaxed),
            dropped: counts.dropped.load(Ordering::Relaxed),
        }
    }

    /// Sends what waits, once, for at most so long, and ends.
    pub async fn finish(&self, limit: Duration) {
        self.0.finishing.store(true, Ordering::Release);
        self.0.finish.notify_waiters();
        self.0.spans.more.notify_one();
        self.0.logs.more.notify_one();
        let tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async {
            for task in tasks {
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(limit, all).await;
    }
}

fn said(answer: &Result<Response<Bytes>, String>) -> String {
    match answer {
        Ok(answer) => answer.status().to_string(),
        Err(why) => why.clone(),
    }
}

fn request(target: &Target, body: Bytes) -> Request<Bytes> {
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("skep/", env!("CARGO_PKG_VERSION"))));
    if target.gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    for (name, value) in &target.headers {
        headers.insert(name.clone(), value.clone());
    }
    request
}

fn zipped(body: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body)?;
    encoder.finish().map(Bytes::from)
}

fn scope() -> proto::Scope {
    proto::Scope { name: "skep".into(), version: env!("CARGO_PKG_VERSION").into() }
}

fn pack_spans(all: ByResource<proto::Span>, common: &[Attribute]) -> Vec<u8> {
    let resources = all.into_iter().map(|(resource, spans)| proto::ResourceSpans {
        resource: Some(resource.encoded(common)),
        scopes: vec![proto::ScopeSpans { scope: Some(scope()), spans }],
    });
    proto::Traces { resources: resources.collect() }.encode_to_vec()
}

fn pack_logs(all: ByResource<proto::LogRecord>, common: &[Attribute]) -> Vec<u8> {
    let resources = all.into_iter().map(|(resource, records)| proto::ResourceLogs {
        resource: Some(resource.encoded(common)),
        scopes: vec![proto::ScopeLogs { scope: Some(scope()), records }],
    });
    proto::Logs { resources: resources.collect() }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Severity;

    /// Answers with the statuses it is given, then with 200.
    #[derive(Default)]
    struct Collector {
        answers: Mutex<VecDeque<Response<Bytes>>>,
        seen: Mutex<Vec<Request<Bytes>>>,
        silent: AtomicBool,
    }

    impl Post for Collector {
        fn post<'a>(&'a self, _: &'a Url, request: Request<Bytes>, timeout: Duration) -> Posted<'a> {
            Box::pin(async move {
                if self.silent.load(Ordering::Relaxed) {
                    tokio::time::sleep(timeout).await;
                    return Err("no answer".into());
                }
                self.seen.lock().unwrap().push(request);
                Ok(self.answers.lock().unwrap().pop_front().unwrap_or_default())
            })
        }
    }

    fn exporter(env: &[(&str, &str)]) -> (Exporter, Arc<Collector>) {
        let collector = Arc::new(Collector::default());
        let env: Vec<(String, String)> = env.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let get = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let settings = Settings::read(Some("http://c:4318".parse().unwrap()), get).unwrap().unwrap();
        (Exporter::start(settings, collector.clone()), collector)
    }

    fn log(text: &str) -> Log {
        Log {
            resource: Resource::new(vec![Attribute::text("service.name", "s")]),
            at: SystemTime::now(),
            severity: (Severity::Info, "log".into()),
            body: text.into(),
            attributes: Vec::new(),
            context: None,
        }
    }

    fn records(collector: &Collector) -> Vec<usize> {
        let seen = collector.seen.lock().unwrap();
        let decoded = seen.iter().map(|request| proto::Logs::decode(request.body().clone()).unwrap());
        decoded
            .map(|logs| logs.resources.iter().flat_map(|r| &r.scopes).map(|s| s.records.len()).sum())
            .collect()
    }

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn what_comes_together_shares_a_request_and_a_full_batch_does_not_wait() {
        let (exporter, collector) =
            exporter(&[("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"), ("OTEL_BSP_SCHEDULE_DELAY", "500")]);
        for _ in 0..25 {
            exporter.log(&log("x"));
        }
        until(|| records(&collector).len() == 3).await;
        assert_eq!(records(&collector), [10, 10, 5]);
        until(|| exporter.exported(Signal::Logs) == Exported { sent: 25, dropped: 0 }).await;
    }

    #[tokio::test]
    async fn a_collector_that_is_busy_gets_the_same_again_when_it_says_and_what_it_refuses_is_dropped() {
        let (exporter, collector) = exporter(&[("OTEL_BSP_SCHEDULE_DELAY", "5")]);
        let busy = Response::builder().status(503).header("retry-after", "0").body(Bytes::new()).unwrap();
        let partial = proto::Answer {
            partial_success: Some(proto::PartialSuccess { rejected: 1, error_message: "old".into() }),
        };
        let partial = Response::new(Bytes::from(partial.encode_to_vec()));
        collector.answers.lock().unwrap().extend([busy, partial]);
        exporter.log(&log("a"));
        exporter.log(&log("b"));
        until(|| exporter.exported(Signal::Logs) == Exported { sent: 1, dropped: 1 }).await;
        assert_eq!(records(&collector), [2, 2]);
        let wrong = Response::builder().status(400).body(Bytes::new()).unwrap();
        collector.answers.lock().unwrap().push_back(wrong);
        exporter.log(&log("c"));
        until(|| exporter.exported(Signal::Logs) == Exported { sent: 1, dropped: 2 }).await;
        assert_eq!(records(&collector).len(), 3);
    }

    #[tokio::test]
    async fn a_dead_collector_costs_a_bounded_queue_and_no_time() {
        let (exporter, collector) = exporter(&[
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "100000"),
        ]);
        collector.silent.store(true, Ordering::Relaxed);
        for _ in 0..150 {
            exporter.log(&log("x"));
        }
        assert_eq!(exporter.exported(Signal::Logs).dropped, 50);
        until(|| exporter.0.logs.len() == 90).await;
        let large = log(&"x".repeat(20 << 20));
        exporter.log(&large);
        exporter.log(&large);
        assert_eq!(exporter.exported(Signal::Logs).dropped, 51, "bytes are bounded, too");
        exporter.finish(Duration::from_millis(50)).await;
    }

    #[tokio::test]
    async fn what_waits_is_sent_when_skep_ends() {
        let (exporter, collector) = exporter(&[
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k"),
        ]);
        exporter.log(&log("last"));
        exporter.finish(Duration::from_secs(2)).await;
        let seen = collector.seen.lock().unwrap();
        assert_eq!((seen.len(), &seen[0].headers()["x-key"]), (1, &HeaderValue::from_static("k")));
        assert_eq!(seen[0].headers()["content-encoding"], "gzip");
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&seen[0].body()[..]), &mut text)
            .unwrap();
        assert!(text.windows(4).any(|part| part == b"last"));
    }
}
