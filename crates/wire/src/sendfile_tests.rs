use std::io::Write;

use http::{Method, Response, header};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::*;
use crate::{Asked, Serving, empty};

/// A part of a file for each length, with something in memory between them.
struct Parts(File, Vec<u64>);

const BETWEEN: &[u8] = b"between";

impl Parts {
    fn of(lengths: &[u64]) -> (Self, Vec<u8>) {
        let mut file = tempfile::tempfile().unwrap();
        let all: Vec<u8> = (0..lengths.iter().sum()).map(|n: u64| (n * n % 251) as u8).collect();
        file.write_all(&all).unwrap();
        let (mut expected, mut at) = (Vec::new(), 0);
        for length in lengths {
            expected.extend_from_slice(&all[at..at + *length as usize]);
            expected.extend_from_slice(BETWEEN);
            at += *length as usize;
        }
        (Self(file, lengths.to_vec()), expected)
    }
}

impl Content for Parts {
    fn piece(&self, n: usize) -> io::Result<Option<Piece>> {
        if n % 2 == 1 {
            return Ok(Some(Piece::Bytes(Bytes::from_static(BETWEEN))));
        }
        let Some(length) = self.1.get(n / 2).copied() else { return Ok(None) };
        let offset = self.1[..n / 2].iter().sum();
        Ok(Some(Piece::File { file: self.0.try_clone()?, offset, length }))
    }

    fn body(&self) -> io::Result<Body> {
        Ok(empty())
    }
}

/// Two ends of a connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (ours.unwrap(), theirs.unwrap().0)
}

#[tokio::test]
async fn files_arrive_whole_at_a_reader_who_takes_its_time() {
    let (parts, expected) = Parts::of(&[1, 5 << 20, 0, 300_000, 12 << 20]);
    let file = SendFile::new(expected.len() as u64, parts);
    let (mut ours, mut theirs) = pair().await;
    let sending = tokio::spawn(async move { file.send(&mut ours).await });
    let (mut got, mut piece) = (Vec::new(), vec![0; 100_000]);
    loop {
        if got.len() % 3 == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        match theirs.read(&mut piece).await.unwrap() {
            0 => break,
            read => got.extend_from_slice(&piece[..read]),
        }
    }
    sending.await.unwrap().unwrap();
    assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
}

#[tokio::test]
async fn who_waits_for_a_reader_holds_nobody_up_and_hears_that_it_is_gone() {
    let (parts, expected) = Parts::of(&[64 << 20]);
    let file = SendFile::new(expected.len() as u64, parts);
    let (mut ours, theirs) = pair().await;
    let sending = tokio::spawn(async move { file.send(&mut ours).await });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!sending.is_finished());
    drop(theirs);
    assert!(sending.await.unwrap().is_err());
}

#[tokio::test]
async fn a_file_that_is_shorter_than_was_said_is_an_error() {
    let (parts, expected) = Parts::of(&[1000]);
    parts.0.set_len(500).unwrap();
    let (mut ours, _theirs) = pair().await;
    let error = SendFile::new(expected.len() as u64, parts).send(&mut ours).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn an_answer_of_files_is_framed_as_any_other() {
    for (method, keeps) in [(Method::GET, true), (Method::HEAD, true), (Method::GET, false)] {
        let (parts, expected) = Parts::of(&[100_000]);
        let file = SendFile::new(expected.len() as u64, parts);
        let (ours, mut theirs) = pair().await;
        let mut request = http::Request::new(());
        *request.method_mut() = method.clone();
        let asked = Asked::by(&request);
        let asked = if keeps { asked } else { asked.last() };
        let mut serving = Serving::new(ours, 0);
        let mut response =
            Response::builder().header(header::CONTENT_LENGTH, expected.len()).body(empty()).unwrap();
        let (sent, got) = tokio::join!(
            async {
                let sent = serving.answer_file(asked, &mut response, &file).await;
                serving.close().await;
                sent
            },
            async {
                let mut got = Vec::new();
                theirs.read_to_end(&mut got).await.unwrap();
                got
            }
        );
        assert_eq!(sent.unwrap(), keeps);
        let head = got.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let text = String::from_utf8(got[..head].to_vec()).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("content-length: 100007\r\n"),
            "{text}"
        );
        assert_eq!(text.contains("connection: close"), !keeps);
        let body = if method == Method::HEAD { &[][..] } else { &expected };
        assert!(got[head..] == *body);
    }
    let (parts, _) = Parts::of(&[10]);
    let file = SendFile::new(17, parts);
    let (ours, _theirs) = pair().await;
    let mut response = Response::builder().header(header::CONTENT_LENGTH, 16).body(empty()).unwrap();
    let asked = Asked::by(&http::Request::new(()));
    assert!(Serving::new(ours, 0).answer_file(asked, &mut response, &file).await.is_err());
}
