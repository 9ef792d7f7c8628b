//! Visitors who take their time with large answers that a script passes on.

use std::io::{Read, Write};

use serde_json::json;

use crate::harness::scene::{NEIGHBOUR, scene};

const FILES: &str = r#"
export default {
  async fetch(request, env) {
    if (request.method === "PUT") return new Response(String(await env.KV.put("film", request.body)));
    return new Response(await env.KV.get("film", "stream"));
  },
};
"#;

/// More than lies between a script and a visitor who does not read.
const SIZE: usize = 6 << 20;
const VISITORS: usize = 120;

#[test]
fn visitors_who_are_slow_do_not_take_the_memory_of_their_script() {
    // Of 16 MiB, with all that is tolerated beyond them, 112: it was over with the 55th visitor.
    let scene = scene(&json!({}), NEIGHBOUR, &["--cell-memory", "16", "--cells-per-script", "1"]);
    let serve = &scene.serve;
    let namespace = serve.call("POST", "/storage/kv/namespaces", Some(&json!({ "title": "films" }))).json();
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "type": "kv_namespace", "name": "KV", "namespace_id": namespace["result"]["id"] }],
    });
    assert_eq!(serve.upload("files", &metadata, FILES).status, 200);
    let (host, film) = ("files.main.localhost", vec![b'x'; SIZE]);
    assert_eq!(serve.send("PUT", host, "/", &[], Some(&film)).text(), "undefined");
    let visit = |_| {
        let mut stream = serve.connect();
        write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        // The beginning is there; the rest waits.
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        stream
    };
    let visitors: Vec<_> = (0..VISITORS).map(visit).collect();
    std::thread::sleep(std::time::Duration::from_secs(1));
    for (n, mut stream) in visitors.into_iter().enumerate() {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        let body = rest.windows(4).position(|end| end == b"\r\n\r\n").map(|end| rest.len() - end - 4);
        assert_eq!(body, Some(SIZE), "of visitor {n}");
    }
}
