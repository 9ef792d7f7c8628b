//! The index against a `BTreeMap`: any sequence of operations gives the same answers, and so does every search.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use skep_runtime::{Clock, ManualClock};

use crate::{Index, Metric, Property, PropertyKind, Query, Shape, Vector, VectorizeStore};

/// Small numbers, so that distances are often equal.
const DIMENSIONS: usize = 33;

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<Vector>),
    Upsert(Vec<Vector>),
    Delete(Vec<String>),
    Reopen,
}

fn vector() -> impl Strategy<Value = Vector> {
    let values = proptest::collection::vec((-2i8..3).prop_map(f32::from), DIMENSIONS);
    let metadata = proptest::option::of((0..4i64, "[xy]"));
    (id(), proptest::option::of("[mn]"), values, metadata).prop_map(|(id, namespace, values, metadata)| {
        Vector {
            id,
            namespace,
            values,
            metadata: metadata
                .map(|(n, s)| json!({ "n": n, "deep": { "s": s } }).as_object().unwrap().clone()),
        }
    })
}

fn id() -> impl Strategy<Value = String> {
    "[a-f]{1,2}"
}

fn step() -> impl Strategy<Value = Step> {
    let vectors = || proptest::collection::vec(vector(), 1..6);
    prop_oneof![
        3 => vectors().prop_map(Step::Insert),
        4 => vectors().prop_map(Step::Upsert),
        2 => proptest::collection::vec(id(), 0..4).prop_map(Step::Delete),
        1 => Just(Step::Reopen),
    ]
}

/// Said without any shortcut.
fn score(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let dot: f64 = pairs().map(|(a, b)| a * b).sum();
    let length = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    match metric {
        Metric::DotProduct => -dot,
        Metric::Euclidean => pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt(),
        Metric::Cosine => match length(a) * length(b) {
            0.0 => 0.0,
            lengths => dot / lengths,
        },
    }
}

fn passes(filter: Option<i64>, metadata: Option<&Map<String, Json>>) -> bool {
    let n = metadata.and_then(|metadata| metadata["n"].as_i64());
    filter.is_none_or(|least| n.is_some_and(|n| n >= least))
}

/// What an index should hold.
type Known = BTreeMap<String, Vector>;

async fn compare(index: &Index, known: &Known, metric: Metric, asked: &Asked) -> Result<(), TestCaseError> {
    let Asked { values, top_k, namespace, least } = asked;
    let mut body = json!({ "vector": values, "topK": top_k, "returnMetadata": "all", "returnValues": true });
    if let Some(namespace) = namespace {
        body["namespace"] = namespace.as_str().into();
    }
    if let Some(least) = least {
        body["filter"] = json!({ "n": { "$gte": least } });
    }
    let found = index.query(Query::parse(body.to_string().as_bytes()).unwrap()).await.unwrap();
    let candidates = known.values().filter(|v| namespace.is_none() || v.namespace == *namespace);
    let candidates = candidates.filter(|v| passes(*least, v.metadata.as_ref()));
    let mut scores: Vec<f64> = candidates.clone().map(|v| score(metric, values, &v.values)).collect();
    scores.sort_by(f64::total_cmp);
    if metric == Metric::Cosine {
        scores.reverse();
    }
    scores.truncate(*top_k);
    prop_assert_eq!(found.matches.len(), scores.len());
    for (one, expected) in found.matches.iter().zip(scores) {
        prop_assert!((one.score - expected).abs() < 1e-5, "{} {}", one.score, expected);
        let vector = candidates.clone().find(|v| v.id == one.id);
        let vector = vector.ok_or_else(|| TestCaseError::fail("found what was not asked for"))?;
        prop_assert!((score(metric, values, &vector.values) - one.score).abs() < 1e-5);
        prop_assert_eq!(Some(&vector.values), one.values.as_ref());
        prop_assert_eq!((&vector.metadata, &vector.namespace), (&one.metadata, &one.namespace));
    }
    Ok(())
}

#[derive(Clone, Debug)]
struct Asked {
    values: Vec<f32>,
    top_k: usize,
    namespace: Option<String>,
    least: Option<i64>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let values = proptest::collection::vec((-2i8..3).prop_map(f32::from), DIMENSIONS);
    (values, 1..8usize, proptest::option::of("[mno]"), proptest::option::of(0..5i64))
        .prop_map(|(values, top_k, namespace, least)| Asked { values, top_k, namespace, least })
}

async fn run(metric: Metric, steps: Vec<Step>, questions: Vec<Asked>) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let clock: Clock = ManualClock::at(1_800_000_000_000).clock();
    let open = || VectorizeStore::open(dir.path(), clock.clone()).unwrap();
    let mut index = open().create("i", Shape { dimensions: DIMENSIONS, metric }).unwrap();
    index
        .add_property(Property { property_name: "n".into(), index_type: PropertyKind::Number })
        .await
        .unwrap();
    let mut known = Known::new();
    for step in steps {
        match step {
            Step::Insert(vectors) => {
                index.insert(vectors.clone()).await.unwrap();
                for vector in vectors {
                    known.entry(vector.id.clone()).or_insert(vector);
                }
            }
            Step::Upsert(vectors) => {
                index.upsert(vectors.clone()).await.unwrap();
                known.extend(vectors.into_iter().map(|vector| (vector.id.clone(), vector)));
            }
            Step::Delete(ids) => {
                index.delete(ids.clone()).await.unwrap();
                known.retain(|id, _| !ids.contains(id));
            }
            Step::Reopen => {
                drop(index);
                index = open().index("i").unwrap();
            }
        }
        prop_assert_eq!(index.details().unwrap().vector_count, known.len() as u64);
    }
    for question in questions {
        compare(&index, &known, metric, &question).await?;
    }
    let ids: Vec<String> = known.keys().take(20).cloned().collect();
    prop_assert_eq!(index.get(&ids).unwrap(), known.values().take(20).cloned().collect::<Vec<_>>());
    let (mut listed, mut cursor) = (Vec::new(), None);
    loop {
        let page = index.list(3, cursor.as_deref()).unwrap();
        prop_assert!(page.ids.len() <= 3 && page.total == known.len() as u64);
        listed.extend(page.ids);
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    prop_assert_eq!(listed, known.keys().cloned().collect::<Vec<_>>());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn an_index_is_what_was_put_into_it(
        metric in prop_oneof![Just(Metric::Cosine), Just(Metric::Euclidean), Just(Metric::DotProduct)],
        steps in proptest::collection::vec(step(), 1..12),
        questions in proptest::collection::vec(asked(), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(metric, steps, questions))?;
    }
}
