//! `replace()` and `instr()`: where a text is in another.

use memchr::memmem;
use rusqlite::Result;
use rusqlite::types::ValueRef;

use super::{Answer, text_of};

/// `text` with `by` wherever `pattern` was, which is not empty; `None` if that is longer than `most` bytes.
pub(super) fn replace(text: &[u8], pattern: &[u8], by: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut from = 0;
    for at in memmem::find_iter(text, pattern) {
        out.extend_from_slice(text.get(from..at)?);
        // Only what grows is looked at while it does, as SQLite does: a text that is already too long may still become shorter.
        if by.len() > pattern.len() && out.len() + by.len() + text.len() - at - pattern.len() > most {
            return None;
        }
        out.extend_from_slice(by);
        from = at + pattern.len();
    }
    out.extend_from_slice(text.get(from..)?);
    Some(out)
}

/// At which character, counted from 1, `needle` is in `haystack`: for two BLOBs at which byte. 0 if it is not.
pub(super) fn instr(haystack: ValueRef<'_>, needle: ValueRef<'_>) -> Result<Answer> {
    let in_bytes = matches!((haystack, needle), (ValueRef::Blob(_), ValueRef::Blob(_)));
    let (Some(haystack), Some(needle)) = (text_of(haystack)?, text_of(needle)?) else {
        return Ok(Answer::Null);
    };
    let before =
        if in_bytes { memmem::find(&haystack, &needle) } else { characters_before(&haystack, &needle) };
    Ok(Answer::Integer(before.map_or(0, |count| i64::try_from(count + 1).unwrap_or(i64::MAX))))
}

/// How many characters are before `needle`. A match begins where the text does, or with a byte that begins a character.
fn characters_before(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if haystack.starts_with(needle) {
        return Some(0);
    }
    if needle.first().is_some_and(|byte| goes_on(*byte)) {
        return None;
    }
    let at = memmem::find(haystack, needle)?;
    let between = haystack.get(1..at).unwrap_or_default();
    Some(1 + between.iter().filter(|byte| !goes_on(**byte)).count())
}

/// Whether a byte is in the middle of a character.
pub(super) fn goes_on(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}
