//! Where the engine of a cell asks for containers: Docker's API on a socket of the cell's own, or as much of it as it may use.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use skep_wire::{BoxFuture, Connections, Socket};

use crate::containers::Containers;
use crate::engine::Reply;
use crate::exec;
use crate::names::{Cell, Class, Instance};
use crate::policy::{Refusal, Sidecar, Wanted, wanted};

/// What the engine of a cell may send at once.
const MOST: usize = 4 << 20;
/// The port that it looks for among those of the helper.
const SIDECAR_PORT: &str = "39001/tcp";

/// What one script may do with containers.
#[derive(Debug)]
pub struct Gate {
    containers: Arc<Containers>,
    cell: Cell,
}

impl Connections for Gate {
    fn serve(&self, connection: Socket) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let service = service_fn(|request| async move {
                Ok::<_, std::convert::Infallible>(self.answer(request).await.unwrap_or_else(refused))
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(connection), service)
                .with_upgrades();
            // One that breaks has nobody left to tell.
            let _ = connection.await;
        })
    }
}

impl Gate {
    pub(crate) fn new(containers: Arc<Containers>, cell: Cell) -> Self {
        Self { containers, cell }
    }

    /// Whether the cell has to reach this port of the loopback address, 127.0.0.1: a way into one of its containers is there.
    pub fn reaches(&self, port: u16) -> bool {
        self.containers.is_way_in(&self.cell, port)
    }

    /// Takes note of the process that has the objects of the cell from now on: `handle` is of it, and `id` its number.
    pub fn runs(&self, id: u32, handle: OwnedFd) {
        self.containers.run_by(&self.cell, id, handle);
    }

    /// How many connections of its containers the cell has been given, and still has; `None` while none of them has what it
    /// sends out led to the cell. The first number is another one when there was one more.
    pub fn led(&self) -> Option<(u64, usize)> {
        self.containers.led(&self.cell)
    }

    /// What the script may have.
    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Refusal> {
        let uri = request.uri().clone();
        let wanted = wanted(&self.cell, request.method(), uri.path(), uri.query().unwrap_or_default());
        tracing::debug!(?wanted, "containers");
        let upgrade = hyper::upgrade::on(&mut request);
        let body = Limited::new(request.into_body(), MOST).collect().await;
        let body = body
            .map_err(|_| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"))?
            .to_bytes();
        // One who still sends would not get to read why not.
        match wanted? {
            Wanted::Bridge => Ok(said(StatusCode::OK, &Self::bridge())),
            Wanted::ListVolumes => Ok(said(StatusCode::OK, &json!({ "Volumes": [], "Warnings": [] }))),
            Wanted::Sidecar(instance, what) => self.sidecar(&instance, what).await,
            Wanted::StartExec(id) => self.start_exec(&id, &body, upgrade).await,
            Wanted::InspectExec(id) => {
                self.check_exec(&id)?;
                let inspected = self.containers.engine().get(&format!("/exec/{id}/json")).await?;
                match inspected.status.is_success() {
                    true => Ok(said(StatusCode::OK, &exec::told(&inspected.json()))),
                    false => Ok(passed(inspected)),
                }
            }
            Wanted::ResizeExec(id, rows, columns) => {
                self.check_exec(&id)?;
                let path = format!("/exec/{id}/resize?h={rows}&w={columns}");
                Ok(passed(self.containers.engine().post(&path, None).await?))
            }
            Wanted::Inspect(instance) => self.inspect(&instance).await,
            Wanted::Create(instance) => {
                let class = self.class(&instance)?;
                Ok(passed(self.containers.create(class, &instance, &body).await?))
            }
            Wanted::Start(instance) => {
                Ok(passed(self.containers.start(self.class(&instance)?, &instance).await?))
            }
            Wanted::Remove(instance) => {
                Ok(passed(self.containers.remove(self.class(&instance)?, &instance).await?))
            }
            Wanted::Stop(instance) => self.tell(&instance, "stop").await,
            Wanted::Kill(instance, signal) => self.tell(&instance, &format!("kill?signal={signal}")).await,
            Wanted::Wait(instance, None) => self.tell(&instance, "wait").await,
            Wanted::Wait(instance, Some(condition)) => {
                self.tell(&instance, &format!("wait?condition={condition}")).await
            }
            // What is sent is what Skep has told: it is put there as Skep knows it.
            Wanted::Certificate(instance) => {
                let path = self.containers.path(self.class(&instance)?, &instance);
                Ok(passed(self.containers.give_certificate(&path, &instance).await?))
            }
            Wanted::NewExec(instance) => self.new_exec(&instance, &body).await,
        }
    }

    fn class(&self, instance: &Instance) -> Result<&Class, Refusal> {
        let gone = || Refusal::new(StatusCode::NOT_FOUND, "No such container");
        self.cell.class(instance).ok_or_else(gone)
    }

    async fn tell(&self, instance: &Instance, what: &str) -> Result<Response<Full<Bytes>>, Refusal> {
        let path = self.containers.path(self.class(instance)?, instance);
        Ok(passed(self.containers.engine().post(&format!("{path}/{what}"), None).await?))
    }

    /// As much of what Docker knows as the cell has to know.
    async fn inspect(&self, instance: &Instance) -> Result<Response<Full<Bytes>>, Refusal> {
        let class = self.class(instance)?;
        let path = self.containers.path(class, instance);
        let inspected = self.containers.engine().get(&format!("{path}/json")).await?;
        if !inspected.status.is_success() {
            return Ok(passed(inspected));
        }
        let inspected = inspected.json();
        let mut state = json!({});
        for key in [
            "Status",
            "Running",
            "Paused",
            "Restarting",
            "OOMKilled",
            "Dead",
            "ExitCode",
            "StartedAt",
            "FinishedAt",
        ] {
            if !inspected["State"][key].is_null() {
                state[key] = inspected["State"][key].clone();
            }
        }
        let told =
            json!({ "Id": inspected["Id"], "State": state, "Config": { "Image": class.image_name() } });
        Ok(said(StatusCode::OK, &told))
    }

    /// Plays the part of the helper.
    async fn sidecar(&self, instance: &Instance, what: Sidecar) -> Result<Response<Full<Bytes>>, Refusal> {
        self.class(instance)?;
        let failed = |error: std::io::Error| {
            Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("there is no way into the container: {error}"),
            )
        };
        match what {
            Sidecar::Create => {
                self.containers.way_in(instance).await.map_err(failed)?;
                Ok(said(StatusCode::CREATED, &json!({ "Id": instance.id, "Warnings": [] })))
            }
            Sidecar::Start => {
                self.containers.way_in(instance).await.map_err(failed)?;
                Ok(empty())
            }
            // One that was there before a cell was replaced is still there.
            Sidecar::Inspect => {
                let port = self.containers.way_in(instance).await.map_err(failed)?;
                let binding = json!([{ "HostIp": "127.0.0.1", "HostPort": port.to_string() }]);
                let told = json!({
                    "Id": instance.id,
                    "State": { "Status": "running", "Running": true },
                    "NetworkSettings": { "Ports": { SIDECAR_PORT: binding } },
                });
                Ok(said(StatusCode::OK, &told))
            }
            Sidecar::Wait => Ok(said(StatusCode::OK, &json!({ "StatusCode": 0 }))),
            Sidecar::Remove => {
                self.containers.close(instance);
                Ok(empty())
            }
        }
    }

