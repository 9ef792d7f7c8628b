//! `send_email` while one develops.

use http::StatusCode;
use serde_json::json;
use skep_config::SendEmail;
use skep_wire::{BoxFuture, Request, Response, Service, json as json_reply, reason};

use super::asked::{Asked, NotAsked, received};
use super::parts::{Address, Parts};
use super::{Folder, allowed, message, note};

/// The largest mail in bytes, as it comes from the shim: attachments are in base64.
const MAX_MAIL: usize = 64 << 20;

/// Takes the mail of one binding, and keeps it.
pub struct KeptMail {
    /// What it may send.
    pub binding: SendEmail,
    /// Whose it is.
    pub script: String,
    /// Where mail is kept.
    pub folder: Folder,
}

impl Service for KeptMail {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            match self.take(request).await {
                Ok(id) => json_reply(StatusCode::OK, &json!({ "messageId": id })),
                Err(text) => reason(StatusCode::BAD_REQUEST, &text),
            }
        })
    }
}

impl KeptMail {
    async fn take(&self, request: Request) -> Result<String, String> {
        let received = received(request, MAX_MAIL).await.map_err(NotAsked::said)?;
        match received.asked().map_err(NotAsked::said)? {
            Asked::Whole { from, to, raw } => self.whole(&raw, &from, &to).await,
            Asked::Parts(parts) => self.built(*parts).await,
        }
    }

    async fn whole(&self, raw: &[u8], from: &str, to: &str) -> Result<String, String> {
        allowed(&self.binding, from, [to].into_iter()).map_err(|not| not.said())?;
        let id = message::new_id(from);
        let raw = message::accepted(raw, from, &id)?;
        let path = self.folder.keep(&id, ".eml", raw).await?;
        note(
            &self.script,
            "send_email binding called with the following message:\n",
            &format!("Email: {path}"),
        );
        Ok(id)
    }

    async fn built(&self, parts: Parts) -> Result<String, String> {
        let to = parts.to.iter().map(Address::email);
        allowed(&self.binding, parts.from.email(), to).map_err(|not| not.said())?;
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
            file(format!("{kind}: {}", self.folder.keep(&id, ending, text.clone().into()).await?));
        }
        for (n, attachment) in parts.attachments.iter().enumerate() {
            let content = attachment.given().map_err(|e| format!("invalid email: {e}"))?;
            let ending = format!("-{}.{}", n + 1, attachment.extension());
            let path = self.folder.keep(&id, &ending, content).await?;
            let disposition = attachment.disposition();
            file(format!("Attachment ({disposition}): {} -> {path}", attachment.filename));
        }
        note(&self.script, "send_email binding called with MessageBuilder:\n", &said);
        Ok(id)
    }
}
