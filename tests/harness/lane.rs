//! A writer of numbered values to one store of the project `crash`, and what it knows of them.

use std::collections::{BTreeMap, BTreeSet};

use super::random::{Random, mix};
use super::{Answer, Skep, eventually};

/// Values that a writer keeps at a time; a later one replaces an earlier one.
pub const SLOTS: u64 = 12;

/// A writer to one store: its values are numbered, and number `n` goes to slot `n % SLOTS`.
pub struct Lane {
    pub store: &'static str,
    writer: u64,
    /// The number of the next value.
    next: u64,
    /// By slot, the last number that was acknowledged.
    acknowledged: BTreeMap<u64, u64>,
    /// Acknowledged since the last check.
    fresh: BTreeSet<u64>,
    /// How many were acknowledged in all.
    pub count: u64,
}

impl Lane {
    pub fn new(store: &'static str, writer: u64) -> Self {
        Self { store, writer, next: 0, acknowledged: BTreeMap::new(), fresh: BTreeSet::new(), count: 0 }
    }

    /// Whether its slots are asked for one by one.
    pub fn is_by_slot(&self) -> bool {
        matches!(self.store, "kv" | "r2" | "parts")
    }

    /// Writes the next value, or says why that failed.
    pub fn write(&mut self, skep: &Skep) -> Result<(), String> {
        let n = self.next;
        self.next += 1;
        let path = format!("/{}/{}/{}?n={n}", self.store, self.writer, n % SLOTS);
        let answer = skep.try_send("PUT", &path, &[], Some(&self.value(n)));
        let answer = answer.map_err(|e| format!("{path}: {e}"))?;
        if answer.status != 200 {
            return Err(answer.text());
        }
        assert_eq!(answer.text(), "stored", "{path}");
        self.acknowledged.insert(n % SLOTS, n);
        self.fresh.insert(n);
        self.count += 1;
        Ok(())
    }

    /// The number of the value in a slot of a store that is asked slot by slot. The value must be whole.
    pub fn read(&self, skep: &Skep, slot: u64) -> Result<Option<u64>, String> {
        let path = format!("/{}/{}/{slot}", self.store, self.writer);
        let answer = skep.try_send("GET", &path, &[], None).map_err(|e| format!("{path}: {e}"))?;
        match answer.status {
            200 => Ok(Some(self.whole(&path, &answer))),
            404 => Ok(None),
            status => Err(format!("{path}: {status} {}", answer.text())),
        }
    }

    /// The store and the writer's number.
    pub fn name(&self) -> (&'static str, u64) {
        (self.store, self.writer)
    }

    /// Everything acknowledged is there, and everything that is there is whole.
    pub fn check(&mut self, skep: &Skep) {
        match self.store {
            "queue" => self.check_arrived(skep),
            _ if self.is_by_slot() => self.check_slots(skep),
            _ => self.check_rows(skep),
        }
        self.fresh.clear();
    }

    fn check_slots(&self, skep: &Skep) {
        for slot in 0..SLOTS {
            self.check_slot(slot, self.read(skep, slot).unwrap());
        }
    }

    fn check_rows(&self, skep: &Skep) {
        let path = format!("/{}/{}", self.store, self.writer);
        let mut found: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for row in skep.get(&path).json().as_array().unwrap() {
            let n = row["n"].as_u64().unwrap();
            assert_eq!(row["text"].as_str().unwrap().as_bytes(), self.value(n), "{path}: {n}");
            found.entry(row["slot"].as_u64().unwrap()).or_default().push(n);
        }
        let halves = if self.store == "d1" { 1 } else { 2 };
        for slot in 0..SLOTS {
            let numbers = found.get(&slot).map_or(&[][..], Vec::as_slice);
            let n = numbers.first().copied();
            assert!(
                n.is_none() || numbers == vec![n.unwrap(); halves],
                "{path}: half a transaction: slot {slot} has {numbers:?}"
            );
            self.check_slot(slot, n);
        }
    }

    /// What a slot holds is the last that was acknowledged, or a later one whose answer was lost.
    fn check_slot(&self, slot: u64, found: Option<u64>) {
        let Self { store, writer, .. } = self;
        if let Some(n) = found {
            assert!(n % SLOTS == slot && n < self.next, "{store}/{writer}/{slot} holds {n}");
        }
        let acknowledged = self.acknowledged.get(&slot).copied();
        assert!(
            found >= acknowledged,
            "{store}/{writer}/{slot} holds {found:?}, acknowledged was {acknowledged:?}"
        );
    }

    fn check_arrived(&self, skep: &Skep) {
        let Some(first) = self.fresh.first() else { return };
        let path = format!("/queue/{}?n={first}", self.writer);
        eventually(&format!("arrival of what {path} acknowledged"), || {
            let rows = skep.get(&path).json();
            let mut arrived = BTreeSet::new();
            for row in rows.as_array().unwrap() {
                let n = row["n"].as_u64().unwrap();
                assert!(n < self.next, "{path}: {n} was never sent");
                assert_eq!(row["text"].as_str().unwrap().as_bytes(), self.value(n), "{path}: {n}");
                arrived.insert(n);
            }
            arrived.is_superset(&self.fresh).then_some(())
        });
    }

    /// The number of a value that must be whole.
    fn whole(&self, path: &str, answer: &Answer) -> u64 {
        let n = answer.header("x-n").parse().unwrap();
        let expected = self.value(n);
        assert!(
            answer.body == expected,
            "{path}: value {n} is not whole: {} bytes, not {}, the first difference at {:?}",
            answer.body.len(),
            expected.len(),
            answer.body.iter().zip(&expected).position(|(a, b)| a != b),
        );
        n
    }

    /// Value number `n`: its length and its bytes follow from the number.
    fn value(&self, n: u64) -> Vec<u8> {
        let seed = mix(n ^ (self.writer << 48) ^ ((self.store.len() as u64) << 56));
        let mut random = Random::new(seed);
        let length = match (self.store, random.below(10)) {
            // Two parts, the first of the smallest size that is allowed.
            ("parts", _) => (5 << 20) + 1 + random.below(1 << 20),
            ("kv", 9) => random.below(3 << 20),
            ("r2", 9) => random.below(6 << 20),
            ("kv" | "r2", 5..9) => random.below(200 << 10),
            _ => random.below(2 << 10),
        } as usize;
        let mut value: Vec<u8> = Vec::with_capacity(length + 16);
        while value.len() < length {
            let word = random.next();
            match self.is_by_slot() {
                true => value.extend(word.to_le_bytes()),
                false => value.extend(format!("{word:016x}").bytes()),
            }
        }
        value.truncate(length);
        value
    }
}
