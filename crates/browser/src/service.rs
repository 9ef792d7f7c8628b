//! What a worker asks its binding: the paths of Browser Rendering, whatever the host.

use std::sync::Arc;

use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};
use skep_wire::{BoxFuture, Request, Response, Service, full, json as said, read_all, reply};

use crate::error::BrowserError;
use crate::sessions::{Browsers, Session};
use crate::{devtools, legacy};

/// Bytes of a body that asks for a session.
const BODY: usize = 64 << 10;
/// The header that restricts a session's traffic, where there is no body.
const GUARDRAILS: &str = "cf-brapi-guardrails";

/// The server behind `browser` bindings.
pub struct BrowserBinding(Arc<Browsers>);

impl Browsers {
    /// The server behind a script's binding.
    pub fn binding(self: &Arc<Self>) -> BrowserBinding {
        BrowserBinding(self.clone())
    }
}

impl Service for BrowserBinding {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async {
            self.answer(request).await.unwrap_or_else(|error| {
                if error.status().is_server_error() {
                    tracing::warn!("Browser Rendering: {error}");
                }
                reply(error.status(), full(error.to_string()))
            })
        })
    }
}

impl BrowserBinding {
    async fn answer(&self, request: Request) -> Result<Response, BrowserError> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let browsers = &self.0;
        let ok = |value: &Json| said(StatusCode::OK, value);
        match (method.as_str(), parts.as_slice()) {
            ("GET", ["v1", "acquire"]) | ("POST", ["v1", "devtools", "browser"]) => {
                let session = self.acquire(request).await?;
                Ok(ok(&json!({ "sessionId": session.id })))
            }
            ("GET", ["v1", "devtools", "browser"]) => {
                devtools::wants_socket(&request)?;
                if request.headers().contains_key(GUARDRAILS) {
                    return Err(no_guardrails());
                }
                let session = browsers.acquire(keep_alive(request.uri().query())?).await?;
                let path = session.devtools.path.clone();
                devtools::join(request, session.connect()?, &path).await
            }
            ("GET", ["v1", "connectDevtools"]) => {
                let id = query(request.uri().query(), "browser_session");
                let id = id.ok_or_else(|| BrowserError::Refused("browser_session must be set".to_owned()))?;
                legacy::join(request, browsers.session(&id)?.connect()?).await
            }
            ("GET", ["v1", "sessions"]) => Ok(ok(&json!({ "sessions": browsers.running() }))),
            ("GET", ["v1", "history"]) => Ok(ok(&json!({ "history": browsers.history() }))),
            ("GET", ["v1", "limits"]) => Ok(ok(&self.limits())),
            ("GET", ["v1", "devtools", "session"]) => Ok(ok(&json!(browsers.running()))),
            ("GET", ["v1", "devtools", "session", id]) => Ok(ok(&json!(browsers.session(id)?.told()))),
            ("GET", ["v1", "devtools", "browser", id]) => {
                let session = browsers.session(id)?;
                let path = session.devtools.path.clone();
                devtools::join(request, session.connect()?, &path).await
            }
            ("DELETE", ["v1", "devtools", "browser", id]) => {
                let session = browsers.session(id)?;
                browsers.close(&session).await;
                Ok(ok(&json!({ "status": "closed" })))
            }
            ("GET", ["v1", "devtools", "browser", id, "page", page]) => {
                let session = browsers.session(id)?;
                let path = format!("/devtools/page/{}", target(page)?);
                devtools::join(request, session.connect()?, &path).await
            }
            (_, ["v1", "devtools", "browser", id, "json", rest @ ..]) => {
                let path = of_chrome(&method, rest, request.uri().query())?;
                let session = browsers.session(id)?;
                session.touch();
                devtools::ask(&session, method, &path).await
            }
            _ => Ok(reply(StatusCode::NOT_FOUND, full("Not Found"))),
        }
    }

    async fn acquire(&self, request: Request) -> Result<Arc<Session>, BrowserError> {
        let keep_alive = keep_alive(request.uri().query())?;
        let body = read_all(request.into_body(), BODY).await;
        let body = body.map_err(|error| BrowserError::Refused(error.to_string()))?;
        let guardrails =
            serde_json::from_slice::<Json>(&body).is_ok_and(|body| !body["guardrails"].is_null());
        if guardrails {
            return Err(no_guardrails());
        }
        self.0.acquire(keep_alive).await
    }

    /// <https://developers.cloudflare.com/browser-run/puppeteer/#get-the-limits>
    fn limits(&self) -> Json {
        let running = self.0.running();
        let active: Vec<Json> = running.iter().map(|session| json!({ "id": session.session_id })).collect();
        let most = self.0.most();
        json!({
            "activeSessions": active,
            "maxConcurrentSessions": most,
            "allowedBrowserAcquisitions": most.saturating_sub(active.len()),
            "timeUntilNextAllowedBrowserAcquisition": 0,
        })
    }
}

