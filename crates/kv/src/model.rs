//! The namespace against a `BTreeMap`: any sequence of operations gives the same answers.

use std::collections::BTreeMap;

use proptest::prelude::*;
use skep_runtime::ManualClock;
use skep_wire::{Service, full, read_all};

use crate::limits::INLINE_MAX;
use crate::{Expiration, KeyInfo, ListOptions, Namespace, PutOptions};

const START: u64 = 1_800_000_000;

#[derive(Clone, Debug)]
enum Step {
    Put { key: String, len: usize, fill: u8, ttl: Option<u64>, metadata: Option<u8> },
    Delete(String),
    Wait(u64),
    Sweep,
    Reopen,
}

struct Known {
    value: Vec<u8>,
    expires: Option<u64>,
    metadata: Option<String>,
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]{1,3}", "(é|\u{10FFFF}|\u{0}|b){1,2}"]
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![5 => 0..50usize, 1 => Just(INLINE_MAX), 2 => Just(INLINE_MAX + 1)];
    let ttl = proptest::option::of(60..200u64);
    let put = (key(), len, any::<u8>(), ttl, proptest::option::of(any::<u8>()))
        .prop_map(|(key, len, fill, ttl, metadata)| Step::Put { key, len, fill, ttl, metadata });
    prop_oneof![
        8 => put,
        3 => key().prop_map(Step::Delete),
        2 => (1..150u64).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
        1 => Just(Step::Reopen),
    ]
}

async fn read(namespace: &Namespace, key: &str) -> Option<Vec<u8>> {
    let escaped: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let request = http::Request::get(format!("/{escaped}?urlencoded=true")).body(skep_wire::empty()).unwrap();
    let response = namespace.call(request).await;
    let found = response.status() == 200;
    let body = read_all(response.into_body(), usize::MAX).await.unwrap();
    found.then(|| body.to_vec())
}

/// All pages of a list.
fn list(namespace: &Namespace, prefix: &str, limit: usize) -> Vec<KeyInfo> {
    let mut options = ListOptions { prefix: prefix.to_owned(), cursor: None, limit };
    let mut all = Vec::new();
    loop {
        let page = namespace.list(&options).unwrap();
        assert!(page.keys.len() <= limit);
        all.extend(page.keys);
        options.cursor = page.cursor;
        if options.cursor.is_none() {
            return all;
        }
    }
}

async fn check(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let time = ManualClock::at(START * 1000);
    let mut now = START;
    let mut namespace = Namespace::open(dir.path(), time.clock(), Default::default()).unwrap();
    let mut model: BTreeMap<String, Known> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Put { key, len, fill, ttl, metadata } => {
                let value = vec![fill; len];
                let metadata = metadata.map(|n| n.to_string());
                let options =
                    PutOptions { expiration: ttl.map(Expiration::After), metadata: metadata.clone() };
                namespace.put(&key, options, full(value.clone())).await.unwrap();
                model.insert(key, Known { value, expires: ttl.map(|ttl| now + ttl), metadata });
            }
            Step::Delete(key) => {
                namespace.delete(&key).await.unwrap();
                model.remove(&key);
            }
            Step::Wait(secs) => {
                time.advance_ms(secs * 1000);
                now += secs;
                model.retain(|_, known| known.expires.is_none_or(|at| at > now));
            }
            Step::Sweep => {
                namespace.remove_expired().await.unwrap();
            }
            Step::Reopen => {
                drop(namespace);
                namespace = Namespace::open(dir.path(), time.clock(), Default::default()).unwrap();
            }
        }
    }
    for (key, known) in &model {
        assert_eq!(read(&namespace, key).await.as_ref(), Some(&known.value));
    }
    for gone in ["aaa", "bab", "é", "\u{0}"].iter().filter(|key| !model.contains_key(**key)) {
        assert_eq!(read(&namespace, gone).await, None);
    }
    for (prefix, limit) in [("", 1), ("", 3), ("", 1000), ("a", 2), ("ab", 1), ("\u{10FFFF}", 2), ("é", 1)] {
        let expected: Vec<_> = model
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, known)| KeyInfo {
                name: key.clone(),
                expiration: known.expires,
                metadata: known.metadata.clone(),
            })
            .collect();
        assert_eq!(list(&namespace, prefix, limit), expected, "prefix {prefix:?}, limit {limit}");
    }
    namespace.remove_expired().await.unwrap();
    let large = model.values().filter(|known| known.value.len() > INLINE_MAX).count();
    let folders = std::fs::read_dir(dir.path().join("blobs")).unwrap();
    let files: usize = folders.map(|f| std::fs::read_dir(f.unwrap().path()).unwrap().count()).sum();
    assert_eq!(files, large, "one file per large value");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_namespace_behaves_as_an_ordered_map_with_expiry(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(steps));
    }
}
