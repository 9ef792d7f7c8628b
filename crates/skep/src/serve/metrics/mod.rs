//! `--metrics`: what a node does, for Prometheus.

mod meters;
mod page;

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, header};
use skep_acme::{Acme, Status};
use skep_catalog::split_name;
use skep_edge::{LATENCY_MS, Traffic};
use skep_fleet::Used;
use skep_otlp::{Exporter, Measure, Metric, Signal};
use skep_runtime::Jobs;
use skep_wire::{BoxFuture, Request, Response, Service, full, reply};

use super::accounts::Accounts;
use super::backups::Keeper;
pub use meters::{EventKind, Meters, ScriptMeter};
use page::{Kind, Page};

/// The script and queue that stand for all that have no series of their own; neither can have this name.
const OTHERS: &str = "*";
/// More queues of an account than this are one series.
const MOST_QUEUES: usize = 1000;

/// Answers `GET /metrics`. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Sources>);

/// Where the numbers come from.
struct Sources {
    accounts: Arc<Accounts>,
    meters: Arc<Meters>,
    traffic: Arc<Traffic>,
    acme: Option<Arc<Acme>>,
    exporter: Option<Exporter>,
    jobs: Jobs,
    /// Where there are backups by the clock.
    backups: Option<Arc<Keeper>>,
}

impl Metrics {
    /// The metrics of a node.
    pub fn new(
        accounts: Arc<Accounts>,
        meters: Arc<Meters>,
        traffic: Arc<Traffic>,
        acme: Option<Arc<Acme>>,
        exporter: Option<Exporter>,
        jobs: Jobs,
        backups: Option<Arc<Keeper>>,
    ) -> Self {
        Self(Arc::new(Sources { accounts, meters, traffic, acme, exporter, jobs, backups }))
    }
}

impl Service for Metrics {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            match (request.method(), request.uri().path()) {
                (&Method::GET, "/metrics") => {}
                (_, "/metrics") => return reply(StatusCode::METHOD_NOT_ALLOWED, full("only GET\n")),
                _ => return reply(StatusCode::NOT_FOUND, full("metrics are at /metrics\n")),
            }
            let sources = self.0.clone();
            match tokio::task::spawn_blocking(move || sources.page().finish()).await {
                Ok(text) => {
                    let mut response = reply(StatusCode::OK, full(text));
                    let plain = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                    response.headers_mut().insert(header::CONTENT_TYPE, plain);
                    response
                }
                Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, full(error.to_string())),
            }
        })
    }
}

/// One script's labels and what was counted.
struct Row {
    labels: Vec<(&'static str, String)>,
    meter: Arc<ScriptMeter>,
    used: Used,
}

impl Row {
    fn new(account: Option<String>, script: &str, meter: Arc<ScriptMeter>) -> Self {
        let (namespace, script) = split_name(script);
        let labels = [("account", account), ("namespace", namespace.map(str::to_owned))];
        let labels = labels.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let labels = labels.chain([("script", script.to_owned())]).collect();
        Self { labels, used: meter.usage.now(), meter }
    }

    fn labels<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        self.labels.iter().map(|(name, value)| (*name, value.as_str())).chain(more.iter().copied()).collect()
    }
}

impl Sources {
    fn page(&self) -> Page {
        let mut page = Page::default();
        let (own, others) = self.meters.all();
        let own = own.into_iter().map(|((account, script), meter)| Row::new(Some(account), &script, meter));
        let rows: Vec<Row> = own.chain([Row::new(None, OTHERS, others)]).collect();
        requests(&mut page, &rows);
        events(&mut page, &rows);
        processes(&mut page, &rows);
        self.visitors(&mut page);
        if let Some(acme) = &self.acme {
            certificates(&mut page, acme.status());
        }
        self.queues(&mut page);
        self.storage(&mut page);
        self.logs(&mut page);
        if let Some(exporter) = &self.exporter {
            exported(&mut page, exporter);
        }
        if let Some(backups) = &self.backups {
            let help = "When the last backup by the clock began, in seconds since 1970; 0 if there is none.";
            let mut family = page.family("skep_backup_last_timestamp_seconds", Kind::Gauge, help);
            family.sample(&[], backups.last());
        }
        self.jobs(&mut page);
        page.family("skep_build_info", Kind::Gauge, "Which Skep this is.")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        page
    }

