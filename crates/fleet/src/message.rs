//! The engine's configuration as a Cap'n Proto message. Reading it takes the engine a sixth of the time that text takes.

use std::collections::HashMap;

use bytes::Bytes;

use crate::capnp::Value;
use crate::schema::{CONFIG, Field, Kind, Layout};

/// No list is longer: its length has 29 bits.
const MAX_LIST: usize = (1 << 29) - 1;

/// The message whose root is `config`; `files` has what it embeds. `None` where a name is not in [the part of the
/// schema](crate::schema) that is written down here: then there is the text.
pub(crate) fn message(config: &Value, files: &[(String, Bytes)]) -> Option<Vec<u8>> {
    let Value::Struct(fields) = config else { return None };
    let files = files.iter().map(|(name, content)| (name.as_str(), content)).collect();
    let mut writer = Writer { words: vec![0], files };
    let root = writer.allocate(CONFIG.words());
    writer.point_to_struct(0, root, &CONFIG);
    writer.fields(root, &CONFIG, CONFIG.fields, fields)?;
    let words = u32::try_from(writer.words.len()).ok()?;
    // One segment, of so many words.
    let mut out = Vec::with_capacity(8 + writer.words.len() * 8);
    out.extend_from_slice(&0_u32.to_le_bytes());
    out.extend_from_slice(&words.to_le_bytes());
    writer.words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    Some(out)
}

struct Writer<'a> {
    words: Vec<u64>,
    files: HashMap<&'a str, &'a Bytes>,
}

impl Writer<'_> {
    fn allocate(&mut self, words: usize) -> usize {
        let at = self.words.len();
        self.words.resize(at + words, 0);
        at
    }

    /// The lower half of a pointer at `from`: how far `to` is, and what it is.
    fn distance(from: usize, to: usize, kind: u64) -> u64 {
        (((to - from - 1) as u64) << 2) | kind
    }

    fn point_to_struct(&mut self, from: usize, to: usize, layout: &Layout) {
        self.words[from] = Self::distance(from, to, 0) | layout.shape();
    }

    fn point_to_list(&mut self, from: usize, to: usize, element: u64, length: usize) {
        self.words[from] = Self::distance(from, to, 1) | (element << 32) | ((length as u64) << 35);
    }

    /// Writes `values` into the struct at `at`.
    fn fields(
        &mut self,
        at: usize,
        layout: &Layout,
        known: &'static [Field],
        values: &[(&'static str, Value)],
    ) -> Option<()> {
        for (name, value) in values {
            let field = known.iter().find(|field| field.name == *name)?;
            if let Some((place, tag)) = field.tag {
                self.words[at + place / 4] |= u64::from(tag) << (place % 4 * 16);
            }
            self.field(at, layout, &field.kind, value)?;
        }
        Some(())
    }

    fn field(&mut self, at: usize, layout: &Layout, kind: &'static Kind, value: &Value) -> Option<()> {
        let pointer = |slot: usize| at + layout.data + slot;
        match (kind, value) {
            (Kind::Void, Value::Bare(_)) => {}
            (Kind::Bool(_), Value::Bare("false")) => {}
            (Kind::Bool(bit), Value::Bare("true")) => self.words[at + bit / 64] |= 1 << (bit % 64),
            (Kind::Text(slot), value) => self.bytes(pointer(*slot), value, 1)?,
            (Kind::Data(slot), value) => self.bytes(pointer(*slot), value, 0)?,
            (Kind::Group(known), Value::Struct(values)) => self.fields(at, layout, known, values)?,
            (Kind::Struct(slot, of), value) => {
                let to = self.allocate(of.words());
                self.point_to_struct(pointer(*slot), to, of);
                self.content(to, of, value)?;
            }
            (Kind::Texts(slot), Value::List(values)) => {
                let list = self.allocate(values.len());
                self.point_to_list(pointer(*slot), list, 6, values.len());
                for (n, value) in values.iter().enumerate() {
                    self.bytes(list + n, value, 1)?;
                }
            }
            (Kind::List(slot, of), Value::List(values)) => {
                let words = values.len() * of.words();
                let tag = self.allocate(1 + words);
                self.words[tag] = ((values.len() as u64) << 2) | of.shape();
                self.point_to_list(pointer(*slot), tag, 7, words);
                for (n, value) in values.iter().enumerate() {
                    self.content(tag + 1 + n * of.words(), of, value)?;
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// A struct; text stands for one that has no more than a name.
    fn content(&mut self, at: usize, layout: &'static Layout, value: &Value) -> Option<()> {
        match value {
            Value::Struct(values) => self.fields(at, layout, layout.fields, values),
            Value::Text(_) => {
                let name = layout.fields.iter().find(|field| field.name == "name")?;
                self.field(at, layout, &name.kind, value)
            }
            _ => None,
        }
    }

    /// Text, which ends in a zero, or data.
    fn bytes(&mut self, pointer: usize, value: &Value, zeros: usize) -> Option<()> {
        let content: &[u8] = match value {
            Value::Text(text) => text.as_bytes(),
            Value::Embed(file) => self.files.get(file.as_str())?,
            _ => return None,
        };
        let length = content.len() + zeros;
        if length > MAX_LIST {
            return None;
        }
        let at = self.words.len();
        self.words.extend(content.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        }));
        self.words.resize(at + length.div_ceil(8), 0);
        self.point_to_list(pointer, at, 2, length);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capnp::{fields, list, text};

    #[test]
    fn a_message_is_as_cap_n_proto_lays_it_out() {
        let config = fields([
            ("v8Flags", list([text("--a")])),
            ("logging", fields([("structuredLogging", Value::Bare("true"))])),
        ]);
        let bytes = message(&config, &[]).unwrap();
        let words: Vec<u64> =
            bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
        let expected = [
            13 << 32,
            // The root: one word of data, six pointers.
            (1 << 32) | (6 << 48),
            0,
            0,
            0,
            // A list of one pointer, behind the three others; its text of four bytes with the zero.
            (3 << 2) | 1 | (6 << 32) | (1 << 35),
            0,
            0,
            (2 << 2) | (1 << 32) | (2 << 48),
            1 | (2 << 32) | (4 << 35),
            u64::from_le_bytes(*b"--a\0\0\0\0\0"),
            1,
            0,
            0,
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn a_database_is_in_a_message() {
        let external = fields([("address", text("a:1")), ("tcp", fields([]))]);
        let values = ["designator", "scheme", "user", "password", "database"].map(|name| (name, text("x")));
        let binding = fields([("name", text("DB")), ("hyperdrive", fields(values))]);
        let services = [("external", external), ("worker", fields([("bindings", list([binding]))]))];
        let services = services.map(|(kind, value)| fields([("name", text("s")), (kind, value)]));
        let bytes = message(&fields([("services", list(services))]), &[]).unwrap();
        let words = || bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        // The tags of the unions: the second of a service's address, the sixteenth of a binding.
        assert!(words().any(|word| word == 2) && words().any(|word| word == 16));
        let said = bytes.windows(8).filter(|text| *text == b"x\0\0\0\0\0\0\0").count();
        assert_eq!(said, 5);
    }

    #[test]
    fn what_the_schema_here_lacks_gives_no_message() {
        assert_eq!(message(&fields([("unheardOf", text("x"))]), &[]), None);
        let embeds = fields([("v8Flags", list([Value::Embed("missing".into())]))]);
        assert_eq!(message(&embeds, &[]), None);
    }
}
