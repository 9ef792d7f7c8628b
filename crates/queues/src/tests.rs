//! The broker as its callers see it: calls on the producer's service, batches at the consumer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use skep_runtime::{Clock, Jobs, ManualClock, Shutdown, ShutdownTrigger};
use skep_wire::{BoxFuture, Service, full};
use tokio::sync::{mpsc, oneshot};

use crate::{Batch, ConsumerSettings, Deliver, DeliveryOutcome, Queues, RetryMessage};

type Answer = Result<DeliveryOutcome, String>;

/// A consumer that hands each batch to the test and waits for what it says.
struct Manual(mpsc::UnboundedSender<(Batch, oneshot::Sender<Answer>)>);

impl Deliver for Manual {
    fn deliver(&self, batch: Batch) -> BoxFuture<'_, Answer> {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send((batch, reply));
        Box::pin(async { answer.await.unwrap_or(Err("the test is gone".into())) })
    }
}

struct Inbox(mpsc::UnboundedReceiver<(Batch, oneshot::Sender<Answer>)>);

impl Inbox {
    async fn next(&mut self) -> (Batch, oneshot::Sender<Answer>) {
        tokio::time::timeout(Duration::from_secs(10), self.0.recv()).await.expect("no batch came").unwrap()
    }

    async fn nothing(&mut self) {
        let got = tokio::time::timeout(Duration::from_millis(30), self.0.recv()).await;
        assert!(!matches!(got, Ok(Some(_))), "a batch came: {got:?}");
    }
}

fn manual() -> (Arc<Manual>, Inbox) {
    let (tx, rx) = mpsc::unbounded_channel();
    (Arc::new(Manual(tx)), Inbox(rx))
}

fn open(dir: &Path, clock: Clock) -> (Queues, ShutdownTrigger) {
    let (trigger, shutdown) = Shutdown::new();
    let jobs = Jobs::new(clock.clone(), shutdown.clone());
    (Queues::open(dir, clock, &jobs, shutdown).unwrap(), trigger)
}

