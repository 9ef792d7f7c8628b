//! The way to a browser's DevTools: their HTTP answers, and WebSockets whose bytes go through as they are.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use skep_wire::{Request, Response, empty, full, reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::BrowserError;
use crate::process::Devtools;
use crate::sessions::{Connection, Session};

/// The browser is on this machine, and answers from memory.
pub(crate) const ANSWERS: Duration = Duration::from_secs(30);
/// Bytes of an answer at most; the description of the protocol has a megabyte.
const LONGEST: usize = 4 << 20;
const BUFFER: usize = 64 << 10;

/// What of a handshake is between the two who speak (RFC 6455 §11.3); what the browser answers goes back.
const ASKED: [header::HeaderName; 4] = [
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_PROTOCOL,
];
const ANSWERED: [header::HeaderName; 5] = [
    header::CONNECTION,
    header::UPGRADE,
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_PROTOCOL,
];

/// The header that says which session a connection is to.
pub(crate) const SESSION: &str = "cf-browser-session-id";

/// What an HTTP request to the browser's DevTools is answered.
pub(crate) async fn ask(session: &Session, method: Method, path: &str) -> Result<Response, BrowserError> {
    let _turn = session.asks.acquire().await.map_err(|_| late())?;
    let asked = send(&session.devtools, method, path, &HeaderMap::new()).await?;
    let status = asked.status();
    let body = Limited::new(asked.into_body(), LONGEST).collect();
    let body = tokio::time::timeout(ANSWERS, body).await.map_err(|_| late())?;
    let body = body.map_err(|error| BrowserError::Unreachable(error.to_string()))?.to_bytes();
    let mut response = reply(status, full(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Whether a request asks for a WebSocket, as it has to.
pub(crate) fn wants_socket(request: &Request) -> Result<(), BrowserError> {
    let asked = request.headers().get(header::UPGRADE);
    match asked.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        true => Ok(()),
        false => Err(no_socket()),
    }
}

/// Takes the worker's side of a WebSocket out of its request.
pub(crate) fn upgrade(request: &mut Request) -> Result<OnUpgrade, BrowserError> {
    wants_socket(request)?;
    request.extensions_mut().remove::<OnUpgrade>().ok_or_else(no_socket)
}

fn no_socket() -> BrowserError {
    BrowserError::Refused("Expected a WebSocket: send the header Upgrade: websocket".to_owned())
}

/// Joins the worker with DevTools at `path`.
pub(crate) async fn join(
    mut request: Request,
    connection: Connection,
    path: &str,
) -> Result<Response, BrowserError> {
    let worker = upgrade(&mut request)?;
    let mut asked = HeaderMap::new();
    for name in ASKED {
        asked.extend(request.headers().get(&name).map(|value| (name, value.clone())));
    }
    asked.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    asked.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let answer = send(&connection.session.devtools, Method::GET, path, &asked).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(BrowserError::Unreachable(format!("{path}: {}", answer.status())));
    }
    let mut response = reply(StatusCode::SWITCHING_PROTOCOLS, empty());
    for name in ANSWERED {
        let value = answer.headers().get(&name).cloned();
        response.headers_mut().extend(value.map(|value| (name, value)));
    }
    response.headers_mut().extend(session_header(&connection));
    connection.session.handle.clone().spawn(async move {
        match tokio::try_join!(worker, hyper::upgrade::on(answer)) {
            Ok((worker, browser)) => pass(TokioIo::new(worker), TokioIo::new(browser), &connection).await,
            Err(error) => tracing::debug!(%error, "a WebSocket to a browser was not opened"),
        }
    });
    Ok(response)
}

/// Which session a connection is to.
pub(crate) fn session_header(connection: &Connection) -> Option<(header::HeaderName, HeaderValue)> {
    let value = HeaderValue::from_str(&connection.session.id).ok()?;
    Some((header::HeaderName::from_static(SESSION), value))
}

/// Bytes both ways until one side ends. What the worker sends are commands.
async fn pass<W, B>(worker: W, browser: B, connection: &Connection)
where
    W: tokio::io::AsyncRead + tokio::io::AsyncWrite,
    B: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let (mut from_worker, mut to_worker) = tokio::io::split(worker);
    let (mut from_browser, mut to_browser) = tokio::io::split(browser);
    let up = async {
        let mut buffer = vec![0; BUFFER];
        while let Ok(read) = from_worker.read(&mut buffer).await
            && read > 0
        {
            connection.session.touch();
            if to_browser.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
        let _ = to_browser.shutdown().await;
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_browser, &mut to_worker).await;
        let _ = to_worker.shutdown().await;
    };
    tokio::pin!(up, down);
    // Whichever side ends, the other has a moment to say its last.
    tokio::select! {
        () = &mut up => drop(tokio::time::timeout(Duration::from_secs(1), down).await),
        () = &mut down => drop(tokio::time::timeout(Duration::from_secs(1), up).await),
    }
}

pub(crate) async fn send(
    to: &Devtools,
    method: Method,
    path: &str,
    headers: &HeaderMap,
) -> Result<http::Response<Incoming>, BrowserError> {
    let failed = |error: &dyn std::fmt::Display| BrowserError::Unreachable(error.to_string());
    let asking = async {
        let stream = to.connect().await.map_err(|e| failed(&e))?;
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
        tokio::spawn(driver.with_upgrades());
        let mut request = http::Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|e| failed(&e))?;
        *request.headers_mut() = headers.clone();
        let host = HeaderValue::from_str(&to.host()).map_err(|e| failed(&e))?;
        request.headers_mut().insert(header::HOST, host);
        sender.send_request(request).await.map_err(|e| failed(&e))
    };
    tokio::time::timeout(ANSWERS, asking).await.map_err(|_| late())?
}

fn late() -> BrowserError {
    BrowserError::Unreachable(format!("nothing after {} s", ANSWERS.as_secs()))
}
