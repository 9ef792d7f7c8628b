//! Which workers others can call, and what answers in the place of a script.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use skep_assets::{Assets, Decision};
use skep_fleet::{Binding, RUN_WORKER_HEADER};
use skep_wire::{BoxFuture, Request, Response, Service, empty, reply};

/// The workers that service bindings can name.
#[derive(Default)]
pub struct Running {
    /// Those that have a cell.
    pub scripts: BTreeSet<String>,
    /// Those of static assets alone, which have none.
    pub sites: BTreeMap<String, Arc<Assets>>,
}

impl Running {
    /// What is shown behind a binding to `script`, which is `backing`.
    pub fn shown(&self, script: &str, backing: String) -> String {
        match self.scripts.contains(script) {
            true => backing,
            false => format!("{backing} (not running: add its configuration with -c)"),
        }
    }

    /// The scripts that bindings lead to and that have no cell.
    pub fn missed<'a>(&self, bindings: impl Iterator<Item = &'a Binding>) -> BTreeSet<String> {
        let named = bindings.filter_map(|binding| Some(binding.remote()?.0.to_owned()));
        named.filter(|script| !self.scripts.contains(script)).collect()
    }
}

impl FromIterator<String> for Running {
    fn from_iter<I: IntoIterator<Item = String>>(scripts: I) -> Self {
        Self { scripts: scripts.into_iter().collect(), ..Self::default() }
    }
}

/// Decides for calls from other workers whether they are for an asset.
pub struct Front(pub Arc<Assets>);

impl Service for Front {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let (parts, _) = request.into_parts();
            match self.0.route(&parts) {
                Decision::Asset => self.0.serve(&parts).await,
                Decision::Answer(response) => *response,
                Decision::Worker | Decision::WorkerImage => {
                    let mut run = reply(StatusCode::NO_CONTENT, empty());
                    run.headers_mut().insert(RUN_WORKER_HEADER, HeaderValue::from_static("1"));
                    run
                }
            }
        })
    }
}