async fn call(
    service: &Arc<dyn Service>,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<bytes::Bytes>,
) -> (StatusCode, http::HeaderMap, String) {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = service.call(request.body(full(body)).unwrap()).await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

async fn send(service: &Arc<dyn Service>, body: &str) {
    let (status, _, text) =
        call(service, Method::POST, "/message", &[("x-msg-fmt", "text")], body.to_owned()).await;
    assert_eq!(status, StatusCode::OK, "{text}");
}

fn bodies(batch: &Batch) -> Vec<String> {
    batch.messages.iter().map(|m| String::from_utf8(m.body.to_vec()).unwrap()).collect()
}

fn ok() -> Answer {
    Ok(DeliveryOutcome::ended("ok"))
}

fn one_by_one() -> ConsumerSettings {
    ConsumerSettings { max_batch_size: 1, ..ConsumerSettings::default() }
}

#[tokio::test]
async fn a_send_answers_with_the_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let (queues, _stop) = open(dir.path(), ManualClock::at(5_000).clock());
    let producer = queues.producer("q", None);
    let (status, headers, body) =
        call(&producer, Method::POST, "/message", &[("x-msg-fmt", "json")], r#"{"a":1}"#).await;
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (StatusCode::OK, "application/json"));
    assert_eq!(
        body,
        r#"{"metadata":{"metrics":{"backlogCount":1,"backlogBytes":7,"oldestMessageTimestamp":5000}}}"#
    );
    let batch = r#"{"messages":[{"body":"Ingi","contentType":"json"},{"body":"dHQ="}]}"#;
    let (_, _, body) = call(&producer, Method::POST, "/batch", &[], batch).await;
    assert!(body.contains(r#""backlogCount":3,"backlogBytes":12"#), "{body}");
    let (_, _, body) = call(&producer, Method::GET, "/metrics", &[], "").await;
    assert_eq!(body, r#"{"backlogCount":3,"backlogBytes":12,"oldestMessageTimestamp":5000}"#);
    let empty = queues.producer("empty", None);
    let (_, _, body) = call(&empty, Method::GET, "/metrics", &[], "").await;
    assert_eq!(body, r#"{"backlogCount":0,"backlogBytes":0,"oldestMessageTimestamp":0}"#);
}

#[tokio::test]
async fn a_refused_call_says_why_and_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (queues, _stop) = open(dir.path(), Clock::system());
    let producer = queues.producer("q", None);
    let big = vec![b'a'; 128_001];
    let (status, headers, _) = call(&producer, Method::POST, "/message", &[], big).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(headers["cf-queues-error-code"], "10204");
    assert_eq!(headers["cf-queues-error-cause"], "message length of 128001 bytes exceeds limit of 128000");
    let huge = vec![b' '; 5 << 20];
    let told = [("cf-queue-batch-bytes", "3000000"), ("cf-queue-batch-count", "30")];
    let (_, headers, _) = call(&producer, Method::POST, "/batch", &told, huge).await;
    assert_eq!(headers["cf-queues-error-cause"], "batch size of 3000000 bytes exceeds limit of 256000 bytes");
    let odd = [("x-msg-fmt", "\u{e9}")];
    let (status, headers, _) = call(&producer, Method::POST, "/message", &odd, "x").await;
    assert_eq!(
        (status, headers["cf-queues-error-code"].to_str().unwrap()),
        (StatusCode::BAD_REQUEST, "10203")
    );
    let (status, _, _) = call(&producer, Method::PUT, "/message", &[], "x").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(queues.metrics("q").unwrap().backlog_count, 0);
}

#[tokio::test]
async fn all_formats_arrive_as_they_were_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (queues, _stop) = open(dir.path(), Clock::system());
    let producer = queues.producer("q", None);
    let (deliver, mut inbox) = manual();
    let settings = ConsumerSettings { max_batch_size: 4, ..ConsumerSettings::default() };
    let _consumer = queues.consume("q", settings, deliver);
    let sent: [(&str, &[u8]); 4] =
        [("text", b"hi"), ("json", b"{}"), ("bytes", b"\0\xff"), ("v8", b"\xff\x0f")];
    for (format, body) in sent {
        call(&producer, Method::POST, "/message", &[("x-msg-fmt", format)], body).await;
    }
    let (batch, reply) = inbox.next().await;
    for (message, (format, body)) in batch.messages.iter().zip(sent) {
        assert_eq!(serde_json::to_value(message.format).unwrap(), format);
        assert_eq!((&message.body[..], message.attempts), (body, 1));
        assert!(message.id.len() == 32 && message.id.bytes().all(|b| b.is_ascii_hexdigit()));
    }
    reply.send(ok()).unwrap();
}

#[tokio::test]
async fn a_partial_batch_is_delivered_after_the_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    let (queues, _stop) = open(dir.path(), clock.clock());
    let producer = queues.producer("q", None);
    let (deliver, mut inbox) = manual();
    let _consumer = queues.consume("q", ConsumerSettings::default(), deliver);
    send(&producer, "a").await;
    clock.advance_ms(4_999);
    send(&producer, "b").await;
    inbox.nothing().await;
    clock.advance_ms(1);
    let (batch, reply) = inbox.next().await;
    assert_eq!(bodies(&batch), ["a", "b"]);
    assert_eq!(batch.metrics.backlog_count, 0);
    reply.send(ok()).unwrap();
}

#[tokio::test]
async fn a_delay_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    {
        let (queues, _stop) = open(dir.path(), clock.clock());
        let producer = queues.producer("q", Some(60));
        send(&producer, "late").await;
        call(&producer, Method::POST, "/message", &[("x-msg-delay-secs", "10")], "soon").await;
    }
    let (queues, _stop) = open(dir.path(), clock.clock());
    let (deliver, mut inbox) = manual();
    let _consumer = queues.consume("q", one_by_one(), deliver);
    inbox.nothing().await;
    clock.advance_ms(10_000);
    let (batch, reply) = inbox.next().await;
    assert_eq!(bodies(&batch), ["soon"]);
    reply.send(ok()).unwrap();
    clock.advance_ms(49_999);
    inbox.nothing().await;
    clock.advance_ms(1);
    assert_eq!(bodies(&inbox.next().await.0), ["late"]);
}

