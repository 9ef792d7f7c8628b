//! Visitors who send much to a script that does not take it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::harness::scene::{HOST, NEIGHBOUR, scene};
use crate::harness::serve::{Serve, serve_in};
use crate::storms::memory;

/// Reads what it is sent once somebody has asked for `/go`.
const CODE: &str = r#"
let begun = false;
export default {
  async fetch(request) {
    if (new URL(request.url).pathname === "/go") { begun = true; return new Response("gone"); }
    while (!begun) await scheduler.wait(50);
    let length = 0;
    for await (const piece of request.body) length += piece.length;
    return new Response(`${length} bytes`);
  },
};
"#;

const VISITORS: usize = 120;
const SIZE: usize = 6 << 20;
static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];

/// Sends what is taken of an upload; returns how much is left.
fn push(stream: &mut TcpStream, mut left: usize) -> usize {
    while left > 0 {
        match stream.write(&PIECE[..left.min(PIECE.len())]) {
            Ok(sent) => left -= sent,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    left
}

#[test]
fn uploads_that_nobody_takes_are_little_memory_and_come_whole_when_somebody_does() {
    let scene = scene(&json!({}), CODE, &["--cell-memory", "512", "--cells-per-script", "1"]);
    let before = memory(&scene);
    let visitors: Vec<_> = (0..VISITORS).map(|_| begin(&scene.serve, HOST, "/", SIZE)).collect();
    let grown = memory(&scene).saturating_sub(before) >> 10;
    assert!(visitors.iter().any(|(_, left)| *left > 0));
    // 95 MB as it was, 45 now.
    assert!(grown < 70, "{grown} MB for {VISITORS} uploads");
    assert_eq!(scene.serve.get("well.main.localhost", "/").text(), "well");
    assert_eq!(scene.serve.get(HOST, "/go").text(), "gone");
    end(visitors, SIZE);
}

/// Begins an upload of `size` bytes; returns how many are left.
fn begin(serve: &Serve, host: &str, path: &str, size: usize) -> (TcpStream, usize) {
    let mut stream = serve.connect();
    write!(stream, "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n\r\n").unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let left = push(&mut stream, size);
    (stream, left)
}

/// Sends the rest of each, and reads that all of it has come.
fn end(visitors: Vec<(TcpStream, usize)>, size: usize) {
    for (n, (mut stream, left)) in visitors.into_iter().enumerate() {
        stream.set_write_timeout(None).unwrap();
        assert_eq!(push(&mut stream, left), 0);
        let mut answer = String::new();
        let mut piece = [0; 1024];
        while !answer.contains("bytes") {
            let read =
                stream.read(&mut piece).unwrap_or_else(|error| panic!("of visitor {n}: {error}: {answer}"));
            assert!(read > 0, "of visitor {n}: {answer}");
            answer += &String::from_utf8_lossy(&piece[..read]);
        }
        assert!(answer.ends_with(&format!("\r\n\r\n{size} bytes")), "of visitor {n}: {answer}");
    }
}

const DISPATCHER: &str = r#"
export default { fetch(request, env) { return env.TENANTS.get(new URL(request.url).pathname.slice(1)).fetch(request); } };
"#;

/// Reads what it is sent a while later, whichever of its processes it is.
const SLOW: &str = r#"
export default {
  async fetch(request) {
    await scheduler.wait(Number(new URL(request.url).search.slice(1)) - Date.now());
    let length = 0;
    for await (const piece of request.body) length += piece.length;
    return new Response(`${length} bytes`);
  },
};
"#;

#[test]
fn uploads_that_a_tenant_does_not_take_leave_the_dispatcher_to_the_others() {
    const PLATFORM: &str = "platform.main.localhost";
    const UPLOADS: usize = 400;
    const LENGTH: usize = 1 << 20;
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--cells-per-script", "1"]);
    serve.make_namespace("tenants");
    let plain = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    for (name, code) in [("well", NEIGHBOUR), ("slow", SLOW)] {
        serve.upload_tenant("tenants", name, &plain, code);
    }
    let mut own = plain;
    own["bindings"] = json!([{ "type": "dispatch_namespace", "name": "TENANTS", "namespace": "tenants" }]);
    assert_eq!(serve.upload("platform", &own, DISPATCHER).status, 200);
    assert_eq!(serve.get(PLATFORM, "/well").text(), "well");
    let later = SystemTime::now() + Duration::from_secs(20);
    let path = format!("/slow?{}", later.duration_since(UNIX_EPOCH).unwrap().as_millis());
    let visitors: Vec<_> = (0..UPLOADS)
        .map(|_| {
            let begun = begin(&serve, PLATFORM, &path, LENGTH);
            assert_eq!(serve.get(PLATFORM, "/well").text(), "well");
            begun
        })
        .collect();
    end(visitors, LENGTH);
}