    fn visitors(&self, page: &mut Page) {
        page.family("skep_connections", Kind::Gauge, "Open connections of visitors, WebSockets included.")
            .sample(&[], self.traffic.connections());
        page.family(
            "skep_connections_refused_total",
            Kind::Counter,
            "Connections that were closed at once, as there were too many in all or from one address.",
        )
        .sample(&[], self.traffic.turned_away());
        let help = "Requests that were refused for the size of their URL, headers or body.";
        page.family("skep_requests_refused_total", Kind::Counter, help).sample(&[], self.traffic.refused());
        page.family("skep_connections_total", Kind::Counter, "Connections of visitors that were accepted.")
            .sample(&[], self.traffic.accepted());
        page.family(
            "skep_unrouted_requests_total",
            Kind::Counter,
            "Requests for a host or path that nothing is deployed at.",
        )
        .sample(&[], self.traffic.unrouted());
    }

    fn queues(&self, page: &mut Page) {
        let mut found: Vec<(String, String, u64, u64)> = Vec::new();
        for runner in self.accounts.runners() {
            let mut others = (0, 0);
            for (n, name) in runner.tenant.stores.queues.names().into_iter().enumerate() {
                match runner.tenant.stores.queues.metrics(&name) {
                    Ok(m) if n < MOST_QUEUES => {
                        found.push((runner.tenant.id.clone(), name, m.backlog_count, m.backlog_bytes));
                    }
                    Ok(m) => others = (others.0 + m.backlog_count, others.1 + m.backlog_bytes),
                    Err(error) => tracing::warn!(%error, queue = name, "a queue cannot be measured"),
                }
            }
            if others.0 > 0 {
                found.push((runner.tenant.id.clone(), OTHERS.to_owned(), others.0, others.1));
            }
        }
        let mut family = page.family("skep_queue_messages", Kind::Gauge, "Messages that a queue holds.");
        for (account, queue, messages, _) in &found {
            family.sample(&[("account", account), ("queue", queue)], messages);
        }
        let mut family =
            page.family("skep_queue_bytes", Kind::Gauge, "Bytes of the messages that a queue holds.");
        for (account, queue, _, bytes) in &found {
            family.sample(&[("account", account), ("queue", queue)], bytes);
        }
    }

    fn storage(&self, page: &mut Page) {
        let mut family =
            page.family("skep_storage_bytes", Kind::Gauge, "Bytes of the files that an account keeps.");
        for runner in self.accounts.runners() {
            let tenant = &runner.tenant;
            for (store, bytes) in tenant.sizes.recent(&tenant.stores.dir).stores {
                family.sample(&[("account", &tenant.id), ("store", store)], bytes);
            }
        }
    }

    fn logs(&self, page: &mut Page) {
        let counts: Vec<_> =
            self.accounts.runners().iter().map(|r| (r.tenant.id.clone(), r.tenant.logs.counts())).collect();
        let help = "Events of scripts' logs that were kept.";
        let mut family = page.family("skep_log_events_total", Kind::Counter, help);
        for (account, (kept, _)) in &counts {
            family.sample(&[("account", account)], kept);
        }
        let help = "Events of scripts' logs that there was no room or no disk for.";
        let mut family = page.family("skep_log_events_dropped_total", Kind::Counter, help);
        for (account, (_, dropped)) in &counts {
            family.sample(&[("account", account)], dropped);
        }
    }

    fn jobs(&self, page: &mut Page) {
        let jobs = self.jobs.list();
        let mut family = page.family("skep_job_runs_total", Kind::Counter, "Runs of a background job.");
        for (name, state) in &jobs {
            family.sample(&[("job", name)], state.runs);
        }
        let help = "When a background job last ended, in seconds since 1970; 0 before its first run.";
        let mut family = page.family("skep_job_last_run_timestamp_seconds", Kind::Gauge, help);
        for (name, state) in &jobs {
            family.sample(&[("job", name)], state.last_run_ms as f64 / 1000.0);
        }
        let help = "Whether the last run of a background job failed.";
        let mut family = page.family("skep_job_failed", Kind::Gauge, help);
        for (name, state) in &jobs {
            family.sample(&[("job", name)], u8::from(state.last_result.is_err()));
        }
    }
}

impl Measure for Metrics {
    fn read(&self) -> Vec<Metric> {
        self.0.page().metrics()
    }
}

