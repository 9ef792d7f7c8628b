//! The cache against a map: any sequence of puts, purges and waits gives the same hits.

use std::collections::BTreeMap;

use proptest::prelude::*;
use skep_wire::{empty, full};

use crate::tests::{Fixture, share};
use crate::{Limits, WorkerCache};

#[derive(Clone, Debug)]
enum Step {
    Put { key: u8, len: usize, fill: char, max_age: u64 },
    Purge(u8),
    Wait(u64),
    Match(u8),
    Tidy,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..6u8;
    let len = prop_oneof![4 => 0..50usize, 1 => 65_530..65_540usize, 1 => Just(100_000)];
    let put = (key(), len, proptest::char::range('a', 'z'), 0..100u64)
        .prop_map(|(key, len, fill, max_age)| Step::Put { key, len, fill, max_age });
    prop_oneof![
        6 => put,
        2 => key().prop_map(Step::Purge),
        4 => key().prop_map(Step::Match),
        2 => (1..60u64).prop_map(Step::Wait),
        1 => Just(Step::Tidy),
        1 => Just(Step::Reopen),
    ]
}

async fn check(steps: Vec<Step>) {
    let mut f = Fixture::new(Limits::default());
    let mut now = 0;
    let mut model: BTreeMap<u8, (String, u64)> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Put { key, len, fill, max_age } => {
                let body = fill.to_string().repeat(len);
                let response = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age={max_age}\r\n\r\n{body}");
                let answer = f.call("PUT", &format!("/{key}"), "", full(response)).await;
                assert_eq!(answer.status, 204);
                model.insert(key, (body, now + max_age));
            }
            Step::Purge(key) => {
                let answer = f.call("PURGE", &format!("/{key}"), "", empty()).await;
                let fresh = model.remove(&key).is_some_and(|(_, until)| until > now);
                assert_eq!(answer.status, if fresh { 200 } else { 404 });
            }
            Step::Wait(secs) => {
                f.time.advance_ms(secs * 1000);
                now += secs;
            }
            Step::Match(key) => {
                let answer = f.get(&format!("/{key}"), "").await;
                match model.get(&key).filter(|(_, until)| *until > now) {
                    Some((body, _)) => assert_eq!((answer.status, &answer.body[..]), (200, body.as_bytes())),
                    None => assert_eq!(answer.status, 504),
                }
            }
            Step::Tidy => {
                f.cache.tidy().await.unwrap();
            }
            Step::Reopen => {
                let Fixture { cache, time, dir } = f;
                drop(cache);
                let cache = WorkerCache::open(dir.path(), time.clock(), Limits::default(), share()).unwrap();
                f = Fixture { cache, time, dir };
            }
        }
    }
    f.cache.tidy().await.unwrap();
    model.retain(|_, (_, until)| *until > now);
    assert_eq!(f.files(), model.values().filter(|(body, _)| body.len() > 64 * 1024).count());
    f.time.advance_ms(1_000_000);
    f.cache.tidy().await.unwrap();
    assert_eq!((f.cache.usage().unwrap(), f.files()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_cache_behaves_as_a_map_whose_entries_go_stale(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(steps));
    }
}
