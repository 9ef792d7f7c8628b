//! Asks what was deployed for an answer.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use url::Url;

use crate::client::Client;

/// A new host name takes a while to be known everywhere.
const TRIES: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const TIME: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 16 << 20;

/// The status of `GET url`; an error if there is no answer, or one that says that the worker failed.
pub(crate) async fn request(client: &Client, url: &str) -> Result<u16, String> {
    let target = Url::parse(url).map_err(|e| format!("{url}: {e}"))?;
    let mut wait = FIRST_WAIT;
    let mut last = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(4));
        }
        let mut request = Request::new(Bytes::new());
        let agent = http::HeaderValue::from_static(concat!("skep/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(http::header::USER_AGENT, agent);
        match client.transport().send(&target, request, MAX_ANSWER, TIME).await {
            Ok(answer) if answer.status().is_server_error() => {
                last = format!("{url} answers with HTTP {}", answer.status().as_u16());
                // The worker's own answer; others may come from what stands before it while it is still unknown there.
                if answer.status() == StatusCode::INTERNAL_SERVER_ERROR {
                    break;
                }
            }
            Ok(answer) => return Ok(answer.status().as_u16()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}
