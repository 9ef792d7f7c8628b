//! Replays calls that were recorded on Miniflare (`golden/`) and compares every answer.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use skep_d1::{D1Database, D1Store};
use skep_wire::Service;

async fn post(database: &D1Database, path: &str, body: &Value) -> Value {
    let request = http::Request::post(format!("http://d1{path}"))
        .body(skep_wire::full(serde_json::to_vec(body).unwrap()))
        .unwrap();
    let response = database.call(request).await;
    let bytes = skep_wire::read_all(response.into_body(), 1 << 30).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// JavaScript has one kind of number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

/// Miniflare refuses a comment behind the last `;`, and a text that is only that; Cloudflare's D1 does not.
const ANSWERED_HERE: [&str; 3] = ["SELECT 1; -- x", ";", "/* c */"];

/// How our answer differs from the recorded one; empty if it does not. `counters` are the numbers of `meta`
/// that must be the same.
fn differences(recorded: &Value, ours: &Value, counters: &[&str]) -> Vec<String> {
    let (Value::Array(recorded), Value::Array(ours)) = (recorded, ours) else {
        return if same(recorded, ours) { vec![] } else { vec![format!("answer: {recorded} / {ours}")] };
    };
    let mut found = Vec::new();
    if recorded.len() != ours.len() {
        found.push("number of results".into());
    }
    for (recorded, ours) in recorded.iter().zip(ours) {
        if !same(&recorded["results"], &ours["results"]) {
            found.push(format!("results: {} / {}", recorded["results"], ours["results"]));
        }
        for key in counters {
            if recorded["meta"][key] != ours["meta"][key] {
                found.push(format!("{key}: {} / {}", recorded["meta"][key], ours["meta"][key]));
            }
        }
    }
    found
}

/// `rows_read` is an estimate, and `rows_written` one but for statements that write rows.
fn counters(sql: &str) -> &'static [&'static str] {
    const ALL: [&str; 5] = ["changes", "last_row_id", "changed_db", "size_after", "rows_written"];
    let writes = ["INSERT", "UPDATE", "DELETE"].iter().any(|word| sql.starts_with(word));
    if writes { &ALL } else { &ALL[..4] }
}

#[tokio::test]
async fn answers_are_miniflares() {
    let dir = tempfile::tempdir().unwrap();
    let store = D1Store::open(dir.path()).unwrap();
    let mut database: Option<Arc<D1Database>> = None;
    let mut all = BTreeMap::new();
    for (number, line) in include_str!("golden/answers.jsonl").lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        let (call, recorded) = (&line["call"], &line["answer"]);
        let sql = call["body"]["sql"].as_str().unwrap_or_default();
        let open = database.get_or_insert_with(|| store.database("golden").unwrap());
        let ours = post(open, call["path"].as_str().unwrap(), &call["body"]).await;
        if ANSWERED_HERE.contains(&sql) {
            assert!(
                ours[0]["success"] == true || ours["error"] == "No SQL statements detected.",
                "{sql}: {ours}"
            );
            continue;
        }
        if recorded["broken"] == true {
            // Miniflare's database dies of an error at COMMIT, and is opened anew; ours says what is wrong.
            let error = ours["error"].as_str().unwrap();
            if error.starts_with("FOREIGN KEY constraint failed") {
                database = None;
            } else {
                assert!(error.starts_with("D1 Export error"), "{error}");
            }
            continue;
        }
        let found = differences(recorded, &ours, counters(sql));
        if !found.is_empty() {
            all.insert(number, (call["body"].to_string(), found));
        }
    }
    assert!(all.is_empty(), "{all:#?}");
}
