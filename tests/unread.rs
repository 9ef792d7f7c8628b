//! Answers that a script asks for and does not read: what they take of the node has a bound, and a neighbour is served.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::scene::{HOST, NEIGHBOUR, Scene, scene};
use crate::storms::{alone, memory, peak};

/// `/ask` asks for as much as an invocation may at once and never ends; `/loop` keeps the engine from reading what comes.
const ASKS: &str = r#"
const many = (count, make) => Array.from({ length: count }, (_, n) => make(n));
const text = "x".repeat(1000), large = "y".repeat(240_000);
const asks = {
  bulk: ({ KV }) => many(6, () => KV.get(many(100, (n) => "large" + n))),
  json: ({ KV }) => many(6, () => KV.get(many(100, (n) => "json" + n), "json")),
  list: ({ KV }) => many(6, () => KV.list()),
  objects: ({ R2 }) => many(6, () => R2.list({ include: ["customMetadata"] })),
  results: ({ DB }) => many(20, () => DB.prepare("SELECT hex(zeroblob(1500000)) AS a").all()),
  written: ({ DB }) => many(20, () => DB.prepare("UPDATE t SET a = a RETURNING hex(zeroblob(900000)) AS b").all()),
};
const kept = [];
let [asked, held] = [0, 0];
export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    switch (pathname) {
      case "/fill":
        await env.DB.prepare("CREATE TABLE t (a)").run();
        await env.DB.prepare("INSERT INTO t VALUES (1)").run();
        for (let n = 0; n < 1000; n += 100) {
          await Promise.all(many(100, (m) => env.KV.put("key" + (n + m), "", { metadata: { text: text.slice(0, 900) } })));
          await Promise.all(many(100, (m) => env.R2.put("key" + (n + m), "", { customMetadata: { text: text.slice(0, 700) } })));
        }
        await Promise.all(many(100, (n) => env.KV.put("large" + n, large)));
        await Promise.all(many(100, (n) => env.KV.put("json" + n, JSON.stringify(large))));
        await env.KV.put("huge", new Uint8Array(2_000_000));
        return new Response("filled");
      case "/ask":
        kept.push(asks[searchParams.get("what")](env).map((call) => call.catch((error) => String(error))));
        asked += 1;
        await Promise.all(kept.at(-1));
        return new Response("read");
      case "/asked": return new Response(String(asked));
      case "/loop": for (;;);
      case "/hold":
        for (;;) {
          kept.push(await env.KV.get("huge", "stream"));
          held += 1;
        }
      case "/held": return new Response(String(held));
      case "/few":
        return Response.json([...await env.KV.get(["large0", "none", "large1"])]);
    }
    return new Response("fine");
  },
};
"#;

fn stage() -> Scene {
    let scene = scene(&json!({}), NEIGHBOUR, &["--cell-memory", "512"]);
    let made = |path: &str, body: &Value| scene.serve.call("POST", path, Some(body)).json()["result"].clone();
    let namespace = made("/storage/kv/namespaces", &json!({ "title": "unread" }))["id"].clone();
    made("/r2/buckets", &json!({ "name": "unread" }));
    let database = made("/d1/database", &json!({ "name": "unread" }))["uuid"].clone();
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "limits": { "cpu_ms": 4000, "subrequests": 100_000 },
        "bindings": [
            { "type": "kv_namespace", "name": "KV", "namespace_id": namespace },
            { "type": "r2_bucket", "name": "R2", "bucket_name": "unread" },
            { "type": "d1", "name": "DB", "id": database },
        ],
    });
    let answer = scene.serve.upload("bad", &metadata, ASKS);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(scene.bad("/fill"), (200, "filled".into()));
    scene
}

/// kB by which the node grows when 40 visitors have asked and nothing is read until the loop ends.
fn grown(what: &str) -> u64 {
    let scene = stage();
    let before = memory(&scene).max(peak(&scene));
    let path = format!("/ask?what={what}");
    let visitors: Vec<_> = (0..40).map(|_| scene.serve.start_get(HOST, &path)).collect();
    eventually("all of them have asked", || (scene.bad("/asked").1 == "40").then_some(()));
    assert_eq!(scene.meanwhile(|| scene.bad("/loop")), (503, "error code: 1102".into()));
    for visitor in visitors {
        visitor.join().unwrap();
    }
    scene.recovered();
    peak(&scene).saturating_sub(before)
}

#[test]
fn answers_that_a_looping_script_does_not_read_take_little() {
    let _alone = alone();
    let grown = ["bulk", "json", "list", "objects", "results", "written"].map(|what| (what, grown(what)));
    // It was up to 500 MB. Of what is written and not read it is 50 to 75 on most days, and has its end at 128 MiB of a database.
    let most = |what: &str| if what == "written" { 165_000 } else { 80_000 };
    assert!(grown.iter().all(|(what, kb)| *kb < most(what)), "{grown:?} kB");
}

#[test]
fn large_values_of_a_bulk_get_come_whole_and_in_order() {
    let scene = stage();
    let large = "y".repeat(240_000);
    let (status, text) = scene.bad("/few");
    let read: Value = serde_json::from_str(&text).unwrap();
    let is_whole = read == json!([["large0", large], ["none", null], ["large1", large]]);
    assert!(status == 200 && is_whole, "{status}, {} bytes", text.len());
}

#[test]
fn streams_that_are_held_leave_the_node_its_files_and_its_memory() {
    let _alone = alone();
    let scene = stage();
    let before = memory(&scene).max(peak(&scene));
    let visitors: Vec<_> = (0..8).map(|_| scene.serve.start_get(HOST, "/hold")).collect();
    let held = || scene.bad("/held").1.parse::<usize>().unwrap_or_default();
    // Until nothing more comes.
    let mut last = 0;
    let most = eventually("no more streams", || {
        let now = held();
        std::thread::sleep(Duration::from_millis(1500));
        let is_over = now > 500 && now == last;
        last = now;
        is_over.then_some(now)
    });
    let files = std::fs::read_dir(format!("/proc/{}/fd", scene.serve.pid())).unwrap().count();
    let grown = peak(&scene).saturating_sub(before);
    scene.meanwhile(|| std::thread::sleep(Duration::from_millis(300)));
    // 2,500 streams of up to 100 kB each. It was 1,833 MB, and no file could be opened any more.
    assert!(files < 9000 && grown < 400_000, "{most} streams, {files} files, {grown} kB");
    assert_eq!(
        scene
            .serve
            .upload(
                "bad",
                &json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" }),
                NEIGHBOUR
            )
            .status,
        200
    );
    drop(visitors);
}
