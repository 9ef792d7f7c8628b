//! Datasets as the engine writes to them.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use skep_wire::{Service, full};

use crate::{AnalyticsStore, COLUMNS, Dataset, Point};

const DAY: i64 = 24 * 3600 * 1_000_000_000;

async fn post(dataset: &Dataset, body: String) -> u16 {
    dataset.call(http::Request::post("/").body(full(body)).unwrap()).await.status().as_u16()
}

fn point(timestamp: i64) -> Point {
    Point { timestamp, index1: Vec::new(), blobs: [const { None }; COLUMNS], doubles: [0.0; COLUMNS] }
}

/// The point as the engine writes it.
fn json_of(point: &Point) -> String {
    let mut object = Map::new();
    object.insert("timestamp".to_owned(), point.timestamp.to_string().into());
    object.insert("index1".to_owned(), point.index1.clone().into());
    for (n, blob) in point.blobs.iter().enumerate() {
        if let Some(blob) = blob {
            object.insert(format!("blob{}", n + 1), blob.clone().into());
        }
    }
    for (n, double) in point.doubles.iter().enumerate() {
        let value = if double.is_finite() {
            json!(double)
        } else {
            json!(double.to_string().replace("inf", "Infinity"))
        };
        object.insert(format!("double{}", n + 1), value);
    }
    Value::Object(object).to_string()
}

#[tokio::test]
async fn a_refused_point_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = AnalyticsStore::open(dir.path()).unwrap();
    let dataset = store.dataset("d");
    assert_eq!(post(&dataset, "{".to_owned()).await, 400);
    assert_eq!(post(&dataset, json!({"timestamp": "1", "index1": vec![1; 97]}).to_string()).await, 400);
    assert_eq!(post(&dataset, " ".repeat(300_000)).await, 413);
    let get = http::Request::get("/").body(skep_wire::empty()).unwrap();
    assert_eq!(dataset.call(get).await.status(), 405);
    assert_eq!(store.recent("d", 10).unwrap(), []);
}

#[tokio::test]
async fn points_of_an_account_that_is_full_are_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let quota = std::sync::Arc::new(skep_store::Quota::new(20_000));
    let store = AnalyticsStore::open(dir.path()).unwrap().within(quota.clone());
    let dataset = store.dataset("d");
    let large = |n| {
        let mut point = point(n);
        point.blobs[0] = Some(vec![1; 9_000]);
        json_of(&point)
    };
    let said =
        [post(&dataset, large(1)).await, post(&dataset, large(2)).await, post(&dataset, large(3)).await];
    assert_eq!(said, [200, 200, 507]);
    assert_eq!(store.recent("d", 10).unwrap().len(), 2);
    assert!(quota.used() <= 20_000, "what was refused is not charged");
}

#[tokio::test]
async fn points_outlive_a_restart_and_end_after_three_months() {
    let dir = tempfile::tempdir().unwrap();
    let store = AnalyticsStore::open(dir.path()).unwrap();
    for n in 0..3 {
        assert_eq!(post(&store.dataset("d"), json_of(&point(n))).await, 200);
    }
    assert_eq!(post(&store.dataset("other"), json_of(&point(1))).await, 200);
    drop(store);
    let store = AnalyticsStore::open(dir.path()).unwrap();
    assert_eq!(store.recent("d", 2).unwrap(), [point(2), point(1)]);
    assert_eq!(post(&store.dataset("d"), json_of(&point(93 * DAY))).await, 200);
    assert_eq!(store.recent("d", 10).unwrap(), [point(93 * DAY)]);
    assert_eq!(store.recent("other", 10).unwrap(), [point(1)]);
}

fn any_point() -> impl Strategy<Value = (bool, Point)> {
    let blob = proptest::option::weighted(0.2, proptest::collection::vec(any::<u8>(), 0..20));
    let double = prop_oneof![
        Just(0.0),
        any::<i32>().prop_map(f64::from),
        -1e300..1e300f64,
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY)
    ];
    let arrays = (proptest::array::uniform20(blob), proptest::array::uniform20(double));
    (any::<bool>(), 0..20i64, proptest::collection::vec(any::<u8>(), 0..96), arrays).prop_map(
        |(second, timestamp, index1, (blobs, doubles))| (second, Point { timestamp, index1, blobs, doubles }),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_newest_points_come_back_as_they_were(
        points in proptest::collection::vec(any_point(), 0..20),
        limit in 0..25usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = AnalyticsStore::open(dir.path()).unwrap();
            for (second, point) in &points {
                let dataset = store.dataset(if *second { "b" } else { "a" });
                assert_eq!(post(&dataset, json_of(point)).await, 200);
            }
            for (name, second) in [("a", false), ("b", true)] {
                let mut expected: Vec<_> = points.iter().filter(|p| p.0 == second).map(|p| p.1.clone()).collect();
                // Newest first; of the same moment, the last written first.
                expected.reverse();
                expected.sort_by_key(|point| std::cmp::Reverse(point.timestamp));
                expected.truncate(limit);
                assert_eq!(store.recent(name, limit).unwrap(), expected);
            }
        });
    }
}

#[tokio::test]
async fn not_a_number_stays_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = AnalyticsStore::open(dir.path()).unwrap();
    let mut nan = point(1);
    nan.doubles[4] = f64::NAN;
    assert_eq!(post(&store.dataset("d"), json_of(&nan)).await, 200);
    assert!(store.recent("d", 1).unwrap()[0].doubles[4].is_nan());
}
