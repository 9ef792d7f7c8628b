//! Bodies of requests that a process may pass on to a script of a dispatch namespace, by the name that its request has for everybody: what such a
//! script does not take, the dispatcher's process need not have.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderName, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt;
use skep_wire::{Habit, Held, Request, Through};

/// What a request is called, on its way through all scripts that pass it on.
pub const RAY: HeaderName = HeaderName::from_static("cf-ray");

/// Bodies that one process was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uploads {
    open: Arc<Mutex<HashMap<HeaderValue, Through>>>,
    habit: Arc<Habit>,
}

/// One of them, for as long as there is more of it.
#[derive(Debug)]
struct Upload {
    all: Uploads,
    ray: HeaderValue,
}

impl Uploads {
    /// A request on its way to the process.
    pub fn enter(&self, request: Request) -> Request {
        if request.body().is_end_stream() {
            return request;
        }
        let Some(ray) = request.headers().get(RAY).cloned() else { return request };
        let through = Through::of(&self.habit);
        self.lock().insert(ray.clone(), through.clone());
        let upload = Upload { all: self.clone(), ray };
        request.map(|body| Held::new(through.enter(body), upload).boxed_unsync())
    }

    /// A request that has come out of it. A body that goes to several is held up by the first one only.
    pub fn leave(&self, request: Request) -> Request {
        // Of the same request others may come out before, without its body: who asks whether it is allowed.
        if request.body().is_end_stream() {
            return request;
        }
        match request.headers().get(RAY).and_then(|ray| self.lock().remove(ray)) {
            Some(through) => request.map(|body| through.leave(body)),
            None => request,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HeaderValue, Through>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.all.lock().remove(&self.ray);
    }
}

#[cfg(test)]
mod tests {
    use skep_wire::{empty, full};

    use super::*;

    fn request(ray: &str, body: skep_wire::Body) -> Request {
        http::Request::builder().header(RAY, ray).body(body).unwrap()
    }

    #[test]
    fn what_has_come_out_or_is_over_is_forgotten() {
        let uploads = Uploads::default();
        let count = || uploads.lock().len();
        let first = uploads.enter(request("1", full("abc")));
        let second = uploads.enter(request("2", full("abc")));
        uploads.enter(http::Request::new(full("abc")));
        uploads.enter(request("3", empty()));
        assert_eq!(count(), 2);
        uploads.leave(request("4", full("abc")));
        drop(first);
        assert_eq!(count(), 1);
        uploads.leave(request("2", empty()));
        assert_eq!(count(), 1);
        uploads.leave(request("2", full("abc")));
        assert_eq!(count(), 0);
        drop(second);
    }
}
