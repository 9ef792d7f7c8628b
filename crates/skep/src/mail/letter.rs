//! What a node sends of what `send()` was given: a pure decision. Other people's code is behind it.

use lettre::Address as Mailable;
use skep_config::SendEmail;

use super::allowed;
use super::asked::Asked;
use super::compose::{Unfit, compose};
use super::custom::custom;
use super::message::{accepted, addresses, fields, new_id, without};
use super::parts::{Address, Parts};
use super::refused::{Code, Refused};

/// <https://developers.cloudflare.com/email-service/platform/limits/#email-content-limits>
const MAX_RECIPIENTS: usize = 50;
const MAX_SUBJECT: usize = 998;

/// What holds for all mail of a node.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// Bytes of a message as it is sent.
    pub bytes: usize,
    /// The domains that mail may come from; none: any.
    pub domains: Vec<String>,
}

/// A message on its way.
#[derive(Debug)]
pub(super) struct Letter {
    /// Its `Message-ID`.
    pub id: String,
    pub from: Mailable,
    pub to: Vec<Mailable>,
    pub raw: Vec<u8>,
}

fn invalid(text: impl Into<String>) -> Refused {
    Refused::new(Code::Validation, text)
}

fn address(email: &str) -> Result<Mailable, Refused> {
    email.parse().map_err(|_| invalid(format!("invalid email address: {email}")))
}

/// Every line ends in CR LF: what servers make of others differs, and so where a message ends (RFC 5321 §2.3.8).
fn with_line_ends(raw: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(raw.len() + raw.len() / 32);
    let mut bytes = raw.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'\r' && bytes.peek() == Some(&b'\n') {
            bytes.next();
        }
        match byte {
            b'\r' | b'\n' => lines.extend_from_slice(b"\r\n"),
            byte => lines.push(byte),
        }
    }
    lines
}

/// The message to send, or why it is not sent.
pub(super) fn letter(binding: &SendEmail, asked: Asked, rules: &Rules) -> Result<Letter, Refused> {
    let letter = match asked {
        Asked::Whole { from, to, raw } => whole(binding, &from, to, &raw)?,
        Asked::Parts(parts) => of_parts(binding, *parts)?,
    };
    let domain = letter.from.domain();
    if !rules.domains.is_empty() && !rules.domains.iter().any(|own| own.eq_ignore_ascii_case(domain)) {
        let text = format!("Sender domain not verified: mail does not go out from {domain} here");
        return Err(Refused::new(Code::SenderNotVerified, text));
    }
    if letter.raw.len() > rules.bytes {
        let text =
            format!("Email content exceeds size limit: {} bytes, of {}", letter.raw.len(), rules.bytes);
        return Err(Refused::new(Code::TooLarge, text));
    }
    Ok(letter)
}

fn whole(binding: &SendEmail, from: &str, to: String, raw: &[u8]) -> Result<Letter, Refused> {
    // A binding with one address needs none to be named.
    let to = if to.is_empty() { binding.destination_address.clone().unwrap_or_default() } else { to };
    allowed(binding, from, [&*to].into_iter()).map_err(super::NotAllowed::refused)?;
    let (sender, recipient) = (address(from)?, address(&to)?);
    // Before it is looked at: a carriage return alone becomes the end of a field.
    let raw = with_line_ends(raw);
    let id = new_id(from);
    let raw = without(&accepted(&raw, from, &id).map_err(invalid)?, "bcc");
    // What a reader is shown must be who it was that was checked.
    let mut senders = fields(&raw)
        .into_iter()
        .filter(|field| ["from", "sender"].iter().any(|name| field.name.eq_ignore_ascii_case(name)));
    let mut count = 0;
    let same = senders.all(|field| {
        count += usize::from(field.name.eq_ignore_ascii_case("from"));
        addresses(&field.value) == [from]
    });
    if !same || count != 1 {
        return Err(invalid("From: header does not match mail from"));
    }
    Ok(Letter { id, from: sender, to: vec![recipient], raw })
}

