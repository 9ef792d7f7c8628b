//! The server behind the binding.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use skep_runtime::Bounds;
use skep_wire::{
    AtHome, BoxFuture, ReadError, Request, Response, Service, full, json, read_all, reply, room_for,
};
use tokio::sync::Semaphore;

use crate::error::ImagesError;
use crate::form::{self, Form, MAX_FORM};
use crate::job::{Answer, Task};
use crate::worker::Worker;

/// Requests of one binding whose images are in memory, as Cloudflare lets an invocation have so many connections at once.
const HELD: usize = 6;
/// Bytes of requests that may be in memory when another one is read: of one script, and of all.
const BODIES: Bounds = Bounds { own: HELD * MAX_FORM, all: 1 << 30, little: MAX_FORM };
/// Requests of one binding that wait for that.
const WAITING: usize = 64;
/// How long one waits for a process.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the engine looks for the error's code.
const ERROR: HeaderName = HeaderName::from_static("cf-images-binding");

/// All processes of the machine that work on images.
#[derive(Clone, Debug)]
pub struct Images(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    worker: Worker,
    /// Processes that may work at once.
    places: Semaphore,
    /// How many there are.
    count: usize,
}

/// One binding of one script.
struct Binding {
    images: Images,
    /// Requests in memory.
    held: Semaphore,
    /// Its share of the processes: never all of them, unless there is one only.
    own: Semaphore,
    /// All requests.
    all: Semaphore,
}

impl Images {
    /// `at_once` processes of `worker` at most.
    pub fn new(worker: Worker, at_once: usize) -> Self {
        let count = at_once.max(1);
        Self(Arc::new(Inner { worker, places: Semaphore::new(count), count }))
    }

    /// The server for a binding of one script. Call it where processes are to be started from, inside a tokio runtime.
    pub fn binding(&self) -> Arc<dyn Service> {
        let binding = Binding {
            images: self.clone(),
            held: Semaphore::new(HELD),
            own: Semaphore::new((self.0.count / 2).max(1)),
            all: Semaphore::new(HELD + WAITING),
        };
        Arc::new(AtHome::new(Arc::new(binding)))
    }
}

impl Binding {
    async fn answer(&self, request: Request) -> Result<Response, ImagesError> {
        // In memory before its turn comes: who sends slowly keeps nobody else waiting.
        let _place = self.all.try_acquire().map_err(|_| ImagesError::busy());
        let _place = match _place {
            Ok(place) => place,
            Err(error) => {
                // An engine that still sends reads no answer.
                let _ = read_all(request.into_body(), 0).await;
                return Err(error);
            }
        };
        let _held = self.held.acquire().await.map_err(|_| ImagesError::internal())?;
        let _room = room_for(&request, MAX_FORM, BODIES).await;
        let form = read(request).await?;
        let wait = async { (self.own.acquire().await, self.images.0.places.acquire().await) };
        let turn = tokio::time::timeout(PATIENCE, wait).await;
        let Ok((Ok(_own), Ok(_turn))) = turn else { return Err(ImagesError::busy()) };
        let task = form.task.clone();
        let (answer, image) = self.images.0.worker.run(form).await?;
        match (answer, task) {
            (Answer::Info(info), _) => Ok(json(StatusCode::OK, &info)),
            (Answer::Image, Task::Transform(plan)) => Ok(image_reply(image, plan.format.mime())),
            _ => Err(ImagesError::internal()),
        }
    }
}

async fn read(request: Request) -> Result<Form, ImagesError> {
    let (parts, body) = request.into_parts();
    let body = read_all(body, MAX_FORM).await.map_err(|error| match error {
        ReadError::TooLarge(_) => ImagesError::file_too_large(),
        ReadError::Broken(_) => ImagesError::broken_stream(),
    })?;
    let kind =
        parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    form::read(parts.uri.path(), kind, body).await
}

fn image_reply(image: Bytes, mime: &'static str) -> Response {
    let mut response = reply(StatusCode::OK, full(image));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(mime));
    response
}

fn error_reply(error: &ImagesError) -> Response {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = reply(status, full(error.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=utf-8"));
    if let Ok(code) = HeaderValue::from_str(&format!("err={}", error.code)) {
        response.headers_mut().insert(ERROR, code);
    }
    response
}

impl Service for Binding {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move { self.answer(request).await.unwrap_or_else(|error| error_reply(&error)) })
    }
}
