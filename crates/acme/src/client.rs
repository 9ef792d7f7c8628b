//! Requests to the authority, and what its answers say beside their bodies.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

/// Sends one request to a URL and reads the whole answer.
pub trait Http: Send + Sync + 'static {
    /// The answer, whatever its status; an error says why there is none.
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, String>> + Send + '_>>;
}

tokio::task_local! {
    /// What the last refusal asked for, in the order that the task works on.
    static ASKED: Cell<Option<Duration>>;
}

/// Runs `work` and returns, beside its result, how long the authority asked to be left alone.
pub(crate) async fn listening<T>(work: impl Future<Output = T>) -> (T, Option<Duration>) {
    let listened = async {
        let result = work.await;
        (result, ASKED.with(Cell::get))
    };
    ASKED.scope(Cell::new(None), listened).await
}

/// Our HTTP as the ACME client wants it.
pub(crate) struct Client {
    pub http: Arc<dyn Http>,
    /// The directory was reached over TLS, and so is all that it names (RFC 8555 §6.1).
    pub only_tls: bool,
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (http, only_tls) = (self.http.clone(), self.only_tls);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            if only_tls && head.uri.scheme_str() != Some("https") {
                return Err(Error::Other(
                    format!("the authority names a URL without TLS, {}", head.uri).into(),
                ));
            }
            let is_directory = head.method == Method::GET;
            let url = head.uri.to_string();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let answer =
                http.send(Request::from_parts(head, body)).await.map_err(|e| Error::Other(e.into()))?;
            let status = answer.status();
            if status.is_client_error() || status.is_server_error() {
                let asked = retry_after(answer.headers(), SystemTime::now());
                let _ = ASKED.try_with(|cell| cell.set(asked));
                // A proxy's or load balancer's page is no answer of the authority.
                if is_directory || !is_problem(answer.headers()) {
                    return Err(Error::Other(format!("{url} answers {status}").into()));
                }
            }
            Ok(BytesResponse::from(answer.map(http_body_util::Full::new)))
        })
    }
}

/// RFC 8555 §6.7
fn is_problem(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/problem+json"))
}

/// RFC 9110 §10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_time_to_wait_is_seconds_or_a_date() {
        let at = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers, UNIX_EPOCH + Duration::from_secs(100))
        };
        assert_eq!(at(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(at("Thu, 01 Jan 1970 00:02:00 GMT"), Some(Duration::from_secs(20)));
        assert_eq!((at("Thu, 01 Jan 1970 00:00:00 GMT"), at("soon"), at("-1")), (None, None, None));
    }
}
