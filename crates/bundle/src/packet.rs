//! The packets of esbuild's service protocol: a length, an identifier and one tagged value, all little-endian.

/// What a packet carries.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(u32),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

/// One request or the response to one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packet {
    pub id: u32,
    pub is_request: bool,
    pub value: Value,
}

/// Values inside values that are read; esbuild's own are a handful deep.
const DEPTH: usize = 64;

impl Value {
    /// A map.
    pub fn map<const N: usize>(entries: [(&str, Value); N]) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// A list of texts.
    pub fn texts<I: IntoIterator<Item = S>, S: Into<String>>(texts: I) -> Self {
        Self::List(texts.into_iter().map(|text| Self::Text(text.into())).collect())
    }

    /// What a map holds under `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The text under `key`; empty if there is none.
    pub fn text(&self, key: &str) -> &str {
        match self.get(key) {
            Some(Self::Text(text)) => text,
            _ => "",
        }
    }

    /// The number under `key`.
    pub fn int(&self, key: &str) -> Option<u32> {
        match self.get(key) {
            Some(Self::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// The list under `key`; empty if there is none.
    pub fn list(&self, key: &str) -> &[Value] {
        match self.get(key) {
            Some(Self::List(items)) => items,
            _ => &[],
        }
    }
}

impl Packet {
    /// The packet with its length before it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        put_int(&mut out, self.id << 1 | u32::from(!self.is_request));
        put(&mut out, &self.value);
        let length = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&length.to_le_bytes());
        out
    }

    /// The packet in `bytes`, which stand without the length.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let id = take_int(&mut rest)?;
        let value = take_value(&mut rest, DEPTH)?;
        rest.is_empty().then_some(Self { id: id >> 1, is_request: id & 1 == 0, value })
    }
}

fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0),
        Value::Bool(value) => out.extend([1, u8::from(*value)]),
        Value::Int(value) => {
            out.push(2);
            put_int(out, *value);
        }
        Value::Text(text) => {
            out.push(3);
            put_bytes(out, text.as_bytes());
        }
        Value::Bytes(bytes) => {
            out.push(4);
            put_bytes(out, bytes);
        }
        Value::List(items) => {
            out.push(5);
            put_int(out, items.len() as u32);
            items.iter().for_each(|item| put(out, item));
        }
        Value::Map(entries) => {
            out.push(6);
            put_int(out, entries.len() as u32);
            for (key, value) in entries {
                put_bytes(out, key.as_bytes());
                put(out, value);
            }
        }
    }
}

fn put_int(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_int(out, bytes.len() as u32);
    out.extend(bytes);
}

fn take_value(rest: &mut &[u8], depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    Some(match take(rest, 1)? {
        [0] => Value::Null,
        [1] => Value::Bool(take(rest, 1)? != [0]),
        [2] => Value::Int(take_int(rest)?),
        [3] => Value::Text(take_text(rest)?),
        [4] => Value::Bytes(take_bytes(rest)?.to_vec()),
        [5] => {
            let count = take_int(rest)?;
            Value::List((0..count).map(|_| take_value(rest, depth)).collect::<Option<_>>()?)
        }
        [6] => {
            let count = take_int(rest)?;
            let mut entries = Vec::new();
            for _ in 0..count {
                entries.push((take_text(rest)?, take_value(rest, depth)?));
            }
            Value::Map(entries)
        }
        _ => return None,
    })
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn take_int(rest: &mut &[u8]) -> Option<u32> {
    take(rest, 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = take_int(rest)?;
    take(rest, count as usize)
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    take_bytes(rest).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<u32>().prop_map(Value::Int),
            ".*".prop_map(Value::Text),
            any::<Vec<u8>>().prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::vec((".*", inner), 0..4).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(value in values(), id in 0u32..1 << 31, is_request: bool) {
            let packet = Packet { id, is_request, value };
            let bytes = packet.encode();
            prop_assert_eq!(u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len() - 4);
            prop_assert_eq!(Packet::decode(&bytes[4..]), Some(packet));
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_read_but_never_panic(bytes: Vec<u8>) {
            let _ = Packet::decode(&bytes);
        }
    }
}
