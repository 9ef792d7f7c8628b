//! Mail that comes in by hand while one develops, and what an `email()` handler does with it.
//! <https://developers.cloudflare.com/email-service/local-development/routing/>

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use skep_fleet::{EventError, Worker};
use skep_wire::{BoxFuture, Request, Response, Service, empty, json as json_reply, read_all, reason};

use super::compose::compose;
use super::message::{
    Field, addresses, check_head, check_headers, fields, first_address, new_id, value, without,
};
use super::parts::{Address, Parts};
use super::reply::{NoReply, Thread, checked, replyable};
use super::{Folder, note};
use crate::terminal::{Style, paint};

/// The largest message in bytes that comes in.
/// <https://developers.cloudflare.com/email-service/platform/limits/#email-routing-limits>
pub const MAX_MESSAGE: usize = 25 << 20;
/// The largest answer of a handler: what a reply may be, in base64.
const MAX_REPLY: usize = 64 << 20;

/// The fields that are made of a reply's parts, or of what it is a reply to; others' values are not taken.
const MANAGED: [&str; 13] = [
    "bcc",
    "cc",
    "content-transfer-encoding",
    "content-type",
    "date",
    "from",
    "in-reply-to",
    "message-id",
    "mime-version",
    "references",
    "reply-to",
    "subject",
    "to",
];

/// Why a message did not come in, or was not handled: a status and a text.
pub struct Wrong(pub StatusCode, pub String);

impl Wrong {
    fn bad(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }
}

/// What a handler did, with the names of wrangler's answer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Handled {
    outcome: &'static str,
    #[serde(rename = "rejectReason", skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    forwards: Vec<Json>,
    replies: Vec<Json>,
    events: Vec<Json>,
    /// Why it failed, if it did.
    #[serde(skip)]
    pub failure: Option<String>,
}

impl Handled {
    fn happened(&mut self, what: &str, id: Option<&str>) {
        let mut event = json!({ "type": what, "timestamp": humantime::format_rfc3339_millis(SystemTime::now()).to_string() });
        if let Some(id) = id {
            event["messageId"] = id.into();
        }
        self.events.push(event);
    }
}

/// A message that a handler has.
struct Incoming {
    script: String,
    from: String,
    raw: Vec<u8>,
    fields: Vec<Field>,
    thread: Thread,
    handled: Mutex<Handled>,
}

