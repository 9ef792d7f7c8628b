//! Many Durable Objects that are awake at once.

use serde_json::json;

use crate::harness::scene::{NEIGHBOUR, scene};

const OBJECTS: &str = r#"
import { DurableObject } from "cloudflare:workers";
export class Room extends DurableObject {
  async count() {
    const count = ((await this.ctx.storage.get("count")) ?? 0) + 1;
    await this.ctx.storage.put("count", count);
    return count;
  }
}
export default {
  async fetch(request, env) {
    const first = Number(new URL(request.url).searchParams.get("first"));
    const counts = Array.from({ length: 50 }, (_, n) => env.ROOM.getByName("room " + (first + n)).count());
    return Response.json(await Promise.all(counts));
  },
};
"#;

#[test]
fn objects_that_are_awake_do_not_take_their_scripts_memory() {
    // Of 16 MiB, with all that is tolerated beyond them, 112: 500 objects. With 256 MiB for them 1,500.
    let scene = scene(&json!({}), NEIGHBOUR, &["--cell-memory", "16", "--object-memory", "1024"]);
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "migrations": { "new_tag": "v1", "new_sqlite_classes": ["Room"] },
        "bindings": [{ "type": "durable_object_namespace", "name": "ROOM", "class_name": "Room" }],
    });
    assert_eq!(scene.serve.upload("rooms", &metadata, OBJECTS).status, 200);
    for first in (0..2000).step_by(50) {
        let answer = scene.serve.get("rooms.main.localhost", &format!("/?first={first}"));
        assert_eq!((answer.status, answer.json()), (200, json!(vec![1; 50])), "after {first} objects");
    }
}
