//! An account that stores until it may store no more, in each of its stores, and a neighbour that goes on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::accounts::add;
use crate::harness::serve::{FORM, Serve, form, serve, serve_in};
use crate::harness::{Ended, eventually};

/// What the account may store, in MiB, and bytes that it may pass that by: what Durable Objects write between two
/// looks, and logs of databases.
const LIMIT: u64 = 48;
const PASSED: u64 = 64 << 20;

const CODE: &str = r#"
import { DurableObject } from "cloudflare:workers";
const piece = new Uint8Array(1 << 20).fill(7);
export class Room extends DurableObject {
  async put(key) { await this.ctx.storage.put(key, piece.slice(0, 100_000)); await this.ctx.storage.sync(); }
  async get(key) { return (await this.ctx.storage.get(key))?.length ?? 0; }
  async clear() { await this.ctx.storage.deleteAll(); }
}
const stores = {
  kv: { put: (env, key) => env.KV.put(key, piece), get: async (env, key) => (await env.KV.get(key, "arrayBuffer"))?.byteLength ?? 0,
        clear: async (env) => { for (const { name } of (await env.KV.list()).keys) if (name !== "first") await env.KV.delete(name); } },
  r2: { put: (env, key) => env.FILES.put(key, piece), get: async (env, key) => (await env.FILES.head(key))?.size ?? 0,
        clear: async (env) => env.FILES.delete((await env.FILES.list()).objects.map((one) => one.key).filter((key) => key !== "first")) },
  d1: { put: async (env, key) => {
          await env.DB.prepare("CREATE TABLE IF NOT EXISTS t (k PRIMARY KEY, v)").run();
          await env.DB.prepare("INSERT OR REPLACE INTO t VALUES (?, zeroblob(1000000))").bind(key).run();
        },
        get: async (env, key) => (await env.DB.prepare("SELECT length(v) AS n FROM t WHERE k = ?").bind(key).first())?.n ?? 0,
        clear: (env) => env.DB.prepare("DELETE FROM t WHERE k != 'first'").run() },
  object: { put: async (env, key) => { await env.ROOM.getByName("a").put(key); await scheduler.wait(10); },
            get: (env, key) => env.ROOM.getByName("a").get(key), clear: (env) => env.ROOM.getByName("a").clear() },
  queue: { put: (env) => env.QUEUE.send("x".repeat(100_000)), get: () => 1, clear() {} },
  points: { put: (env) => { for (let n = 0; n < 40; n++) env.POINTS.writeDataPoint({ blobs: ["x".repeat(15_000)] }); }, get: () => 1, clear() {} },
};
export default {
  async fetch(request, env) {
    const [, store, what, key] = new URL(request.url).pathname.split("/");
    const { put, get, clear } = stores[store];
    try {
      switch (what) {
        case "put": await put(env, key); return new Response("stored");
        case "get": return new Response(String(await get(env, key)));
        case "clear": await clear(env); return new Response("cleared");
        // As much as one request can.
        case "fill": for (let n = 0; n < 500; n++) await put(env, `${key}-${n}`); return new Response("filled");
      }
    } catch (error) {
      return new Response(error.message, { status: 500 });
    }
  },
};
"#;

const NEIGHBOUR: &str = "export default { async fetch(request, env) { await env.KV.put('k', 'v'); return new Response(await env.KV.get('k')); } };";

/// A node with an account that is up to no good, and another one.
struct Scene {
    serve: Serve,
}

fn scene() -> Scene {
    let first = serve();
    let dir = first.stop("TERM");
    let (other, token) = add(&dir.path().join("data/registry.sqlite"));
    let serve = serve_in(dir, &["--max-account-storage", &LIMIT.to_string()]);
    let call = |path: &str, body: Value| {
        let answer = serve.call("POST", path, Some(&body));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["result"].clone()
    };
    let kv = call("/storage/kv/namespaces", json!({ "title": "t" }))["id"].clone();
    let db = call("/d1/database", json!({ "name": "t" }))["uuid"].clone();
    call("/r2/buckets", json!({ "name": "files" }));
    call("/queues", json!({ "queue_name": "jobs" }));
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "migrations": { "new_tag": "v1", "new_sqlite_classes": ["Room"] },
        "bindings": [
            { "type": "kv_namespace", "name": "KV", "namespace_id": kv },
            { "type": "r2_bucket", "name": "FILES", "bucket_name": "files" },
            { "type": "d1", "name": "DB", "database_id": db },
            { "type": "queue", "name": "QUEUE", "queue_name": "jobs" },
            { "type": "analytics_engine", "name": "POINTS", "dataset": "points" },
            { "type": "durable_object_namespace", "name": "ROOM", "class_name": "Room" }],
    });
    let answer = serve.upload("bad", &metadata, CODE);
    assert_eq!(answer.status, 200, "{}", answer.text());

    let token = format!("Bearer {token}");
    let send = |method: &str, path: &str, kind: &str, body: &[u8]| {
        let headers = [("authorization", token.as_str()), ("content-type", kind)];
        let answer = serve.raw_call(method, &format!("/accounts/{other}{path}"), &headers, Some(body));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["result"].clone()
    };
    let kv = send("POST", "/storage/kv/namespaces", "application/json", br#"{ "title": "t" }"#)["id"].clone();
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "type": "kv_namespace", "name": "KV", "namespace_id": kv }] });
    send("PUT", "/workers/scripts/well", FORM, &form(&metadata, &[("index.js", NEIGHBOUR)]));
    send("POST", "/workers/scripts/well/subdomain", "application/json", br#"{ "enabled": true }"#);
    Scene { serve }
}