impl Incoming {
    fn note(&self, change: impl FnOnce(&mut Handled)) {
        change(&mut self.handled.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Takes messages, and hears from handlers.
pub struct Inbox {
    folder: Folder,
    open: Mutex<HashMap<String, Arc<Incoming>>>,
}

impl Inbox {
    /// Replies and what is forwarded are kept in `folder`.
    pub fn new(folder: Folder) -> Self {
        Self { folder, open: Mutex::default() }
    }

    /// Runs the handler of `script` with a message.
    pub async fn deliver(
        &self,
        worker: &Worker,
        script: &str,
        (from, to): (&str, &str),
        raw: &Bytes,
    ) -> Result<Handled, Wrong> {
        check_head(raw).map_err(Wrong::bad)?;
        let raw = without(raw, "bcc");
        let fields = fields(&raw);
        let Some(id) = value(&fields, "message-id") else {
            return Err(Wrong::bad("Email could not be parsed: invalid or no message id provided"));
        };
        let thread =
            Thread { id: id.to_owned(), references: value(&fields, "references").map(str::to_owned) };
        warn(script, &fields, from, to);
        check_headers(&fields)
            .map_err(|text| Wrong(StatusCode::INTERNAL_SERVER_ERROR, format!("TypeError: {text}")))?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let headers: Vec<[&str; 2]> = fields.iter().map(|field| [&*field.name, &*field.value]).collect();
        let event = json!({
            "id": id, "from": from, "to": to, "headers": headers, "b64": STANDARD.encode(&raw),
        });
        let event = event.to_string().into_bytes();
        let (script, from) = (script.to_owned(), from.to_owned());
        let incoming = Arc::new(Incoming { script, from, raw, fields, thread, handled: Mutex::default() });
        incoming.note(|handled| handled.happened("received", None));
        self.lock().insert(id.clone(), incoming.clone());
        let open = Open { inbox: self, id };
        let ran = worker.event("/email", event).await;
        drop(open);
        let mut handled = incoming.handled.lock().unwrap_or_else(PoisonError::into_inner).clone();
        handled.failure = failure(ran);
        handled.outcome = if handled.failure.is_some() { "exception" } else { "ok" };
        if handled.failure.as_deref().is_some_and(is_missing) {
            handled.events.clear();
            handled.happened("unhandled", None);
            handled.failure =
                Some("Worker does not export an email() handler; message not delivered.".to_owned());
        }
        Ok(handled)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Incoming>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `POST /<id>/<what the handler called>`
    async fn hear(&self, request: Request) -> Result<Response, String> {
        let (head, body) = request.into_parts();
        let mut path = head.uri.path().trim_start_matches('/').splitn(2, '/');
        let incoming = path.next().and_then(|id| self.lock().get(id).cloned());
        let incoming = incoming.ok_or("the email event is over")?;
        let body = read_all(body, MAX_REPLY).await.map_err(|e| e.to_string())?;
        let id = match path.next().unwrap_or_default() {
            "reject" => {
                rejected(&incoming, String::from_utf8_lossy(&body).into_owned());
                return Ok(skep_wire::reply(StatusCode::NO_CONTENT, empty()));
            }
            "forward" => {
                let forward = serde_json::from_slice(&body).map_err(|e| format!("invalid email: {e}"))?;
                self.forward(&incoming, forward).await?
            }
            "reply" => {
                let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
                let from =
                    query.into_iter().find(|(name, _)| name == "from").map(|(_, from)| from.into_owned());
                self.reply(&incoming, &from.unwrap_or_default(), &body).await?
            }
            "reply-built" => {
                let parts = serde_json::from_slice(&body).map_err(|e| format!("invalid email: {e}"))?;
                self.reply_built(&incoming, parts).await?
            }
            _ => return Err("no such operation on mail".to_owned()),
        };
        Ok(json_reply(StatusCode::OK, &json!({ "messageId": id })))
    }

    async fn forward(&self, incoming: &Incoming, Forward { to, headers }: Forward) -> Result<String, String> {
        let id = new_id(&to);
        let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let path = self.folder.keep(&id, ".eml", [more.as_bytes(), &incoming.raw].concat()).await?;
        let mut said = format!(" with\n  rcptTo: {to}");
        if !headers.is_empty() {
            said.push_str("\n  headers:");
            headers.iter().for_each(|(name, value)| said.push_str(&format!("\n    {name}: {value}")));
        }
        note(&incoming.script, "Email handler forwarded message", &format!("{said}\n  {path}"));
        incoming.note(|handled| {
            handled.happened("forward", Some(&id));
            handled.forwards.push(json!({ "recipient": to, "headers": headers, "messageId": id }));
        });
        Ok(id)
    }

    async fn reply(&self, incoming: &Incoming, from: &str, raw: &[u8]) -> Result<String, String> {
        may_reply(incoming)?;
        let id = new_id(from);
        let raw = checked(raw, from, &incoming.thread, &id)?;
        self.replied(incoming, from, id, raw).await
    }

    async fn reply_built(&self, incoming: &Incoming, mut parts: Parts) -> Result<String, String> {
        may_reply(incoming)?;
        let is = |name: &String, other: &str| name.eq_ignore_ascii_case(other);
        if parts.headers.keys().any(|name| is(name, "received")) {
            return Err("invalid headers set".to_owned());
        }
        parts.headers.retain(|name, _| !MANAGED.iter().any(|managed| is(name, managed)));
        let mut headers = vec![
            ("In-Reply-To".to_owned(), incoming.thread.id.clone()),
            ("References".to_owned(), incoming.thread.references()),
        ];
        headers.extend(std::mem::take(&mut parts.headers));
        parts.to = vec![Address::Text(incoming.from.clone())];
        parts.cc.clear();
        let id = new_id(parts.from.email());
        let raw = compose(&parts, &id, &headers).map_err(super::compose::Unfit::said)?;
        self.replied(incoming, &parts.from.shown(), id, raw).await
    }

    async fn replied(
        &self,
        incoming: &Incoming,
        sender: &str,
        id: String,
        raw: Vec<u8>,
    ) -> Result<String, String> {
        let text = String::from_utf8_lossy(&raw).into_owned();
        let path = self.folder.keep(&id, ".eml", raw).await?;
        note(
            &incoming.script,
            "Email handler replied to sender",
            &format!(" with the following message:\n  {path}"),
        );
        incoming.note(|handled| {
            handled.happened("reply", Some(&id));
            handled.replies.push(json!({ "messageId": id, "sender": sender, "raw": text }));
        });
        Ok(id)
    }
}

impl Service for Inbox {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            self.hear(request).await.unwrap_or_else(|text| reason(StatusCode::BAD_REQUEST, &text))
        })
    }
}

/// A message is open for as long as this is.
struct Open<'a> {
    inbox: &'a Inbox,
    id: String,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.inbox.lock().remove(&self.id);
    }
}

