//! What visitors may ask for, and how slowly: over raw sockets, as no orderly client would.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::PATIENCE;
use crate::harness::serve::{Serve, serve_in};

const CODE: &str = r#"export default {
  async fetch(request) {
    const url = new URL(request.url);
    if (request.headers.get("upgrade") === "websocket") {
      const [client, server] = Object.values(new WebSocketPair());
      server.accept();
      server.addEventListener("message", ({ data }) => server.send(data));
      return new Response(null, { status: 101, webSocket: client });
    }
    if (url.pathname === "/slow") {
      await new Promise((done) => setTimeout(done, 1500));
      return new Response("slow but whole");
    }
    return new Response(`got ${(await request.arrayBuffer()).byteLength}`);
  },
};"#;

fn node(args: &[&str]) -> Serve {
    let node = serve_in(tempfile::tempdir().unwrap(), args);
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    assert_eq!(node.upload("a", &metadata, CODE).status, 200);
    node
}

const HOST: &str = "Host: a.main.localhost\r\n";

fn connect(node: &Serve) -> TcpStream {
    let output = node.output();
    let port = output.split("http://*.localhost:").nth(1).unwrap().split_whitespace().next().unwrap();
    let stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that comes until the other side closes.
fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    // A reset after the answer is an end, too.
    while let Ok(n @ 1..) = stream.read(&mut piece) {
        all.extend(&piece[..n]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// The answer to a request of this text, on a connection of its own.
fn ask(node: &Serve, request: &str) -> String {
    let mut stream = connect(node);
    let _ = stream.write_all(request.as_bytes());
    rest(&mut stream)
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{HOST}Connection: close\r\n{headers}\r\n")
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("nothing")
}

#[test]
fn what_is_too_large_is_refused_and_what_just_fits_is_not() {
    let node = node(&["--max-body", "1000"]);
    let url = |length: usize| format!("/{}", "u".repeat(length - 1));
    assert_eq!(status(&ask(&node, &get(&url(16 << 10), ""))), "200");
    assert_eq!(status(&ask(&node, &get(&url((16 << 10) + 1), ""))), "414");
    let headers = |count: usize, size: usize| -> String {
        (0..count).map(|n| format!("x-{n:03}: {}\r\n", "v".repeat(size - 9))).collect()
    };
    assert_eq!(status(&ask(&node, &get("/", &headers(60, 2000)))), "200");
    assert_eq!(status(&ask(&node, &get("/", &headers(66, 2000)))), "431");
    assert_eq!(status(&ask(&node, &get("/", &headers(90, 20)))), "200");
    assert_eq!(status(&ask(&node, &get("/", &headers(100, 20)))), "431");

    let post = |headers: &str, body: &str| {
        format!("POST / HTTP/1.1\r\n{HOST}Connection: close\r\n{headers}\r\n{body}")
    };
    let (fits, more) = ("b".repeat(1000), "b".repeat(1001));
    assert!(ask(&node, &post("Content-Length: 1000\r\n", &fits)).ends_with("got 1000"));
    assert_eq!(status(&ask(&node, &post("Content-Length: 1001\r\n", &more))), "413");
    let chunked = |body: &str| format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let unannounced = |body: &str| ask(&node, &post("Transfer-Encoding: chunked\r\n", &chunked(body)));
    assert!(unannounced(&fits).contains("got 1000"));
    assert_eq!(status(&unannounced(&more)), "413");
    // The cell has not suffered.
    assert!(ask(&node, &get("/", "")).contains("got 0"));
}

#[test]
fn the_slow_are_cut_off_and_the_patient_are_not() {
    let node =
        node(&["--header-timeout", "600ms", "--body-timeout", "600ms", "--connection-timeout", "900ms"]);
    let timed = |sent: &str| {
        let start = Instant::now();
        let answer = ask(&node, sent);
        (answer, start.elapsed())
    };
    let soon = Duration::from_secs(10);
    let (nothing, took) = timed("");
    assert!(nothing.is_empty() && took >= Duration::from_millis(800) && took < soon, "{nothing} {took:?}");
    let (head, took) = timed(&format!("GET / HTTP/1.1\r\n{HOST}X-Slow: "));
    assert!(!head.contains("200") && took >= Duration::from_millis(500) && took < soon, "{head} {took:?}");
    let (body, took) = timed(&format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 9\r\n\r\nslow"));
    assert_eq!(status(&body), "408", "{body}");
    assert!(took >= Duration::from_millis(500) && took < soon, "{took:?}");
    // A slow worker is not a slow visitor.
    assert!(ask(&node, &get("/slow", "")).ends_with("slow but whole"));
    // A body may take long if something of it comes.
    let mut stream = connect(&node);
    stream
        .write_all(
            format!("POST / HTTP/1.1\r\n{HOST}Connection: close\r\nContent-Length: 4\r\n\r\n").as_bytes(),
        )
        .unwrap();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(200));
        stream.write_all(b"x").unwrap();
    }
    assert!(rest(&mut stream).ends_with("got 4"));
    // Not for ever, if it is a byte now and then.
    let mut stream = connect(&node);
    write!(stream, "POST / HTTP/1.1\r\n{HOST}Connection: close\r\nContent-Length: 600\r\n\r\n").unwrap();
    let start = Instant::now();
    while stream.write_all(b"x").is_ok() && start.elapsed() < soon * 3 {
        std::thread::sleep(Duration::from_millis(200));
    }
    let took = start.elapsed();
    assert!(took < soon * 3, "it was waited for {took:?}");
}

#[test]
fn connections_beyond_the_bound_are_closed_at_once() {
    let node = node(&["--max-connections", "3"]);
    let held: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = connect(&node);
            stream.write_all(format!("GET / HTTP/1.1\r\n{HOST}\r\n").as_bytes()).unwrap();
            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 1, "it is served");
            stream
        })
        .collect();
    assert_eq!(ask(&node, &get("/", "")), "");
    drop(held);
    crate::harness::eventually("room for a new connection", || {
        ask(&node, &get("/", "")).contains("got 0").then_some(())
    });
}

