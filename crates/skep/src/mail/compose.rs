//! From the parts of a mail to the message that is sent (RFC 5322, RFC 2045).

use lettre::Address as Mailable;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment as File, Mailbox, Message, MultiPart, SinglePart};

use super::parts::{Address, Attachment, Parts};

/// What is wrong with the parts of a mail.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// This is no address.
    Address(String),
    /// Something that goes into the fields before the text would break them.
    Headers,
    /// An attachment lacks something, or its type is none.
    Attachment,
    /// An attachment's content is a text, but not base64.
    Content,
    /// Something else, for the log.
    Other(String),
}

impl Unfit {
    /// In Miniflare's words, as far as it has any.
    pub fn said(self) -> String {
        match self {
            Self::Address(address) => format!("could not parse email: invalid address {address}"),
            Self::Headers => "invalid headers set".to_owned(),
            Self::Attachment => "invalid attachment".to_owned(),
            Self::Content => "invalid attachment content".to_owned(),
            Self::Other(text) => format!("could not parse email: {text}"),
        }
    }
}

fn breaks(text: &str) -> bool {
    text.chars().any(char::is_control)
}

fn mailbox(address: &Address) -> Result<Mailbox, Unfit> {
    let (name, email) = (address.name(), address.email());
    if breaks(email) || name.is_some_and(breaks) {
        return Err(Unfit::Headers);
    }
    let parsed: Mailable = email.parse().map_err(|_| Unfit::Address(email.to_owned()))?;
    Ok(Mailbox::new(name.filter(|name| !name.is_empty()).map(str::to_owned), parsed))
}

/// A part for one attachment.
fn file(attachment: &Attachment) -> Result<SinglePart, Unfit> {
    let id = attachment.content_id.as_deref().unwrap_or_default();
    if breaks(&attachment.filename) || breaks(id) {
        return Err(Unfit::Headers);
    }
    let kind = attachment.kind.as_deref().and_then(|kind| ContentType::parse(kind).ok());
    let kind = kind.ok_or(Unfit::Attachment)?;
    let name = attachment.filename.clone();
    let part = match (attachment.disposition(), id.trim_matches(['<', '>'])) {
        ("attachment", _) => File::new(name),
        ("inline", id) if !id.is_empty() => File::new_inline_with_name(id.to_owned(), name),
        _ => return Err(Unfit::Attachment),
    };
    Ok(part.body(attachment.decoded().map_err(|_| Unfit::Content)?, kind))
}

/// The text, as it is or in both forms.
enum Content {
    One(SinglePart),
    Both(MultiPart),
}

impl Content {
    fn of(parts: &Parts) -> Self {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        match (given(&parts.text), given(&parts.html)) {
            (Some(text), Some(html)) => Self::Both(MultiPart::alternative_plain_html(text, html)),
            (None, Some(html)) => Self::One(SinglePart::html(html)),
            (text, None) => Self::One(SinglePart::plain(text.unwrap_or_default())),
        }
    }

    /// Before `files`, in a part of its own.
    fn with(self, whole: lettre::message::MultiPartBuilder, files: Vec<SinglePart>) -> MultiPart {
        let whole = match self {
            Self::One(part) => whole.singlepart(part),
            Self::Both(parts) => whole.multipart(parts),
        };
        files.into_iter().fold(whole, MultiPart::singlepart)
    }
}