#[tokio::test]
async fn a_message_is_retried_with_its_delay_then_goes_to_the_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    let (queues, _stop) = open(dir.path(), clock.clock());
    let settings = ConsumerSettings {
        max_retries: 1,
        retry_delay: Some(20),
        dead_letter_queue: Some("dead".into()),
        ..one_by_one()
    };
    let (deliver, mut inbox) = manual();
    let _consumer = queues.consume("q", settings, deliver);
    send(&queues.producer("q", None), "x").await;
    let (first, reply) = inbox.next().await;
    reply.send(Ok(DeliveryOutcome::ended("exception"))).unwrap();
    inbox.nothing().await;
    clock.advance_ms(20_000);
    let (second, reply) = inbox.next().await;
    assert_eq!(second.messages[0].id, first.messages[0].id);
    assert_eq!(second.messages[0].attempts, 2);
    let own = RetryMessage { msg_id: second.messages[0].id.clone(), delay_seconds: None };
    reply.send(Ok(DeliveryOutcome { retry_messages: vec![own], ..DeliveryOutcome::ended("ok") })).unwrap();

    // Nobody named the dead letter queue before: it came to be with its first message.
    while queues.metrics("dead").unwrap().backlog_count == 0 {
        tokio::task::yield_now().await;
    }
    let (deliver, mut inbox) = manual();
    let _dead = queues.consume("dead", one_by_one(), deliver);
    let (letter, reply) = inbox.next().await;
    assert_eq!((bodies(&letter), letter.messages[0].attempts), (vec!["x".to_owned()], 1));
    assert_ne!(letter.messages[0].id, first.messages[0].id);
    assert_eq!(queues.metrics("q").unwrap().backlog_count, 0);
    reply.send(ok()).unwrap();
}

#[tokio::test]
async fn a_consumer_that_is_not_up_costs_no_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    let (queues, _stop) = open(dir.path(), clock.clock());
    let (deliver, mut inbox) = manual();
    let _consumer = queues.consume("q", ConsumerSettings { max_retries: 0, ..one_by_one() }, deliver);
    send(&queues.producer("q", None), "x").await;
    for _ in 0..5 {
        let (batch, reply) = inbox.next().await;
        assert_eq!(batch.messages[0].attempts, 1);
        reply.send(Err("no cell".into())).unwrap();
        inbox.nothing().await;
        clock.advance_ms(30_000);
    }
    let (_, reply) = inbox.next().await;
    reply.send(ok()).unwrap();
}

#[tokio::test]
async fn deliveries_run_side_by_side_up_to_the_concurrency() {
    let dir = tempfile::tempdir().unwrap();
    let (queues, _stop) = open(dir.path(), Clock::system());
    let producer = queues.producer("q", None);
    let (deliver, mut inbox) = manual();
    let _consumer =
        queues.consume("q", ConsumerSettings { max_concurrency: Some(3), ..one_by_one() }, deliver);
    for n in 0..5 {
        send(&producer, &n.to_string()).await;
    }
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(inbox.next().await);
    }
    inbox.nothing().await;
    let distinct: BTreeSet<String> = open.iter().flat_map(|(batch, _)| bodies(batch)).collect();
    assert_eq!(distinct.len(), 3);
    open.pop().unwrap().1.send(ok()).unwrap();
    inbox.next().await;
}

