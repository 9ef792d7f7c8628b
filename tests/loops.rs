//! What visitors meet when their connections go from one event loop to another. It is done with each request here
//! (`SKEP_EVENT_LOOPS=round`); otherwise only when a loop is full, which a test cannot bring about on every machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::harness::{PATIENCE, Skep, command, eventually, is_alive, small_project, start};

const CONFIG: &str = r#"{ "name": "loops", "main": "index.js", "compatibility_date": "2026-07-01",
  "assets": { "directory": "public" },
  "kv_namespaces": [{ "binding": "KV", "id": "loops" }],
  "services": [{ "binding": "SELF", "service": "loops", "entrypoint": "Named" }] }"#;
const CODE: &str = r#"
import { WorkerEntrypoint } from "cloudflare:workers";
export class Named extends WorkerEntrypoint {
  async fetch(request) { return new Response(`named ${await request.text()}`); }
}
export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    switch (pathname) {
      case "/put": await env.KV.put(searchParams.get("key"), searchParams.get("value")); return new Response("kept");
      case "/get": return new Response(await env.KV.get(searchParams.get("key")));
      case "/named": return env.SELF.fetch("http://self/", { method: "POST", body: searchParams.get("text") });
      case "/large": return new Response("x".repeat(300_000));
      case "/slow": await scheduler.wait(700); return new Response("slow but whole");
      case "/socket": {
        const [client, server] = Object.values(new WebSocketPair());
        server.accept();
        server.addEventListener("message", ({ data }) => server.send(`echo ${data}`));
        return new Response(null, { status: 101, webSocket: client });
      }
    }
    return new Response(request.body);
  },
};
"#;

fn round() -> (tempfile::TempDir, tempfile::TempDir, Skep) {
    let project = small_project(CONFIG, &[("index.js", CODE), ("public/file.txt", "a file")]);
    let state = tempfile::tempdir().unwrap();
    let mut command = command(project.path(), state.path());
    command.env("SKEP_EVENT_LOOPS", "round").env("SKEP_LOG", "warn");
    let skep = start(command).unwrap();
    (project, state, skep)
}

/// A visitor's connection that stays open.
struct Visitor(BufReader<TcpStream>);

impl Visitor {
    fn of(skep: &Skep) -> Self {
        let stream = TcpStream::connect(skep.url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, head: &str, body: &str) {
        self.0.get_mut().write_all(format!("{head} HTTP/1.1\r\nHost: a\r\n{body}").as_bytes()).unwrap();
    }

    /// Status and body of the next answer.
    fn answer(&mut self) -> (String, String) {
        let mut line = || {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "closed");
            line.trim_end().to_owned()
        };
        let status = line();
        let mut length = None;
        loop {
            let header = line();
            match header.to_ascii_lowercase().split_once(": ") {
                None => break,
                Some(("content-length", value)) => length = Some(value.parse().unwrap()),
                Some(_) => {}
            }
        }
        let mut body = vec![0; length.expect("these answers say their length")];
        self.0.read_exact(&mut body).unwrap();
        (status, String::from_utf8(body).unwrap())
    }

    fn get(&mut self, path: &str) -> String {
        self.ask(&format!("GET {path}"), "\r\n");
        let (status, body) = self.answer();
        assert!(status.starts_with("HTTP/1.1 200"), "{path}: {status} {body}");
        body
    }
}

/// CPU time of the loops beside the first, in nanoseconds.
fn other_loops(skep: &Skep) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", skep.pid())).unwrap();
    let tasks = tasks.filter_map(|task| {
        let task = task.unwrap().path();
        let name = std::fs::read_to_string(task.join("comm")).ok()?;
        let spent = std::fs::read_to_string(task.join("schedstat")).ok()?;
        name.starts_with("skep-loop-").then(|| spent.split(' ').next().unwrap().parse().unwrap())
    });
    tasks.collect()
}

#[test]
fn a_connection_that_goes_round_is_answered_as_one_that_stays() {
    let (_project, _state, skep) = round();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let skep = &skep;
            scope.spawn(move || {
                let mut visitor = Visitor::of(skep);
                for turn in 0..15 {
                    let key = format!("{number}-{turn}");
                    assert_eq!(visitor.get(&format!("/put?key={key}&value=v{key}")), "kept");
                    assert_eq!(visitor.get("/file.txt"), "a file");
                    assert_eq!(visitor.get(&format!("/get?key={key}")), format!("v{key}"));
                    assert_eq!(visitor.get(&format!("/named?text={key}")), format!("named {key}"));
                    assert_eq!(visitor.get("/large").len(), 300_000);
                }
                // Requests that come at once are answered in their order.
                for turn in 0..10 {
                    visitor.ask(&format!("GET /get?key={number}-{turn}"), "\r\n");
                }
                for turn in 0..10 {
                    assert_eq!(visitor.answer().1, format!("v{number}-{turn}"));
                }
                // A body makes it another server's, where it stays.
                for _ in 0..3 {
                    visitor.ask("POST /", "Content-Length: 4\r\n\r\nbody");
                    assert_eq!(visitor.answer().1, "body");
                    assert_eq!(visitor.get("/file.txt"), "a file");
                }
            });
        }
    });
    for _ in 0..4 {
        let mut socket = skep.websocket("/socket");
        socket.send("hello".into()).unwrap();
        assert_eq!(socket.read().unwrap().into_text().unwrap().as_str(), "echo hello");
    }
    // What was tried is what this is about.
    let spent = other_loops(&skep);
    assert!(spent.len() == 2 && spent.iter().all(|spent| *spent > 1_000_000), "{spent:?}");
    assert!(!skep.output().contains("WARN"), "{}", skep.output());
}

#[test]
fn skep_ends_when_the_last_answer_is_out_on_whatever_loop() {
    let (_project, _state, mut skep) = round();
    let visitors: Vec<Visitor> = (0..5)
        .map(|moves| {
            let mut visitor = Visitor::of(&skep);
            for _ in 0..moves {
                visitor.get("/file.txt");
            }
            visitor.ask("GET /slow", "\r\n");
            visitor
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let engines = skep.engines();
    skep.signal("TERM");
    for mut visitor in visitors {
        assert_eq!(visitor.answer().1, "slow but whole");
    }
    assert!(skep.wait().success());
    eventually("the engines to be gone", || engines.iter().all(|engine| !is_alive(*engine)).then_some(()));
}
