//! A client's connection for requests with a body, upgrades and whatever else [`Exchange`](crate::exchange::Exchange) does not do: hyper's, without a
//! task of its own.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use skep_runtime::loops::here;

use crate::{Body, BoxFuture, Socket};

/// What a head has to fit into, and what is kept of a body that the server does not take yet.
const BUFFER: usize = 160 << 10;

/// One connection: it moves only while somebody polls it.
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    /// None when the connection is over. What a driver that is done still holds must go with it: a request that
    /// it never took is given back only then.
    driver: Option<Driver>,
    /// The event loop that it belongs to.
    pub(crate) home: u8,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("over", &self.driver.is_none()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Begins HTTP on `stream`.
    pub async fn open(stream: Socket) -> Result<Self, hyper::Error> {
        let (sender, connection) =
            http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(Box::pin(connection.with_upgrades())), home: here() })
    }

    /// Reads and writes as far as possible. What this brings about wakes nobody: look after it.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// Resolves when a request may be sent, with false if the connection is over.
    pub async fn ready(&mut self) -> bool {
        poll_fn(|cx| {
            self.drive(cx);
            match self.sender.is_ready() {
                true => Poll::Ready(true),
                false if self.driver.is_none() => Poll::Ready(false),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Sends a request and waits for the head of its response.
    pub async fn send(&mut self, request: http::Request<Body>) -> Sent {
        let response = self.sender.try_send_request(request);
        let mut response = std::pin::pin!(response);
        poll_fn(|cx| {
            drive(&mut self.driver, cx);
            // Only the driver can complete it, and has just had its turn: no need to be woken by it.
            response.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// Goes on until the connection is over.
    pub async fn finish(mut self) {
        if let Some(driver) = self.driver.take() {
            let _ = driver.await;
        }
    }

    /// Whether the response is over for both sides, so that the next request may follow.
    pub fn is_reusable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
        *driver = None;
    }
}

/// hyper's half of a connection; its type has no public name.
type Driver = BoxFuture<'static, Result<(), hyper::Error>>;
type Sent = Result<http::Response<Incoming>, TrySendError<http::Request<Body>>>;
