//! Where a list goes on. Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::R2Error;
use crate::limits::MAX_KEY_BYTES;

/// Longer than any key, and than any bound made from one.
const MAX_BYTES: usize = MAX_KEY_BYTES + 1;

/// The text for the first key that the next list may hold.
pub(crate) fn encode(from: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(from)
}

pub(crate) fn decode(cursor: &str) -> Result<Vec<u8>, R2Error> {
    let from = URL_SAFE_NO_PAD.decode(cursor).ok().filter(|from| from.len() <= MAX_BYTES);
    from.ok_or_else(|| R2Error::invalid_argument("The specified cursor is not valid."))
}

/// The first key after `key`.
pub(crate) fn after_key(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// The first key after all that start with `prefix`. No key has a byte 0xFF: keys are UTF-8.
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    match prefix.split_last() {
        Some((last, head)) => [head, &[last.saturating_add(1)]].concat(),
        None => vec![0xFF],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bounds_hold_for_every_key(prefix in ".{0,4}", tail in ".{0,4}", other in ".{0,4}") {
            let inside = format!("{prefix}{tail}");
            prop_assert!(inside.as_bytes() < after_prefix(prefix.as_bytes()).as_slice());
            if other > prefix && !other.starts_with(&prefix) {
                prop_assert!(other.as_bytes() >= after_prefix(prefix.as_bytes()).as_slice());
            }
            prop_assert_eq!(other > prefix, other.as_bytes() >= after_key(prefix.as_bytes()).as_slice());
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(text in ".{0,40}", key in ".{0,40}") {
            let _ = decode(&text);
            prop_assert_eq!(decode(&encode(key.as_bytes())).unwrap(), key.as_bytes());
        }
    }
}
