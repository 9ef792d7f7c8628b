//! What is looked at in a message: the fields before its text (RFC 5322).

use http::{HeaderName, HeaderValue};

/// One field: its name and its unfolded value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub name: String,
    pub value: String,
    /// Where it stands in the message, its last line's end included.
    place: std::ops::Range<usize>,
}

/// The value of the first field of that name, unless it is empty.
pub(super) fn value<'a>(fields: &'a [Field], name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    found.map(|field| field.value.as_str()).filter(|value| !value.is_empty())
}

/// Why a message is not sent, in Miniflare's words.
fn refused(why: &str) -> String {
    format!("could not parse email: {why}")
}

/// Where the fields end, and the line end that is used.
fn head_end(raw: &[u8]) -> Option<(usize, &'static str)> {
    let find = |what: &[u8]| raw.windows(what.len()).position(|window| window == what);
    match (find(b"\r\n\r\n"), find(b"\n\n")) {
        (Some(crlf), lf) if lf.is_none_or(|lf| crlf <= lf) => Some((crlf + 2, "\r\n")),
        (_, Some(lf)) => Some((lf + 1, "\n")),
        _ => None,
    }
}

/// Bytes of all fields together: each takes several times as much, and a message of nothing else would be a gigabyte.
const MAX_HEAD: usize = 256 << 10;

/// Refuses a message whose fields are not worth looking at.
pub(super) fn check_head(raw: &[u8]) -> Result<(), String> {
    match head_end(raw).map_or(raw.len(), |(end, _)| end) {
        ..=MAX_HEAD => Ok(()),
        _ => Err(refused(&format!("its header is longer than {MAX_HEAD} bytes"))),
    }
}

/// All fields of a message.
pub(super) fn fields(raw: &[u8]) -> Vec<Field> {
    let head = &raw[..head_end(raw).map_or(raw.len(), |(end, _)| end)];
    let mut found: Vec<Field> = Vec::new();
    let mut start = 0;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let end = start + line.len();
        let text = String::from_utf8_lossy(line);
        match found.last_mut().filter(|_| line.starts_with(b" ") || line.starts_with(b"\t")) {
            Some(field) => {
                // In its place: there may be a hundred thousand of these.
                let text = text.trim();
                if !field.value.is_empty() && !text.is_empty() {
                    field.value.push(' ');
                }
                field.value.push_str(text);
                field.place.end = end;
            }
            None if text.trim().is_empty() => {}
            None => {
                let (name, value) = text.split_once(':').unwrap_or((&text, ""));
                let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
                found.push(Field { name, value, place: start..end });
            }
        }
        start = end;
    }
    found
}

/// The addresses of a list as `From` and `To` have it: with a name, in a group, or bare; without what is in quotes or a comment.
pub(super) fn addresses(list: &str) -> Vec<String> {
    let (mut found, mut bare, mut angled) = (Vec::new(), String::new(), None::<String>);
    let (mut quoted, mut escaped, mut comments, mut in_angles) = (false, false, 0_u32, false);
    for character in list.chars().chain([',']) {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted || comments > 0 => escaped = true,
            '"' if comments == 0 => quoted = !quoted,
            _ if quoted => {}
            '(' => comments += 1,
            ')' => comments = comments.saturating_sub(1),
            _ if comments > 0 => {}
            '<' => (angled, in_angles) = (Some(String::new()), true),
            '>' => in_angles = false,
            ',' | ';' if !in_angles => {
                let address = angled.take().unwrap_or_else(|| std::mem::take(&mut bare));
                bare.clear();
                found.extend(Some(address.trim()).filter(|address| !address.is_empty()).map(str::to_owned));
            }
            ':' if !in_angles => bare.clear(),
            _ if in_angles => angled.get_or_insert_default().push(character),
            _ => bare.push(character),
        }
    }
    found
}

/// The first of them.
pub(super) fn first_address(list: &str) -> Option<String> {
    addresses(list).into_iter().next()
}

/// Whether the engine could make `Headers` of them; the text is its own.
pub(super) fn check_headers(fields: &[Field]) -> Result<(), &'static str> {
    for field in fields {
        if HeaderName::from_bytes(field.name.as_bytes()).is_err() {
            return Err("Invalid header name.");
        }
        if HeaderValue::from_bytes(field.value.as_bytes()).is_err() {
            return Err("Invalid header value.");
        }
    }
    Ok(())
}

/// The message without its fields of that name.
pub(super) fn without(raw: &[u8], name: &str) -> Vec<u8> {
    let (mut message, mut kept) = (Vec::with_capacity(raw.len()), 0);
    for Field { place, .. } in fields(raw).iter().filter(|field| field.name.eq_ignore_ascii_case(name)) {
        message.extend_from_slice(&raw[kept..place.start]);
        kept = place.end;
    }
    message.extend_from_slice(&raw[kept..]);
    message
}

/// The message with `id` as its only `Message-ID`: where it has one already, or before all else.
pub(super) fn with_id(raw: &[u8], id: &str) -> Result<Vec<u8>, String> {
    let (_, line_end) = head_end(raw).ok_or("could not find end of email headers")?;
    let (mut message, mut kept) = (Vec::with_capacity(raw.len() + id.len()), 0);
    let own = format!("Message-ID: {id}{line_end}");
    let fields = fields(raw);
    let mut ids = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("message-id")).peekable();
    if ids.peek().is_none() {
        message.extend_from_slice(own.as_bytes());
    }
    for (n, Field { place, .. }) in ids.enumerate() {
        message.extend_from_slice(&raw[kept..place.start]);
        if n == 0 {
            message.extend_from_slice(own.as_bytes());
        }
        kept = place.end;
    }
    message.extend_from_slice(&raw[kept..]);
    Ok(message)
}

