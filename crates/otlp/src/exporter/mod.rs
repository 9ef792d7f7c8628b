//! What is handed over goes into queues, and from there in batches to the collector.

mod pack;
mod queue;
mod send;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use prost::Message;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use url::Url;

use self::pack::{pack_logs, pack_spans, scope};
use self::queue::{ByResource, Queue};
use crate::context::TraceContext;
use crate::log::Log;
use crate::metric::Metric;
use crate::proto;
use crate::settings::Settings;
use crate::span::{Attribute, Resource, Span, nanos};

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
