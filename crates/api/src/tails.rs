//! `wrangler tail`: what a script's cells report, over a WebSocket.
//! <https://developers.cloudflare.com/api/resources/workers/subresources/scripts/subresources/tail/>

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use skep_wire::{empty, reply};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use crate::BASE;
use crate::call::{Call, script_of};
use crate::platform::TailEvents;
use crate::reply::{Answer, ApiError, ok, time};
use crate::tail_filter::Filter;

/// A tail that nobody renews ends then.
const LIFETIME_MS: i64 = 6 * 60 * 60 * 1000;
/// Tails of a script at once. <https://developers.cloudflare.com/workers/observability/logs/real-time-logs/#limits>
const MAX_TAILS: usize = 10;
/// Tails of an account at once: each is kept for hours, whether anybody reads it or not.
const MAX_ALL: usize = 1000;
/// A tail that takes nothing for so long ends.
const SLOW: Duration = Duration::from_secs(60);
const PROTOCOL: &str = "trace-v1";

struct Session {
    id: String,
    account: String,
    script: String,
    filter: Filter,
    expires_ms: i64,
    /// Ends its connections when it is dropped.
    ended: watch::Sender<()>,
}

/// The tails that were asked for, by the secret in their address.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Session>>);

impl Sessions {
    /// All that are still good.
    fn good(&self, now_ms: i64) -> MutexGuard<'_, HashMap<String, Session>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, session| session.expires_ms > now_ms);
        all
    }
}

pub(crate) async fn list(call: Call) -> Answer {
    let tenant = call.tenant()?;
    let script = script_of(tenant.catalog(), call.param(0))?;
    let all = call.api.tails.good(call.now_ms());
    let own = all.values().filter(|s| s.account == call.token.account && s.script == script.name);
    ok(own.map(|s| json!({ "id": s.id, "expires_at": time(s.expires_ms) })).collect())
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let asked = call.any_json().await?;
    let peer = call.head.extensions.get::<SocketAddr>().map(|peer| peer.ip().to_canonical().to_string());
    let filter = Filter::read(&asked["filters"], peer.unwrap_or_default())?;
    let tenant = call.tenant()?;
    let script = script_of(tenant.catalog(), call.param(0))?.name;
    let secret = uuid::Uuid::new_v4().simple().to_string() + &uuid::Uuid::new_v4().simple().to_string();
    let session = Session {
        id: uuid::Uuid::new_v4().simple().to_string(),
        account: call.token.account.clone(),
        script: script.clone(),
        filter,
        expires_ms: call.now_ms() + LIFETIME_MS,
        ended: watch::Sender::new(()),
    };
    let api = &call.api.platform.addresses().api;
    let socket = api.replacen("http", "ws", 1);
    let shown = json!({
        "id": session.id,
        "url": format!("{socket}{BASE}/tails/{secret}"),
        "expires_at": time(session.expires_ms),
    });
    let mut all = call.api.tails.good(call.now_ms());
    let (mut of_script, mut of_account) = (0, 0);
    for other in all.values().filter(|other| other.account == session.account) {
        of_account += 1;
        of_script += usize::from(other.script == script);
    }
    if of_script >= MAX_TAILS {
        return Err(ApiError::bad(10057, format!("A Worker can have at most {MAX_TAILS} tails.")));
    }
    if of_account >= MAX_ALL {
        return Err(ApiError::bad(10057, format!("An account can have at most {MAX_ALL} tails.")));
    }
    all.insert(secret, session);
    ok(shown)
}

pub(crate) async fn delete(call: Call) -> Answer {
    let id = call.param(1);
    let mut all = call.api.tails.good(call.now_ms());
    let before = all.len();
    all.retain(|_, s| !(s.id == id && s.account == call.token.account && s.script == call.param(0)));
    match all.len() < before {
        true => ok(Json::Null),
        false => Err(ApiError::not_found(10011, "The tail could not be found.")),
    }
}

pub(crate) async fn connect(mut call: Call) -> Answer {
    let no_tail = || ApiError::not_found(10011, "The tail could not be found.");
    let (account, script, filter, ended) = {
        let all = call.api.tails.good(call.now_ms());
        let session = all.get(call.param(0)).ok_or_else(no_tail)?;
        let Session { account, script, filter, ended, .. } = session;
        (account.clone(), script.clone(), filter.clone(), ended.subscribe())
    };
    let not_a_socket = || ApiError::bad(10004, "A tail is read over a WebSocket with the protocol trace-v1.");
    let key = call.header("sec-websocket-key").ok_or_else(not_a_socket)?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| not_a_socket())?;
    let upgrade = call.head.extensions.remove::<hyper::upgrade::OnUpgrade>().ok_or_else(not_a_socket)?;
    let events = call.api.platform.tail(&account, &script).await.map_err(ApiError::internal)?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => pass(upgraded, events, filter, ended).await,
            Err(error) => tracing::debug!(%error, "a tail's connection was not upgraded"),
        }
    });
    let mut response = reply(StatusCode::SWITCHING_PROTOCOLS, empty());
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

async fn pass(upgraded: Upgraded, mut events: TailEvents, filter: Filter, mut ended: watch::Receiver<()>) {
    // wrangler's first frame is not masked, against RFC 6455 §5.1.
    let config = WebSocketConfig::default().accept_unmasked_frames(true);
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let mut seen = 0u64;
    loop {
        tokio::select! {
            event = events.recv() => {
                let (lost, message) = match event {
                    Ok(event) => {
                        seen += 1;
                        (event.lost, filter.passes_text(&event.text, chance(seen)).then(|| event.text.clone()))
                    }
                    Err(RecvError::Lagged(lost)) => (lost, None),
                    Err(RecvError::Closed) => break,
                };
                let lost = (lost > 0).then(|| overload(lost));
                for message in lost.into_iter().chain(message) {
                    let sent = tokio::time::timeout(SLOW, socket.send(Message::text(message))).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        return;
                    }
                }
            }
            // Pings are answered by the library while somebody reads.
            frame = socket.next() => match frame {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
            _ = ended.changed() => break,
        }
    }
    let _ = socket.close(None).await;
}

/// Says that events were lost because this connection is too slow.
fn overload(lost: u64) -> String {
    let message = format!(
        "Tail is currently in sampling mode due to the high volume of messages: {lost} were left out."
    );
    json!({
        "outcome": "unknown", "scriptName": null, "exceptions": [], "logs": [], "eventTimestamp": null,
        "event": { "message": message, "type": "overload" },
    })
    .to_string()
}

/// Evenly spread numbers from 0 to 1, which is all that sampling needs.
fn chance(n: u64) -> f64 {
    (n as f64 * 0.618_033_988_749_894_9).fract()
}
