//! The authority's side of challenges: it really looks.

use std::io::{Read, Write};
use std::net::TcpStream;

use sha2::{Digest, Sha256};

use super::{der, tls};
use crate::harness::PATIENCE;

/// Where the node listens.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub http: u16,
    pub https: u16,
}

/// RFC 8555 §8.3
pub fn http(ports: Ports, name: &str, token: &str, proof: &str) -> Result<(), String> {
    let mut stream = TcpStream::connect(("127.0.0.1", ports.http)).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let path = format!("/.well-known/acme-challenge/{token}");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")
        .map_err(|e| e.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|e| e.to_string())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no answer")?;
    match head.starts_with("HTTP/1.1 200 ") && body.trim_end() == proof {
        true => Ok(()),
        false => Err(format!("{path} is not the proof: {text}")),
    }
}

/// RFC 8737 §3
pub fn tls_alpn(ports: Ports, name: &str, proof: &str) -> Result<(), String> {
    let mut stream = tls::connect(ports.https, name, b"acme-tls/1", None)?;
    if stream.conn.alpn_protocol() != Some(b"acme-tls/1") {
        return Err("acme-tls/1 was not agreed on".into());
    }
    let certificate = tls::shown(&stream);
    let extensions = der::extensions(&certificate);
    let (_, names) = der::extension(&extensions, der::ALT_NAME).ok_or("no names")?;
    if der::names(names) != [name] {
        return Err(format!("the names are {:?}", der::names(names)));
    }
    let found = der::extension(&extensions, der::ACME_IDENTIFIER).ok_or("no acmeIdentifier")?;
    let digest = Sha256::digest(proof);
    if found != (true, &[&[4, 32], digest.as_slice()].concat()) {
        return Err(format!("the acmeIdentifier is {found:?}"));
    }
    // Nothing is served over such a connection.
    let _ = write!(stream, "GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
    match stream.read(&mut [0; 1]) {
        Ok(1..) => Err("requests are answered over acme-tls/1".into()),
        _ => Ok(()),
    }
}
