//! Containers on a node.

use serde_json::json;

use crate::harness::serve::serve;

const WORKER: &str = "import { DurableObject } from 'cloudflare:workers';\n\
    export class Box extends DurableObject {}\n\
    export default { fetch() { return new Response('ok'); } }";

#[test]
fn a_node_without_an_engine_refuses_containers_by_name() {
    let serve = serve();
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-01-01",
        "migrations": { "new_sqlite_classes": ["Box"] }, "containers": [{ "class_name": "Box" }] });
    let answer = serve.upload("boxed", &metadata, WORKER);
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("skep serve --containers"), "{}", answer.text());
}
