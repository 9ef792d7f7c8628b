use std::collections::VecDeque;

use http::HeaderValue;

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
    decoded.map(|logs| logs.resources.iter().flat_map(|r| &r.scopes).map(|s| s.records.len()).sum()).collect()
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
    let (exporter, collector) =
        exporter(&[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"), ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k")]);
    exporter.log(&log("last"));
    exporter.finish(Duration::from_secs(2)).await;
    let seen = collector.seen.lock().unwrap();
    assert_eq!((seen.len(), &seen[0].headers()["x-key"]), (1, &HeaderValue::from_static("k")));
    assert_eq!(seen[0].headers()["content-encoding"], "gzip");
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&seen[0].body()[..]), &mut text).unwrap();
    assert!(text.windows(4).any(|part| part == b"last"));
}
