//! Mail that is given as its parts, and not as one message.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// A mailbox.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Address {
    /// `a@example.com`, or with a name before it in angle brackets.
    Text(String),
    /// With a name beside it.
    Named {
        #[serde(default)]
        name: String,
        email: String,
    },
}

/// What `send()` was given.
#[derive(Debug, Deserialize)]
pub(super) struct Parts {
    pub from: Address,
    pub to: Vec<Address>,
    #[serde(default)]
    pub cc: Vec<Address>,
    #[serde(default)]
    pub bcc: Vec<Address>,
    #[serde(default, rename = "replyTo")]
    pub reply_to: Option<Address>,
    pub subject: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub text: Option<String>,
    pub html: Option<String>,
    #[serde(default)]
    pub attachments: Vec<Attachment>,
}

/// A file of a mail.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Attachment {
    pub filename: String,
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    pub disposition: Option<String>,
    #[serde(default, rename = "contentId")]
    pub content_id: Option<String>,
    /// Whether the content was a text, and no bytes.
    #[serde(default, rename = "isText")]
    pub is_text: bool,
    /// Base64.
    pub content: String,
}

impl Address {
    /// The address alone.
    pub fn email(&self) -> &str {
        match self {
            Self::Named { email, .. } => email,
            Self::Text(text) => {
                let angled = text.trim_end().strip_suffix('>').and_then(|text| text.rsplit_once('<'));
                angled.map_or(text.as_str(), |(_, email)| email).trim()
            }
        }
    }

    /// The name beside it, if there is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named { name, .. } => Some(name),
            Self::Text(text) => {
                let (name, _) = text.trim_end().strip_suffix('>')?.rsplit_once('<')?;
                Some(name.trim().trim_matches('"'))
            }
        }
    }

    /// With its name.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Named { name, email } => {
                format!("\"{}\" <{email}>", name.replace('\\', "\\\\").replace('"', "\\\""))
            }
        }
    }
}

impl Parts {
    /// From whom, to whom and what about, a line each.
    pub fn shown(&self) -> String {
        let list = |all: &[Address]| all.iter().map(Address::shown).collect::<Vec<_>>().join(", ");
        let mut lines = vec![format!("From: {}", self.from.shown()), format!("To: {}", list(&self.to))];
        for (name, all) in [("Cc", &self.cc), ("Bcc", &self.bcc)] {
            lines.extend((!all.is_empty()).then(|| format!("{name}: {}", list(all))));
        }
        lines.push(format!("Subject: {}", self.subject));
        lines.join("\n")
    }
}

impl Attachment {
    /// `attachment` or `inline`.
    pub fn disposition(&self) -> &str {
        self.disposition.as_deref().unwrap_or("attachment")
    }

    /// What was given as its content.
    pub fn given(&self) -> Result<Vec<u8>, base64::DecodeError> {
        STANDARD.decode(&self.content)
    }

    /// Its content: a text is base64.
    pub fn decoded(&self) -> Result<Vec<u8>, base64::DecodeError> {
        let mut given = self.given()?;
        if !self.is_text {
            return Ok(given);
        }
        given.retain(|byte| !byte.is_ascii_whitespace());
        STANDARD.decode(given)
    }

    /// The ending of its file's name, if it is a usual one.
    pub fn extension(&self) -> &str {
        let usual = |end: &&str| {
            (1..=32).contains(&end.len())
                && end.starts_with(|c: char| c.is_ascii_alphanumeric())
                && end.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        self.filename.rsplit_once('.').map(|(_, end)| end).filter(usual).unwrap_or("bin")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(json: &str) -> Address {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_address_is_a_text_or_an_object() {
        assert_eq!(address(r#""a@x.org""#).email(), "a@x.org");
        let in_text = address(r#""Ann <a@x.org> ""#);
        assert_eq!((in_text.name(), in_text.email()), (Some("Ann"), "a@x.org"));
        let named = address(r#"{"name":"A \"n\" n","email":"a@x.org"}"#);
        assert_eq!((named.email(), named.shown().as_str()), ("a@x.org", r#""A \"n\" n" <a@x.org>"#));
    }

    #[test]
    fn an_attachment_ends_in_what_cannot_leave_the_folder() {
        for (filename, end) in
            [("a.pdf", "pdf"), ("a", "bin"), ("a./../b", "bin"), ("a.tar.gz", "gz"), ("a.", "bin")]
        {
            let file = Attachment { filename: filename.into(), ..Attachment::default() };
            assert_eq!(file.extension(), end, "{filename}");
        }
    }
}
