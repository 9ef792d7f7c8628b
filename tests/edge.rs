//! What a visitor meets: streams, HTTP/2, WebSockets, headers, an orderly end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{PATIENCE, Skep, dev, eventually, small_project};

const CONFIG: &str = r#"{ "name": "edge", "main": "index.js", "compatibility_date": "2026-07-01" }"#;
const CODE: &str = r#"
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
export default {
  async fetch(request) {
    const url = new URL(request.url);
    switch (url.pathname) {
      case "/events": {
        const { readable, writable } = new TransformStream();
        const writer = writable.getWriter();
        (async () => {
          for (let n = 0; n < 3; n++) {
            await writer.write(new TextEncoder().encode(`data: ${n}\n\n`));
            await sleep(300);
          }
          await writer.close();
        })();
        return new Response(readable, { headers: { "content-type": "text/event-stream" } });
      }
      case "/echo":
        return new Response(request.body);
      case "/digest": {
        const hash = new crypto.DigestStream("SHA-256");
        let bytes = 0;
        const count = new TransformStream({ transform(chunk, to) { bytes += chunk.length; to.enqueue(chunk); } });
        await request.body.pipeThrough(count).pipeTo(hash);
        const hex = [...new Uint8Array(await hash.digest)].map((b) => b.toString(16).padStart(2, "0")).join("");
        return Response.json({ bytes, hex });
      }
      case "/slow":
        await sleep(700);
        return new Response("slow but whole");
      case "/head":
        return Response.json({ url: request.url, cf: request.cf, headers: Object.fromEntries(request.headers) });
      case "/socket": {
        const [client, server] = Object.values(new WebSocketPair());
        server.accept();
        server.addEventListener("message", ({ data }) => {
          if (data === "close") server.close(4001, "as you wish");
          else server.send(`echo ${data}`);
        });
        server.addEventListener("close", ({ code, reason }) => server.close(code === 1005 ? 1000 : code, reason));
        return new Response(null, { status: 101, webSocket: client });
      }
    }
    return new Response("hello");
  },
};
"#;

fn edge() -> (tempfile::TempDir, Skep) {
    let project = small_project(CONFIG, &[("index.js", CODE)]);
    let skep = dev(project.path());
    (project, skep)
}