#[tokio::test]
async fn a_new_consumer_replaces_the_old_and_takes_nothing_from_its_hands() {
    let dir = tempfile::tempdir().unwrap();
    let (queues, _stop) = open(dir.path(), Clock::system());
    let producer = queues.producer("q", None);
    let (old, mut old_inbox) = manual();
    let old_handle = queues.consume("q", one_by_one(), old);
    send(&producer, "first").await;
    let (_, old_reply) = old_inbox.next().await;
    let (new, mut new_inbox) = manual();
    let new_handle = queues.consume("q", one_by_one(), new);
    send(&producer, "second").await;
    let (batch, reply) = new_inbox.next().await;
    assert_eq!(bodies(&batch), ["second"]);
    reply.send(ok()).unwrap();
    new_inbox.nothing().await;
    old_reply.send(Ok(DeliveryOutcome::ended("exception"))).unwrap();
    old_handle.stop().await;
    let (batch, reply) = new_inbox.next().await;
    assert_eq!((bodies(&batch), batch.messages[0].attempts), (vec!["first".to_owned()], 2));
    reply.send(ok()).unwrap();
    new_handle.stop().await;
    assert_eq!(queues.metrics("q").unwrap().backlog_count, 0);
    send(&producer, "third").await;
    new_inbox.nothing().await;
}

#[tokio::test]
async fn what_nobody_acknowledged_for_four_days_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    let (queues, _stop) = open(dir.path(), clock.clock());
    let producer = queues.producer("q", None);
    for _ in 0..1_100 {
        send(&producer, "old").await;
    }
    clock.advance_ms(4 * 86_400_000);
    send(&producer, "new").await;
    assert_eq!(queues.expire_now().await.unwrap(), "0 messages outlived their retention");
    clock.advance_ms(1);
    assert_eq!(queues.expire_now().await.unwrap(), "1100 messages outlived their retention");
    let left = queues.metrics("q").unwrap();
    assert_eq!((left.backlog_count, left.backlog_bytes), (1, 3));
}

/// Fails, refuses, retries and acknowledges by turns.
struct Moody {
    turn: AtomicUsize,
    acked: Mutex<BTreeMap<String, usize>>,
}

impl Deliver for Moody {
    fn deliver(&self, batch: Batch) -> BoxFuture<'_, Answer> {
        let turn = self.turn.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            tokio::task::yield_now().await;
            match turn % 5 {
                0 => Err("not up".into()),
                1 => Ok(DeliveryOutcome::ended("exception")),
                2 => {
                    let own =
                        |m: &crate::Message| RetryMessage { msg_id: m.id.clone(), delay_seconds: Some(0) };
                    let retry_messages = batch.messages.iter().step_by(2).map(own).collect();
                    for message in batch.messages.iter().skip(1).step_by(2) {
                        self.ack(message);
                    }
                    Ok(DeliveryOutcome { retry_messages, ..DeliveryOutcome::ended("ok") })
                }
                _ => {
                    batch.messages.iter().for_each(|m| self.ack(m));
                    ok()
                }
            }
        })
    }
}

