//! A server between a client and the API: it writes down what passes, and can spoil it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request that passed.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Recorded {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// What happens to a request instead of being passed on.
#[derive(Clone)]
pub enum Fault {
    /// This status with this body.
    Answer(u16, &'static str),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// It is passed on, and the connection ends before the answer.
    Deaf,
    /// This command is run, then it is passed on.
    First(Arc<dyn Fn() + Send + Sync>),
}

/// Method, part of the path, how many more of them pass, what then happens.
type Rules = Arc<Mutex<Vec<(String, String, usize, Fault)>>>;

/// A running recorder.
pub struct Recorder {
    /// The API's base, through it.
    pub api: String,
    seen: Arc<Mutex<Vec<Recorded>>>,
    rules: Rules,
}

/// In front of the API at `api`.
pub fn recorder(api: &str) -> Recorder {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (origin, path) = api.split_at(api[8..].find('/').unwrap() + 8);
    let recorder = Recorder {
        api: format!("http://{}{path}", listener.local_addr().unwrap()),
        seen: Arc::default(),
        rules: Arc::default(),
    };
    let (seen, rules, origin) = (recorder.seen.clone(), recorder.rules.clone(), origin.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (seen, rules, origin) = (seen.clone(), rules.clone(), origin.clone());
            std::thread::spawn(move || pass(stream, &origin, &seen, &rules));
        }
    });
    recorder
}

impl Recorder {
    /// The next request with this method whose path contains `path` meets `fault`.
    pub fn spoil(&self, method: &str, path: &str, fault: Fault) {
        self.spoil_after(0, method, path, fault);
    }

    /// As [`Self::spoil`], after `pass` such requests.
    pub fn spoil_after(&self, pass: usize, method: &str, path: &str, fault: Fault) {
        self.rules.lock().unwrap().push((method.to_owned(), path.to_owned(), pass, fault));
    }

    /// What has passed since the last time, spoilt or not.
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// One request; the connection ends with it.
fn pass(stream: TcpStream, origin: &str, seen: &Mutex<Vec<Recorded>>, rules: &Rules) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some(mut request) = head(&mut reader) else { return };
    let fault = {
        let mut rules = rules.lock().unwrap();
        let meets = |(method, path, ..): &(String, String, usize, Fault)| {
            *method == request.method && request.path.contains(path.as_str())
        };
        match rules.iter().position(meets) {
            Some(at) if rules[at].2 > 0 => {
                rules[at].2 -= 1;
                None
            }
            Some(at) => Some(rules.remove(at).3),
            None => None,
        }
    };
    let length: usize = request.header("content-length").parse().unwrap_or(0);
    let wanted = if let Some(Fault::Cut(bytes)) = fault { bytes.min(length) } else { length };
    request.body = vec![0; wanted];
    if request.header("transfer-encoding") == "chunked" {
        request.body = chunks(&mut reader);
    } else if reader.read_exact(&mut request.body).is_err() {
        return;
    }
    seen.lock().unwrap().push(request.clone());
    let (status, headers, body) = match fault {
        Some(Fault::Answer(status, body)) => (status, vec![], body.as_bytes().to_vec()),
        Some(Fault::Cut(_)) => return,
        Some(Fault::Deaf) => return drop(forward(origin, &request)),
        Some(Fault::First(run)) => {
            run();
            forward(origin, &request)
        }
        None => forward(origin, &request),
    };
    let mut stream = stream;
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

pub(super) fn head(reader: &mut impl BufRead) -> Option<Recorded> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    Some(Recorded { method, path, headers, body: Vec::new() })
}

pub(super) fn chunks(reader: &mut impl BufRead) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&chunk[..length]);
    }
}

fn forward(origin: &str, request: &Recorded) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let own = ["host", "content-length", "transfer-encoding", "connection", "accept-encoding", "expect"];
    let headers: Vec<(&str, &str)> = request
        .headers
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let has_body = !request.body.is_empty() || matches!(request.method.as_str(), "POST" | "PUT" | "PATCH");
    let body = has_body.then_some(request.body.as_slice());
    let answer =
        super::request(&format!("{origin}{}", request.path), &request.method, &headers, body).unwrap();
    let kept = ["content-type", "etag", "retry-after"];
    let headers = kept.iter().map(|name| ((*name).to_owned(), answer.header(name).to_owned()));
    (answer.status, headers.filter(|(_, value)| !value.is_empty()).collect(), answer.body)
}
