//! A server with OpenAI's API, whose models answer as a test says.

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::recorder::{Recorded, chunks, head};

/// An answer.
pub enum Says {
    /// Status and JSON.
    Json(u16, Value),
    /// Status, type and bytes.
    Bytes(u16, &'static str, Vec<u8>),
    /// Server-sent events, each piece by itself.
    Pieces(Vec<String>),
    /// The same, and then nothing for as long as the connection lasts.
    Endless(Vec<String>),
    /// The same, and then the connection is lost.
    Cut(Vec<String>),
    /// Nothing until [`ModelServer::release`], then an empty JSON object.
    Held,
}

/// A running server.
pub struct ModelServer {
    /// Its address.
    pub url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Recorded>>,
    left: AtomicUsize,
    released: AtomicBool,
}

impl ModelServer {
    /// What has come since the last time.
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.shared.seen.lock().unwrap())
    }

    /// The body of the only request since the last time.
    pub fn only(&self) -> Value {
        let seen = self.take();
        let [request] = seen.as_slice() else { panic!("{} requests", seen.len()) };
        serde_json::from_slice(&request.body).unwrap()
    }

    pub fn seen(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// How many have gone who were being answered.
    pub fn left(&self) -> usize {
        self.shared.left.load(Ordering::SeqCst)
    }

    /// Lets all go on who are held.
    pub fn release(&self) {
        self.shared.released.store(true, Ordering::SeqCst);
    }
}

/// Answers each request as `answer` says.
pub fn models(answer: impl Fn(&Recorded) -> Says + Send + Sync + 'static) -> ModelServer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = ModelServer { url, shared: Arc::default() };
    let (shared, answer) = (server.shared.clone(), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (shared, answer) = (shared.clone(), answer.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while let Some(request) = read(&mut reader) {
                    let says = answer(&request);
                    shared.seen.lock().unwrap().push(request);
                    if say(&stream, says, &shared).is_err() {
                        return;
                    }
                }
            });
        }
    });
    server
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Recorded> {
    let mut request = head(reader)?;
    request.body = vec![0; request.header("content-length").parse().unwrap_or(0)];
    if request.header("transfer-encoding") == "chunked" {
        request.body = chunks(reader);
    } else {
        reader.read_exact(&mut request.body).ok()?;
    }
    Some(request)
}

fn say(mut stream: &TcpStream, says: Says, shared: &Shared) -> std::io::Result<()> {
    let ended = || std::io::Error::other("the end");
    let whole = |status: u16, kind: &str, body: &[u8]| {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
        (&*stream).write_all(&[head.as_bytes(), body].concat())
    };
    let (pieces, last) = match says {
        Says::Json(status, json) => return whole(status, "application/json", json.to_string().as_bytes()),
        Says::Bytes(status, kind, bytes) => return whole(status, kind, &bytes),
        Says::Held => {
            while !shared.released.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            return whole(200, "application/json", b"{}");
        }
        Says::Pieces(pieces) => (pieces, "0\r\n\r\n"),
        Says::Endless(pieces) => (pieces, "wait"),
        Says::Cut(pieces) => (pieces, ""),
    };
    let head = "HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    for piece in pieces {
        stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())?;
    }
    match last {
        "wait" => {
            // Nothing comes but the end.
            let _ = stream.read(&mut [0; 1]);
            shared.left.fetch_add(1, Ordering::SeqCst);
            Err(ended())
        }
        "" => {
            stream.shutdown(std::net::Shutdown::Both)?;
            Err(ended())
        }
        end => stream.write_all(end.as_bytes()),
    }
}