impl Moody {
    fn ack(&self, message: &crate::Message) {
        let body = String::from_utf8(message.body.to_vec()).unwrap();
        *self.acked.lock().unwrap().entry(body).or_default() += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_consumer_does_every_message_ends_once_as_acknowledged_or_dead() {
    const TOTAL: usize = 400;
    let dir = tempfile::tempdir().unwrap();
    let (queues, _stop) = open(dir.path(), Clock::system());
    let moody = Arc::new(Moody { turn: AtomicUsize::new(0), acked: Mutex::default() });
    let settings = ConsumerSettings {
        max_batch_timeout_s: 0,
        max_retries: 2,
        dead_letter_queue: Some("dead".into()),
        ..ConsumerSettings::default()
    };
    let consumer = queues.consume("q", settings, moody.clone());
    let producer = queues.producer("q", None);
    for n in 0..TOTAL {
        send(&producer, &format!("m{n}")).await;
    }
    while queues.metrics("q").unwrap().backlog_count > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    consumer.stop().await;
    let acked = moody.acked.lock().unwrap().clone();
    assert!(acked.values().all(|times| *times == 1), "acknowledged twice");
    let dead = queues.metrics("dead").unwrap().backlog_count as usize;
    assert_eq!(acked.len() + dead, TOTAL);
}

/// Copies the files. The open read keeps a checkpoint from starting the WAL afresh between the two.
fn copy(from: &Path, to: &Path) {
    let reader = rusqlite::Connection::open(from.join("queues.sqlite")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM queue").unwrap();
    for file in ["queues.sqlite", "queues.sqlite-wal"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

/// A copy of the files at any moment is what a crash leaves (the WAL's checksums cut a torn tail).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_every_acknowledged_send_is_there_unless_it_was_consumed() {
    let dir = tempfile::tempdir().unwrap();
    let (queues, _stop) = open(dir.path(), Clock::system());
    let moody = Arc::new(Moody { turn: AtomicUsize::new(0), acked: Mutex::default() });
    let settings = ConsumerSettings {
        max_batch_timeout_s: 0,
        dead_letter_queue: Some("dead".into()),
        ..ConsumerSettings::default()
    };
    let _consumer = queues.consume("q", settings, moody.clone());
    let producer = queues.producer("q", None);
    for round in 0..10 {
        let sent: Vec<String> = (0..30).map(|n| format!("r{round}n{n}")).collect();
        for body in &sent {
            send(&producer, body).await;
        }
        let image = tempfile::tempdir().unwrap();
        copy(dir.path(), image.path());
        let acked: BTreeSet<String> = moody.acked.lock().unwrap().keys().cloned().collect();
        let (after, _stop) = open(image.path(), Clock::system());
        let (deliver, mut inbox) = manual();
        let mut found = BTreeSet::new();
        for queue in ["q", "dead"] {
            let settings = ConsumerSettings { max_batch_timeout_s: 0, ..ConsumerSettings::default() };
            let _consumer = after.consume(queue, settings, deliver.clone());
            while after.metrics(queue).unwrap().backlog_count > 0 {
                let soon = Duration::from_millis(20);
                if let Ok(Some((batch, reply))) = tokio::time::timeout(soon, inbox.0.recv()).await {
                    found.extend(bodies(&batch));
                    let _ = reply.send(ok());
                }
            }
        }
        for body in sent {
            assert!(found.contains(&body) || acked.contains(&body), "{body} is lost");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release -p skep-queues -- --ignored --nocapture"]
async fn throughput() {
    struct Quick(AtomicUsize);
    impl Deliver for Quick {
        fn deliver(&self, batch: Batch) -> BoxFuture<'_, Answer> {
            self.0.fetch_add(batch.messages.len(), Ordering::SeqCst);
            Box::pin(async { ok() })
        }
    }
    const TOTAL: usize = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let (queues, _stop) = open(dir.path(), Clock::system());
    let producer = queues.producer("q", None);
    let start = std::time::Instant::now();
    let senders: Vec<_> = (0..64)
        .map(|_| {
            let producer = producer.clone();
            tokio::spawn(async move {
                for _ in 0..TOTAL / 64 {
                    send(&producer, "a body of some thirty characters").await;
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let sent = start.elapsed();
    let quick = Arc::new(Quick(AtomicUsize::new(0)));
    let settings = ConsumerSettings { max_batch_size: 100, ..ConsumerSettings::default() };
    let total = TOTAL / 64 * 64;
    let start = std::time::Instant::now();
    let _consumer = queues.consume("q", settings, quick.clone());
    while quick.0.load(Ordering::SeqCst) < total - 100 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!(
        "{:.0} durable sends/s by 64 senders, {:.0} deliveries/s",
        total as f64 / sent.as_secs_f64(),
        total as f64 / start.elapsed().as_secs_f64()
    );
}
