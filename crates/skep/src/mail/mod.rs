//! `send_email` while one develops: mail is checked as under `wrangler dev`, and kept in a folder instead of being sent.

mod message;
mod parts;

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::json;
use skep_config::SendEmail;
use skep_wire::{BoxFuture, Request, Response, Service, json as json_reply, read_all, reason};

use crate::terminal::{Style, paint, printable, say};
use parts::Parts;

/// The largest mail in bytes, as it comes from the shim: attachments are in base64.
const MAX_MAIL: usize = 64 << 20;

/// Takes the mail of one binding.
pub struct Mail {
    /// What it may send.
    pub binding: SendEmail,
    /// Whose it is.
    pub script: String,
    /// Where mail is kept.
    pub folder: PathBuf,
}

impl Service for Mail {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            match self.take(request).await {
                Ok(id) => json_reply(StatusCode::OK, &json!({ "messageId": id })),
                Err(text) => reason(StatusCode::BAD_REQUEST, &text),
            }
        })
    }
}

impl Mail {
    /// `POST /raw?from=…&to=…`, a whole message, or `POST /built`, the parts of one.
    async fn take(&self, request: Request) -> Result<String, String> {
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
                self.whole(&body, &from, &to).await
            }
            "/built" => {
                let parts = serde_json::from_slice(&body).map_err(|e| format!("invalid email: {e}"))?;
                self.built(parts).await
            }
            _ => Err("no such operation on mail".to_owned()),
        }
    }

    async fn whole(&self, raw: &[u8], from: &str, to: &str) -> Result<String, String> {
        allowed(&self.binding, from, [to].into_iter())?;
        let id = message::new_id(from);
        let raw = message::accepted(raw, from, &id)?;
        let path = self.keep(&id, ".eml", raw).await?;
        self.say("send_email binding called with the following message:", &format!("Email: {path}"));
        Ok(id)
    }

    async fn built(&self, parts: Parts) -> Result<String, String> {
        allowed(&self.binding, parts.from.email(), parts.to.iter().map(parts::Address::email))?;
        let id = message::new_id(parts.from.email());
        let mut said = parts.shown();
        let mut heading = "\n\n";
        let mut file = |line: String| {
            said.push_str(heading);
            said.push_str(&line);
            heading = "\n";
        };
        for (kind, ending, text) in [("Text", ".txt", &parts.text), ("HTML", ".html", &parts.html)] {
            let Some(text) = text.as_ref().filter(|text| !text.is_empty()) else { continue };
            file(format!("{kind}: {}", self.keep(&id, ending, text.clone().into()).await?));
        }
        for (n, attachment) in parts.attachments.iter().enumerate() {
            let content = STANDARD.decode(&attachment.content).map_err(|e| format!("invalid email: {e}"))?;
            let ending = format!("-{}.{}", n + 1, attachment.extension());
            let path = self.keep(&id, &ending, content).await?;
            let disposition = attachment.disposition.as_deref().unwrap_or("attachment");
            file(format!("Attachment ({disposition}): {} -> {path}", attachment.filename));
        }
        self.say("send_email binding called with MessageBuilder:", &said);
        Ok(id)
    }

    /// Keeps a file of the mail `id`, and returns where. Ids of ours are names of files.
    async fn keep(&self, id: &str, ending: &str, content: Vec<u8>) -> Result<String, String> {
        let path = self.folder.join(format!("{}{ending}", id.trim_matches(['<', '>'])));
        let failed = |path: &Path, e: std::io::Error| {
            format!("could not store email temporary file: {}: {e}", path.display())
        };
        tokio::fs::create_dir_all(&self.folder).await.map_err(|e| failed(&self.folder, e))?;
        tokio::fs::write(&path, content).await.map_err(|e| failed(&path, e))?;
        Ok(path.display().to_string())
    }

    fn say(&self, heading: &str, text: &str) {
        let name = paint(Style::Dim, &format!("[{}]", self.script));
        say(&format!("{name} {heading}\n{}", printable(text)));
    }
}

/// Whether a binding may send this, in Miniflare's words and order.
fn allowed<'a>(binding: &SendEmail, from: &str, mut to: impl Iterator<Item = &'a str>) -> Result<(), String> {
    if binding.allowed_sender_addresses.as_ref().is_some_and(|all| !all.iter().any(|one| one == from)) {
        return Err(format!("email from {from} not allowed"));
    }
    let forbidden = |to: &&str| {
        binding.destination_address.as_ref().is_some_and(|only| only != to)
            || binding
                .allowed_destination_addresses
                .as_ref()
                .is_some_and(|all| !all.iter().any(|one| one == to))
    };
    to.find(forbidden).map_or(Ok(()), |to| Err(format!("email to {to} not allowed")))
}
