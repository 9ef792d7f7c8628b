//! Work that is done aside in turns: who asks for much of it waits behind himself.

use std::time::Instant;

use serde_json::json;

use crate::harness::scene::{NEIGHBOUR, scene};
use crate::storms::alone;

/// One index each; how many vectors are in it, and how many searches are asked for at once, says the address.
const SEARCHER: &str = r#"
const DIMENSIONS = 1024;
const values = (seed) => Array.from({ length: DIMENSIONS }, (_, n) => (n * seed) % 7);
export default {
  async fetch(request, { VECTORS }) {
    const { pathname, searchParams } = new URL(request.url);
    const count = Number(searchParams.get("count"));
    if (pathname === "/fill") {
      for (let from = 0; from < count; from += 500) {
        const few = Array.from({ length: Math.min(500, count - from) }, (_, n) => ({ id: `${from + n}`, values: values(from + n + 1) }));
        await VECTORS.upsert(few);
      }
    } else {
      await Promise.all(Array.from({ length: count }, () => VECTORS.query(values(3), { topK: 1 })));
    }
    return new Response("done");
  },
};
"#;

#[test]
fn searches_of_a_large_index_do_not_hold_up_those_of_another_one() {
    let _alone = alone();
    let scene = scene(&json!({}), NEIGHBOUR, &[]);
    for (script, vectors) in [("many", 4000), ("few", 10)] {
        let made = json!({ "name": script, "config": { "dimensions": 1024, "metric": "euclidean" } });
        assert_eq!(scene.serve.call("POST", "/vectorize/v2/indexes", Some(&made)).status, 200);
        let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01",
            "bindings": [{ "type": "vectorize", "name": "VECTORS", "index_name": script }] });
        assert_eq!(scene.serve.upload(script, &metadata, SEARCHER).status, 200);
        let host = format!("{script}.main.localhost");
        assert_eq!(scene.serve.get(&host, &format!("/fill?count={vectors}")).text(), "done");
    }
    let search = |script: &str, count: usize| {
        let start = Instant::now();
        let answer = scene.serve.get(&format!("{script}.main.localhost"), &format!("/search?count={count}"));
        assert_eq!(answer.text(), "done");
        start.elapsed()
    };
    search("few", 1);
    let (took, waited) = std::thread::scope(|scope| {
        let many = scope.spawn(|| search("many", 60));
        let mut waited = Vec::new();
        while !many.is_finished() {
            waited.push(search("few", 1));
        }
        // The last one may have begun when the others were done.
        waited.pop();
        (many.join().unwrap(), waited)
    });
    let most = waited.iter().max().unwrap();
    assert!(*most < took / 5, "{most:?} of {took:?}, {} times", waited.len());
}
