//! Scripts that grow by themselves or are heavy to take: what they take is their own, and a neighbour notices nothing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::scene::{HOST, NEIGHBOUR, Scene};
use crate::harness::serve::FORM;
use crate::storms::{alone, felt_beside, stage};

fn plain() -> Value {
    json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" })
}

/// Visits `path` of the hostile script, whatever comes of it; somebody else might wait for ever.
fn visit(scene: &Scene, path: &str) {
    let mut visitor = scene.serve.connect();
    visitor.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    std::io::Write::write_all(&mut visitor, head.as_bytes()).unwrap();
    let _ = std::io::copy(&mut visitor, &mut std::io::sink());
}

fn unnoticed(scene: &Scene, what: &str, attack: impl Fn() + Sync) {
    let times = felt_beside(scene, attack);
    assert!(times < 8.0, "{what}: {times:.1}");
}

/// A number as WebAssembly writes it.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 127) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 128);
    }
}

/// A WebAssembly module of so many functions, each of `code`.
fn wasm(count: usize, code: &[u8]) -> Vec<u8> {
    let section = |id: u8, content: Vec<u8>| [vec![id], leb(content.len()), content].concat();
    let function = [leb(code.len() + 1), vec![0], code.to_vec()].concat();
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, b"\x01\x60\0\x01\x7f".to_vec()),
        section(3, [leb(count), vec![0; count]].concat()),
        section(10, [leb(count), function.repeat(count)].concat()),
    ]
    .concat()
}

/// An upload of modules by name, MIME type and content.
fn upload_of(modules: &[(String, &str, Vec<u8>)]) -> Vec<u8> {
    let mut form = format!("--x\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{}\r\n", plain())
        .into_bytes();
    for (name, kind, content) in modules {
        let head = format!(
            "--x\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n"
        );
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(content);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"--x--\r\n");
    form
}

const CODE: &str = "application/javascript+module";

#[test]
fn uploads_that_are_heavy_to_compile_are_tried_in_their_own_process() {
    let _alone = alone();
    let scene = stage();
    let importer = |what: &str| {
        let code = format!("{what}; export default {{ fetch() {{ return new Response('fine') }} }}");
        ("index.js".to_owned(), CODE, code.into_bytes())
    };
    let instance = importer("import w from './w.wasm'; new WebAssembly.Instance(w)");
    let module = |code: &[u8], count| ("w.wasm".to_owned(), "application/wasm", wasm(count, code));
    let adds = [b"\x41\x01".to_vec(), b"\x41\x02\x6a".repeat(3000), b"\x0b".to_vec()].concat();
    let chain = (0..200).map(|n| {
        let code = format!("import './m{}.js';", n + 1);
        (format!("m{n}.js"), CODE, if n == 199 { Vec::new() } else { code.into_bytes() })
    });
    let uploads = [
        ("a million functions", vec![instance.clone(), module(b"\x41\x01\x0b", 1_000_000)], &[200][..]),
        ("long functions", vec![instance.clone(), module(&adds, 1000)], &[200]),
        ("functions of 45 MB", vec![instance, module(&adds, 5000)], &[200, 400]),
        (
            "data of 60 MB",
            vec![
                importer("import d from './d.bin'"),
                ("d.bin".to_owned(), "application/octet-stream", vec![0; 60 << 20]),
            ],
            &[200, 400],
        ),
        ("a chain of modules", [importer("import './m0.js'")].into_iter().chain(chain).collect(), &[200]),
    ];
    for (what, modules, statuses) in uploads {
        let form = upload_of(&modules);
        unnoticed(&scene, what, || {
            let answer =
                scene.serve.own_call("PUT", "/workers/scripts/heavy", &[("content-type", FORM)], Some(&form));
            assert!(statuses.contains(&answer.status), "{what}: {}", answer.text());
        });
    }
}

const ERRORS: &str = r#"
export default {
  async fetch(request) {
    const { pathname } = new URL(request.url);
    const error = new Error("x".repeat(pathname === "/message" ? 1e6 : 10));
    switch (pathname) {
      case "/stack": error.stack = "    at f (index.js:1:1)\n".repeat(100_000); break;
      case "/brackets": error.stack = "Error: a\n at " + "(".repeat(300_000) + " ".repeat(300_000); break;
      case "/causes": for (let n = 0, last = error; n < 20_000; n++) last = last.cause = new Error("y"); break;
      case "/deep": {
        const value = {};
        for (let n = 0, last = value; n < 3000; n++) last = last.a = {};
        console.log(value);
        break;
      }
      case "/streams": {
        let body = new Response("x".repeat(1000)).body;
        for (let n = 0; n < 1000; n++) body = body.pipeThrough(new TransformStream());
        return new Response(body);
      }
      case "/bytes": {
        const { readable, writable } = new TransformStream();
        const writer = writable.getWriter();
        (async () => { for (;;) await writer.write(new Uint8Array(1)); })().catch(() => {});
        return new Response(readable);
      }
      default: return new Response("fine");
    }
    throw error;
  },
};
"#;