#[derive(Deserialize)]
struct Forward {
    to: String,
    headers: Vec<(String, String)>,
}

fn rejected(incoming: &Incoming, reason: String) {
    let heading = paint(Style::Red, "Email handler rejected message");
    note(&incoming.script, &heading, &format!(" with the following reason: \"{reason}\""));
    incoming.note(|handled| {
        handled.happened("reject", None);
        handled.rejected = Some(reason);
    });
}

fn may_reply(incoming: &Incoming) -> Result<(), String> {
    let Err(why) = replyable(&incoming.fields) else { return Ok(()) };
    if why == NoReply::TooLong {
        let text = "The incoming email's \"References\" header has more than 100 entries. As such, your Worker cannot respond to this \
                    email. Refer to https://developers.cloudflare.com/email-routing/email-workers/reply-email-workers/";
        note(&incoming.script, "", &paint(Style::Red, text));
    }
    Err("Original email is not replyable".to_owned())
}

/// The addresses of the envelope may be others than those in the message; that is rarely meant.
fn warn(script: &str, fields: &[Field], from: &str, to: &str) {
    let sender = value(fields, "from").and_then(first_address).unwrap_or_default();
    if sender != from {
        let heading = "Provided MAIL FROM address doesn't match the email message's \"From\" header";
        let text = format!(":\n  MAIL FROM: {from}\n  \"From\" header: {sender}");
        note(script, &paint(Style::Yellow, heading), &text);
    }
    let recipients = value(fields, "to").map(addresses).unwrap_or_default();
    if !recipients.iter().any(|recipient| recipient == to) {
        let heading = "Provided RCPT TO address doesn't match any \"To\" header in the email message";
        let text = format!(":\n  RCPT TO: {to}\n  \"To\" header: {}", recipients.join(", "));
        note(script, &paint(Style::Yellow, heading), &text);
    }
}

/// What a handler threw, or why it did not run.
fn failure(ran: Result<(StatusCode, Bytes), EventError>) -> Option<String> {
    let (status, answer) = match ran {
        Ok((status, _)) if status.is_success() => return None,
        Ok(answer) => answer,
        Err(error) => return Some(error.to_string()),
    };
    let error: Json = serde_json::from_slice(&answer).unwrap_or_default();
    let text = |name: &str| error["error"][name].as_str().filter(|text| !text.is_empty());
    Some(match text("message") {
        Some(message) => format!("{}: {message}", text("name").unwrap_or("Error")),
        None => format!("the email event failed with status {status}"),
    })
}

/// Whether there is no handler.
fn is_missing(failure: &str) -> bool {
    failure.contains("does not implement the method \"email\"")
}
