//! Records what the engine sends for the calls of the project `frames`: a listener takes the place of the cell's
//! socket, keeps what goes by, and passes it on.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{BINDINGS, corpus};
use crate::harness::{command, project, start};

/// What was said on each connection since one last asked.
type Said = Arc<Mutex<Vec<Arc<Mutex<Vec<u8>>>>>>;

/// A frame longer than this is too much for a corpus; its kind is there with less content.
const MAX_FRAME: usize = 4096;

#[test]
#[ignore = "writes the corpus: cargo test -p skep -- --ignored record_frames"]
fn record_frames() {
    let (state, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/tmp").unwrap());
    let mut command = command(&project("frames"), state.path());
    command.env("XDG_RUNTIME_DIR", runtime.path());
    let skep = start(command).unwrap();
    let said = listen_in(&find(runtime.path(), "bindings").unwrap());
    for name in BINDINGS {
        assert_eq!(skep.get(&format!("/{name}")).text(), "called", "{}", skep.output());
        let streams =
            said.lock().unwrap().iter().map(|s| std::mem::take(&mut *s.lock().unwrap())).collect::<Vec<_>>();
        let folder = corpus(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let frames = streams.iter().flat_map(|stream| split(stream)).filter(|frame| frame.len() < MAX_FRAME);
        for (n, frame) in frames.enumerate() {
            std::fs::write(folder.join(format!("{n:02}.http")), frame).unwrap();
        }
    }
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).find_map(|path| {
        if path.file_name().unwrap() == name {
            Some(path)
        } else {
            path.is_dir().then(|| find(&path, name))?
        }
    })
}

fn listen_in(socket: &Path) -> Said {
    let server = socket.with_extension("server");
    std::fs::rename(socket, &server).unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    let said = Said::default();
    let all = said.clone();
    std::thread::spawn(move || {
        for cell in listener.incoming() {
            let stream = Arc::new(Mutex::new(Vec::new()));
            all.lock().unwrap().push(stream.clone());
            let (cell, server) = (cell.unwrap(), UnixStream::connect(&server).unwrap());
            let (to_cell, from_server) = (cell.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || pass(from_server, to_cell, |_| {}));
            std::thread::spawn(move || pass(cell, server, |piece| stream.lock().unwrap().extend(piece)));
        }
    });
    said
}

fn pass(mut from: UnixStream, mut to: UnixStream, keep: impl Fn(&[u8])) {
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        keep(&piece[..length]);
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// The requests on a connection, each as its head and its content, without the framing of the latter.
fn split(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while !stream.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut headers);
        let length = head.parse(stream).unwrap().unwrap();
        let value = |name: &str| {
            let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            Some(std::str::from_utf8(header.value).unwrap())
        };
        let mut frame = stream[..length].to_vec();
        stream = &stream[length..];
        if let Some(length) = value("content-length") {
            let (content, rest) = stream.split_at(length.parse().unwrap());
            frame.extend(content);
            stream = rest;
        } else if value("transfer-encoding").is_some() {
            stream = unchunk(stream, &mut frame);
        }
        frames.push(frame);
    }
    frames
}

fn unchunk<'a>(mut stream: &'a [u8], content: &mut Vec<u8>) -> &'a [u8] {
    loop {
        let (start, length) = httparse::parse_chunk_size(stream).unwrap().unwrap();
        let (chunk, rest) = stream[start..].split_at(length as usize);
        content.extend(chunk);
        stream = &rest[2..];
        if length == 0 {
            return stream;
        }
    }
}
