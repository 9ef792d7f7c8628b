//! Rows to JSON, without a tree of values in between.

use rusqlite::types::ValueRef;

use crate::error::{D1Error, TOO_MUCH_MEMORY};

/// Bytes of a reply at most. Cloudflare's database runs in an isolate of 128 MB, which a result larger than
/// this does not fit; without a bound, one `SELECT` could take all of this process's memory.
const REPLY: usize = 100 << 20;

/// A value of SQL as JSON: a BLOB is an array of its bytes, what JSON cannot hold (±∞) is null.
pub(crate) fn value(out: &mut Vec<u8>, value: ValueRef<'_>) -> Result<(), D1Error> {
    match value {
        ValueRef::Null => out.extend_from_slice(b"null"),
        ValueRef::Integer(n) => integer(out, n),
        ValueRef::Real(x) => real(out, x),
        ValueRef::Text(bytes) => text(out, &String::from_utf8_lossy(bytes)),
        ValueRef::Blob(bytes) => blob(out, bytes),
    }
    if out.len() > REPLY { Err(D1Error::new(TOO_MUCH_MEMORY)) } else { Ok(()) }
}

/// A text as a JSON string.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    // Writing to memory cannot fail, and a string has no key that could be of a wrong type.
    let _ = serde_json::to_writer(out, text);
}

/// An integer in decimal.
pub(crate) fn integer(out: &mut Vec<u8>, n: i64) {
    let _ = serde_json::to_writer(out, &n);
}

/// A number as JavaScript's `JSON.stringify` has it, in value.
pub(crate) fn real(out: &mut Vec<u8>, x: f64) {
    if x == 0.0 {
        out.push(b'0');
    } else {
        let _ = serde_json::to_writer(out, &x);
    }
}

fn blob(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(2 + bytes.len() * 4);
    out.push(b'[');
    for (i, byte) in bytes.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if *byte >= 100 {
            out.push(b'0' + byte / 100);
        }
        if *byte >= 10 {
            out.push(b'0' + byte / 10 % 10);
        }
        out.push(b'0' + byte % 10);
    }
    out.push(b']');
}

/// For rows as objects: which column is written at each place, `None` where an earlier column has the name.
/// Of columns with one name the last value wins, at the place of the first, as in a JavaScript object.
pub(crate) fn object_columns(names: &[String]) -> Vec<Option<usize>> {
    let last = |name: &String| names.iter().rposition(|other| other == name);
    let is_first = |i: usize| !names[..i].contains(&names[i]);
    (0..names.len()).map(|i| if is_first(i) { last(&names[i]) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(v: ValueRef<'_>) -> String {
        let mut out = Vec::new();
        value(&mut out, v).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_that_json_cannot_hold_are_null() {
        assert_eq!(json(ValueRef::Real(f64::INFINITY)), "null");
        assert_eq!(json(ValueRef::Real(-0.0)), "0");
        assert_eq!(json(ValueRef::Integer(i64::MIN)), "-9223372036854775808");
    }

    #[test]
    fn of_columns_with_one_name_the_last_wins_at_the_place_of_the_first() {
        let names = ["a", "b", "a"].map(str::to_owned);
        assert_eq!(object_columns(&names), [Some(2), Some(1), None]);
    }

    proptest! {
        #[test]
        fn a_blob_is_its_bytes(bytes: Vec<u8>) {
            let back: Vec<u8> = serde_json::from_str(&json(ValueRef::Blob(&bytes))).unwrap();
            prop_assert_eq!(back, bytes);
        }

        #[test]
        fn text_survives(text: String) {
            let back: String = serde_json::from_str(&json(ValueRef::Text(text.as_bytes()))).unwrap();
            prop_assert_eq!(back, text);
        }
    }
}
