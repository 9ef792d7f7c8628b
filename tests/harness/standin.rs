//! A server that answers as a test says: it stands in for one that cannot be asked.

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::recorder::{Recorded, chunks, head};

/// An answer: status, headers, body.
pub type Says = (u16, Vec<(String, String)>, Vec<u8>);

/// A running stand-in.
pub struct StandIn {
    /// The API's base.
    pub api: String,
    seen: Arc<Mutex<Vec<Recorded>>>,
}

impl StandIn {
    /// What has come since the last time.
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// A result in the envelope of the API.
pub fn result(result: Value) -> Says {
    let body = json!({ "success": true, "errors": [], "messages": [], "result": result });
    (200, vec![("content-type".into(), "application/json".into())], body.to_string().into_bytes())
}

/// An error in the envelope of the API.
pub fn refused(status: u16, code: u64, message: &str) -> Says {
    let body = json!({ "success": false, "errors": [{ "code": code, "message": message }], "messages": [], "result": null });
    (status, vec![("content-type".into(), "application/json".into())], body.to_string().into_bytes())
}

/// Answers each request as `answer` says. Paths are below the API's base.
pub fn stand_in(answer: impl Fn(&Recorded) -> Says + Send + Sync + 'static) -> StandIn {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = format!("http://{}/client/v4", listener.local_addr().unwrap());
    let seen = Arc::<Mutex<Vec<Recorded>>>::default();
    let own = StandIn { api, seen: seen.clone() };
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (seen, answer) = (seen.clone(), answer.clone());
            std::thread::spawn(move || reply(stream, &seen, &*answer));
        }
    });
    own
}

fn reply(mut stream: TcpStream, seen: &Mutex<Vec<Recorded>>, answer: &dyn Fn(&Recorded) -> Says) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some(mut request) = head(&mut reader) else { return };
    request.path = request.path.replacen("/client/v4", "", 1);
    request.body = vec![0; request.header("content-length").parse().unwrap_or(0)];
    if request.header("transfer-encoding") == "chunked" {
        request.body = chunks(&mut reader);
    } else if reader.read_exact(&mut request.body).is_err() {
        return;
    }
    let (status, headers, mut body) = answer(&request);
    let length = body.len();
    if request.method == "HEAD" {
        body.clear();
    }
    seen.lock().unwrap().push(request);
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head =
        format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}