impl Scene {
    fn bad(&self, path: &str) -> String {
        self.serve.get("bad.main.localhost", path).text()
    }

    /// Writes to a store until that is refused; what was said then. The neighbour stores, too, all the while.
    fn fill(&self, store: &str) -> String {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let neighbour = scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let answer = self.serve.get("well.other.localhost", "/");
                    assert_eq!((answer.status, answer.text().as_str()), (200, "v"));
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            });
            let ended = Ended(&done);
            let said = (0..20).map(|n| self.bad(&format!("/{store}/fill/{n}"))).find(|said| said != "filled");
            drop(ended);
            neighbour.join().unwrap();
            said.unwrap_or_else(|| panic!("{store} is never full"))
        })
    }

    /// Bytes on the disk that count.
    fn stored(&self) -> u64 {
        let account = self.serve.dir.path().join("data/accounts").join(&self.serve.account);
        ["kv", "r2", "d1", "queues", "do", "content"].iter().map(|store| bytes(&account.join(store))).sum()
    }
}

fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

const FULL: [(&str, &str); 5] = [
    ("kv", "KV PUT failed: 507 Insufficient storage: the account's storage limit is reached"),
    ("r2", "put: The account's storage limit is reached. Nothing was stored. (10001)"),
    ("d1", "D1_ERROR: Exceeded maximum DB size"),
    ("object", "disk I/O error"),
    ("queue", "queue storage limit exceeded"),
];

#[test]
fn data_points_of_an_account_that_is_full_are_not_stored() {
    let scene = scene();
    let points = || {
        let account = scene.serve.dir.path().join("data/accounts").join(&scene.serve.account);
        bytes(&account.join("analytics"))
    };
    assert_eq!(scene.bad("/points/put/a"), "stored");
    eventually("data points on the disk", || (points() > 300 << 10).then_some(()));
    assert!(scene.fill("kv").contains(FULL[0].1));
    let before = points();
    // Sixty megabytes, of which nobody hears what becomes.
    for _ in 0..100 {
        scene.bad("/points/put/a");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    std::thread::sleep(std::time::Duration::from_secs(1));
    let grown = points().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes");
}

#[test]
fn who_stores_until_he_may_store_no_more_reads_and_deletes_on_and_a_neighbour_stores_on() {
    let scene = scene();
    for store in ["kv", "r2", "d1", "object"] {
        assert_eq!(scene.bad(&format!("/{store}/put/first")), "stored");
    }
    let size = |store: &str| scene.bad(&format!("/{store}/get/first")).parse::<u64>().unwrap();
    let before: Vec<u64> = ["kv", "r2", "d1", "object"].map(size).to_vec();
    for (store, says) in FULL {
        let said = scene.fill(store);
        assert!(said.contains(says), "{store}: {said}");
        let stored = scene.stored();
        assert!(stored < (LIMIT << 20) + PASSED, "{store}: {stored} bytes");
        // Full in one store, full in all, down to the last small piece; what is there can be read.
        assert!(store == "queue" || scene.fill("queue").contains("queue storage limit exceeded"), "{store}");
        // (Rows that were deleted have left room in the file of a database, which may be used again.)
        let is_emptied = |other: &str| other == "d1" && matches!(store, "object" | "queue");
        for (other, says) in FULL.iter().filter(|(other, _)| *other != "object" && !is_emptied(other)) {
            let said = scene.bad(&format!("/{other}/put/more"));
            assert!(said.contains(says), "{other} after {store}: {said}");
        }
        assert_eq!(["kv", "r2", "d1"].map(size).to_vec(), before[..3], "after {store}");
        if store != "object" && store != "queue" {
            assert_eq!(size("object"), before[3], "after {store}");
        }
        let config = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
        let mut tries = 0;
        eventually(&format!("the refusal of an upload after {store}"), || {
            // Other code each time: what was uploaded is kept for a while when its worker has gone, and that costs nothing.
            tries += 1;
            let code = format!(
                "export default {{ fetch() {{ return new Response('{store}{tries}') }} }}; // {}",
                "x".repeat(1 << 20)
            );
            let refused = scene.serve.upload("more", &config, &code);
            if refused.status == 200 {
                // What databases were has been cut meanwhile, which made room: that is filled, too.
                assert_eq!(scene.serve.call("DELETE", "/workers/scripts/more", None).status, 200);
                assert!(scene.fill("kv").contains(FULL[0].1), "{store}");
                return None;
            }
            let said = refused.json();
            assert_eq!((refused.status, &said["errors"][0]["code"]), (507, &json!(10002)), "after {store}");
            Some(())
        });
        if store == "queue" {
            break;
        }
        assert_eq!(scene.bad(&format!("/{store}/clear")), "cleared", "{store}");
        eventually(&format!("room after {store} was cleared"), || {
            (scene.bad("/kv/put/second") == "stored").then_some(())
        });
    }
}
