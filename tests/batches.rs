//! Large batches of a queue whose consumer does not take them: they wait on the disk.

use std::time::Duration;

use serde_json::json;

use crate::appetites::grown;
use crate::harness::eventually;
use crate::harness::scene::scene;
use crate::storms::alone;

/// It begins with a batch, and hears of no other before its time is over.
const LOOPS: &str = r#"
export default {
  async fetch(request, env) {
    if (new URL(request.url).pathname !== "/fill") return new Response("fine");
    const two = [{ body: "x".repeat(120_000) }, { body: "x".repeat(120_000) }];
    await Promise.all(Array.from({ length: 50 }, () => env.QUEUE.sendBatch(two)));
    return new Response("sent");
  },
  queue() { for (;;); },
};
"#;

/// Batches of it, 16 MB of JSON each.
const BATCHES: u64 = 30;

#[test]
fn large_batches_that_a_looping_consumer_does_not_take_wait_on_the_disk() {
    let _alone = alone();
    let plain = "export default { fetch() { return new Response('fine') } }";
    let scene = scene(&json!({}), plain, &[]);
    let queue = scene.queue("large");
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01", "limits": { "cpu_ms": 5000 },
        "bindings": [{ "type": "queue", "name": "QUEUE", "queue_name": "large" }],
    });
    assert_eq!(scene.serve.upload("bad", &metadata, LOOPS).status, 200);
    eventually("a queue that is full", || (scene.bad("/") == (200, "fine".into())).then_some(()));
    (0..BATCHES).for_each(|_| assert_eq!(scene.bad("/fill"), (200, "sent".into())));
    let settings =
        json!({ "batch_size": 100, "max_wait_time_ms": 0, "max_retries": 100, "max_concurrency": BATCHES });
    // Without a bound it was 30 times 16 MB and more, and all others waited for seconds.
    let ((), megabytes) = grown(&scene, || {
        scene.consume(&queue, &settings);
        std::thread::sleep(Duration::from_secs(8));
    });
    assert!(megabytes < 150, "{megabytes} MB");
}
