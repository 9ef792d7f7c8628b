//! Which binding a call is for.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::StatusCode;

use crate::{Request, Response, reason};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The header by which a cell's config names the binding that calls. The engine replaces any value
/// that tenant code sets.
pub const BINDING_HEADER: &str = "x-skep-binding";

/// One binding's server: it answers every request, errors included.
pub trait Service: Send + Sync + 'static {
    /// Answers one request.
    fn call(&self, request: Request) -> BoxFuture<'_, Response>;
}

/// The bindings of one cell, by the value of [`BINDING_HEADER`].
#[derive(Default)]
pub struct BindingTable(HashMap<String, Arc<dyn Service>>);

impl BindingTable {
    /// Adds a binding under `id`, replacing the one that had it.
    pub fn insert(&mut self, id: impl Into<String>, service: Arc<dyn Service>) {
        self.0.insert(id.into(), service);
    }
}

impl Service for BindingTable {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        let service = request
            .headers()
            .get(BINDING_HEADER)
            .and_then(|id| id.to_str().ok())
            .and_then(|id| self.0.get(id));
        match service {
            Some(service) => service.call(request),
            None => Box::pin(async { reason(StatusCode::FORBIDDEN, "This cell has no such binding") }),
        }
    }
}
