//! From the path on the wire to a file's name and back, as a URL parser and `encodeURIComponent` see it.

use std::borrow::Cow;

use url::Url;

/// The `pathname` that `new URL(…)` gives for the path of a request: backslashes are slashes, `.` and `..`
/// are resolved, what may not stand in a URL is percent-encoded.
pub fn pathname(raw: &str) -> Cow<'_, str> {
    if !raw.starts_with('/') {
        return Cow::Owned(parsed(&format!("/{raw}")));
    }
    if is_normal(raw.as_bytes()) { Cow::Borrowed(raw) } else { Cow::Owned(parsed(raw)) }
}

fn parsed(path: &str) -> String {
    match Url::parse(&format!("http://h{path}")) {
        Ok(url) => url.path().to_owned(),
        Err(_) => path.to_owned(),
    }
}

/// Whether a URL parser leaves `path` as it is (it may say no when the answer is yes).
fn is_normal(path: &[u8]) -> bool {
    let mut after_slash = false;
    let mut before = [0_u8; 2];
    for &byte in path {
        let dot_segment = byte == b'.' && after_slash;
        let encoded_dot = before == [b'%', b'2'] && byte.eq_ignore_ascii_case(&b'e');
        if dot_segment || encoded_dot || !is_plain(byte) {
            return false;
        }
        after_slash = byte == b'/';
        before = [before[1], byte];
    }
    true
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x24..=0x3b | 0x3d | 0x40..=0x5b | 0x5d | 0x5f | 0x61..=0x7a | 0x7c | 0x7e)
}

/// The name of the file that `pathname` asks for: each segment decoded as `decodeURIComponent` does, or left
/// as it is where that fails; then runs of slashes collapsed, so that no redirect can point to another host.
pub(crate) fn decode(pathname: &str) -> Cow<'_, str> {
    if !pathname.contains('%') && !pathname.contains("//") {
        return Cow::Borrowed(pathname);
    }
    let mut out = String::with_capacity(pathname.len());
    for (n, segment) in pathname.split('/').enumerate() {
        if n > 0 {
            out.push('/');
        }
        match decode_component(segment) {
            Some(decoded) => out.push_str(&decoded),
            None => out.push_str(segment),
        }
    }
    Cow::Owned(collapse_slashes(&out))
}

/// Each run of slashes becomes one.
pub(crate) fn collapse_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    out
}

/// `decodeURIComponent`; `None` where it throws.
fn decode_component(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

/// The canonical path of a file: `encodeURIComponent` of each segment of its name.
pub(crate) fn encode(name: &str) -> Cow<'_, str> {
    if name.bytes().all(is_unreserved) {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() * 3);
    for byte in name.bytes() {
        if is_unreserved(byte) { out.push(char::from(byte)) } else { push_encoded(&mut out, byte) }
    }
    Cow::Owned(out)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')')
}

fn push_encoded(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    for nibble in [byte >> 4, byte & 15] {
        out.push(char::from(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0')));
    }
}

/// `search` of a request's query: empty, or `?` and the query with what may not stand in it encoded.
pub(crate) fn search(query: Option<&str>) -> String {
    let Some(query) = query.filter(|q| !q.is_empty()) else { return String::new() };
    let mut out = String::with_capacity(query.len() + 1);
    out.push('?');
    for byte in query.bytes() {
        let keep = matches!(byte, 0x21..=0x7e) && !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\'');
        if keep { out.push(char::from(byte)) } else { push_encoded(&mut out, byte) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_pathname_is_what_a_url_parser_says() {
        for (raw, expected) in [
            ("/a/b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("/a\\b", "/a/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a.b/..c", "/a.b/..c"),
            ("/é", "/%C3%A9"),
            ("/%41", "/%41"),
            ("*", "/*"),
            ("", "/"),
        ] {
            assert_eq!(pathname(raw), expected, "{raw}");
        }
    }

    #[test]
    fn decoding_keeps_what_cannot_be_decoded_and_collapses_slashes() {
        assert_eq!(decode("/%5Bx%5D/a%20b"), "/[x]/a b");
        assert_eq!(decode("/%ff/%41"), "/%ff/A");
        assert_eq!(decode("/%4/%zz"), "/%4/%zz");
        assert_eq!(decode("//a///b%2F%2Fc"), "/a/b/c");
        assert_eq!(encode("/a@b+c/[x] é%"), "/a%40b%2Bc/%5Bx%5D%20%C3%A9%25");
        assert_eq!(encode("/it's(1)!*~"), "/it's(1)!*~");
    }

    proptest! {
        #[test]
        fn the_short_cut_agrees_with_the_url_parser(raw in "/[a-z./\\\\%2eE^ |\"{}`é~]{0,20}") {
            prop_assert_eq!(pathname(&raw).into_owned(), parsed(&raw));
        }

        #[test]
        fn encoding_then_decoding_gives_the_name_back(name in "(/[^/]{1,8}){1,4}") {
            let encoded = encode(&name).into_owned();
            prop_assert_eq!(decode(&encoded).into_owned(), name);
        }
    }
}
