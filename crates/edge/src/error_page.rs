//! Errors in Cloudflare's shape.
//!
//! A browser gets a page, a client that asks for JSON gets problem details (RFC 9457), everybody else the
//! line `error code: N` that Cloudflare sends.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::json;
use skep_wire::full;

use crate::body::EdgeBody;
use crate::meter::Outcome;

/// Cloudflare's 1xxx errors that we can cause
/// (<https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-1xxx-errors/>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The worker threw an exception.
    WorkerException,
    /// The worker went over a limit, or its process ended.
    ResourceLimits,
    /// Nothing is deployed under this host.
    NotFound,
    /// The script does not start, or not in time.
    Unavailable,
    /// Workers have called each other too many times for one request.
    LoopLimit,
}

impl ErrorCode {
    fn number(self) -> u16 {
        match self {
            Self::WorkerException => 1101,
            Self::ResourceLimits => 1102,
            Self::NotFound => 1042,
            Self::Unavailable => 1105,
            Self::LoopLimit => 1019,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::WorkerException => "Worker threw exception",
            Self::ResourceLimits => "Worker exceeded resource limits",
            Self::NotFound => "There is nothing here yet",
            Self::Unavailable => "Worker is not available",
            Self::LoopLimit => "Worker hit loop limit",
        }
    }

    /// What has come of a request that is answered by it.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::WorkerException | Self::LoopLimit => Outcome::Exception,
            Self::ResourceLimits => Outcome::Resources,
            Self::NotFound | Self::Unavailable => Outcome::Internal,
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::WorkerException | Self::LoopLimit => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::ResourceLimits | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The response for `code`. `detail` is for whoever may see the inside: a developer on this machine.
pub fn error_page(
    code: ErrorCode,
    accept: &HeaderMap,
    ray: &str,
    detail: Option<&str>,
) -> Response<EdgeBody> {
    let wanted = accept.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let number = code.number();
    let (content_type, text) = if wanted.contains("text/html") {
        ("text/html; charset=UTF-8", page(code, ray, detail))
    } else if wanted.contains("application/json") || wanted.contains("application/problem+json") {
        let problem = json!({
            "title": format!("Error {number}: {}", code.title()),
            "status": code.status().as_u16(),
            "detail": detail.unwrap_or(code.title()),
            "error_code": number,
            "ray_id": ray,
        });
        ("application/problem+json", problem.to_string())
    } else {
        let detail = detail.map(|d| format!("\n{d}\n")).unwrap_or_default();
        ("text/plain; charset=UTF-8", format!("error code: {number}{detail}"))
    };
    let mut response = Response::new(EdgeBody::Own(full(text)));
    *response.status_mut() = code.status();
    response.extensions_mut().insert(code);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    response
}

fn page(code: ErrorCode, ray: &str, detail: Option<&str>) -> String {
    let (number, title) = (code.number(), code.title());
    let detail = detail.map(|d| format!("<pre>{}</pre>", escape(d))).unwrap_or_default();
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>{title}</title><style>body{{font:16px/1.5 system-ui;margin:10vh auto;max-width:50rem;padding:0 1rem;\
         color-scheme:light dark}}pre{{overflow:auto;padding:1rem;border:1px solid #8886;border-radius:.5rem}}\
         small{{opacity:.7}}</style><h1>Error {number}</h1><p>{title}</p>{detail}<small>Ray ID: {ray}</small></html>"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_gets_the_form_they_asked_for_and_nothing_unescaped() {
        for (accept, expected) in [
            ("text/html,*/*", "&lt;b&gt;"),
            ("application/json", "\"error_code\":1101"),
            ("*/*", "error code: 1101"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            let response = error_page(ErrorCode::WorkerException, &headers, "ray", Some("<b>"));
            assert_eq!(response.status(), 500);
            let body = skep_wire::read_all(response.into_body(), 1 << 16).await.unwrap();
            assert!(String::from_utf8_lossy(&body).contains(expected), "{body:?}");
        }
    }
}
