//! Nothing is lost, and nothing ends twice, whatever happens on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Fails, refuses, retries and acknowledges by turns.
struct Moody {
    turn: AtomicUsize,
    acked: Mutex<BTreeMap<String, usize>>,
}

impl Deliver for Moody {
    fn who(&self) -> u64 {
        0
    }

    fn room(&self, _: usize) -> BoxFuture<'_, Waiting> {
        Box::pin(async { Backlog::new(Arc::default()).hold(0) })
    }

    fn deliver(&self, batch: Batch, _: Waiting) -> BoxFuture<'_, Answer> {
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
        fn who(&self) -> u64 {
            0
        }

        fn room(&self, _: usize) -> BoxFuture<'_, Waiting> {
            Box::pin(async { Backlog::new(Arc::default()).hold(0) })
        }

        fn deliver(&self, batch: Batch, _: Waiting) -> BoxFuture<'_, Answer> {
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

#[tokio::test]
async fn a_message_of_which_nobody_is_told_is_delivered_when_all_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    let (queues, _stop) = open(dir.path(), clock.clock());
    let (deliver, mut inbox) = manual();
    let _consumer = queues.consume("q", one_by_one(), deliver);
    send(&queues.producer("q", None), "told").await;
    let (_, _held) = inbox.next().await;
    // Its sender hung up while it was written: it is on the disk, and before the one that was taken.
    let disk = rusqlite::Connection::open(dir.path().join("queues.sqlite")).unwrap();
    disk.execute_batch(
        "BEGIN IMMEDIATE;
         INSERT INTO message SELECT seq + 1, queue, due - 1, sent, 0, format, randomblob(16), CAST('left' AS BLOB) FROM message;
         UPDATE queue SET next = next + 1, count = count + 1;
         COMMIT",
    )
    .unwrap();
    inbox.nothing().await;
    queues.expire_now().await.unwrap();
    assert_eq!(bodies(&inbox.next().await.0), ["left"]);
}
