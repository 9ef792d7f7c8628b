//! An HTTP/1.1 client for one unix socket, with its idle connections.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::Body;

/// The engine closes a connection that was idle for 15.0 s; one that is older than this is not used again.
const IDLE: Duration = Duration::from_secs(10);
/// Idle connections kept.
const MAX_IDLE: usize = 256;

/// A client of the server at one unix socket. Connections are reused.
#[derive(Debug)]
pub struct UnixClient {
    path: PathBuf,
    idle: Mutex<Vec<(SendRequest<Body>, Instant)>>,
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nobody listens on the socket. The request was not sent.
    #[error("cannot connect to {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The connection broke; the server may have acted on the request.
    #[error("the connection was lost: {0}")]
    Lost(#[source] hyper::Error),
}

impl UnixClient {
    /// A client of the server at `path`; connects when first used.
    pub fn new(path: impl Into<PathBuf>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), idle: Mutex::default() })
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends `request`, whose URI is a path and query, and returns once the response's head is there. The
    /// connection is reused when the body has been read to its end.
    pub async fn send(
        self: &Arc<Self>,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<ClientBody>, SendError> {
        loop {
            let (mut sender, reused) = match self.take() {
                Some(sender) => (sender, true),
                None => (self.connect().await?, false),
            };
            if sender.ready().await.is_err() && reused {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let client = self.clone();
                    return Ok(response.map(|inner| ClientBody {
                        inner,
                        ended: false,
                        sender: Some(sender),
                        client,
                    }));
                }
                // The server closed an idle connection before it saw the request: nothing has happened yet.
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(SendError::Lost(failed.into_error())),
                },
            }
        }
    }

    fn take(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((sender, since)) = idle.pop() {
            if since.elapsed() > IDLE {
                // The youngest is on top: all below are older still.
                idle.clear();
            } else if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn give_back(&self, sender: SendRequest<Body>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            idle.push((sender, Instant::now()));
        }
    }

    async fn connect(&self) -> Result<SendRequest<Body>, SendError> {
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|source| SendError::Connect { path: self.path.clone(), source })?;
        let (sender, connection) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(SendError::Lost)?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }
}

/// A response's body. When it has been read to its end its connection serves the next request; dropped
/// before that, the connection is closed.
#[derive(Debug)]
pub struct ClientBody {
    inner: Incoming,
    /// A body of unknown length says only by its last frame that it is over.
    ended: bool,
    sender: Option<SendRequest<Body>>,
    client: Arc<UnixClient>,
}

impl http_body::Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        self.ended |= matches!(frame, Poll::Ready(None));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take()
            && (self.ended || self.inner.is_end_stream())
        {
            self.client.give_back(sender);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BoxFuture, Request, Response, Service, bind_unix, empty, full, read_all, reply, serve_unix};

    struct Echo;
    impl Service for Echo {
        fn call(&self, request: Request) -> BoxFuture<'_, Response> {
            Box::pin(async move { reply(http::StatusCode::OK, full(request.uri().path().to_owned())) })
        }
    }

    #[tokio::test]
    async fn a_connection_is_reused_and_a_restarted_server_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let client = UnixClient::new(&path);
        for round in 0..2 {
            let (trigger, shutdown) = skep_runtime::Shutdown::new();
            let listener = bind_unix(&path).unwrap();
            let server = tokio::spawn(serve_unix(listener, Arc::new(Echo), shutdown));
            for n in 0..3 {
                let request = http::Request::get(format!("/{round}/{n}")).body(empty()).unwrap();
                let response = client.send(request).await.unwrap();
                assert_eq!(read_all(response.into_body(), 100).await.unwrap(), format!("/{round}/{n}"));
                assert_eq!(client.idle.lock().unwrap().len(), 1);
            }
            trigger.trigger();
            server.await.unwrap();
        }
    }
}
