//! Databases that were used once: ten thousand tenants have more of them than a node has threads, files and memory for.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::eventually;
use crate::harness::scene::{NEIGHBOUR, Scene, scene};
use crate::storms::memory;

/// Databases that are awake at once, at most, and what a node has beside: threads, and open files.
const AWAKE: usize = 192;
const BESIDE: usize = 40;
const FILES: usize = 5;

fn threads(scene: &Scene) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", scene.serve.pid())).unwrap().count()
}

fn files(scene: &Scene) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", scene.serve.pid())).unwrap().count()
}

/// How many of each kind are touched.
fn many() -> usize {
    std::env::var("SKEP_ASLEEP").ok().and_then(|count| count.parse().ok()).unwrap_or(280)
}

#[test]
fn databases_that_were_used_once_are_closed_and_lose_nothing() {
    let scene = scene(&json!({}), NEIGHBOUR, &[]);
    let count = many();
    let shown = |what: &str| {
        println!("{what}: {} threads, {} files, {} kB", threads(&scene), files(&scene), memory(&scene))
    };
    shown("before");
    let made = |path: &str, body: &serde_json::Value| {
        let answer = scene.serve.call("POST", path, Some(body));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["result"].clone()
    };
    let namespaces: Vec<String> = (0..count)
        .map(|n| {
            made("/storage/kv/namespaces", &json!({ "title": format!("n{n}") }))["id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    // The API holds no D1 database longer than a query; `crates/d1/src/database.rs` lets one sleep.
    let databases: Vec<String> = (0..count / 10)
        .map(|n| {
            made("/d1/database", &json!({ "name": format!("d{n}") }))["uuid"].as_str().unwrap().to_owned()
        })
        .collect();
    let start = Instant::now();
    for (n, id) in namespaces.iter().enumerate() {
        let path = format!("/storage/kv/namespaces/{id}/values/key");
        assert_eq!(
            scene.serve.own_call("PUT", &path, &[], Some(format!("value {n}").as_bytes())).status,
            200
        );
    }
    for (n, id) in databases.iter().enumerate() {
        let sql = json!({ "sql": format!("CREATE TABLE t (a); INSERT INTO t VALUES ({n})") });
        assert_eq!(scene.serve.call("POST", &format!("/d1/database/{id}/query"), Some(&sql)).status, 200);
    }
    println!("{:?} for {count} namespaces", start.elapsed());
    shown("after");
    // Those that are on their way to sleep have a moment.
    eventually("threads and files that are not many", || {
        (threads(&scene) < AWAKE + BESIDE && files(&scene) < AWAKE * FILES + 200).then_some(())
    });
    let start = Instant::now();
    for (n, id) in namespaces.iter().enumerate() {
        let answer = scene.serve.call("GET", &format!("/storage/kv/namespaces/{id}/values/key"), None);
        assert_eq!(answer.text(), format!("value {n}"));
    }
    for (n, id) in databases.iter().enumerate() {
        let sql = json!({ "sql": "SELECT a FROM t" });
        let answer = scene.serve.call("POST", &format!("/d1/database/{id}/query"), Some(&sql)).json();
        assert_eq!(answer["result"][0]["results"], json!([{ "a": n }]), "{answer}");
    }
    println!("{:?} to read them again", start.elapsed());
    shown("then");
    assert!(start.elapsed() < Duration::from_secs(120));
}
