//! Messages of PostgreSQL's protocol that stand at the beginning of a connection. Pure.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

/// The longest first packet that PostgreSQL takes.
pub(crate) const MAX_FIRST: usize = 10_000;
/// The longest message before a user is let in.
pub(crate) const MAX_MESSAGE: usize = 64 << 10;

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
/// Version 3.0.
const VERSION: u32 = 3 << 16;

/// What the names of options of the protocol begin with. None of them is passed on: 3.0 is spoken with databases.
pub(crate) const OPTION: &[u8] = b"_pq_.";

/// What a client says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// It would like TLS or GSSAPI; after `N` it says something else.
    Encrypt,
    /// What runs on another connection is to be given up.
    Cancel,
    /// Who it is, and settings: names and values.
    Startup { minor: u16, parameters: Vec<(Vec<u8>, Vec<u8>)> },
}

/// Reads the first packet, without its length.
pub(crate) fn first(body: &[u8]) -> Option<First> {
    let (code, rest) = body.split_first_chunk::<4>()?;
    match u32::from_be_bytes(*code) {
        CANCEL => (rest.len() >= 8).then_some(First::Cancel),
        SSL | GSS => rest.is_empty().then_some(First::Encrypt),
        version if version >> 16 == 3 => {
            let minor = u16::try_from(version & 0xffff).ok()?;
            Some(First::Startup { minor, parameters: parameters(rest)? })
        }
        _ => None,
    }
}

fn parameters(mut rest: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut all = Vec::new();
    loop {
        let name = text(&mut rest)?;
        if name.is_empty() {
            return rest.is_empty().then_some(all);
        }
        all.push((name.to_vec(), text(&mut rest)?.to_vec()));
    }
}

/// Bytes up to a zero, which is taken too.
fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == 0)?;
    let (text, after) = (rest.get(..end)?, rest.get(end + 1..)?);
    *rest = after;
    Some(text)
}

/// The same as what a client said, by another user for another database.
pub(crate) fn startup(user: &str, database: &str, parameters: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut body = VERSION.to_be_bytes().to_vec();
    let own =
        [("user", user), ("database", database)].map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let given = parameters.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    let given = given.filter(|(name, _)| ![b"user".as_slice(), b"database"].contains(name));
    let given = given.filter(|(name, _)| !name.starts_with(OPTION));
    for (name, value) in own.into_iter().chain(given) {
        for text in [name, value] {
            // What would end it early is left out.
            body.extend(text.iter().filter(|byte| **byte != 0));
            body.push(0);
        }
    }
    body.push(0);
    untagged(&body)
}

fn untagged(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), body].concat()
}

/// A message.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], untagged(body).as_slice()].concat()
}

/// `SSLRequest`
pub(crate) fn ssl_request() -> Vec<u8> {
    untagged(&SSL.to_be_bytes())
}

/// A packet as it came.
pub(crate) fn packet(body: &[u8]) -> Vec<u8> {
    untagged(body)
}

/// `AuthenticationOk`
pub(crate) fn let_in() -> Vec<u8> {
    message(b'R', &[0; 4])
}

/// `NegotiateProtocolVersion`: 3.0, and nothing beside.
pub(crate) fn oldest_version(options: &[&[u8]]) -> Vec<u8> {
    let mut body = VERSION.to_be_bytes().to_vec();
    body.extend(u32::try_from(options.len()).unwrap_or(0).to_be_bytes());
    for option in options {
        body.extend_from_slice(option);
        body.push(0);
    }
    message(b'v', &body)
}

/// `ErrorResponse` that ends a connection.
pub(crate) fn fatal(sqlstate: &str, text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (field, value) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', sqlstate), (b'M', text)] {
        body.push(field);
        body.extend(value.bytes().filter(|byte| *byte != 0));
        body.push(0);
    }
    body.push(0);
    message(b'E', &body)
}

/// The code and the text of an `ErrorResponse`.
pub(crate) fn refusal(body: &[u8]) -> (String, String) {
    let (mut code, mut message) = (String::new(), String::new());
    let mut rest = body;
    while let Some((field, after)) = rest.split_first().filter(|(field, _)| **field != 0) {
        rest = after;
        let Some(value) = text(&mut rest) else { break };
        let value = || String::from_utf8_lossy(value).into_owned();
        match field {
            b'C' => code = value(),
            b'M' => message = value(),
            _ => {}
        }
    }
    (code, message)
}

