//! The binding that applications send through.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde::Serialize;
use skep_wire::{BoxFuture, ReadError, Request, Response, Service, json, read_all};

use crate::error::QueueError;
use crate::message::{Metrics, NewMessage};
use crate::queue::Queue;
use crate::request;

/// Bytes of a call that are read before it is refused for its size alone: enough for the largest batch in
/// base64 several times over.
const MAX_CALL: usize = 4 << 20;

#[derive(Serialize)]
struct Sent {
    metadata: Metadata,
}

#[derive(Serialize)]
struct Metadata {
    metrics: Metrics,
}

/// `POST /message`, `POST /batch`, `GET /metrics` of one queue.
#[derive(Debug)]
pub(crate) struct Producer {
    pub queue: Arc<Queue>,
    /// Where the call says none, in seconds; without it the queue's.
    pub default_delay: Option<u32>,
}

impl Producer {
    async fn answer(&self, request: Request) -> Result<Response, QueueError> {
        let (head, body) = request.into_parts();
        let delay = self.default_delay.unwrap_or_else(|| self.queue.settings().delivery_delay_secs);
        let messages: Vec<NewMessage> = match (&head.method, head.uri.path()) {
            (&Method::GET, "/metrics") => return Ok(json(StatusCode::OK, &self.queue.metrics()?)),
            (&Method::POST, "/message") => match read_all(body, MAX_CALL).await {
                Ok(body) => vec![request::message(&head.headers, body, delay)?],
                Err(error) => return Err(unread(error, |n| request::oversized_message(&head.headers, n))),
            },
            (&Method::POST, "/batch") => match read_all(body, MAX_CALL).await {
                Ok(body) => request::batch(&head.headers, &body, delay)?,
                Err(error) => return Err(unread(error, |n| request::oversized_batch(&head.headers, n))),
            },
            _ => return Err(QueueError::NoSuchCall),
        };
        let metrics = self.queue.send(messages).await?;
        Ok(json(StatusCode::OK, &Sent { metadata: Metadata { metrics } }))
    }
}

fn unread(error: ReadError, oversized: impl FnOnce(usize) -> QueueError) -> QueueError {
    match error {
        ReadError::TooLarge(limit) => oversized(limit),
        ReadError::Broken(_) => QueueError::Disconnected,
    }
}

impl Service for Producer {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async { self.answer(request).await.unwrap_or_else(|error| error.response()) })
    }
}
