//! Changes to a recorded request.

use proptest::prelude::*;
use proptest::sample::Index;

/// One change. Places are relative to what is there.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// A byte becomes another.
    Replace(Index, u8),
    /// Bytes are cut out.
    Cut(Index, usize),
    /// Bytes are doubled.
    Double(Index, usize),
    /// Something is put in that parsers stumble over.
    Insert(Index, Vec<u8>),
    /// A number becomes another.
    Number(Index, String),
    /// From here on it is another request.
    Splice(Index, Index, Index),
    /// It ends here.
    End(Index),
}

/// Any change.
pub fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    let length = 1..40_usize;
    let odd = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..8),
        "[\\[\\]{}\",:%&=;*/'-]{1,3}".prop_map(String::into_bytes),
        prop::sample::select(vec![
            "null", "-1", "1e999", "\"\"", "[]", "{}", "%ff", "%", "\\u0000", "\\ud800", "é"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    let number = prop_oneof!["[0-9]{1,20}", "-[0-9]{1,3}", "[0-9]{1,3}\\.[0-9]{1,3}", "[0-9]e[0-9]{1,3}"];
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        2 => (at(), length.clone()).prop_map(|(at, length)| Mutation::Cut(at, length)),
        2 => (at(), length).prop_map(|(at, length)| Mutation::Double(at, length)),
        4 => (at(), odd).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        4 => (at(), number).prop_map(|(at, number)| Mutation::Number(at, number)),
        1 => (at(), at(), at()).prop_map(|(at, other, from)| Mutation::Splice(at, other, from)),
        1 => at().prop_map(Mutation::End),
    ]
}

impl Mutation {
    /// Changes `frame`; `frames` are others of the same kind.
    pub fn apply(&self, frame: &mut Vec<u8>, frames: &[Vec<u8>]) {
        if frame.is_empty() {
            return;
        }
        let place = |at: &Index| at.index(frame.len());
        match self {
            Self::Replace(at, byte) => {
                let at = place(at);
                frame[at] = *byte;
            }
            Self::Cut(at, length) => {
                let at = place(at);
                frame.drain(at..frame.len().min(at + length));
            }
            Self::Double(at, length) => {
                let at = place(at);
                let copy = frame[at..frame.len().min(at + length)].to_vec();
                frame.splice(at..at, copy);
            }
            Self::Insert(at, bytes) => {
                let at = place(at);
                frame.splice(at..at, bytes.iter().copied());
            }
            Self::Number(at, number) => {
                let digits = |from: usize| frame[from..].iter().take_while(|b| b.is_ascii_digit()).count();
                let starts: Vec<usize> = (0..frame.len())
                    .filter(|n| digits(*n) > 0 && (*n == 0 || !frame[*n - 1].is_ascii_digit()))
                    .collect();
                if !starts.is_empty() {
                    let start = *at.get(&starts);
                    frame.splice(start..start + digits(start), number.bytes());
                }
            }
            Self::Splice(at, other, from) => {
                let at = place(at);
                let other = other.get(frames);
                frame.truncate(at);
                frame.extend(&other[from.index(other.len())..]);
            }
            Self::End(at) => frame.truncate(place(at)),
        }
    }
}
