//! Questions with anything in them: they are answered or refused, and nothing panics.

#[path = "../../../tests/shared/odd_json.rs"]
mod odd_json;

use std::sync::OnceLock;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use skep_runtime::{Jobs, ManualClock, Shutdown, ShutdownTrigger};

use crate::{Event, KeysQuery, LogStore, Query, Retention, ValuesQuery};

/// Some events of two invocations.
fn store() -> &'static LogStore {
    static STORE: OnceLock<(tempfile::TempDir, ShutdownTrigger, LogStore)> = OnceLock::new();
    let (.., store) = STORE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (trigger, shutdown) = Shutdown::new();
        let clock = ManualClock::at(1000);
        let store = runtime.block_on(async {
            let jobs = Jobs::new(clock.clock(), shutdown.clone());
            let retention = Retention { age: Duration::from_secs(3600), bytes: 1 << 30 };
            let store = LogStore::open(dir.path(), "a", retention, clock.clock(), &jobs, shutdown).unwrap();
            store.append((0..40).map(event).collect());
            store.flush().await;
            store
        });
        // What was written is there without it.
        std::mem::forget(runtime);
        (dir, trigger, store)
    });
    store
}

fn event(n: u64) -> Event {
    Event {
        at_ms: 20 * n,
        script: "s".into(),
        body: json!({
            "source": { "message": format!("text {n}"), "n": n, "deep": [{ "a.b": n.is_multiple_of(3) }] },
            "$metadata": { "requestId": format!("r{}", n % 2), "service": "s", "statusCode": 200 + n },
            "$workers": { "scriptName": "s", "wallTimeMs": n as f64 / 3.0 },
            "timestamp": 20 * n, "dataset": "cloudflare-workers",
        }),
    }
}

/// A question with everything in it.
fn question() -> Json {
    let filters = json!([
        { "key": "$metadata.statusCode", "operation": "gt", "type": "number", "value": 201 },
        { "kind": "group", "filterCombination": "or", "filters": [
            { "key": "message", "operation": "regex", "type": "string", "value": "t.xt" },
            { "key": "n", "operation": "in", "type": "number", "value": "1, 2" } ] },
    ]);
    json!({
        "queryId": "q", "view": "calculations", "timeframe": { "from": 0, "to": 900 }, "limit": 3, "granularity": 7,
        "compare": true, "chart": true, "offset": "", "offsetDirection": "next", "offsetBy": 0, "ignoreSeries": false,
        "parameters": {
            "datasets": ["cloudflare-workers"], "filters": filters, "filterCombination": "and", "limit": 5,
            "needle": { "value": "TEXT", "isRegex": false, "matchCase": false },
            "calculations": [{ "operator": "p99", "key": "n", "keyType": "number", "alias": "x" }, { "operator": "count" },
                { "operator": "stddev", "key": "$workers.wallTimeMs" }],
            "groupBys": [{ "type": "string", "value": "$metadata.requestId" }],
            "havings": [{ "key": "x", "operation": "gte", "value": 0 }], "orderBy": { "value": "count", "order": "asc" },
        },
    })
}

fn lists() -> Json {
    json!({
        "timeframe": { "from": 0, "to": 900 }, "from": 0, "to": 900, "datasets": ["cloudflare-workers"], "limit": 3,
        "filters": [{ "key": "n", "operation": "exists", "type": "number" }], "key": "n", "type": "number",
        "needle": { "value": 1 }, "keyNeedle": { "value": "^[a-n]", "isRegex": true },
    })
}

#[test]
fn a_question_with_everything_in_it_has_an_answer() {
    let found = store().ask(&Query::read(&question()).unwrap()).unwrap();
    let calculations = found.parts["calculations"].as_array().unwrap();
    assert_eq!(calculations.len(), 3);
    assert!(found.parts.contains_key("compare") && !calculations[0]["series"].as_array().unwrap().is_empty());
    assert!(!store().keys(&KeysQuery::read(&lists()).unwrap()).unwrap().0.is_empty());
    assert!(!store().values(&ValuesQuery::read(&lists()).unwrap()).unwrap().0.is_empty());
}

proptest! {
    #[test]
    fn any_value_may_stand_anywhere(
        changes in odd_json::changes(), other in odd_json::changes(), view in "events|invocations|calculations",
    ) {
        let mut asked = question();
        asked["view"] = view.into();
        if let Ok(query) = Query::read(&odd_json::with(asked, changes)) {
            store().ask(&query).unwrap();
        }
        let lists = odd_json::with(lists(), other);
        if let Ok(query) = KeysQuery::read(&lists) {
            store().keys(&query).unwrap();
        }
        if let Ok(query) = ValuesQuery::read(&lists) {
            store().values(&query).unwrap();
        }
    }
}
