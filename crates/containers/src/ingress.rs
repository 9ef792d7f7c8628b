//! The way into one container: a port of the loopback address where the engine of a cell finds what it takes for a helper beside
//! the container. It says there what the container may reach, and has connections to the container's ports opened.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value as Json;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use crate::containers::Containers;
use crate::names::Instance;

/// What the engine says of a container at most.
const MOST: usize = 1 << 20;
/// Connections to one container at the same time. One more is closed at once.
const MOST_OPEN: usize = 2048;

/// A way into a container; it is closed when this is dropped.
#[derive(Debug)]
pub(crate) struct Ingress {
    pub port: u16,
    task: AbortHandle,
}

impl Drop for Ingress {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ingress {
    pub async fn open(containers: Weak<Containers>, instance: Instance) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let instance = Arc::new(instance);
        let task = tokio::spawn(async move {
            // Ends all that goes through it as well.
            let mut open = JoinSet::new();
            loop {
                let accepted = listener.accept().await;
                while open.try_join_next().is_some() {}
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                };
                if open.len() >= MOST_OPEN {
                    tracing::warn!(
                        object = instance.id,
                        "a container has {MOST_OPEN} connections: one more was closed"
                    );
                    continue;
                }
                let (containers, instance) = (containers.clone(), instance.clone());
                open.spawn(async move {
                    let (tunnel, mut tunnels) = tokio::sync::oneshot::channel::<Tunnel>();
                    let tunnel = std::sync::Mutex::new(Some(tunnel));
                    let service = service_fn(|request| answer(&containers, &instance, &tunnel, request));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    // One that breaks has nobody left to tell.
                    let _ = connection.await;
                    if let Ok((upgrade, mut to)) = tunnels.try_recv()
                        && let Ok(upgraded) = upgrade.await
                    {
                        let _: io::Result<_> =
                            tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut to).await;
                    }
                });
            }
        });
        Ok(Self { port, task: task.abort_handle() })
    }
}

type Tunnel = (hyper::upgrade::OnUpgrade, tokio::net::TcpStream);

async fn answer(
    containers: &Weak<Containers>,
    instance: &Instance,
    tunnel: &std::sync::Mutex<Option<tokio::sync::oneshot::Sender<Tunnel>>>,
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let Some(containers) = containers.upgrade() else {
        return Ok(said(StatusCode::SERVICE_UNAVAILABLE, "Skep is ending"));
    };
    let path = request.uri().path().to_owned();
    Ok(match (request.method().clone(), path.as_str()) {
        (Method::CONNECT, _) => {
            let Some(port) = request.uri().port_u16() else {
                return Ok(said(StatusCode::BAD_REQUEST, "that is no port"));
            };
            match containers.connect(instance, port).await {
                // The engine takes this status for a port that nobody listens on.
                Err(error) => said(StatusCode::BAD_REQUEST, &error.to_string()),
                Ok(stream) => {
                    let upgrade = hyper::upgrade::on(&mut request);
                    let mut tunnel = tunnel.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    if let Some(tunnel) = tunnel.take() {
                        // The other end is the task that serves this connection.
                        let _ = tunnel.send((upgrade, stream));
                    }
                    said(StatusCode::OK, "")
                }
            }
        }
        (Method::PUT, "/egress") => {
            let body = Limited::new(request.into_body(), MOST).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            let settings: Json = serde_json::from_slice(&body).unwrap_or_default();
            match containers.configure(instance, &settings).await {
                Ok(()) => said(StatusCode::OK, ""),
                Err(error) => said(StatusCode::NOT_IMPLEMENTED, &error),
            }
        }
        // Nothing is intercepted, so there is no authority that signs for others.
        (Method::GET, "/ca") => said(StatusCode::OK, ""),
        _ => said(StatusCode::NOT_FOUND, "there is nothing else here"),
    })
}

fn said(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response
}
