//! Visitors who send much to a script that does not take it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::harness::scene::{HOST, scene};
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
    let begin = |_| {
        let mut stream = scene.serve.connect();
        write!(stream, "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {SIZE}\r\n\r\n").unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let left = push(&mut stream, SIZE);
        (stream, left)
    };
    let before = memory(&scene);
    let mut visitors: Vec<_> = (0..VISITORS).map(begin).collect();
    let grown = memory(&scene).saturating_sub(before) >> 10;
    assert!(visitors.iter().any(|(_, left)| *left > 0));
    // 95 MB as it was, 45 now.
    assert!(grown < 70, "{grown} MB for {VISITORS} uploads");
    assert_eq!(scene.serve.get("well.main.localhost", "/").text(), "well");
    assert_eq!(scene.serve.get(HOST, "/go").text(), "gone");
    for (n, (stream, left)) in visitors.iter_mut().enumerate() {
        stream.set_write_timeout(None).unwrap();
        assert_eq!(push(stream, *left), 0);
        let mut answer = String::new();
        let mut piece = [0; 1024];
        while !answer.contains("bytes") {
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "of visitor {n}: {answer}");
            answer += &String::from_utf8_lossy(&piece[..read]);
        }
        assert!(answer.ends_with(&format!("\r\n\r\n{SIZE} bytes")), "of visitor {n}: {answer}");
    }
}
