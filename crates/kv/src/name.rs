//! Names on the wire and on the disk. All pure.

use std::borrow::Cow;

use crate::error::KvError;

/// Longest file name made from an id as it is; file systems allow 255 bytes.
const MAX_PLAIN: usize = 180;

/// Decodes `%XX` exactly once, as `decodeURIComponent` does: a stray `%` or bytes that are not UTF-8 are errors.
pub(crate) fn decode_key(raw: &str) -> Result<Cow<'_, str>, KvError> {
    if !raw.contains('%') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(KvError::UndecodableKey),
            },
            plain => plain,
        });
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| KvError::UndecodableKey)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// A folder name for a namespace id, different for different ids and harmless for any id: letters, digits, `-`
/// and `_` stay, all else is `%XX`. What is empty or too long gets a form that no other id can have.
pub(crate) fn folder_name(id: &str) -> String {
    let mut name = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte.into()),
            other => name.push_str(&format!("%{other:02X}")),
        }
    }
    match name.len() {
        0 => "%empty".to_owned(),
        1..=MAX_PLAIN => name,
        _ => format!("%long-{}", blake3::hash(id.as_bytes()).to_hex()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_decoded_once() {
        assert_eq!(decode_key("a%2Fb%20c%2525%C3%A9").unwrap(), "a/b c%25é");
        for bad in ["%", "%4", "%zz", "%FF", "a%C3"] {
            assert!(matches!(decode_key(bad), Err(KvError::UndecodableKey)), "{bad}");
        }
    }

    #[test]
    fn hostile_ids_stay_inside_the_folder() {
        assert_eq!(folder_name("0123abcDEF-_"), "0123abcDEF-_");
        assert_eq!(folder_name("../x"), "%2E%2E%2Fx");
        assert_eq!(folder_name(""), "%empty");
        assert!(folder_name(&"é".repeat(200)).len() < 255);
    }

    proptest! {
        #[test]
        fn different_ids_have_different_folders(a in ".{0,300}", b in ".{0,300}") {
            prop_assert_eq!(a == b, folder_name(&a) == folder_name(&b));
            prop_assert!(!folder_name(&a).contains(['/', '.', '\0']));
        }
    }
}