fn of_parts(binding: &SendEmail, mut parts: Parts) -> Result<Letter, Refused> {
    if parts.to.is_empty() {
        let only = binding.destination_address.clone().map(Address::Text);
        parts.to =
            vec![only.ok_or_else(|| Refused::new(Code::FieldMissing, "Required field is missing: to"))?];
    }
    let from = parts.from.email().to_owned();
    let all = || parts.to.iter().chain(&parts.cc).chain(&parts.bcc).map(Address::email);
    let count = all().count();
    if count > MAX_RECIPIENTS {
        let text = format!("Too many recipients in to/cc/bcc: {count}, of {MAX_RECIPIENTS}");
        return Err(Refused::new(Code::TooManyRecipients, text));
    }
    allowed(binding, &from, all()).map_err(super::NotAllowed::refused)?;
    if parts.subject.chars().count() > MAX_SUBJECT {
        return Err(invalid(format!("The subject has more than {MAX_SUBJECT} characters")));
    }
    let mut to = Vec::with_capacity(count);
    for email in all() {
        let recipient = address(email)?;
        if !to.contains(&recipient) {
            to.push(recipient);
        }
    }
    let sender = address(&from)?;
    let headers = custom(&parts.headers)?;
    let id = new_id(&from);
    let raw = compose(&parts, &id, &headers).map_err(|unfit| match unfit {
        Unfit::Address(address) => invalid(format!("invalid email address: {address}")),
        unfit => invalid(unfit.said()),
    })?;
    Ok(Letter { id, from: sender, to, raw })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn rules() -> Rules {
        Rules { bytes: 10_000, domains: Vec::new() }
    }

    fn parts(change: Json) -> Asked {
        let mut mail = json!({ "from": "a@x.org", "to": ["b@x.org"], "subject": "s", "text": "t" });
        mail.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        Asked::Parts(serde_json::from_value(mail).unwrap())
    }

    fn raw(from: &str, to: &str, head: &str) -> Asked {
        let raw = format!("{head}\r\nMessage-ID: <1@x.org>\r\nSubject: s\r\n\r\nHello\r\n").into();
        Asked::Whole { from: from.into(), to: to.into(), raw }
    }

    fn refused(binding: &SendEmail, asked: Asked) -> Code {
        letter(binding, asked, &rules()).unwrap_err().code
    }

    #[test]
    fn a_bindings_addresses_hold_for_all_recipients() {
        let some = SendEmail {
            allowed_destination_addresses: Some(vec!["b@x.org".into()]),
            allowed_sender_addresses: Some(vec!["a@x.org".into()]),
            ..SendEmail::default()
        };
        assert!(letter(&some, parts(json!({})), &rules()).is_ok());
        for field in ["to", "cc", "bcc"] {
            let asked = parts(json!({ field: ["b@x.org", "C <c@x.org>"] }));
            assert_eq!(refused(&some, asked), Code::RecipientNotAllowed, "{field}");
        }
        assert_eq!(refused(&some, parts(json!({ "from": "c@x.org" }))), Code::SenderNotVerified);
        assert_eq!(refused(&some, raw("a@x.org", "c@x.org", "From: a@x.org")), Code::RecipientNotAllowed);
        assert_eq!(refused(&some, raw("c@x.org", "b@x.org", "From: c@x.org")), Code::SenderNotVerified);
        let one = SendEmail { destination_address: Some("one@x.org".into()), ..SendEmail::default() };
        assert_eq!(refused(&one, parts(json!({}))), Code::RecipientNotAllowed);
        for asked in [parts(json!({ "to": [] })), raw("a@x.org", "", "From: a@x.org")] {
            assert_eq!(letter(&one, asked, &rules()).unwrap().to, ["one@x.org".parse().unwrap()]);
        }
    }

    #[test]
    fn nobody_is_shown_who_was_not_checked() {
        let any = SendEmail::default();
        assert!(
            letter(&any, raw("a@x.org", "b@x.org", "Sender: a@x.org\r\nFrom: A <a@x.org>"), &rules()).is_ok()
        );
        for head in [
            "From: a@x.org, z@bank.example",
            "From: a@x.org\r\nfrom: z@bank.example",
            "From: a@x.org\r\nFrom : z@bank.example",
            "From: a@x.org\r\nSender: z@bank.example",
            "From: a@x.org\r\nX: 1\rFrom: z@bank.example",
            "From: a@x.org\r\nX: 1\nFrom: z@bank.example",
        ] {
            assert_eq!(refused(&any, raw("a@x.org", "b@x.org", head)), Code::Validation, "{head}");
        }
        let domains = Rules { domains: vec!["x.org".into()], ..rules() };
        assert!(letter(&any, parts(json!({ "from": "a@X.org" })), &domains).is_ok());
        for from in ["a@y.org", "a@sub.x.org"] {
            let refused = letter(&any, parts(json!({ "from": from })), &domains).unwrap_err();
            assert_eq!(refused.code, Code::SenderNotVerified, "{from}");
        }
    }

    #[test]
    fn a_message_ends_where_it_ends_for_everybody() {
        let smuggled = "Hello\n.\nMAIL FROM:<z@x.org>\r.\r\nMAIL FROM:<y@x.org>\r\n";
        let head = "From: a@x.org\r\nBcc: secret@x.org\r\nMessage-ID: <1@x.org>\r\n\r\n";
        let asked = Asked::Whole {
            from: "a@x.org".into(),
            to: "b@x.org".into(),
            raw: format!("{head}{smuggled}").into(),
        };
        let letter = letter(&SendEmail::default(), asked, &rules()).unwrap();
        let text = String::from_utf8(letter.raw).unwrap();
        assert!(
            text.ends_with("\r\n\r\nHello\r\n.\r\nMAIL FROM:<z@x.org>\r\n.\r\nMAIL FROM:<y@x.org>\r\n"),
            "{text}"
        );
        assert!(text.contains(&letter.id) && !text.contains("secret"), "{text}");
    }

    #[test]
    fn limits_are_cloudflares() {
        let any = SendEmail::default();
        let many = |n: usize| (0..n).map(|n| format!("{n}@x.org")).collect::<Vec<_>>();
        let asked = parts(json!({ "to": many(20), "cc": many(20), "bcc": many(10) }));
        assert_eq!(letter(&any, asked, &rules()).unwrap().to.len(), 20);
        let asked = parts(json!({ "to": many(20), "cc": many(20), "bcc": many(11) }));
        assert_eq!(refused(&any, asked), Code::TooManyRecipients);
        assert_eq!(refused(&any, parts(json!({ "subject": "s".repeat(999) }))), Code::Validation);
        assert_eq!(refused(&any, parts(json!({ "text": "t".repeat(10_000) }))), Code::TooLarge);
        assert_eq!(refused(&any, parts(json!({ "to": [] }))), Code::FieldMissing);
        assert_eq!(refused(&any, parts(json!({ "to": ["nobody"] }))), Code::Validation);
        assert_eq!(refused(&any, parts(json!({ "headers": { "Date": "1" } }))), Code::HeaderNotAllowed);
        assert_eq!(
            refused(&any, raw("a@x.org", "b@x.org>\r\nRCPT TO:<c@x.org", "From: a@x.org")),
            Code::Validation
        );
    }
}
