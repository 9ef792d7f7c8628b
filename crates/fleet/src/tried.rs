//! Code that is started once to see whether it starts, and what it exports.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use skep_wire::{UnixClient, empty, read_all};

use crate::fleet::Shared;
use crate::generation::{Generation, StartError};
use crate::render::{EXPORTS_SOCKET, Storage};
use crate::spec::{CellSpec, Code};

/// Names and methods of exports: far less than this.
const MAX_REPLY: usize = 4 << 20;

/// What became known of code that starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// From the start of the process until it listened.
    pub took: Duration,
    /// Methods of the default export.
    pub handlers: Vec<String>,
    /// The other exports.
    pub named: Vec<NamedExport>,
}

/// An export of the main module.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedExport {
    /// Its name.
    pub name: String,
    /// Whether it is a class (or a function), not an object.
    pub is_class: bool,
    /// Its methods.
    pub handlers: Vec<String>,
}

#[derive(Deserialize)]
struct Reply {
    default: Vec<String>,
    named: Vec<NamedExport>,
}

pub(crate) async fn try_out(shared: &Arc<Shared>, spec: &CellSpec) -> Result<Tried, StartError> {
    let start = Instant::now();
    let trial = Generation::start(shared, spec, Storage::Throwaway).await?;
    let took = start.elapsed();
    let tried = match spec.code {
        Code::ServiceWorker(_) => Ok(Tried { took, ..Tried::default() }),
        Code::Modules(_) => {
            exports(&trial).await.map(|reply| Tried { took, handlers: reply.default, named: reply.named })
        }
    };
    trial.kill().await;
    tried
}

async fn exports(trial: &Generation) -> Result<Reply, StartError> {
    let lost = |error: &dyn std::fmt::Display| {
        StartError::Script(format!("The script could not be examined after its start: {error}"))
    };
    let client = UnixClient::new(trial.socket(EXPORTS_SOCKET));
    let mut request = http::Request::new(empty());
    request.headers_mut().insert(http::header::HOST, http::HeaderValue::from_static("skep"));
    let asked = tokio::time::timeout(Duration::from_secs(10), client.send(request)).await;
    let response = asked.map_err(|e| lost(&e))?.map_err(|e| lost(&e))?;
    let status = response.status();
    let body = read_all(response.into_body(), MAX_REPLY).await.map_err(|e| lost(&e))?;
    match serde_json::from_slice(&body) {
        Ok(reply) if status.is_success() => Ok(reply),
        _ => Err(lost(&status)),
    }
}
