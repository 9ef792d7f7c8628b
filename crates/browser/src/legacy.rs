//! WebSockets for clients that send messages in chunks (`@cloudflare/puppeteer` before 1.1).

use futures_util::{SinkExt, Stream, StreamExt};
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use skep_wire::{Request, Response, empty, reply};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tungstenite::Message;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::chunks::{self, Joined};
use crate::devtools::{session_header, upgrade};
use crate::error::BrowserError;
use crate::sessions::{Connection, LEGACY};

/// What the client sends each second so that its connection stays; it is no command.
const PING: &str = "ping";

/// Joins the worker with the browser's own DevTools.
pub(crate) async fn join(mut request: Request, connection: Connection) -> Result<Response, BrowserError> {
    let worker = upgrade(&mut request)?;
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    let key =
        key.ok_or_else(|| BrowserError::Refused("the handshake has no Sec-WebSocket-Key".to_owned()))?;
    let accept = derive_accept_key(key.as_bytes());
    let session = &connection.session;
    let failed = |error: &dyn std::fmt::Display| BrowserError::Unreachable(error.to_string());
    // Messages in chunks are put together, which takes memory.
    let turn = session.legacy.clone().try_acquire_owned();
    let turn = turn.map_err(|_| BrowserError::Busy(LEGACY))?;
    let stream = session.devtools.connect().await.map_err(|e| failed(&e))?;
    let url = format!("ws://{}{}", session.devtools.host(), session.devtools.path);
    let opened = tokio_tungstenite::client_async_with_config(url, stream, Some(config())).await;
    let (browser, _) = opened.map_err(|e| failed(&e))?;
    let mut response = reply(StatusCode::SWITCHING_PROTOCOLS, empty());
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.extend(HeaderValue::from_str(&accept).ok().map(|accept| (header::SEC_WEBSOCKET_ACCEPT, accept)));
    headers.extend(session_header(&connection));
    session.handle.clone().spawn(async move {
        let _turn = turn;
        match worker.await {
            Ok(worker) => {
                let worker =
                    WebSocketStream::from_raw_socket(TokioIo::new(worker), Role::Server, Some(config()))
                        .await;
                pass(worker, browser, &connection).await;
            }
            Err(error) => tracing::debug!(%error, "a WebSocket to a browser was not opened"),
        }
    });
    Ok(response)
}

fn config() -> WebSocketConfig {
    let longest = Some(chunks::LONGEST);
    WebSocketConfig::default().max_message_size(longest).max_frame_size(longest)
}

/// Messages both ways until one side ends.
async fn pass<W, B>(worker: WebSocketStream<W>, browser: WebSocketStream<B>, connection: &Connection)
where
    W: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut to_worker, from_worker) = worker.split();
    let (mut to_browser, mut from_browser) = browser.split();
    let up = async {
        let why = take(from_worker, &mut to_browser, connection).await;
        let _ = to_browser.close().await;
        why
    };
    let down = async {
        while let Some(Ok(message)) = from_browser.next().await {
            let Message::Text(text) = message else { continue };
            for chunk in chunks::split(text.as_bytes()) {
                if to_worker.send(Message::Binary(chunk)).await.is_err() {
                    return;
                }
            }
        }
    };
    let why = {
        tokio::pin!(up, down);
        tokio::select! {
            why = &mut up => why,
            () = &mut down => None,
        }
    };
    let _ = to_worker.send(Message::Close(why)).await;
}

/// Sends the worker's commands on. What it is told at the end.
async fn take<S, B>(mut from: S, to: &mut B, connection: &Connection) -> Option<CloseFrame>
where
    S: Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
    B: SinkExt<Message> + Unpin,
{
    let mut joined = Joined::default();
    while let Some(Ok(message)) = from.next().await {
        let pushed = match message {
            Message::Text(text) if text.as_str() == PING => continue,
            Message::Text(_) => Err(chunks::Broken::Text),
            Message::Binary(chunk) => joined.push(&chunk),
            Message::Close(_) => return None,
            _ => continue,
        };
        match pushed {
            Ok(None) => {}
            Ok(Some(command)) => {
                connection.session.touch();
                if to.send(Message::Text(command.into())).await.is_err() {
                    return None;
                }
            }
            Err(broken) => {
                let code = if broken == chunks::Broken::Long { CloseCode::Size } else { CloseCode::Invalid };
                return Some(CloseFrame { code, reason: "that is no message in chunks".into() });
            }
        }
    }
    None
}