#[test]
fn a_connection_rests_between_requests_longer_than_a_head_may_take() {
    let node = node(&["--header-timeout", "500ms", "--connection-timeout", "4s"]);
    let mut stream = connect(&node);
    let request = format!("GET / HTTP/1.1\r\n{HOST}\r\n");
    for _ in 0..2 {
        stream.write_all(request.as_bytes()).unwrap();
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).unwrap();
        assert_eq!(status(&String::from_utf8_lossy(&piece[..read])), "200");
        std::thread::sleep(Duration::from_millis(1500));
    }
    // The next head is slow.
    let start = Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
    assert_eq!(rest(&mut stream), "");
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(450) && took < Duration::from_millis(3900), "{took:?}");
}

#[test]
fn an_open_websocket_is_a_connection() {
    let node = node(&["--max-connections", "2"]);
    let mut sockets = vec![node.websocket("a.main.localhost", "/"), node.websocket("a.main.localhost", "/")];
    for socket in &mut sockets {
        socket.send("hello".into()).unwrap();
        assert_eq!(socket.read().unwrap().to_text().unwrap(), "hello");
    }
    assert_eq!(ask(&node, &get("/", "")), "");
    let socket = sockets.pop().unwrap();
    drop(socket);
    crate::harness::eventually("room for a new connection", || {
        ask(&node, &get("/", "")).contains("got 0").then_some(())
    });
    sockets[0].send("still there".into()).unwrap();
    assert_eq!(sockets[0].read().unwrap().to_text().unwrap(), "still there");
}

/// The frames of HTTP/2: type, flags, stream, payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const END: u8 = 0x5;

/// Reads frames until `wanted` says so of a frame's type, stream and payload.
fn frames_until(stream: &mut TcpStream, wanted: impl Fn(u8, u32, &[u8]) -> bool) {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        if wanted(head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), &payload) {
            return;
        }
    }
}

/// `GET` of a path that is in HPACK's static table, or of `/slow`, at the script's host.
fn request_head(slow: bool) -> Vec<u8> {
    let path: &[u8] = if slow { b"\x44\x05/slow" } else { b"\x84" };
    [b"\x82\x86".as_slice(), path, b"\x41\x10a.main.localhost"].concat()
}

#[test]
fn an_http2_connection_has_few_streams_at_once_and_ends_when_they_are_taken_back() {
    let node = node(&["--max-streams", "7"]);
    let mut stream = connect(&node);
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    frames_until(&mut stream, |kind, _, payload| {
        // SETTINGS_MAX_CONCURRENT_STREAMS is number 3.
        kind == SETTINGS && payload.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 7])
    });
    // An eighth one at once is refused, not queued.
    let all: Vec<u8> = (0..8).flat_map(|n| frame(HEADERS, END, n * 2 + 1, &request_head(true))).collect();
    stream.write_all(&all).unwrap();
    frames_until(&mut stream, |kind, id, payload| kind == RESET && id == 15 && payload == [0, 0, 0, 7]);
    frames_until(&mut stream, |kind, _, payload| kind == 0 && payload == b"slow but whole");

    let mut stream = connect(&node);
    let mut flood = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    for n in 0..500 {
        flood.extend(frame(HEADERS, END, n * 2 + 1, &request_head(false)));
        flood.extend(frame(RESET, 0, n * 2 + 1, &[0, 0, 0, 8]));
    }
    let _ = stream.write_all(&flood);
    // ENHANCE_YOUR_CALM
    frames_until(&mut stream, |kind, _, payload| kind == GO_AWAY && payload[4..8] == [0, 0, 0, 11]);
    assert!(ask(&node, &get("/", "")).contains("got 0"), "others are served");
}
