//! The JSON object that a bulk get is answered with, while it is written.

use serde_json::value::RawValue;
use skep_store::StoreError;

use crate::error::KvError;

/// Such an object, or what of it was not taken yet.
pub(crate) struct Object {
    out: Vec<u8>,
    json: bool,
    with_metadata: bool,
    is_empty: bool,
}

impl Object {
    /// With values that are JSON, or texts.
    pub fn new(json: bool, with_metadata: bool) -> Self {
        Self { out: b"{".to_vec(), json, with_metadata, is_empty: true }
    }

    /// A key without a value.
    pub fn absent(&mut self, key: &str) -> Result<(), KvError> {
        self.key(key)?;
        self.raw("null");
        Ok(())
    }

    /// Begins an entry.
    pub fn begin(&mut self, key: &str) -> Result<(), KvError> {
        self.key(key)?;
        if self.with_metadata {
            self.raw("{\"value\":");
        }
        Ok(())
    }

    /// Its value, all of it.
    pub fn value(&mut self, value: &[u8]) -> Result<(), KvError> {
        let text = text_of(value);
        if !self.json {
            return self.string(&text);
        }
        let parsed: &RawValue = serde_json::from_str(&text).map_err(|_| KvError::NotJson)?;
        self.raw(parsed.get());
        Ok(())
    }

    /// Its value in pieces, of which some are `begun` and the `last` one ends it.
    pub fn piece(&mut self, text: &str, is_first: bool, is_last: bool) -> Result<(), KvError> {
        if self.json {
            self.raw(text);
            return Ok(());
        }
        if is_first {
            self.raw("\"");
        }
        // The quotes around the piece are not wanted.
        let at = self.out.len();
        self.string(text)?;
        self.out.pop();
        self.out.remove(at);
        if is_last {
            self.raw("\"");
        }
        Ok(())
    }

    /// Ends an entry.
    pub fn end(&mut self, metadata: Option<&str>) {
        if self.with_metadata {
            self.raw(",\"metadata\":");
            self.raw(metadata.unwrap_or("null"));
            self.raw("}");
        }
    }

    /// Bytes that were not taken.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Takes what there is.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Ends the object; what is left of it.
    pub fn finish(mut self) -> Vec<u8> {
        self.raw("}");
        self.out
    }

    fn key(&mut self, key: &str) -> Result<(), KvError> {
        if !std::mem::take(&mut self.is_empty) {
            self.raw(",");
        }
        self.string(key)?;
        self.raw(":");
        Ok(())
    }

    fn raw(&mut self, json: &str) {
        self.out.extend_from_slice(json.as_bytes());
    }

    fn string(&mut self, text: &str) -> Result<(), KvError> {
        serde_json::to_writer(&mut self.out, text)
            .map_err(|e| StoreError::io("cannot write JSON", e.into()).into())
    }
}

const MARK: &[u8] = b"\xEF\xBB\xBF";

/// A value as `TextDecoder` reads it: no byte order mark, U+FFFD for what is not UTF-8.
fn text_of(value: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(value.strip_prefix(MARK).unwrap_or(value))
}

/// Whether a value is JSON.
pub(crate) fn is_json(value: &[u8]) -> bool {
    serde_json::from_str::<&RawValue>(&text_of(value)).is_ok()
}

/// The same of a value that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Text {
    begun: bool,
    /// The beginning of a character.
    rest: Vec<u8>,
}

impl Text {
    /// What can be said after the next piece. The first one has three bytes, or is the last one, too.
    pub fn push(&mut self, piece: &[u8], is_last: bool) -> String {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(piece);
        let mut bytes = &bytes[..];
        if !std::mem::replace(&mut self.begun, true) {
            bytes = bytes.strip_prefix(MARK).unwrap_or(bytes);
        }
        let kept = if is_last { 0 } else { unfinished(bytes) };
        let (now, rest) = bytes.split_at(bytes.len() - kept);
        self.rest = rest.to_vec();
        String::from_utf8_lossy(now).into_owned()
    }
}

/// Bytes at the end that may be the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    for (n, byte) in bytes.iter().rev().take(3).enumerate() {
        let length = match byte {
            0x80..=0xBF => continue,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => 1,
        };
        return if length > n + 1 { n + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let character = prop_oneof![
            "[a-z\"\\\\\n\u{1}]".prop_map(String::into_bytes),
            "\\PC".prop_map(String::into_bytes),
            any::<u8>().prop_map(|byte| vec![byte]),
            Just(MARK.to_vec()),
            "[\u{10000}-\u{10FFFF}]".prop_map(|text| text.as_bytes()[..3].to_vec()),
        ];
        proptest::collection::vec(character, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        /// A value in pieces is what it is as a whole.
        #[test]
        fn pieces_are_read_as_the_whole(value in bytes(), size in 3_usize..9) {
            let mut whole = Object::new(false, true);
            whole.begin("a").unwrap();
            whole.value(&value).unwrap();
            whole.end(Some("{}"));
            let mut object = Object::new(false, true);
            let (mut text, mut said) = (Text::default(), Vec::new());
            object.begin("a").unwrap();
            let count = value.len().div_ceil(size).max(1);
            for n in 0..count {
                let piece = &value[n * size..value.len().min((n + 1) * size)];
                let piece = text.push(piece, n + 1 == count);
                object.piece(&piece, n == 0, n + 1 == count).unwrap();
                said.extend(object.take());
            }
            object.end(Some("{}"));
            said.extend(object.finish());
            prop_assert_eq!(String::from_utf8(said).unwrap(), String::from_utf8(whole.finish()).unwrap());
        }
    }
}
