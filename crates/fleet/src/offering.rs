//! Bindings of whose answers a process may pass on the content without reading it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::{HeaderValue, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use skep_wire::{
    Body, BoxError, BoxFuture, Held, NamedFile, NextFrame, Request, Response, SENDFILE_HEADER,
    SENDFILE_LEAST, SendFile, Service, Wrap, lend, wrapped,
};
use tokio::time::{Sleep, sleep};

use crate::offers::Offers;
use crate::uploads::Uploads;

/// Bodies up to this size are not worth another way, if they are there at once.
const SMALL: usize = 64 << 10;

/// A binding's server that says itself what its answers are called.
pub(crate) struct Offering {
    pub service: Arc<dyn Service>,
    pub offers: Arc<Offers>,
}

impl Service for Offering {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let mut response = self.service.call(request).await;
            match response.extensions_mut().remove::<NamedFile>() {
                None => response,
                Some(file) => {
                    let passes = self.offers.passes().clone();
                    let offer = self.offers.file(file);
                    let body = |body| wrapped(body, Hesitant { passes, begun: false, pause: None });
                    response.map(|all| Held::new(body(all), offer).boxed_unsync())
                }
            }
        })
    }
}

/// How long an answer stands still after its beginning that is likely to be passed on.
const PAUSE: Duration = Duration::from_millis(2);

/// An answer that begins with what there is to know of its content, and goes on with that: in vain, if the content is passed on.
struct Hesitant {
    /// Whether that is likely.
    passes: Arc<AtomicBool>,
    begun: bool,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Wrap for Hesitant {
    fn poll_frame(&mut self, body: Pin<&mut Body>, cx: &mut Context<'_>) -> NextFrame {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
            // It is read.
            self.passes.store(false, Ordering::Relaxed);
        }
        let next = ready!(body.poll_frame(cx));
        if !std::mem::replace(&mut self.begun, true) && self.passes.load(Ordering::Relaxed) {
            self.pause = Some(Box::pin(sleep(PAUSE)));
        }
        Poll::Ready(next)
    }
}

/// A dispatch namespace: what a script of it answers the dispatcher may pass on, and it says in a header what that is called.
pub(crate) struct Dispatching {
    pub service: Arc<dyn Service>,
    pub offers: Arc<Offers>,
    /// What the dispatcher was given.
    pub uploads: Uploads,
}

impl Service for Dispatching {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let mut response = self.service.call(self.uploads.leave(request)).await;
            // Assets have what headers their owner likes.
            response.headers_mut().remove(SENDFILE_HEADER);
            if response.status() == StatusCode::SWITCHING_PROTOCOLS || response.body().is_end_stream() {
                return response;
            }
            match response.extensions_mut().remove::<SendFile>() {
                Some(file) if file.length() >= SENDFILE_LEAST => self.file(response, file),
                _ => self.body(response).await,
            }
        })
    }
}

impl Dispatching {
    fn file(&self, mut response: Response, file: SendFile) -> Response {
        let name = self.offers.name();
        if !say(&mut response, &name) {
            return response;
        }
        let offer = self.offers.file(NamedFile { name, file });
        response.map(|body| Held::new(body, offer).boxed_unsync())
    }

    async fn body(&self, response: Response) -> Response {
        let (head, mut body) = response.into_parts();
        let begun = match body.size_hint().exact() {
            Some(length) if length <= SMALL as u64 => return Response::from_parts(head, body),
            Some(_) => Begun::default(),
            None => begin(&mut body).await,
        };
        let is_over = begun.is_over;
        let mut response = Response::from_parts(head, begun.before(body));
        if is_over {
            return response;
        }
        let Some(room) = self.offers.room() else { return response };
        let name = self.offers.name();
        if !say(&mut response, &name) {
            return response;
        }
        response.map(|body| {
            let (body, loan) = lend(body, room);
            Held::new(body, self.offers.body(name, loan)).boxed_unsync()
        })
    }
}

fn say(response: &mut Response, name: &str) -> bool {
    let value = HeaderValue::from_str(name);
    value.is_ok_and(|value| {
        response.headers_mut().insert(SENDFILE_HEADER, value);
        true
    })
}

/// What is there of a body at once.
#[derive(Default)]
struct Begun {
    pieces: Vec<Result<Bytes, BoxError>>,
    /// Whether that is all of it.
    is_over: bool,
}

impl Begun {
    /// The body that begins with it.
    fn before(self, body: Body) -> Body {
        if self.pieces.is_empty() {
            return body;
        }
        let rest = if self.is_over { skep_wire::empty() } else { body };
        skep_wire::stream(stream::iter(self.pieces).chain(rest.into_data_stream()))
    }
}

/// What comes of `body` without waiting for it.
async fn begin(body: &mut Body) -> Begun {
    let (mut begun, mut length) = (Begun::default(), 0);
    poll_fn(|cx| {
        while length < SMALL {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => {
                    begun.is_over = true;
                    break;
                }
                Poll::Ready(Some(piece)) => {
                    let piece = piece.map(|frame| frame.into_data().unwrap_or_default());
                    length += piece.as_ref().map_or(SMALL, Bytes::len);
                    begun.pieces.push(piece);
                }
            }
        }
        Poll::Ready(())
    })
    .await;
    begun
}