#[test]
fn errors_logs_and_streams_of_any_shape_are_their_scripts_own() {
    let _alone = alone();
    let scene = stage();
    let mut metadata = plain();
    metadata["tail_consumers"] = json!([{ "service": "watcher" }]);
    metadata["observability"] = json!({ "enabled": true });
    assert_eq!(scene.serve.upload("bad", &metadata, ERRORS).status, 200);
    for path in ["/message", "/stack", "/brackets", "/causes", "/deep", "/streams", "/bytes"] {
        unnoticed(&scene, path, || visit(&scene, path));
    }
    scene.recovered();
}

const GROWS: &str = r#"
import { DurableObject, WorkflowEntrypoint } from "cloudflare:workers";
export class Room extends DurableObject {
  async fetch() {
    const [ours, theirs] = Object.values(new WebSocketPair());
    this.ctx.acceptWebSocket(ours);
    return new Response(null, { status: 101, webSocket: theirs });
  }
  webSocketMessage(_, message) { for (const socket of this.ctx.getWebSockets()) socket.send(message); }
  async put() { await this.ctx.storage.put("a", 1); }
  async alarm() { await this.ctx.storage.setAlarm(Date.now()); }
  async ring() { await this.ctx.storage.setAlarm(Date.now()); }
}
export class Spawns extends WorkflowEntrypoint {
  async run() { await Promise.all([1, 2].map(() => this.env.SPAWNS.create())); }
}
const many = (count, make) => Promise.all(Array.from({ length: count }, (_, n) => make(n)));
export default {
  async fetch(request, env) {
    const named = (name) => env.ROOM.get(env.ROOM.idFromName(name));
    switch (new URL(request.url).pathname) {
      case "/sockets": {
        const room = named("sockets");
        const sockets = await many(300, async () => {
          const { webSocket } = await room.fetch("http://room/", { headers: { upgrade: "websocket" } });
          webSocket.accept();
          return webSocket;
        });
        for (let n = 0; n < 300; n++) { sockets[0].send("x".repeat(1000)); await scheduler.wait(1); }
        break;
      }
      case "/objects": for (let n = 0; n < 20; n++) await many(50, () => env.ROOM.get(env.ROOM.newUniqueId()).put()); break;
      case "/alarms": await many(300, (n) => named("alarm" + n).ring()); break;
      case "/workflows": await env.SPAWNS.create(); break;
      case "/queue": await env.QUEUE.send("first"); break;
    }
    return new Response("fine");
  },
  async queue(_, env) {
    for (let n = 0; n < 5; n++) await env.QUEUE.sendBatch(Array.from({ length: 100 }, () => ({ body: "more" })));
  },
};
"#;

#[test]
fn what_makes_more_of_itself_is_felt_by_its_own_script() {
    let _alone = alone();
    let scene = stage();
    let queue = scene.queue("grows");
    let mut metadata = plain();
    metadata["limits"] = json!({ "subrequests": 1_000_000 });
    metadata["migrations"] = json!({ "new_tag": "v1", "new_sqlite_classes": ["Room"] });
    metadata["bindings"] = json!([
        { "type": "durable_object_namespace", "name": "ROOM", "class_name": "Room" },
        { "type": "workflow", "name": "SPAWNS", "workflow_name": "spawns", "class_name": "Spawns" },
        { "type": "queue", "name": "QUEUE", "queue_name": "grows" },
    ]);
    let answer = scene.serve.upload("bad", &metadata, GROWS);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let workflow = json!({ "script_name": "bad", "class_name": "Spawns" });
    assert_eq!(scene.serve.call("PUT", "/workflows/spawns", Some(&workflow)).status, 200);
    scene.consume(&queue, &json!({ "batch_size": 100, "max_wait_time_ms": 0 }));
    // What one of them has begun goes on beside the next.
    for path in ["/sockets", "/objects", "/alarms", "/workflows", "/queue"] {
        unnoticed(&scene, path, || visit(&scene, path));
    }
    assert_eq!(scene.serve.upload("bad", &plain(), NEIGHBOUR).status, 400, "its objects are not given up");
}