/// The message with `id`, and `headers` beside those that its parts make. Who is in `bcc` does not stand in it.
pub(super) fn compose(parts: &Parts, id: &str, headers: &[(String, String)]) -> Result<Vec<u8>, Unfit> {
    if breaks(&parts.subject) || headers.iter().any(|(_, value)| breaks(value)) {
        return Err(Unfit::Headers);
    }
    let mut message = Message::builder().from(mailbox(&parts.from)?);
    for to in &parts.to {
        message = message.to(mailbox(to)?);
    }
    for cc in &parts.cc {
        message = message.cc(mailbox(cc)?);
    }
    if let Some(reply_to) = &parts.reply_to {
        message = message.reply_to(mailbox(reply_to)?);
    }
    message = message.subject(&parts.subject).message_id(Some(id.to_owned())).date_now();
    for (name, value) in headers {
        let name = HeaderName::new_from_ascii(name.clone()).map_err(|_| Unfit::Headers)?;
        message = message.raw_header(HeaderValue::new(name, value.clone()));
    }
    let (mut inline, mut attached) = (Vec::new(), Vec::new());
    for attachment in &parts.attachments {
        let is_inline = attachment.disposition() == "inline";
        if is_inline { &mut inline } else { &mut attached }.push(file(attachment)?);
    }
    let mut content = Content::of(parts);
    // What the text shows comes with it (RFC 2387), all else after both.
    if !inline.is_empty() {
        content = Content::Both(content.with(MultiPart::related(), inline));
    }
    if !attached.is_empty() {
        content = Content::Both(content.with(MultiPart::mixed(), attached));
    }
    let message = match content {
        Content::One(part) => message.singlepart(part),
        Content::Both(parts) => message.multipart(parts),
    };
    message.map(|message| message.formatted()).map_err(|e| Unfit::Other(e.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn composed(parts: serde_json::Value, headers: &[(String, String)]) -> Result<String, Unfit> {
        let parts: Parts = serde_json::from_value(parts).unwrap();
        compose(&parts, "<1@x.org>", headers).map(|raw| String::from_utf8(raw).unwrap())
    }

    #[test]
    fn a_message_has_its_parts_and_no_bcc() {
        let headers = [("X-Mine".to_owned(), "ä".to_owned())];
        let text = composed(
            json!({
                "from": { "name": "Ann Ö", "email": "a@x.org" }, "to": ["Bob <b@x.org>", "c@x.org"], "cc": ["d@x.org"],
                "bcc": ["secret@x.org"], "replyTo": "r@x.org", "subject": "Grüße", "text": "plain", "html": "<b>rich</b>",
                "attachments": [
                    { "filename": "a.bin", "type": "application/octet-stream", "content": "AP8=" },
                    { "filename": "i.png", "type": "image/png", "disposition": "inline", "contentId": "<i>", "content": "AP8=" },
                ],
            }),
            &headers,
        )
        .unwrap();
        for part in [
            "Message-ID: <1@x.org>\r\n",
            "<a@x.org>\r\n",
            "To: Bob <b@x.org>, c@x.org\r\n",
            "Cc: d@x.org\r\n",
            "Reply-To: r@x.org\r\n",
            "MIME-Version: 1.0\r\n",
            "multipart/mixed",
            "multipart/related",
            "multipart/alternative",
            "\r\nplain\r\n",
            "\r\n<b>rich</b>\r\n",
            "Content-ID: <i>\r\n",
            "AP8=",
            "Date: ",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("secret") && text.is_ascii(), "{text}");
    }

    #[test]
    fn nothing_breaks_out_of_a_field() {
        let mail = |change: serde_json::Value| {
            let mut parts = json!({ "from": "a@x.org", "to": ["b@x.org"], "subject": "s" });
            parts.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            composed(parts, &[]).unwrap_err()
        };
        assert_eq!(mail(json!({ "subject": "s\r\nBcc: z@x.org" })), Unfit::Headers);
        assert_eq!(mail(json!({ "from": { "name": "A\nB", "email": "a@x.org" } })), Unfit::Headers);
        assert_eq!(mail(json!({ "to": ["b@x.org\r\nRCPT TO:<z@x.org>"] })), Unfit::Headers);
        assert_eq!(mail(json!({ "to": ["nobody"] })), Unfit::Address("nobody".into()));
        let file = |kind: &str, content: &str, more: serde_json::Value| {
            let mut file = json!({ "filename": "f", "type": kind, "content": content });
            file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            mail(json!({ "attachments": [file] }))
        };
        assert_eq!(file("text", "", json!({})), Unfit::Attachment);
        assert_eq!(file("text/plain", "", json!({ "disposition": "inline" })), Unfit::Attachment);
        assert_eq!(file("text/plain", "w6Q=", json!({ "isText": true })), Unfit::Content);
        assert_eq!(file("text/plain", "", json!({ "filename": "f\r\nX: y" })), Unfit::Headers);
        let header = [("X".to_owned(), "a\r\nBcc: z@x.org".to_owned())];
        let parts = json!({ "from": "a@x.org", "to": ["b@x.org"], "subject": "s" });
        assert_eq!(composed(parts, &header).unwrap_err(), Unfit::Headers);
    }
}
