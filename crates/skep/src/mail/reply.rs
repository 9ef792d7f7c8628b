//! Whether a message may be replied to, and whether something is a reply to it.
//! <https://developers.cloudflare.com/email-service/api/route-emails/email-handler/>

use super::message::{Field, check_head, check_headers, fields, first_address, value, with_id};

/// The most entries that `References` of a message may have which is replied to: they are counted by their `@`.
const MAX_REFERENCES: usize = 100;

/// What a reply refers to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Thread {
    /// The message's `Message-ID`.
    pub id: String,
    /// Its `References`.
    pub references: Option<String>,
}

impl Thread {
    /// What a reply's `References` are that has none of its own.
    pub fn references(&self) -> String {
        match &self.references {
            Some(references) => format!("{references} {}", self.id),
            None => self.id.clone(),
        }
    }
}

/// Why a message cannot be replied to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoReply {
    /// It was sent by a machine, or tells only a part of what it is a reply to.
    Automatic,
    /// It is part of a conversation that is too long.
    TooLong,
}

/// Whether a message may be replied to.
pub(super) fn replyable(fields: &[Field]) -> Result<(), NoReply> {
    let says = |name: &str, harmless: &str| {
        value(fields, name).is_some_and(|value| !value.eq_ignore_ascii_case(harmless))
    };
    if says("x-auto-response-suppress", "none") || says("auto-submitted", "no") {
        return Err(NoReply::Automatic);
    }
    match (value(fields, "in-reply-to"), value(fields, "references")) {
        (None, None) => Ok(()),
        (Some(_), Some(references)) if references.matches('@').count() >= MAX_REFERENCES => {
            Err(NoReply::TooLong)
        }
        (Some(_), Some(_)) => Ok(()),
        _ => Err(NoReply::Automatic),
    }
}

/// Checks a reply by `from` in Miniflare's words and order, and gives it `id` as its `Message-ID`, and `References` if it has none.
pub(super) fn checked(raw: &[u8], from: &str, to: &Thread, id: &str) -> Result<Vec<u8>, String> {
    check_head(raw)?;
    let fields = fields(raw);
    let has = |name: &str| fields.iter().any(|field| field.name.eq_ignore_ascii_case(name));
    if value(&fields, "from").and_then(first_address).as_deref() != Some(from) {
        return Err("From: header does not match mail from".to_owned());
    }
    if has("message-id") && value(&fields, "message-id").is_none() {
        return Err("invalid message-id".to_owned());
    }
    check_headers(&fields)?;
    if has("received") {
        return Err("invalid headers set".to_owned());
    }
    match value(&fields, "in-reply-to") {
        None => return Err("no In-Reply-To header found in reply message".to_owned()),
        Some(other) if other != to.id => {
            return Err("In-Reply-To does not match original Message-ID".to_owned());
        }
        Some(_) => {}
    }
    match value(&fields, "references") {
        Some(own) => {
            let missed = to.references.as_ref().is_some_and(|references| !own.contains(references.as_str()));
            if missed || !own.contains(&to.id) {
                return Err("provided References header is invalid".to_owned());
            }
            with_id(raw, id)
        }
        None => with_id(&[format!("References: {}\r\n", to.references()).as_bytes(), raw].concat(), id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(head: &str) -> Result<(), NoReply> {
        replyable(&fields(format!("{head}\r\n\r\n").as_bytes()))
    }

    #[test]
    fn nobody_replies_to_machines_and_half_told_threads() {
        let many = |n: usize| format!("In-Reply-To: <1@x>\r\nReferences: {}", "<1@x> ".repeat(n));
        for head in [
            "To: a@x",
            "X-Auto-Response-Suppress: None",
            "Auto-Submitted: no",
            "In-Reply-To: <1@x>\r\nReferences: <1@x>",
            &many(99),
        ] {
            assert_eq!(may(head), Ok(()), "{head}");
        }
        for head in [
            "X-Auto-Response-Suppress: OOF",
            "Auto-Submitted: auto-replied",
            "In-Reply-To: <1@x>",
            "References: <1@x>",
        ] {
            assert_eq!(may(head), Err(NoReply::Automatic), "{head}");
        }
        assert_eq!(may(&many(100)), Err(NoReply::TooLong));
    }

    fn reply(head: &str, to: &Thread) -> Result<String, String> {
        let raw = format!("{head}\r\nSubject: re\r\n\r\nHello\r\n");
        checked(raw.as_bytes(), "b@x", to, "<new@x>").map(|raw| String::from_utf8(raw).unwrap())
    }

    #[test]
    fn a_reply_is_one_to_the_message() {
        let to = Thread { id: "<m@x>".into(), references: Some("<1@x>".into()) };
        for (head, said) in [
            ("From: z@x", "From: header does not match mail from"),
            ("From: b@x\r\nMessage-ID: ", "invalid message-id"),
            ("From: b@x\r\nno field", "Invalid header name."),
            ("From: b@x\r\nReceived: by y", "invalid headers set"),
            ("From: b@x", "no In-Reply-To header found in reply message"),
            ("From: b@x\r\nIn-Reply-To: <z@x>", "In-Reply-To does not match original Message-ID"),
            ("From: b@x\r\nIn-Reply-To: <m@x>\r\nReferences: <m@x>", "provided References header is invalid"),
            ("From: b@x\r\nIn-Reply-To: <m@x>\r\nReferences: <1@x>", "provided References header is invalid"),
        ] {
            assert_eq!(reply(head, &to).unwrap_err(), said, "{head}");
        }
        let head = "From: B <b@x>\r\nIn-Reply-To: <m@x>";
        let tail = "Subject: re\r\n\r\nHello\r\n";
        let expected = format!("Message-ID: <new@x>\r\nReferences: <1@x> <m@x>\r\n{head}\r\n{tail}");
        assert_eq!(reply(head, &to).unwrap(), expected);
        let first = Thread { references: None, ..to };
        let expected = format!("Message-ID: <new@x>\r\nReferences: <m@x>\r\n{head}\r\n{tail}");
        assert_eq!(reply(head, &first).unwrap(), expected);
        let own = format!("Message-ID: <old@x>\r\n{head}\r\nReferences: <m@x>");
        assert_eq!(reply(&own, &first).unwrap(), format!("{}\r\n{tail}", own.replace("old", "new")));
    }
}
