//! `unhex()` with characters that may stand between two bytes.

use std::collections::HashSet;

use super::find::goes_on;

/// The bytes that are written in hexadecimal, up to the first NUL; `None` where something else stands, or stands within a byte.
pub(super) fn unhex(digits: &[u8], between: &[u8]) -> Option<Vec<u8>> {
    let mut allowed = HashSet::new();
    let mut rest = between;
    while !rest.is_empty() {
        allowed.insert(character(&mut rest));
    }
    let mut out = Vec::with_capacity(digits.len() / 2);
    let mut rest = digits;
    while let Some(first) = rest.first().copied().filter(|byte| *byte != 0) {
        let Some(high) = digit(first) else {
            if !allowed.contains(&character(&mut rest)) {
                return None;
            }
            continue;
        };
        let low = digit(*rest.get(1)?)?;
        out.push(high << 4 | low);
        rest = rest.get(2..)?;
    }
    Some(out)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Takes a character off a text that is not empty, and gives its number, as SQLite's `sqlite3Utf8Read`: of any bytes.
fn character(text: &mut &[u8]) -> u32 {
    let Some((first, rest)) = text.split_first() else { return 0 };
    *text = rest;
    let mut number = u32::from(*first);
    if *first < 0xc0 {
        return number;
    }
    number = match first {
        0xc0..=0xdf => number & 0x1f,
        0xe0..=0xef => number & 0x0f,
        0xf0..=0xf7 => number & 0x07,
        0xf8..=0xfb => number & 0x03,
        0xfc..=0xfd => number & 0x01,
        _ => 0,
    };
    while let Some((byte, rest)) = text.split_first().filter(|(byte, _)| goes_on(**byte)) {
        number = (number << 6).wrapping_add(u32::from(*byte & 0x3f));
        *text = rest;
    }
    match number {
        ..0x80 | 0xd800..=0xdfff => 0xfffd,
        _ if number & 0xffff_fffe == 0xfffe => 0xfffd,
        _ => number,
    }
}