    /// The engine listens there for what its helper sends it, on a port that it chooses and says.
    fn bridge() -> Json {
        json!({ "Name": "bridge", "IPAM": { "Driver": "default", "Config": [{ "Subnet": "127.0.0.0/8", "Gateway": "127.0.0.1" }] } })
    }

    async fn new_exec(&self, instance: &Instance, body: &[u8]) -> Result<Response<Full<Bytes>>, Refusal> {
        let path = self.containers.path(self.class(instance)?, instance);
        let made = self.containers.engine().post(&format!("{path}/exec"), Some(&exec::create(body)?)).await?;
        if let Some(id) = made.json()["Id"].as_str().filter(|_| made.status.is_success()) {
            self.containers.execs.add(id, instance);
        }
        Ok(passed(made))
    }

    /// Whose process it is. One of somebody else does not exist.
    fn check_exec(&self, id: &str) -> Result<Instance, Refusal> {
        let instance = self.containers.execs.owner(id).filter(|instance| self.cell.class(instance).is_some());
        instance.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("No such exec instance: {id}")))
    }

    async fn start_exec(
        &self,
        id: &str,
        body: &[u8],
        upgrade: hyper::upgrade::OnUpgrade,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let instance = self.check_exec(id)?;
        let (body, attached) = exec::start(body)?;
        let path = format!("/exec/{id}/start");
        let engine = self.containers.engine();
        if !attached {
            return Ok(passed(engine.post(&path, Some(&body)).await?));
        }
        let counted = self.containers.execs.attach(&instance)?;
        let response = engine.attach(&path, &body).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            let body = Limited::new(response.into_body(), MOST).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            return Ok(passed(Reply { status, body }));
        }
        tokio::spawn(async move {
            let (Ok(cell), Ok(docker)) = (upgrade.await, hyper::upgrade::on(response).await) else { return };
            // One of the two has ended it.
            let _: std::io::Result<_> =
                tokio::io::copy_bidirectional(&mut TokioIo::new(cell), &mut TokioIo::new(docker)).await;
            drop(counted);
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("tcp"));
        Ok(response)
    }
}

fn said(status: StatusCode, body: &Json) -> Response<Full<Bytes>> {
    passed(Reply { status, body: body.to_string().into() })
}

fn empty() -> Response<Full<Bytes>> {
    passed(Reply { status: StatusCode::NO_CONTENT, body: Bytes::new() })
}

fn passed(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = reply.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Docker's form of an error.
fn refused(refusal: Refusal) -> Response<Full<Bytes>> {
    tracing::warn!(status = %refusal.status, message = refusal.message, "a call for containers was refused");
    said(refusal.status, &json!({ "message": refusal.message }))
}
