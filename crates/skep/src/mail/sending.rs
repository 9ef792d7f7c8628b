//! `send_email` on a node.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;
use skep_config::SendEmail;
use skep_runtime::{Turns, who_is};
use skep_wire::{BoxFuture, Request, Response, Service, json as json_reply};

use super::asked::{NotAsked, received};
use super::letter::letter;
use super::refused::{Code, Refused};
use super::relay::Relay;

/// Large mails are written in turns of accounts.
static WRITING: Turns = Turns::new();

/// Sends the mail of one binding.
pub struct SentMail {
    /// Where it goes; `None` where the node has lost its relay since the deploy.
    pub relay: Option<Arc<Relay>>,
    /// What it may send.
    pub binding: SendEmail,
    /// Whose it is.
    pub account: String,
    /// The script.
    pub script: String,
}

impl Service for SentMail {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            match self.send(request).await {
                Ok(id) => json_reply(StatusCode::OK, &json!({ "messageId": id })),
                Err(refused) => refused.response(),
            }
        })
    }
}

impl SentMail {
    async fn send(&self, request: Request) -> Result<String, Refused> {
        let no_relay = || {
            Refused::new(Code::Internal, "Email Service temporarily unavailable: this node has no mail relay")
        };
        let relay = self.relay.as_ref().ok_or_else(no_relay)?;
        // Attachments are in base64, and one that was given in base64 is so twice.
        let limit = relay.rules.bytes * 2 + (64 << 10);
        let received = received(request, limit).await.map_err(not_asked)?;
        let is_large = received.is_large();
        let (binding, rules) = (self.binding.clone(), relay.rules.clone());
        let write = move || letter(&binding, received.asked().map_err(not_asked)?, &rules);
        // Whoever else is to be answered does not wait for a large one.
        let letter = WRITING.aside_if(is_large, who_is(&self.account), write).await;
        let letter = letter.map_err(|error| Refused::new(Code::Internal, error.to_string()))??;
        // Also what the relay then refuses counts: a flood of mail to nobody is one.
        relay.allowance.take(&self.account, letter.to.len(), relay.clock.now_ms())?;
        relay.deliver(&letter, &self.account, &self.script).await?;
        Ok(letter.id)
    }
}

fn not_asked(not: NotAsked) -> Refused {
    match not {
        NotAsked::TooLarge => Refused::new(Code::TooLarge, "Email content exceeds size limit"),
        NotAsked::Missing(text) => Refused::new(Code::FieldMissing, text),
        NotAsked::Invalid(text) => Refused::new(Code::Validation, text),
    }
}