fn connect(skep: &Skep) -> TcpStream {
    let stream = TcpStream::connect(skep.url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads until `text` has come; returns all that has.
fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&all).contains(text) {
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "no {text:?} in {}", String::from_utf8_lossy(&all));
        all.extend(&piece[..n]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn events_arrive_one_by_one_and_an_echo_while_it_is_sent() {
    let (_project, skep) = edge();
    let mut stream = connect(&skep);
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let start = Instant::now();
    read_until(&mut stream, "data: 0");
    let first = start.elapsed();
    read_until(&mut stream, "data: 2");
    assert!(start.elapsed() > first + Duration::from_millis(300), "the first came before the last was made");

    let mut stream = connect(&skep);
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    for word in ["one", "two", "three"] {
        stream.write_all(format!("{:x}\r\n{word}\r\n", word.len()).as_bytes()).unwrap();
        read_until(&mut stream, word);
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
}

#[test]
fn fifty_megabytes_come_through_both_ways() {
    let (_project, skep) = edge();
    let body: Vec<u8> = (0..50u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut stream = connect(&skep);
    let mut sender = stream.try_clone().unwrap();
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let sent = body.clone();
    // Who only writes and does not read meanwhile would wait for ever.
    let writer = std::thread::spawn(move || {
        sender.write_all(head.as_bytes()).unwrap();
        sender.write_all(&sent).unwrap();
    });
    let mut echoed = Vec::new();
    stream.read_to_end(&mut echoed).unwrap();
    writer.join().unwrap();
    let start = echoed.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    assert!(echoed[start..] == body, "{} bytes came back", echoed.len());
    let digest = skep.send("POST", "/digest", &[], Some(&body)).json();
    assert_eq!(digest["bytes"], json!(body.len()));
}

#[test]
fn a_worker_sees_the_visitor_as_he_is_and_no_forged_headers() {
    let (_project, skep) = edge();
    let forged = [
        ("cf-connecting-ip", "6.6.6.6"),
        ("x-skep-cf", "{\"colo\":\"XXX\"}"),
        ("cf-ray", "1"),
        ("x-own", "kept"),
    ];
    let answer = skep.send("GET", "/head?a=b", &forged, None);
    let said = answer.json();
    assert_eq!(said["url"], format!("{}/head?a=b", skep.url));
    assert_eq!(said["headers"]["cf-connecting-ip"], "127.0.0.1");
    assert_eq!(said["headers"]["x-own"], "kept");
    assert_eq!(said["headers"]["cf-ray"], answer.header("cf-ray"));
    assert_eq!((&said["cf"]["colo"], &said["cf"]["httpProtocol"]), (&json!("LOC"), &json!("HTTP/1.1")));
}

#[test]
fn http2_is_spoken_by_prior_knowledge() {
    let (_project, skep) = edge();
    let mut stream = connect(&skep);
    // The preface, empty settings, and a GET of / in literal header fields (RFC 9113, RFC 7541).
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
    let fields = b"\x82\x84\x86\x41\x01a";
    bytes.extend([0, 0, fields.len() as u8, 1, 5, 0, 0, 0, 1]);
    bytes.extend(fields);
    stream.write_all(&bytes).unwrap();
    assert!(read_until(&mut stream, "hello").contains("hello"));
}

#[test]
fn sockets_echo_and_close_with_the_code_of_who_closes() {
    let (_project, skep) = edge();
    let mut socket = skep.websocket("/socket");
    socket.send("hi".into()).unwrap();
    assert_eq!(socket.read().unwrap().to_text().unwrap(), "echo hi");
    socket.send("close".into()).unwrap();
    let tungstenite::Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("no close") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4001, "as you wish"));

    let mut socket = skep.websocket("/socket");
    let frame = tungstenite::protocol::CloseFrame { code: 4002.into(), reason: "enough".into() };
    socket.close(Some(frame)).unwrap();
    let closed = eventually("the answer to the close", || match socket.read() {
        Ok(tungstenite::Message::Close(frame)) => Some(frame),
        Ok(_) => None,
        Err(error) => panic!("{error}"),
    });
    assert_eq!(closed.map(|frame| u16::from(frame.code)), Some(4002));
}

#[test]
fn a_request_in_flight_is_answered_before_the_end() {
    let (_project, mut skep) = edge();
    let mut stream = connect(&skep);
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    skep.signal("TERM");
    assert!(read_until(&mut stream, "whole").contains("200 OK"));
    assert!(skep.wait().success());
}

/// The engine closes a visitor's connection without an answer where what was thrown says that another connection was lost.
#[test]
fn an_upstream_that_cannot_be_reached_is_an_exception_of_the_worker_whose_cell_runs_on() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let module = format!(
        "let asked = 0; export default {{ async fetch(request) {{
           asked++;
           if (request.url.endsWith(\"/asked\")) return new Response(String(asked));
           const made = fetch(\"http://127.0.0.1:{port}/\");
           if (request.url.endsWith(\"/caught\")) return made.catch((e) => new Response(e.message));
           return made; }} }};"
    );
    let script = format!(
        "let asked = 0; addEventListener(\"fetch\", (event) => {{
           asked++;
           if (event.request.url.endsWith(\"/asked\")) event.respondWith(new Response(String(asked)));
           else event.respondWith(fetch(\"http://127.0.0.1:{port}/\")); }});"
    );
    for code in [&module, &script] {
        let project = small_project(CONFIG, &[("index.js", code)]);
        let skep = dev(project.path());
        for body in [None, Some("a body")] {
            let answer = match body {
                None => skep.get("/"),
                Some(body) => skep.post("/", body),
            };
            assert_eq!((answer.status, answer.text().lines().next()), (500, Some("error code: 1101")));
        }
        assert_eq!(skep.get("/asked").text(), "3", "{}", skep.output());
        if code == &module {
            assert_eq!(skep.get("/caught").text(), "Network connection lost.");
            let said = eventually("the exception in the log", || {
                let said = skep.output();
                said.contains("Uncaught Error: Network connection lost.").then_some(said)
            });
            assert!(!said.contains("the handler sent no response"), "{said}");
        }
    }
}

#[test]
fn variables_assets_and_migrations_are_followed_while_it_runs() {
    let config = r#"{
      "name": "edge", "main": "index.js", "compatibility_date": "2026-07-01", "vars": { "A": "from vars" },
      "assets": { "directory": "public" },
      "d1_databases": [{ "binding": "DB", "database_name": "d", "database_id": "d" }]
    }"#;
    let code = r#"export default { async fetch(request, env) {
      const tables = await env.DB.prepare("SELECT name FROM sqlite_master WHERE name LIKE 't%'").all();
      return Response.json({ a: env.A, tables: tables.results.map(({ name }) => name) });
    } }"#;
    let project = small_project(config, &[("index.js", code), ("public/page.txt", "first")]);
    let skep = dev(project.path());
    assert_eq!(skep.get("/api").json(), json!({ "a": "from vars", "tables": [] }));
    std::fs::write(project.path().join(".dev.vars"), "A=from the file\n").unwrap();
    eventually("the new variable", || (skep.get("/api").json()["a"] == "from the file").then_some(()));
    assert_eq!(skep.get("/page.txt").text(), "first");
    std::fs::write(project.path().join("public/page.txt"), "second").unwrap();
    eventually("the new asset", || (skep.get("/page.txt").text() == "second").then_some(()));
    std::fs::create_dir(project.path().join("migrations")).unwrap();
    std::fs::write(project.path().join("migrations/0001_t.sql"), "CREATE TABLE t(a);").unwrap();
    // A migration is applied with the next change of the configuration.
    std::fs::write(project.path().join("wrangler.jsonc"), config.replace("from vars", "again")).unwrap();
    eventually("the new table", || (skep.get("/api").json()["tables"] == json!(["t"])).then_some(()));
}