/// What a server asks for before it lets somebody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing more.
    Nothing,
    /// The password as it is.
    Password,
    /// Its MD5 with a salt.
    Md5([u8; 4]),
    /// One of these mechanisms.
    Sasl(Vec<String>),
    /// What the mechanism says next.
    Continue(Vec<u8>),
    /// What it says last.
    Final(Vec<u8>),
    /// Something else.
    Unknown(u32),
}

/// Reads an authentication message.
pub(crate) fn asked(body: &[u8]) -> Option<Asked> {
    let (kind, mut rest) = body.split_first_chunk::<4>()?;
    Some(match u32::from_be_bytes(*kind) {
        0 => Asked::Nothing,
        3 => Asked::Password,
        5 => Asked::Md5(*rest.first_chunk()?),
        10 => {
            let mut all = Vec::new();
            while let Some(name) = text(&mut rest).filter(|name| !name.is_empty()) {
                all.push(String::from_utf8_lossy(name).into_owned());
            }
            Asked::Sasl(all)
        }
        11 => Asked::Continue(rest.to_vec()),
        12 => Asked::Final(rest.to_vec()),
        other => Asked::Unknown(other),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_client_goes_on_as_another_user_with_its_own_settings() {
        let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let said = [pair("user", "guest"), pair("database", "d"), pair("application_name", "app")];
        let packet = startup("guest", "d", &said[2..]);
        let read = first(&packet[4..]);
        assert_eq!(read, Some(First::Startup { minor: 0, parameters: said.to_vec() }));
        let other = startup("owner", "shop", &said);
        let owner = [pair("user", "owner"), pair("database", "shop"), pair("application_name", "app")];
        assert_eq!(first(&other[4..]), Some(First::Startup { minor: 0, parameters: owner.to_vec() }));
        assert_eq!(other.len(), u32::from_be_bytes(other[..4].try_into().unwrap()) as usize);
    }

    #[test]
    fn what_comes_before_a_start_is_told_apart() {
        assert_eq!(first(&ssl_request()[4..]), Some(First::Encrypt));
        assert_eq!(first(&GSS.to_be_bytes()), Some(First::Encrypt));
        assert_eq!(first(&[&CANCEL.to_be_bytes()[..], &[0; 8]].concat()), Some(First::Cancel));
        assert_eq!(first(&[0, 3, 0, 2, 0]), Some(First::Startup { minor: 2, parameters: Vec::new() }));
        for wrong in [
            &b""[..],
            b"\0\x03\0\0",
            b"\0\x02\0\0\0",
            b"\0\x03\0\0user\0",
            b"\0\x03\0\0\0more",
            b"GET / HTTP/1.1",
        ] {
            assert_eq!(first(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_refusal_is_read_as_it_was_written() {
        let text = fatal("28P01", "password authentication failed for user \"a\"");
        let read = refusal(&text[5..]);
        assert_eq!(read, ("28P01".into(), "password authentication failed for user \"a\"".into()));
    }

    #[test]
    fn what_a_server_asks_for_is_told_apart() {
        assert_eq!(asked(&let_in()[5..]), Some(Asked::Nothing));
        assert_eq!(asked(&[0, 0, 0, 5, 1, 2, 3, 4]), Some(Asked::Md5([1, 2, 3, 4])));
        assert_eq!(asked(&[0, 0, 0, 5, 1]), None);
        let sasl = [&[0, 0, 0, 10][..], b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"].concat();
        assert_eq!(
            asked(&sasl),
            Some(Asked::Sasl(vec!["SCRAM-SHA-256-PLUS".into(), "SCRAM-SHA-256".into()]))
        );
        assert_eq!(asked(&[0, 0, 0, 7]), Some(Asked::Unknown(7)));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes: Vec<u8>, user: String, database: String) {
            let _ = (first(&bytes), asked(&bytes), refusal(&bytes));
            let packet = startup(&user, &database, &[(bytes.clone(), bytes)]);
            // Nothing that somebody says becomes another parameter.
            if let Some(First::Startup { parameters, .. }) = first(&packet[4..]) {
                prop_assert!(parameters.len() <= 3);
            }
        }
    }
}
