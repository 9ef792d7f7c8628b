//! What `send()` was asked for, as `shims/send-email.js` says it.

use bytes::Bytes;
use http::Uri;
use skep_wire::{ReadError, Request, read_all};

use super::parts::Parts;

/// A mail of so many bytes is looked at at once.
const SMALL: usize = 64 << 10;

/// A mail to send.
pub(super) enum Asked {
    /// A whole message, from whom it is and to whom it goes.
    Whole { from: String, to: String, raw: Bytes },
    /// The parts of one.
    Parts(Box<Parts>),
}

/// Why there is no mail in what was asked for.
#[derive(Debug)]
pub(super) enum NotAsked {
    /// It has more than the bytes that it may have.
    TooLarge,
    /// A field is missing that every mail has; the text says so.
    Missing(String),
    /// Something else.
    Invalid(String),
}

impl NotAsked {
    /// For people.
    pub fn said(self) -> String {
        match self {
            Self::TooLarge => "the email is too large".to_owned(),
            Self::Missing(text) | Self::Invalid(text) => text,
        }
    }
}

/// What has come: `POST /raw?from=…&to=…`, a whole message, or `POST /built`, the parts of one.
pub(super) struct Received {
    uri: Uri,
    body: Bytes,
}

/// Receives at most `limit` bytes.
pub(super) async fn received(request: Request, limit: usize) -> Result<Received, NotAsked> {
    let (head, body) = request.into_parts();
    let body = read_all(body, limit).await.map_err(|error| match error {
        ReadError::TooLarge(_) => NotAsked::TooLarge,
        ReadError::Broken(e) => NotAsked::Invalid(e.to_string()),
    })?;
    Ok(Received { uri: head.uri, body })
}

impl Received {
    /// Whether it takes time to look at it.
    pub fn is_large(&self) -> bool {
        self.body.len() > SMALL
    }

    /// What it asks for.
    pub fn asked(self) -> Result<Asked, NotAsked> {
        let Self { uri, body } = self;
        match uri.path() {
            "/raw" => {
                let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
                let (mut from, mut to) = (String::new(), String::new());
                for (name, value) in query {
                    match &*name {
                        "from" => from = value.into_owned(),
                        "to" => to = value.into_owned(),
                        _ => {}
                    }
                }
                Ok(Asked::Whole { from, to, raw: body })
            }
            "/built" => {
                serde_json::from_slice(&body).map(|parts| Asked::Parts(Box::new(parts))).map_err(|error| {
                    let text = format!("invalid email: {error}");
                    match error.to_string().starts_with("missing field") {
                        true => NotAsked::Missing(text),
                        false => NotAsked::Invalid(text),
                    }
                })
            }
            _ => Err(NotAsked::Invalid("no such operation on mail".to_owned())),
        }
    }
}
