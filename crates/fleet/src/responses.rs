//! Which requests a process still answers, said to the code of ours in it: what an invocation does after its response has
//! an end, and where the response ends the engine does not tell.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::{HeaderValue, StatusCode};
use skep_wire::{BoxFuture, Request, Response, Service, empty, reply};

/// What this server is called, among those of a cell.
pub(crate) const RESPONSES: &str = "skep-responses";

/// Requests by their `CF-Ray`, from when a process is chosen for them until the last byte of the answer. Calls that a
/// dispatcher makes for one request have the same.
#[derive(Debug, Default)]
pub(crate) struct Responses(Mutex<HashMap<HeaderValue, usize>>);

impl Responses {
    pub fn begin(&self, ray: HeaderValue) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *open.entry(ray).or_default() += 1;
    }

    pub fn end(&self, ray: &HeaderValue) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(ray) {
            *count -= 1;
            if *count == 0 {
                open.remove(ray);
            }
        }
    }

    fn is_open(&self, ray: &str) -> bool {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        HeaderValue::from_str(ray).is_ok_and(|ray| open.contains_key(&ray))
    }
}

impl Service for Responses {
    /// `GET /<ray>`: 202 while it is answered, 204 otherwise.
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        let open = self.is_open(request.uri().path().trim_start_matches('/'));
        let status = if open { StatusCode::ACCEPTED } else { StatusCode::NO_CONTENT };
        Box::pin(async move { reply(status, empty()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_open_until_all_its_answers_have_ended() {
        let responses = Responses::default();
        let ask = async |ray: &str| {
            let request = http::Request::get(format!("/{ray}")).body(empty()).unwrap();
            responses.call(request).await.status()
        };
        let ray = HeaderValue::from_static("8f0-SKP");
        responses.begin(ray.clone());
        responses.begin(ray.clone());
        assert_eq!(ask("other").await, StatusCode::NO_CONTENT);
        responses.end(&ray);
        assert_eq!(ask("8f0-SKP").await, StatusCode::ACCEPTED);
        responses.end(&ray);
        assert_eq!(ask("8f0-SKP").await, StatusCode::NO_CONTENT);
        // One too many changes nothing.
        responses.end(&ray);
    }
}
