//! Where models run, and what sends requests there.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response};
use skep_wire::{Body, BoxFuture};

use crate::error::AiError;
use crate::models::Models;

/// Where models run.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// A server with OpenAI's API.
    OpenAi {
        /// The URL that `/chat/completions` comes after, without a slash at its end.
        base: String,
        /// What the server wants to be shown.
        key: Option<HeaderValue>,
        /// Its models.
        models: Models,
    },
    /// Cloudflare's own.
    Cloudflare {
        /// The URL of the account: `https://api.cloudflare.com/client/v4/accounts/<id>`.
        account: String,
        /// A token that may run models.
        key: HeaderValue,
    },
}

impl Upstream {
    /// What `Authorization` is for a key.
    pub fn bearer(key: &str) -> Result<HeaderValue, String> {
        let value = HeaderValue::from_str(&format!("Bearer {key}"));
        let mut value = value.map_err(|_| "the key for --ai has characters that no key has".to_owned())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// A request to `path` below its address, with its key and nothing of the application's but the body.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Request<Bytes>, AiError> {
        let (base, key) = match self {
            Self::OpenAi { base, key, .. } => (base, key.as_ref()),
            Self::Cloudflare { account, key } => (account, Some(key)),
        };
        let mut request = Request::builder().method(method).uri(format!("{base}{path}"));
        if !content_type.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(key) = key {
            request = request.header(AUTHORIZATION, key);
        }
        request.body(body).map_err(AiError::bad_input)
    }
}

/// What sends requests to the upstream.
pub trait Http: Send + Sync + 'static {
    /// Sends a request; the answer's body is read while it arrives. The error is for the operator.
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, String>>;
}
