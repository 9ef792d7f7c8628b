//! Texts in headers that have more than ASCII: the encoded words of RFC 2047. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A value as a header may have it.
pub(crate) fn encoded(text: &str) -> String {
    let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte) || byte == b'\t');
    // What looks like one would be read as one.
    match plain && !text.contains("=?") {
        true => text.to_owned(),
        false => format!("=?utf-8?B?{}?=", STANDARD.encode(text)),
    }
}

/// The value of a header; what is no encoded word stays.
pub(crate) fn decoded(text: &str) -> String {
    let (mut out, mut rest, mut after_word) = (String::new(), text, false);
    while let Some(start) = rest.find("=?") {
        let (before, from) = rest.split_at(start);
        match word(from) {
            Some((content, length)) => {
                // Space between two of them is not part of the text.
                if !(after_word && before.chars().all(char::is_whitespace)) {
                    out.push_str(before);
                }
                out.push_str(&content);
                (rest, after_word) = (&from[length..], true);
            }
            None => {
                out.push_str(before);
                out.push_str("=?");
                (rest, after_word) = (&from[2..], false);
            }
        }
    }
    out.push_str(rest);
    out
}

/// The encoded word at the start of a text, and how long it is there.
fn word(text: &str) -> Option<(String, usize)> {
    let inner = text.strip_prefix("=?")?;
    let mut parts = inner.splitn(3, '?');
    let (charset, encoding, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let (content, _) = rest.split_once("?=")?;
    if content.contains([' ', '?']) {
        return None;
    }
    let bytes = match encoding {
        "B" | "b" => STANDARD.decode(content).ok()?,
        "Q" | "q" => quoted(content)?,
        _ => return None,
    };
    let decoded = match charset.to_ascii_lowercase().as_str() {
        "utf-8" | "us-ascii" => String::from_utf8(bytes).ok()?,
        "iso-8859-1" => bytes.into_iter().map(char::from).collect(),
        _ => return None,
    };
    let length = 2 + charset.len() + 1 + encoding.len() + 1 + content.len() + 2;
    Some((decoded, length))
}

fn quoted(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'_' => b' ',
            b'=' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn encoded_words_are_read() {
        for (text, expected) in [
            ("plain", "plain"),
            ("=?utf-8?B?w6k=?=", "é"),
            ("=?UTF-8?Q?=C3=A9_x?=", "é x"),
            ("a =?iso-8859-1?q?=E9?= b", "a é b"),
            ("=?utf-8?B?w6k=?= =?utf-8?B?w6k=?=", "éé"),
            ("=?utf-8?X?w6k=?=", "=?utf-8?X?w6k=?="),
            ("=?utf-8?B?***?= =?", "=?utf-8?B?***?= =?"),
        ] {
            assert_eq!(decoded(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in any::<String>()) {
            let header = encoded(&text);
            prop_assert!(header.is_ascii());
            prop_assert_eq!(decoded(&header), text);
        }

        #[test]
        fn anything_is_decoded(text in "(=\\?|\\?=|\\?|utf-8|[BQ=_ a]){0,12}") {
            let _ = decoded(&text);
        }
    }
}