fn no_guardrails() -> BrowserError {
    BrowserError::Refused("Skep cannot restrict a browser's traffic: start it without guardrails".to_owned())
}

fn query(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// How long a session is kept without a command. There is one browser; which one is asked for, it has to be that. Pure.
fn keep_alive(said: Option<&str>) -> Result<Option<u64>, BrowserError> {
    if let Some(browser) = query(said, "browser").filter(|browser| browser != "chrome") {
        return Err(BrowserError::Refused(format!(
            "Skep has no browser {browser:?}, only Chrome: leave `browser` out"
        )));
    }
    let Some(text) = query(said, "keep_alive") else { return Ok(None) };
    let number = text.parse::<f64>().ok().filter(|ms| ms.is_finite() && *ms >= 0.0);
    let number = number.ok_or_else(|| {
        BrowserError::Refused(format!("keep_alive is a number of milliseconds, up to 600000, not {text:?}"))
    })?;
    Ok(Some(number as u64))
}

/// The id of a page, as Chrome makes them. Pure.
fn target(id: &str) -> Result<&str, BrowserError> {
    match !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        true => Ok(id),
        false => Err(BrowserError::Refused(format!("{id:?} is no page's id"))),
    }
}

/// The path of Chrome's own that answers it: <https://chromedevtools.github.io/devtools-protocol/#endpoints>. Pure.
fn of_chrome(method: &Method, rest: &[&str], said: Option<&str>) -> Result<String, BrowserError> {
    match (method.as_str(), rest) {
        ("GET", [] | ["list"]) => Ok("/json/list".to_owned()),
        ("GET", ["version"]) => Ok("/json/version".to_owned()),
        ("GET", ["protocol"]) => Ok("/json/protocol".to_owned()),
        ("PUT", ["new"]) => {
            let url = query(said, "url").unwrap_or_default();
            Ok(format!("/json/new?{}", utf8_percent_encode(&url, NON_ALPHANUMERIC)))
        }
        ("GET", [what @ ("activate" | "close"), id]) => Ok(format!("/json/{what}/{}", target(id)?)),
        _ => Err(BrowserError::Refused(format!("DevTools have no {method} json/{}", rest.join("/")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_session_is_read() {
        assert_eq!(keep_alive(None).unwrap(), None);
        assert_eq!(keep_alive(Some("keep_alive=1200.5&location=x&browser=chrome")).unwrap(), Some(1200));
        for said in ["keep_alive=", "keep_alive=-1", "keep_alive=soon", "keep_alive=NaN", "browser=kitesurf"]
        {
            assert!(matches!(keep_alive(Some(said)), Err(BrowserError::Refused(_))), "{said}");
        }
    }

    #[test]
    fn only_paths_of_devtools_reach_the_browser() {
        let get = |rest: &[&str]| of_chrome(&Method::GET, rest, None).ok();
        assert_eq!(get(&[]).as_deref(), Some("/json/list"));
        assert_eq!(get(&["close", "ABC-1"]).as_deref(), Some("/json/close/ABC-1"));
        for rest in [&["new"][..], &["close"], &["close", "a?b"], &["close", ""], &["close", ".."], &["x"]] {
            assert_eq!(get(rest), None, "{rest:?}");
        }
        let new = of_chrome(&Method::PUT, &["new"], Some("url=http%3A%2F%2Fa%2F%3Fb%3Dc%26d")).unwrap();
        assert_eq!(new, "/json/new?http%3A%2F%2Fa%2F%3Fb%3Dc%26d");
    }
}
