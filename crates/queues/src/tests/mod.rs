//! The broker as its callers see it: calls on the producer's service, batches at the consumer.

mod delivery;
mod loss;
mod sends;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use skep_runtime::{Backlog, Clock, Jobs, ManualClock, Shutdown, ShutdownTrigger, Waiting};
use skep_wire::{BoxFuture, Service, full};
use tokio::sync::{mpsc, oneshot};

use crate::{Batch, ConsumerSettings, Deliver, DeliveryOutcome, QueueSettings, Queues, RetryMessage};

type Answer = Result<DeliveryOutcome, String>;

/// A consumer that hands each batch to the test and waits for what it says.
struct Manual(mpsc::UnboundedSender<(Batch, oneshot::Sender<Answer>)>);

impl Deliver for Manual {
    fn who(&self) -> u64 {
        0
    }

    fn room(&self, _: usize) -> BoxFuture<'_, Waiting> {
        Box::pin(async { Backlog::new(Arc::default()).hold(0) })
    }

    fn deliver(&self, batch: Batch, _: Waiting) -> BoxFuture<'_, Answer> {
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
