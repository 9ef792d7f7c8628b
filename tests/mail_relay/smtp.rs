//! A mail server that takes mail and keeps it: RFC 5321 as far as a client needs it, with AUTH, STARTTLS and TLS.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use skep_edge::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A mail that it took.
#[derive(Clone, Debug)]
pub struct Mail {
    pub from: String,
    pub to: Vec<String>,
    pub text: String,
    /// What the client logged in with, `user password`.
    pub login: String,
    pub encrypted: bool,
}

/// How it is reached.
#[derive(Clone)]
pub enum Tls {
    None,
    /// It offers STARTTLS.
    Start(Arc<ServerConfig>),
    /// It speaks nothing else.
    Always(Arc<ServerConfig>),
}

struct Shared {
    tls: Tls,
    mails: Mutex<Vec<Mail>>,
    /// What clients said, one line each.
    said: Mutex<Vec<String>>,
    over: AtomicBool,
}

/// Dropped, it takes no connections any more.
pub struct Smtp {
    pub port: u16,
    shared: Arc<Shared>,
    accepts: Option<std::thread::JoinHandle<()>>,
}

impl Smtp {
    /// At `port`, 0 for any free one.
    pub fn start(port: u16, tls: Tls) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            tls,
            mails: Mutex::default(),
            said: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let own = shared.clone();
        let accepts = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if own.over.load(Ordering::Relaxed) {
                    return;
                }
                let (stream, shared) = (stream.unwrap(), own.clone());
                std::thread::spawn(move || {
                    drop(Session::new(stream, &shared).and_then(|mut session| session.run()))
                });
            }
        });
        Self { port, shared, accepts: Some(accepts) }
    }

    /// What came since it was last asked.
    pub fn take(&self) -> Vec<Mail> {
        std::mem::take(&mut *self.shared.mails.lock().unwrap())
    }

    /// What clients said, since it was last asked.
    pub fn said(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.said.lock().unwrap())
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        self.accepts.take().map(std::thread::JoinHandle::join);
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Stream {
    fn encrypted(tcp: TcpStream, config: &Arc<ServerConfig>) -> Self {
        Self::Tls(Box::new(StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), tcp)))
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, text: &str) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(text.as_bytes()),
            Self::Tls(stream) => stream.write_all(text.as_bytes()).and_then(|()| stream.flush()),
        }
    }
}

struct Session<'a> {
    stream: Option<Stream>,
    shared: &'a Shared,
    read: Vec<u8>,
    from: String,
    to: Vec<String>,
    login: String,
}

impl<'a> Session<'a> {
    fn new(tcp: TcpStream, shared: &'a Shared) -> std::io::Result<Self> {
        let stream = match &shared.tls {
            Tls::Always(config) => Stream::encrypted(tcp, config),
            _ => Stream::Plain(tcp),
        };
        let (read, from, to, login) = Default::default();
        Ok(Self { stream: Some(stream), shared, read, from, to, login })
    }

    fn stream(&mut self) -> &mut Stream {
        self.stream.as_mut().unwrap()
    }

    fn say(&mut self, line: &str) -> std::io::Result<()> {
        self.stream().write(&format!("{line}\r\n"))
    }

    /// All until `end`, which is not part of it. A line ends in CR LF only.
    fn until(&mut self, end: &[u8]) -> std::io::Result<String> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                let text = String::from_utf8_lossy(&self.read[..at]).into_owned();
                self.read.drain(..at + end.len());
                return Ok(text);
            }
            match self.stream().read(&mut buffer)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => self.read.extend_from_slice(&buffer[..n]),
            }
        }
    }

    fn run(&mut self) -> std::io::Result<()> {
        self.say("220 mail.test ready")?;
        loop {
            let line = self.until(b"\r\n")?;
            self.shared.said.lock().unwrap().push(line.clone());
            let (verb, rest) = line.split_at(line.find([' ', ':']).unwrap_or(line.len()));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => self.hello()?,
                "STARTTLS" => self.start_tls()?,
                "AUTH" => self.log_in(rest.trim())?,
                "MAIL" => {
                    self.from = address(rest);
                    self.to.clear();
                    self.say("250 2.1.0 Ok")?;
                }
                "RCPT" => {
                    let to = address(rest);
                    if to.starts_with("nobody@") {
                        self.say("550 5.1.1 No such user here")?;
                    } else if to.starts_with("later@") {
                        self.say("451 4.7.1 Greylisted, try again later")?;
                    } else {
                        self.to.push(to);
                        self.say("250 2.1.5 Ok")?;
                    }
                }
                "DATA" => self.data()?,
                "QUIT" => return self.say("221 2.0.0 Bye"),
                "RSET" | "NOOP" => self.say("250 2.0.0 Ok")?,
                _ => self.say("500 5.5.2 Unknown command")?,
            }
        }
    }

    fn is_encrypted(&self) -> bool {
        matches!(self.stream, Some(Stream::Tls(_)))
    }

    fn hello(&mut self) -> std::io::Result<()> {
        let offers = matches!(self.shared.tls, Tls::Start(_)) && !self.is_encrypted();
        self.say("250-mail.test")?;
        if offers {
            self.say("250-STARTTLS")?;
        }
        self.say("250 AUTH LOGIN PLAIN")
    }

    fn start_tls(&mut self) -> std::io::Result<()> {
        match (self.shared.tls.clone(), self.stream.take()) {
            (Tls::Start(config), Some(Stream::Plain(mut tcp))) => {
                tcp.write_all(b"220 2.0.0 Go ahead\r\n")?;
                self.stream = Some(Stream::encrypted(tcp, &config));
                Ok(())
            }
            (_, stream) => {
                self.stream = stream;
                self.say("502 5.5.1 Not here")
            }
        }
    }

    fn log_in(&mut self, rest: &str) -> std::io::Result<()> {
        let plain =
            rest.strip_prefix("PLAIN ").and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        let text = String::from_utf8_lossy(&plain).into_owned();
        let words: Vec<&str> = text.split('\0').skip(1).collect();
        self.login = words.join(" ");
        match self.login.ends_with("wrong") || words.len() != 2 {
            true => self.say("535 5.7.8 Authentication credentials invalid"),
            false => self.say("235 2.7.0 Authentication successful"),
        }
    }

    fn data(&mut self) -> std::io::Result<()> {
        self.say("354 End data with <CR><LF>.<CR><LF>")?;
        let text = self.until(b"\r\n.\r\n")?;
        let text = format!("\r\n{text}\r\n").replace("\r\n.", "\r\n")[2..].to_owned();
        if text.contains("Subject: spam") {
            return self.say("554 5.7.1 Message rejected as spam");
        }
        if text.contains("Subject: drop") {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        let (from, to, login) = (self.from.clone(), self.to.clone(), self.login.clone());
        self.shared.mails.lock().unwrap().push(Mail {
            from,
            to,
            text,
            login,
            encrypted: self.is_encrypted(),
        });
        self.say("250 2.0.0 Ok: queued as 1")
    }
}

/// The address in `FROM:<a@x> …`.
fn address(rest: &str) -> String {
    let start = rest.find('<').map_or(rest.len(), |at| at + 1);
    rest[start..].split('>').next().unwrap_or_default().to_owned()
}
