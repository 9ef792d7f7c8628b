//! What undoes a commit. Pure.

use std::collections::BTreeMap;

use super::delta::{self, put_number, take, take_number};

/// What leads from the state after one or several commits back to the one before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The first commit that it undoes. Commits are counted from 1.
    pub first: u64,
    /// The last one: the state that it begins from.
    pub last: u64,
    /// When the last one was made, in milliseconds since 1970.
    pub ms: u64,
    /// Pages of the database before the first.
    pub before: u32,
    /// Pages after the last.
    pub after: u32,
    /// What becomes of which page. Pages beyond `before` are not there afterwards.
    pub pages: BTreeMap<u32, Change>,
}

/// What becomes of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It differs from the later version, whose checksum this is: a later version that is another one was not written
    /// by those whom history knows.
    Back { crc: u32, delta: Vec<u8> },
    /// It was not there later: the difference from zeros.
    Anew { delta: Vec<u8> },
}

const BACK: u8 = 0;
const ANEW: u8 = 1;

impl Change {
    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        let (Self::Back { delta, .. } | Self::Anew { delta }) = self;
        delta.len() + 12
    }
}

impl Record {
    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        let head = [
            self.first,
            self.last - self.first,
            self.ms,
            self.before.into(),
            self.after.into(),
            self.pages.len() as u64,
        ];
        head.into_iter().for_each(|number| put_number(out, number));
        for (page, change) in &self.pages {
            put_number(out, (*page).into());
            let delta = match change {
                Change::Back { crc, delta } => {
                    out.push(BACK);
                    out.extend_from_slice(&crc.to_le_bytes());
                    delta
                }
                Change::Anew { delta } => {
                    out.push(ANEW);
                    delta
                }
            };
            put_number(out, delta.len() as u64);
            out.extend_from_slice(delta);
        }
    }

    /// Takes one from the front; `None` if it is none.
    pub fn take(bytes: &mut &[u8]) -> Option<Self> {
        let first = take_number(bytes)?;
        let last = first.checked_add(take_number(bytes)?)?;
        let ms = take_number(bytes)?;
        let before = u32::try_from(take_number(bytes)?).ok()?;
        let after = u32::try_from(take_number(bytes)?).ok()?;
        let count = take_number(bytes)?;
        let mut pages = BTreeMap::new();
        for _ in 0..count {
            let page = u32::try_from(take_number(bytes)?).ok()?;
            let kind = take(bytes, 1)?[0];
            let crc = match kind {
                BACK => Some(u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?)),
                ANEW => None,
                _ => return None,
            };
            let len = usize::try_from(take_number(bytes)?).ok()?;
            let delta = take(bytes, len)?.to_vec();
            let change = crc.map_or(Change::Anew { delta: delta.clone() }, |crc| Change::Back { crc, delta });
            pages.insert(page, change);
        }
        Some(Self { first, last, ms, before, after, pages })
    }

    /// All of a chunk.
    pub fn take_all(mut bytes: &[u8]) -> Option<Vec<Self>> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            all.push(Self::take(&mut bytes)?);
        }
        Some(all)
    }

    /// This one and the one after it in one: the states between them are no more. What changes many pages comes in
    /// several parts with the same numbers, which join alike. `None` if a difference is none.
    pub fn merge(mut self, later: Self, page_size: usize) -> Option<Self> {
        for (page, change) in later.pages {
            if page > self.before {
                continue;
            }
            let merged = match (change, self.pages.remove(&page)) {
                (change, None) => change,
                (_, Some(Change::Anew { delta })) => Change::Anew { delta },
                (Change::Back { crc, delta: late }, Some(Change::Back { delta, .. })) => {
                    Change::Back { crc, delta: joined(&late, &delta, page_size)? }
                }
                (Change::Anew { delta: late }, Some(Change::Back { delta, .. })) => {
                    Change::Anew { delta: joined(&late, &delta, page_size)? }
                }
            };
            self.pages.insert(page, merged);
        }
        (self.last, self.ms, self.after) = (later.last, later.ms, later.after);
        Some(self)
    }
}

/// Two differences in a row.
fn joined(a: &[u8], b: &[u8], page_size: usize) -> Option<Vec<u8>> {
    let zeros = vec![0; page_size];
    let mut page = zeros.clone();
    delta::apply(a, &mut page)?;
    delta::apply(b, &mut page)?;
    Some(delta::between(&zeros, &page))
}

/// Records in their order, thinned: of those within one span of `span_ms` only the last state stays.
pub(super) fn thin(records: Vec<Record>, span_ms: u64, page_size: usize) -> Option<Vec<Record>> {
    let mut thinned: Vec<Record> = Vec::new();
    for record in records {
        match thinned.pop_if(|last| last.ms / span_ms == record.ms / span_ms) {
            Some(last) => thinned.push(last.merge(record, page_size)?),
            None => thinned.push(record),
        }
    }
    Some(thinned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: usize = 16;
    type State = Vec<[u8; SIZE]>;

    /// The record that leads from `after` back to `before`.
    fn record(number: u64, before: &State, after: &State) -> Record {
        let mut pages = BTreeMap::new();
        for (at, old) in before.iter().enumerate() {
            let change = match after.get(at) {
                Some(new) if new == old => continue,
                Some(new) => Change::Back { crc: crc32fast::hash(new), delta: delta::between(new, old) },
                None => Change::Anew { delta: delta::between(&[0; SIZE], old) },
            };
            pages.insert(at as u32 + 1, change);
        }
        let (before, after) = (before.len() as u32, after.len() as u32);
        Record { first: number, last: number, ms: number * 10, before, after, pages }
    }

    fn undo(state: &mut State, record: &Record) {
        assert_eq!(state.len(), record.after as usize);
        state.resize(record.before as usize, [0; SIZE]);
        for (page, change) in &record.pages {
            let content = &mut state[*page as usize - 1];
            match change {
                Change::Back { crc, delta } => {
                    assert_eq!(crc32fast::hash(content), *crc);
                    delta::apply(delta, content).unwrap();
                }
                Change::Anew { delta } => {
                    *content = [0; SIZE];
                    delta::apply(delta, content).unwrap();
                }
            }
        }
    }

    fn states() -> impl Strategy<Value = Vec<State>> {
        let page = proptest::array::uniform16(0..3u8);
        proptest::collection::vec(proptest::collection::vec(page, 0..5), 2..12)
    }

    proptest! {
        #[test]
        fn thinned_records_lead_back_to_the_states_that_stay(states in states(), span in 1..50u64) {
            let records: Vec<Record> =
                states.windows(2).zip(1..).map(|(pair, number)| record(number, &pair[0], &pair[1])).collect();
            let mut bytes = Vec::new();
            records.iter().for_each(|record| record.put(&mut bytes));
            prop_assert_eq!(&Record::take_all(&bytes).unwrap(), &records);
            let thinned = thin(records, span, SIZE).unwrap();
            prop_assert!(thinned.windows(2).all(|pair| pair[0].ms / span < pair[1].ms / span));
            let mut state = states.last().unwrap().clone();
            for record in thinned.iter().rev() {
                undo(&mut state, record);
                prop_assert_eq!(&state, &states[record.first as usize - 1]);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Record::take_all(&bytes);
        }
    }
}
