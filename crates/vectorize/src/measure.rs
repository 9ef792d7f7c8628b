//! What a search costs: `cargo test --release -p skep-vectorize -- --ignored --nocapture what_a_search_costs`. The figures of
//! `ARCHITECTURE.md` are from here.

use std::time::{Duration, Instant};

use serde_json::json;
use skep_runtime::Clock;

use crate::metric::{Probe, stored};
use crate::{Metric, Property, PropertyKind, Query, Shape, Vector, VectorizeStore};

/// Kilobytes that this process has in memory and that are not a file's.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Numbers from -1 to 1, the same each time.
struct Numbers(u64);

impl Numbers {
    fn vector(&mut self, dimensions: usize) -> Vec<f32> {
        let mut one = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..dimensions).map(|_| one()).collect()
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
#[ignore = "measures"]
fn what_a_search_costs() {
    let number =
        |name: &str, default: usize| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (count, dimensions) = (number("VECTORS", 100_000), number("DIMENSIONS", 768));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = VectorizeStore::open(dir.path(), Clock::system()).unwrap();
    let index = store.create("i", Shape { dimensions, metric: Metric::Cosine }).unwrap();
    let property = Property { property_name: "n".into(), index_type: PropertyKind::Number };
    runtime.block_on(index.add_property(property)).unwrap();
    let (mut numbers, start) = (Numbers(1), Instant::now());
    for batch in 0..count / 1000 {
        let vectors = (0..1000).map(|n| Vector {
            id: format!("{batch}-{n}"),
            namespace: (batch == 0).then(|| "first".into()),
            values: numbers.vector(dimensions),
            metadata: json!({ "n": n, "text": "t".repeat(100) }).as_object().cloned(),
        });
        runtime.block_on(index.insert(vectors.collect())).unwrap();
    }
    println!("{count} x {dimensions}: kept in {:.1?}", start.elapsed());
    let file = std::fs::metadata(dir.path().join("i/index.sqlite")).unwrap().len();
    println!(
        "file {} MiB, of which numbers {} MiB; in memory {} MiB",
        file >> 20,
        (count * dimensions * 4) >> 20,
        resident() >> 10
    );
    let mut ask = |more: serde_json::Value, rounds: usize| {
        let times = (0..rounds).map(|_| {
            let mut body = json!({ "vector": numbers.vector(dimensions), "topK": 10 });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let query = Query::parse(body.to_string().as_bytes()).unwrap();
            let start = Instant::now();
            let found = runtime.block_on(index.query(query)).unwrap();
            assert_eq!(found.count, 10);
            start.elapsed()
        });
        median(times.collect())
    };
    println!("first query {:.1?}", ask(json!({}), 1));
    let query = ask(json!({}), 9);
    println!("query {query:.1?}; with all metadata {:.1?}", ask(json!({ "returnMetadata": "all" }), 9));
    println!("filter of a half {:.1?}", ask(json!({ "filter": { "n": { "$lt": 500 } } }), 5));
    println!("filter of a thousandth {:.1?}", ask(json!({ "filter": { "n": 7 } }), 5));
    println!("namespace of 1000 {:.1?}", ask(json!({ "namespace": "first" }), 9));
    println!("in memory {} MiB", resident() >> 10);
    let all: Vec<Vec<u8>> = (0..count).map(|_| stored(&numbers.vector(dimensions))).collect();
    let times = (0..9).map(|_| {
        let values = numbers.vector(dimensions);
        let (probe, start) = (Probe::new(Metric::Cosine, &values), Instant::now());
        let nearest = all.iter().map(|content| probe.distance(content, 1.0)).fold(f64::MAX, f64::min);
        assert!(nearest.is_finite());
        start.elapsed()
    });
    let memory = median(times.collect());
    println!(
        "the same in memory {memory:.1?}: a query is {:.2} of it",
        query.as_secs_f64() / memory.as_secs_f64()
    );
}