/// Checks a message that is sent by `from` as Miniflare does, and gives it `id` as its `Message-ID`.
pub(super) fn accepted(raw: &[u8], from: &str, id: &str) -> Result<Vec<u8>, String> {
    check_head(raw)?;
    let fields = fields(raw);
    let named = |name: &str| fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    if named("message-id").is_none() {
        return Err("invalid message-id".to_owned());
    }
    check_headers(&fields).map_err(refused)?;
    if named("from").and_then(|field| first_address(&field.value)).as_deref() != Some(from) {
        return Err("From: header does not match mail from".to_owned());
    }
    if named("received").is_some() {
        return Err("invalid headers set".to_owned());
    }
    with_id(raw, id)
}

/// A new `Message-ID` for what `sender` sends: of its domain, or of `localhost` where that is none.
pub(super) fn new_id(sender: &str) -> String {
    let domain = sender.rsplit_once('@').map(|(_, domain)| domain.to_ascii_lowercase());
    let label = |label: &str| {
        !label.is_empty() && label.len() < 64 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let domain = domain.filter(|domain| domain.len() < 254 && domain.split('.').all(label));
    let random = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(|id| id.simple().to_string()).concat();
    format!("<{}@{}>", &random[..36], domain.as_deref().unwrap_or("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "<new@example.com>";

    #[test]
    fn a_header_of_many_lines_is_read_once_and_one_of_too_many_is_refused() {
        let folded = format!("Subject: a{}\r\n\r\n", "\n b".repeat(80_000));
        let found = fields(folded.as_bytes());
        assert_eq!((found.len(), found[0].value.len()), (1, 160_001));
        assert!(check_head(folded.as_bytes()).is_ok());
        assert!(check_head("a:\n".repeat(100_000).as_bytes()).is_err());
        let text = format!("From: a@example.com\r\n\r\n{}", "a:\n".repeat(100_000));
        assert!(check_head(text.as_bytes()).is_ok(), "that is its text");
    }

    fn sent(head: &str) -> Result<String, String> {
        let raw = format!("{head}\r\n\r\nHello\r\n");
        accepted(raw.as_bytes(), "a@example.com", ID).map(|raw| String::from_utf8(raw).unwrap())
    }

    #[test]
    fn a_message_is_kept_as_it_is_but_for_its_id() {
        let head =
            "From: Ann <a@example.com>\r\nmessage-id:\r\n <old@x>\r\nTo: b@example.com\r\nMESSAGE-ID: <2@x>";
        let expected = "From: Ann <a@example.com>\r\nMessage-ID: <new@example.com>\r\nTo: b@example.com\r\n\r\nHello\r\n";
        assert_eq!(sent(head).unwrap(), expected);
        let bare = b"Message-ID: <o@x>\nFrom: a@example.com\n\n\xff\x00";
        let expected = b"Message-ID: <new@example.com>\nFrom: a@example.com\n\n\xff\x00";
        assert_eq!(accepted(bare, "a@example.com", ID).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_with_a_message_is_said_in_miniflares_words() {
        for (head, said) in [
            ("From: a@example.com", "invalid message-id"),
            ("Message-ID: <1@x>", "From: header does not match mail from"),
            ("Message-ID: <1@x>\r\nFrom: b@example.com", "From: header does not match mail from"),
            ("Message-ID: <1@x>\r\nFrom: a@example.com\r\nReceived: by x", "invalid headers set"),
            (
                "Message-ID: <1@x>\r\nFrom: a@example.com\r\nno field",
                "could not parse email: Invalid header name.",
            ),
            (
                "Message-ID: <1@x>\r\nFrom: a@example.com\r\nX: \u{1}",
                "could not parse email: Invalid header value.",
            ),
        ] {
            assert_eq!(sent(head).unwrap_err(), said, "{head}");
        }
        let headless = accepted(b"Message-ID: <1@x>\r\nFrom: a@example.com\r\n", "a@example.com", ID);
        assert_eq!(headless.unwrap_err(), "could not find end of email headers");
    }

    #[test]
    fn an_address_is_found_behind_names_groups_and_comments() {
        for list in [
            "a@x.org",
            " <a@x.org> ",
            "Ann <a@x.org>, Bob <b@x.org>",
            "\"b@x.org <c@x.org>, \\\"\" <a@x.org>",
            "a@x.org (b@x.org), c@x.org",
            "All: a@x.org, b@x.org;",
            "=?utf-8?Q?Ann=C3=A9?= <a@x.org>",
        ] {
            assert_eq!(first_address(list).as_deref(), Some("a@x.org"), "{list}");
        }
        assert_eq!(first_address(""), None);
        let list = "A <a@x.org>, g: \"b, c\" <b@x.org>, c@x.org (d@x.org);, e@x.org";
        assert_eq!(addresses(list), ["a@x.org", "b@x.org", "c@x.org", "e@x.org"]);
    }

    #[test]
    fn a_field_is_taken_out_wherever_it_stands() {
        let raw = b"Bcc: a@x\r\nTo: b@x\r\nBCC: c@x,\r\n d@x\r\n\r\nBcc: body\r\n";
        assert_eq!(without(raw, "bcc"), b"To: b@x\r\n\r\nBcc: body\r\n");
    }

    #[test]
    fn an_id_is_of_the_senders_domain_if_that_is_one() {
        let domain = |sender: &str| new_id(sender).split_once('@').unwrap().1.to_owned();
        assert_eq!(domain("a@Mail.example.com"), "mail.example.com>");
        for sender in ["a", "a@", "a@../../etc", "a@[1.2.3.4]", "a@b c"] {
            assert_eq!(domain(sender), "localhost>", "{sender}");
        }
        assert_ne!(new_id("a@b"), new_id("a@b"));
    }
}
