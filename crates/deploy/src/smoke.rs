//! Asks what was deployed for an answer.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use url::Url;

use crate::client::Client;
use crate::http::TransportError;

/// A new host name takes a while to be known everywhere.
const TRIES: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const TIME: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 16 << 20;

/// What a question came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Smoke {
    /// The worker answers.
    Answers(u16),
    /// It does not, or it fails.
    Fails(String),
    /// Nobody could be asked.
    Unreachable(String),
}

/// `GET url`, up to `TRIES` times.
pub(crate) async fn request(client: &Client, url: &str) -> Smoke {
    let target = match Url::parse(url) {
        Ok(target) => target,
        Err(error) => return Smoke::Unreachable(format!("{url}: {error}")),
    };
    let mut wait = FIRST_WAIT;
    let mut last = Smoke::Unreachable(String::new());
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(4));
        }
        let mut request = Request::new(Bytes::new());
        let agent = http::HeaderValue::from_static(concat!("skep/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(http::header::USER_AGENT, agent);
        last = match client.transport().send(&target, request, MAX_ANSWER, TIME).await {
            Ok(answer) if !answer.status().is_server_error() => {
                return Smoke::Answers(answer.status().as_u16());
            }
            Ok(answer) => Smoke::Fails(format!("{url} answers with HTTP {}", answer.status().as_u16())),
            Err(error @ TransportError::Connect { .. }) => Smoke::Unreachable(error.to_string()),
            Err(error) => Smoke::Fails(error.to_string()),
        };
        // A 500 is the worker's own; others may come from what stands before it while it is still unknown there.
        if matches!(&last, Smoke::Fails(text) if text.ends_with("HTTP 500")) {
            break;
        }
    }
    last
}
