//! A client of Docker's HTTP API: <https://docs.docker.com/reference/api/engine/>. One connection for each request.

use std::ffi::OsString;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use tokio::net::{TcpStream, UnixStream};

use crate::address::Address;

/// What an engine may say at once.
const MOST: usize = 16 << 20;
/// How long an engine has to say that it is there.
const PING: Duration = Duration::from_secs(5);

/// How often a container is asked to be removed that does not go; Docker waits some ten seconds each time.
const REMOVALS: u32 = 6;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(500);

/// Docker, or what speaks its API.
#[derive(Clone, Debug)]
pub struct Engine {
    address: Address,
    /// Podman, which knows fewer options.
    is_podman: bool,
}

/// Why an engine did not do something.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody listens, or the connection broke.
    #[error("the Docker engine at {address} does not answer: {reason}")]
    Absent {
        /// Where it should be.
        address: String,
        /// What happened.
        reason: String,
    },
    /// It refused.
    #[error("the Docker engine says: {message} ({status})")]
    Refused {
        /// Docker's status.
        status: StatusCode,
        /// Docker's text.
        message: String,
    },
}

/// An answer in full.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Reply {
    /// What it says, if it says something that can be read.
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The answer, unless it is an error.
    pub fn checked(self) -> Result<Json, EngineError> {
        match self.status.is_success() || self.status == StatusCode::NOT_MODIFIED {
            true => Ok(self.json()),
            false => Err(EngineError::Refused { status: self.status, message: self.message() }),
        }
    }

    /// The text of an error.
    pub fn message(&self) -> String {
        let said = self.json();
        said["message"]
            .as_str()
            .or(said["cause"].as_str())
            .map_or_else(|| String::from_utf8_lossy(&self.body).trim().to_owned(), str::to_owned)
    }
}

impl Engine {
    /// The engine that `named` or a variable names, or else the first that answers at the usual sockets. `variable` reads the
    /// environment. An error says where was looked.
    pub async fn find(
        named: Option<&str>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, String> {
        let candidates = match named {
            Some(named) => vec![Address::parse(named)?],
            None => Address::candidates(variable)?,
        };
        let mut tried = Vec::new();
        for address in candidates {
            match Self::at(address).await {
                Ok(engine) => return Ok(engine),
                Err(error) => tried.push(error.to_string()),
            }
        }
        Err(tried.join("\n"))
    }

    /// The engine at `address`, if it answers.
    pub async fn at(address: Address) -> Result<Self, EngineError> {
        let mut engine = Self { address, is_podman: false };
        let asked = tokio::time::timeout(PING, engine.get("/version")).await;
        let version = asked.map_err(|_| engine.absent("it took too long"))??.checked()?;
        let components = version["Components"].as_array().into_iter().flatten();
        engine.is_podman = components
            .into_iter()
            .any(|own| own["Name"].as_str().is_some_and(|name| name.contains("Podman")));
        Ok(engine)
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it is Podman.
    pub fn is_podman(&self) -> bool {
        self.is_podman
    }

    /// The folder in which it keeps what it has, as it knows it.
    pub async fn root(&self) -> Option<std::path::PathBuf> {
        let info = self.get("/info").await.ok()?.checked().ok()?;
        info["DockerRootDir"].as_str().map(Into::into)
    }

    /// Whether there is an image that goes by this name or id.
    pub async fn has_image(&self, image: &str) -> Result<bool, EngineError> {
        let reply = self.get(&format!("/images/{image}/json")).await?;
        match reply.status {
            StatusCode::NOT_FOUND => Ok(false),
            _ => reply.checked().map(|_| true),
        }
    }

    /// The id of the image that goes by this name.
    pub async fn image_id(&self, image: &str) -> Result<String, EngineError> {
        let inspected = self.get(&format!("/images/{image}/json")).await?.checked()?;
        inspected["Id"].as_str().map(str::to_owned).ok_or_else(|| self.absent("it names no image"))
    }

    /// Asks, and gets the whole answer, whatever its status.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Reply, EngineError> {
        let body = body.map(Json::to_string).unwrap_or_default();
        let response = self.send(self.request(method, path, body, false)?).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST).collect().await;
        let body = body.map_err(|error| self.absent(error))?.to_bytes();
        Ok(Reply { status, body })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Reply, EngineError> {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Option<&Json>) -> Result<Reply, EngineError> {
        self.call(Method::POST, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Reply, EngineError> {
        self.call(Method::DELETE, path, None).await
    }

    /// Ends and removes the container at `path`. One with thousands of processes takes longer to die than Docker waits, as dying
    /// takes processor time, of which it has little: it gets all, and Docker is asked again.
    pub(crate) async fn remove(&self, path: &str) -> Result<Reply, EngineError> {
        let mut tries = 0;
        loop {
            let reply = self.delete(&format!("{path}?force=true&v=true")).await?;
            tries += 1;
            if tries == REMOVALS || !(reply.status.is_server_error() || reply.status == StatusCode::CONFLICT)
            {
                return Ok(reply);
            }
            self.post(&format!("{path}/update"), Some(&json!({ "CpuQuota": -1 }))).await?;
            tokio::time::sleep(BETWEEN_REMOVALS).await;
        }
    }

    /// Asks for a connection: on success the answer has status 101, and can be upgraded.
    pub(crate) async fn attach(&self, path: &str, body: &Json) -> Result<Response<Incoming>, EngineError> {
        self.send(self.request(Method::POST, path, body.to_string(), true)?).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: String,
        attached: bool,
    ) -> Result<Request<Full<Bytes>>, EngineError> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "docker");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if attached {
            request = request.header(CONNECTION, "Upgrade").header(UPGRADE, "tcp");
        }
        request.body(Full::new(body.into())).map_err(|error| self.absent(error))
    }

    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, EngineError> {
        let sent = match &self.address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| self.absent(error))?;
                exchange(TokioIo::new(stream), request).await
            }
            Address::Tcp(host) => {
                let stream = TcpStream::connect(host).await.map_err(|error| self.absent(error))?;
                exchange(TokioIo::new(stream), request).await
            }
        };
        sent.map_err(|error| self.absent(error))
    }

    pub(crate) fn absent(&self, reason: impl std::fmt::Display) -> EngineError {
        EngineError::Absent { address: self.address.to_string(), reason: reason.to_string() }
    }
}

async fn exchange<I>(io: I, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    // Ends with the exchange, or with what it was upgraded to.
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await
}
