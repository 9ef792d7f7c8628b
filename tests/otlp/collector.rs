//! A collector that keeps what it takes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::harness::repository;

/// What was taken: path, content type and body of each request.
type Seen = Mutex<Vec<(String, String, Vec<u8>)>>;

/// Takes OTLP requests; while it is busy it says when to come again.
pub struct Collector {
    pub url: String,
    pub seen: Arc<Seen>,
    pub busy: Arc<AtomicBool>,
}

pub fn collector() -> Collector {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = Collector {
        url: format!("http://{}", listener.local_addr().unwrap()),
        seen: Arc::default(),
        busy: Arc::default(),
    };
    let (seen, busy) = (collector.seen.clone(), collector.busy.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (seen, busy) = (seen.clone(), busy.clone());
            std::thread::spawn(move || while take(&stream, &seen, &busy).is_some() {});
        }
    });
    collector
}

/// One request of a connection.
fn take(mut stream: &TcpStream, seen: &Seen, busy: &AtomicBool) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    if busy.load(Ordering::Relaxed) {
        stream.write_all(b"HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n").ok()?;
        return Some(());
    }
    assert!(head.to_lowercase().contains("content-type: application/x-protobuf"), "{head}");
    let path = head.split(' ').nth(1).unwrap().to_owned();
    seen.lock().unwrap().push((path, head, body));
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")
        .ok()
}

impl Collector {
    /// What came of a signal, decoded.
    fn decoded(&self, python: &Path, dir: &Path, signal: &str) -> Vec<Value> {
        let bodies: Vec<Vec<u8>> = {
            let seen = self.seen.lock().unwrap();
            seen.iter()
                .filter(|(path, ..)| *path == format!("/v1/{signal}"))
                .map(|(.., body)| body.clone())
                .collect()
        };
        let mut command = Command::new(python);
        command.arg(repository().join("tests/otlp/decode.py"));
        for (n, body) in bodies.iter().enumerate() {
            let file = dir.join(format!("{signal}-{n}.bin"));
            std::fs::write(&file, body).unwrap();
            command.arg(format!("{signal}={}", file.display()));
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Spans, log records or metrics with the resource they are of.
    pub fn all(
        &self,
        python: &Path,
        dir: &Path,
        signal: &str,
        [resources, scopes, items]: [&str; 3],
    ) -> Vec<(Value, Value)> {
        let mut all = Vec::new();
        for request in self.decoded(python, dir, signal) {
            for resource in request[resources].as_array().into_iter().flatten() {
                for scope in resource[scopes].as_array().into_iter().flatten() {
                    let items = scope[items].as_array().into_iter().flatten();
                    all.extend(items.map(|item| (resource["resource"].clone(), item.clone())));
                }
            }
        }
        all
    }
}
