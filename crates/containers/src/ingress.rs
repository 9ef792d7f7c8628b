//! The way into one container: a port of the loopback address where the engine of a cell finds what it takes for a helper beside
//! the container. It says there what the container may reach, and has connections to the container's ports opened.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value as Json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::containers::{Containers, State};
use crate::names::{Cell, Instance};

/// What the engine says of a container at most.
const MOST: usize = 1 << 20;
/// Connections to one container at the same time. One more is closed at once.
const MOST_OPEN: usize = 2048;
/// How long a connection to a container may take to be there.
const CONNECT: Duration = Duration::from_secs(10);

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
                    tokio::time::sleep(Duration::from_millis(50)).await;
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

impl Containers {
    /// Whether one of the ways into containers of `cell` is at `port`.
    pub(crate) fn is_way_in(&self, cell: &Cell, port: u16) -> bool {
        let state = self.state();
        let mut own = state.known.iter().filter(|(instance, _)| cell.class(instance).is_some());
        own.any(|(_, known)| known.ingress.as_ref().is_some_and(|ingress| ingress.port == port))
    }

    /// The port of the way into a container; it is opened if need be.
    pub(crate) async fn way_in(self: &Arc<Self>, instance: &Instance) -> io::Result<u16> {
        let known = |state: &State| Some(state.known.get(instance)?.ingress.as_ref()?.port);
        if let Some(port) = known(&self.state()) {
            return Ok(port);
        }
        let ingress = Ingress::open(Arc::downgrade(self), instance.clone()).await?;
        let mut state = self.state();
        // Somebody else was faster.
        if let Some(port) = known(&state) {
            return Ok(port);
        }
        let port = ingress.port;
        state.known.entry(instance.clone()).or_default().ingress = Some(Arc::new(ingress));
        Ok(port)
    }

    /// Closes the way into a container.
    pub(crate) fn close(&self, instance: &Instance) {
        let mut state = self.state();
        if let Some(known) = state.known.get_mut(instance) {
            known.ingress = None;
            if known.running.is_none() {
                state.known.remove(instance);
            }
        }
    }

    /// A connection to a port of a container.
    pub(crate) async fn connect(&self, instance: &Instance, port: u16) -> io::Result<TcpStream> {
        let address = self.state().known.get(instance).and_then(|known| known.address);
        let address = address.ok_or_else(|| io::Error::other("the container does not run"))?;
        match tokio::time::timeout(CONNECT, TcpStream::connect((address, port))).await {
            Ok(stream) => stream.inspect(|stream| {
                // It only costs time otherwise.
                let _ = stream.set_nodelay(true);
            }),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the container does not answer")),
        }
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
        (Method::GET, "/ca") => match containers.certificate(instance) {
            Ok(certificate) => said(StatusCode::OK, &certificate),
            Err(error) => said(StatusCode::INTERNAL_SERVER_ERROR, &error),
        },
        _ => said(StatusCode::NOT_FOUND, "there is nothing else here"),
    })
}

fn said(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response
}