fn exported(page: &mut Page, exporter: &Exporter) {
    let help = "Spans, log records and series that the OpenTelemetry collector took.";
    let mut family = page.family("skep_otlp_sent_total", Kind::Counter, help);
    for signal in Signal::ALL {
        family.sample(&[("signal", signal.name())], exporter.exported(signal).sent);
    }
    let help =
        "Spans, log records and series that there was no room for, or that the collector did not take.";
    let mut family = page.family("skep_otlp_dropped_total", Kind::Counter, help);
    for signal in Signal::ALL {
        family.sample(&[("signal", signal.name())], exporter.exported(signal).dropped);
    }
}

fn certificates(page: &mut Page, status: Status) {
    let help = "Certificates from the ACME authority that are there.";
    page.family("skep_acme_certificates", Kind::Gauge, help).sample(&[], status.certificates);
    let help = "Names whose last order at the ACME authority failed.";
    page.family("skep_acme_failing_names", Kind::Gauge, help).sample(&[], status.failing);
    let help = "Orders at the ACME authority, by what came of them.";
    let mut family = page.family("skep_acme_orders_total", Kind::Counter, help);
    family.sample(&[("result", "issued")], status.issued);
    family.sample(&[("result", "failed")], status.failed);
    if let Some(at) = status.first_to_expire {
        let help = "When the first certificate of the ACME authority expires.";
        page.family("skep_acme_first_expiry_timestamp_seconds", Kind::Gauge, help)
            .sample(&[], at as f64 / 1000.0);
    }
}

fn requests(page: &mut Page, rows: &[Row]) {
    let readings: Vec<_> = rows.iter().map(|row| (row, row.meter.requests.read())).collect();
    let help = "Requests of visitors and dispatchers, by what came of them.";
    let mut family = page.family("skep_requests_total", Kind::Counter, help);
    for (row, reading) in &readings {
        for (outcome, class, count) in &reading.counts {
            let class = format!("{class}xx");
            family.sample(&row.labels(&[("status", &class), ("outcome", outcome.name())]), count);
        }
    }
    let help = "Time from a request's head to that of its response.";
    let mut family = page.family("skep_request_duration_seconds", Kind::Histogram, help);
    let bounds = LATENCY_MS.map(|ms| ms as f64 / 1000.0);
    for (row, reading) in readings.iter().filter(|(_, reading)| !reading.counts.is_empty()) {
        family.histogram(&row.labels(&[]), &bounds, &reading.buckets, reading.total_us as f64 / 1e6);
    }
}

fn events(page: &mut Page, rows: &[Row]) {
    let help = "Queue batches and crons that a script was given, by what came of them.";
    let mut family = page.family("skep_events_total", Kind::Counter, help);
    for row in rows {
        for (kind, outcome, count) in row.meter.events.read() {
            family.sample(&row.labels(&[("event", kind.name()), ("outcome", outcome)]), count);
        }
    }
}

/// Name, kind, help, and the number among what is used.
type ProcessFamily = (&'static str, Kind, &'static str, fn(&Used) -> f64);

fn processes(page: &mut Page, rows: &[Row]) {
    let cells: usize = rows.iter().map(|row| row.used.cells).sum();
    page.family("skep_cells", Kind::Gauge, "Processes of scripts that run.").sample(&[], cells);
    let families: [ProcessFamily; 5] = [
        ("skep_script_cells", Kind::Gauge, "Processes of a script that run.", |used| used.cells as f64),
        (
            "skep_script_memory_bytes",
            Kind::Gauge,
            "Memory of a script's processes, without what they share.",
            |used| used.memory as f64,
        ),
        (
            "skep_script_cpu_seconds_total",
            Kind::Counter,
            "CPU time of a script's processes, starts included.",
            |used| used.cpu.as_secs_f64(),
        ),
        (
            "skep_script_cold_starts_total",
            Kind::Counter,
            "Starts of a script of which no process ran.",
            |used| used.cold_starts as f64,
        ),
        (
            "skep_script_restarts_total",
            Kind::Counter,
            "Processes of a script that ended by themselves or for a limit.",
            |used| used.restarts as f64,
        ),
    ];
    for (name, kind, help, value) in families {
        let mut family = page.family(name, kind, help);
        for row in rows.iter().filter(|row| row.used != Used::default()) {
            family.sample(&row.labels(&[]), value(&row.used));
        }
    }
}
