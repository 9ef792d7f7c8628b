//! JSON with anything anywhere, for property tests. Crates include this file by its path.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

/// A value of any kind.
pub fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[], 1, null, { "binding": 1 }])),
        Just(json!({ "name": {}, "bindings": [null, { "name": "é" }], "é": "x" })),
    ]
}

/// One or two places of a document, and what comes there.
pub fn changes() -> impl Strategy<Value = Vec<(Index, Value)>> {
    prop::collection::vec((any::<Index>(), value()), 1..3)
}

/// `document` with these values in these places.
pub fn with(mut document: Value, changes: Vec<(Index, Value)>) -> Value {
    for (at, value) in changes {
        let mut n = at.index(size(&document));
        if let Some(place) = nth(&mut document, &mut n) {
            *place = value;
        }
    }
    document
}

/// The `n`th value of a tree, counted from the top.
fn nth<'a>(value: &'a mut Value, n: &mut usize) -> Option<&'a mut Value> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, n)),
        Value::Object(entries) => entries.values_mut().find_map(|entry| nth(entry, n)),
        _ => None,
    }
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(entries) => entries.values().map(size).sum::<usize>(),
        _ => 0,
    }
}
