//! Where a connection wants to go, by its first bytes: the host of an HTTP request, the server's name of a TLS handshake. Pure.

/// The longest start of a connection that is looked at: a record of TLS has 16 KiB, and a host is among the first headers.
pub(crate) const LONGEST: usize = 17 << 10;
/// The longest host name, RFC 1035.
const MAX_NAME: usize = 253;
/// A record of TLS that has a handshake begins with this.
pub(crate) const HANDSHAKE: u8 = 22;
/// A hello of a client in it; the extension with the server's name.
const HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;

/// What the first bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Too few of them.
    More,
    /// HTTP, to this host.
    Http(String),
    /// TLS, to this host.
    Tls(String),
    /// Something else, or to no host.
    Other,
}

/// Looks at the start of what a client sends.
pub(crate) fn look(start: &[u8]) -> Hint {
    match start.first() {
        None => Hint::More,
        Some(&HANDSHAKE) => hello(start),
        Some(_) => request(start),
    }
}

/// A name that may stand in a header of ours.
fn named(name: &[u8], hint: fn(String) -> Hint) -> Hint {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
    match std::str::from_utf8(name) {
        Ok(text) if !text.is_empty() && text.len() <= MAX_NAME + 8 && name.iter().all(fits) => {
            hint(text.to_ascii_lowercase())
        }
        _ => Hint::Other,
    }
}

fn request(start: &[u8]) -> Hint {
    let method = start.iter().position(|byte| !byte.is_ascii_uppercase()).unwrap_or(start.len());
    if method > 16 {
        return Hint::Other;
    }
    match start.get(method) {
        None => return Hint::More,
        Some(b' ') if method > 0 => {}
        Some(_) => return Hint::Other,
    }
    let mut lines = start.split_inclusive(|byte| *byte == b'\n');
    lines.next();
    for line in lines {
        let Some(line) = line.strip_suffix(b"\n") else { return Hint::More };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Hint::Other;
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        if let (Some(name), Some(value)) = (parts.next(), parts.next())
            && name.eq_ignore_ascii_case(b"host")
        {
            return named(value.trim_ascii(), Hint::Http);
        }
    }
    Hint::More
}

/// Takes `length` bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn number(bytes: &mut &[u8], width: usize) -> Option<usize> {
    Some(take(bytes, width)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

/// What follows its own length.
fn counted<'a>(bytes: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
    let length = number(bytes, width)?;
    take(bytes, length)
}

fn hello(start: &[u8]) -> Hint {
    let mut rest = start;
    let Some(header) = take(&mut rest, 5) else { return Hint::More };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    let Some(mut record) = take(&mut rest, length) else { return Hint::More };
    server_name(&mut record).map_or(Hint::Other, |name| named(name, Hint::Tls))
}

/// RFC 8446, 4.1.2, and RFC 6066, 3.
fn server_name<'a>(record: &mut &'a [u8]) -> Option<&'a [u8]> {
    if number(record, 1)? != usize::from(HELLO) {
        return None;
    }
    let mut hello = counted(record, 3)?;
    take(&mut hello, 2 + 32)?;
    counted(&mut hello, 1)?;
    counted(&mut hello, 2)?;
    counted(&mut hello, 1)?;
    let mut extensions = counted(&mut hello, 2)?;
    loop {
        let kind = number(&mut extensions, 2)?;
        let mut extension = counted(&mut extensions, 2)?;
        if kind == usize::from(SERVER_NAME) {
            let mut names = counted(&mut extension, 2)?;
            return (number(&mut names, 1)? == 0).then(|| counted(&mut names, 2)).flatten();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with_length(width: usize, content: &[u8]) -> Vec<u8> {
        let length = content.len().to_be_bytes();
        [&length[length.len() - width..], content].concat()
    }

    /// A client's hello to `name`.
    fn hello_to(name: &str) -> Vec<u8> {
        let name = with_length(2, &[&[0][..], &with_length(2, name.as_bytes())].concat());
        let other = [&[0, 43][..], &with_length(2, &[2, 3, 4])].concat();
        let extensions = [other, [&[0, 0][..], &with_length(2, &name)].concat()].concat();
        let hello = [
            &[3, 3][..],
            &[7; 32],
            &with_length(1, &[1; 32]),
            &with_length(2, &[19, 1]),
            &with_length(1, &[0]),
            &with_length(2, &extensions),
        ]
        .concat();
        let handshake = [&[1][..], &with_length(3, &hello)].concat();
        [&[22, 3, 1][..], &with_length(2, &handshake)].concat()
    }

    #[test]
    fn hosts_are_found() {
        let http = |text: &str| look(text.as_bytes());
        assert_eq!(
            http("GET / HTTP/1.1\r\nAccept: */*\r\nhOsT: Example.com:8080\r\n"),
            Hint::Http("example.com:8080".into())
        );
        assert_eq!(http("GET / HTTP/1.0\r\n\r\n"), Hint::Other);
        assert_eq!(http("GET / HTTP/1.1\r\nHost: a\r"), Hint::More);
        assert_eq!(http("GET / HTTP/1.1\nHost: a\n"), Hint::Http("a".into()));
        assert_eq!(http("GET / HTTP/1.1\r\nHost: a b\r\n"), Hint::Other);
        assert_eq!(http("SSH-2.0-x\r\n"), Hint::Other);
        assert_eq!(http("PO"), Hint::More);
        assert_eq!(http(""), Hint::More);
        let hello = hello_to("Example.com");
        assert_eq!(look(&hello), Hint::Tls("example.com".into()));
        for length in 1..hello.len() {
            assert_eq!(look(&hello[..length]), Hint::More, "{length}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..400), tls: bool) {
            let mut bytes = bytes;
            if tls && bytes.len() > 5 {
                bytes[0] = 22;
                (bytes[3], bytes[4]) = (0, 100);
            }
            if let Hint::Http(name) | Hint::Tls(name) = look(&bytes) {
                prop_assert!(!name.contains(['\r', '\n', ' ']) && !name.is_empty());
            }
        }

        /// What is cut off never says something else than the whole does.
        #[test]
        fn a_part_says_the_same_or_nothing(name in "[a-z.]{1,40}", more in "[ -~]{0,60}", cut in 0usize..200) {
            let whole = format!("GET /{more} HTTP/1.1\r\nX-A: {more}\r\nHost: {name}\r\n\r\n");
            let part = &whole.as_bytes()[..cut.min(whole.len())];
            let hint = look(part);
            prop_assert!(hint == Hint::More || hint == look(whole.as_bytes()), "{hint:?}");
        }
    }
}
