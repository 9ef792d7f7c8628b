//! What `send()` was asked for, as `shims/send-email.js` says it.

use bytes::Bytes;
use skep_wire::{Request, read_all};

use super::parts::Parts;

/// The largest mail in bytes, as it comes from the shim: attachments are in base64.
const MAX_MAIL: usize = 64 << 20;

/// A mail to send.
pub(super) enum Asked {
    /// A whole message, from whom it is and to whom it goes.
    Whole { from: String, to: String, raw: Bytes },
    /// The parts of one.
    Parts(Box<Parts>),
}

/// `POST /raw?from=…&to=…`, a whole message, or `POST /built`, the parts of one.
pub(super) async fn asked(request: Request) -> Result<Asked, String> {
    let (head, body) = request.into_parts();
    let body = read_all(body, MAX_MAIL).await.map_err(|e| e.to_string())?;
    match head.uri.path() {
        "/raw" => {
            let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
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
        "/built" => serde_json::from_slice(&body)
            .map(|parts| Asked::Parts(Box::new(parts)))
            .map_err(|e| format!("invalid email: {e}")),
        _ => Err("no such operation on mail".to_owned()),
    }
}
