//! An HTTPS server of threads, one request per connection.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use skep_edge::rustls::crypto::ring::default_provider;
use skep_edge::rustls::pki_types::PrivateKeyDer;
use skep_edge::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request.
pub struct Request {
    pub method: String,
    pub path: String,
    pub content_type: String,
    pub body: Vec<u8>,
}

/// An answer.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// Serves until it is dropped; the port stays the same in between two of them.
pub struct Server {
    port: u16,
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// How the server shows who it is; the root that vouches for it is written to a file.
pub fn identity(root: &Path) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(root, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let made =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap());
    Arc::new(config.unwrap())
}

impl Server {
    pub fn start(
        listener: TcpListener,
        config: Arc<ServerConfig>,
        answer: impl Fn(Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let port = listener.local_addr().unwrap().port();
        let (ended, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(answer));
        let end = ended.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let (config, answer) = (config.clone(), answer.clone());
                std::thread::spawn(move || exchange(stream, config, &*answer));
            }
        });
        Self { port, ended, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().unwrap().join();
    }
}

fn exchange(stream: TcpStream, config: Arc<ServerConfig>, answer: &dyn Fn(Request) -> Reply) {
    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let Some(request) = read(&mut tls) else { return };
    let has_body = request.method != "HEAD";
    let Reply { status, headers, body } = answer(request);
    let mut head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    let _ = tls.write_all(format!("{head}\r\n").as_bytes());
    if has_body {
        let _ = tls.write_all(&body);
    }
    tls.conn.send_close_notify();
    let _ = tls.flush();
}

fn read(from: &mut impl Read) -> Option<Request> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = from.read(&mut buffer).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Request::new(&mut headers);
        let Ok(httparse::Status::Complete(at)) = head.parse(&bytes) else { continue };
        let header = |name: &str| {
            let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.map_or(String::new(), |header| String::from_utf8_lossy(header.value).into_owned())
        };
        let length: usize = header("content-length").parse().unwrap_or(0);
        if bytes.len() >= at + length {
            return Some(Request {
                method: head.method?.to_owned(),
                path: head.path?.to_owned(),
                content_type: header("content-type"),
                body: bytes[at..at + length].to_vec(),
            });
        }
    }
}
