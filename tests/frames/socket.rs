//! The same through the socket itself: framing, the header that names the binding, connections that end early.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use skep_wire::{BINDING_HEADER, BindingTable, bind_unix, serve_unix};

use super::mutate::{Mutation, mutation};
use super::{BINDINGS, Servers, panics, recorded};
use crate::harness::PATIENCE;

/// How long an answer may take before the caller goes away, for a request that may not be complete.
const SHORT: Duration = Duration::from_millis(20);

/// What is answered to `bytes` before the connection ends or the caller loses patience.
fn say(socket: &Path, bytes: &[u8], patience: Duration) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    // The server may have heard enough before all is said.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_socket_withstands_anything() {
    assert!(panics().is_empty());
    let servers = Servers::open();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("bindings");
    let mut table = BindingTable::default();
    for (name, service) in &servers.services {
        table.insert(*name, service.clone());
    }
    let inside = servers.runtime.enter();
    let listener = bind_unix(&socket).unwrap();
    servers.runtime.spawn(serve_unix(listener, Arc::new(table), servers.shutdown.clone()));
    drop(inside);

    let get = |binding: &str| {
        format!("GET / HTTP/1.1\r\nhost: x\r\n{BINDING_HEADER}: {binding}\r\nconnection: close\r\n\r\n")
    };
    let frames: Vec<Vec<u8>> = BINDINGS.iter().flat_map(|binding| recorded(binding)).collect();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let several = prop::collection::vec(any::<prop::sample::Index>(), 1..4);
    let hostile = (several, prop::collection::vec(mutation(), 0..6), prop::sample::select(BINDINGS.to_vec()));
    proptest!(config, |((which, mutations, binding) in hostile)| {
        let mut bytes: Vec<u8> = which.iter().flat_map(|which| which.get(&frames).clone()).collect();
        mutations.iter().for_each(|mutation: &Mutation| mutation.apply(&mut bytes, &frames));
        let text = bytes.escape_ascii().to_string();
        let mut bytes = rename_bindings(bytes, binding);
        // Ends the connection, if it is taken for a request.
        bytes.extend(get(binding).bytes());
        let answer = say(&socket, &bytes, SHORT);
        // A mutation may make an HTTP/1.0 of it, which is answered as that.
        let is_http = ["HTTP/1.1 ", "HTTP/1.0 "].iter().any(|version| answer.starts_with(version));
        prop_assert!(answer.is_empty() || is_http, "{text}\n{answer}");
        prop_assert_eq!(panics(), Vec::<String>::new(), "{}", text);
    });

    assert!(say(&socket, get("kv").as_bytes(), PATIENCE).starts_with("HTTP/1.1 200 "));
    assert!(say(&socket, get("other").as_bytes(), PATIENCE).starts_with("HTTP/1.1 403 "));
}

/// Leads recorded requests, whose bindings have the names of their recording, to `binding`.
fn rename_bindings(bytes: Vec<u8>, binding: &str) -> Vec<u8> {
    let name = format!("{BINDING_HEADER}: ").into_bytes();
    let mut renamed = Vec::with_capacity(bytes.len());
    let mut rest = &bytes[..];
    while let Some(at) = rest.windows(name.len()).position(|window| window == name) {
        let (head, tail) = rest.split_at(at + name.len());
        renamed.extend(head);
        renamed.extend(binding.bytes());
        rest = &tail[tail.iter().position(|byte| *byte == b'\r').unwrap_or(tail.len())..];
    }
    renamed.extend(rest);
    renamed
}
