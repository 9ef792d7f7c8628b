//! Keys as the engine writes them into a path. Pure.

use std::borrow::Cow;

use crate::error::KvError;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_decoded_once() {
        assert_eq!(decode_key("a%2Fb%20c%2525%C3%A9").unwrap(), "a/b c%25é");
        for bad in ["%", "%4", "%zz", "%FF", "a%C3"] {
            assert!(matches!(decode_key(bad), Err(KvError::UndecodableKey)), "{bad}");
        }
    }
}
