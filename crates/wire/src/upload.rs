//! Whether a request is still being sent when its response comes.

use std::sync::Arc;

use http_body::Body as _;

use crate::{Body, Held};

/// Knows whether a request's body is still alive, which it is until all of it was sent.
pub(crate) struct Upload(Option<Arc<()>>);

impl Upload {
    pub fn is_going_on(&self) -> bool {
        self.0.as_ref().is_some_and(|alive| Arc::strong_count(alive) > 1)
    }
}

/// `request`, and whether its body is still being sent.
pub(crate) fn watch_upload(request: http::Request<Body>) -> (http::Request<Body>, Upload) {
    if request.body().is_end_stream() {
        return (request, Upload(None));
    }
    let alive = Arc::new(());
    let held = alive.clone();
    (request.map(|body| Body::new(Held::new(body, held))), Upload(Some(alive)))
}
