//! The client against a server that misbehaves.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls;

use crate::http::{Proxies, Transport};
use crate::{ApiErrorKind, Client, Form, RetryPolicy};

const YES: &str = r#"{"success":true,"errors":[],"messages":[],"result":"done"}"#;

/// What the server does with a connection's next request.
#[derive(Clone, Copy)]
enum Reply {
    Status(u16, &'static str, &'static str),
    /// Reads so many bytes of the body and hangs up.
    HangUpAfter(usize),
}

type Seen = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Answers one request after the other by `replies`, the last one for ever; the heads and bodies that it has seen.
async fn server(replies: Vec<Reply>) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/client/v4", listener.local_addr().unwrap());
    let seen = Seen::default();
    let log = seen.clone();
    tokio::spawn(async move {
        let replies = Arc::new(Mutex::new((0, replies)));
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, replies.clone(), log.clone()));
        }
    });
    (base, seen)
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    replies: Arc<Mutex<(usize, Vec<Reply>)>>,
    log: Seen,
) {
    loop {
        let Some(head) = read_head(&mut stream).await else { return };
        let length = head
            .lines()
            .find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
        let reply = {
            let mut replies = replies.lock().unwrap();
            let at = replies.0.min(replies.1.len() - 1);
            replies.0 += 1;
            replies.1[at]
        };
        let length = length.unwrap_or(0);
        let wanted = if let Reply::HangUpAfter(bytes) = reply { bytes.min(length) } else { length };
        let mut body = vec![0; wanted];
        stream.read_exact(&mut body).await.unwrap();
        log.lock().unwrap().push((head, body));
        let Reply::Status(status, headers, text) = reply else { return };
        let answer = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{text}", text.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

fn client(base: &str) -> Client {
    let policy = RetryPolicy { base: Duration::from_millis(4), ..RetryPolicy::default() };
    Client::new(base, "secret", "abc", Proxies::default(), policy).unwrap()
}

#[tokio::test]
async fn a_429_is_waited_for_as_long_as_it_says_even_for_a_post() {
    let limit = r#"{"success":false,"errors":[{"code":971,"message":"slow down"}],"result":null}"#;
    let (base, seen) =
        server(vec![Reply::Status(429, "retry-after: 1\r\n", limit), Reply::Status(200, "", YES)]).await;
    let start = Instant::now();
    let call = client(&base)
        .call(http::Method::POST, "{account}/queues")
        .json(&json!({ "a": 1 }))
        .send()
        .await
        .unwrap();
    assert_eq!(call.result, "done");
    assert!(start.elapsed() >= Duration::from_secs(1));
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].0.starts_with("POST /client/v4/accounts/abc/queues HTTP/1.1\r\n"), "{}", seen[0].0);
    assert!(seen[0].0.contains("authorization: Bearer secret\r\n"));
    assert_eq!(seen[1].1, br#"{"a":1}"#);
}

#[tokio::test]
async fn server_errors_are_tried_again_only_where_that_is_safe() {
    let error = r#"{"success":false,"errors":[{"code":10013,"message":"Unknown error"}],"result":null}"#;
    let (base, seen) = server(vec![Reply::Status(500, "cf-ray: 8a-FRA\r\n", error)]).await;
    let failed = client(&base).get("/user").await.unwrap_err();
    assert_eq!((failed.attempts, failed.has_code(10013)), (4, true));
    let text = failed.to_string();
    assert_eq!(
        text,
        "GET /user failed with HTTP 500\n  Unknown error [code: 10013]\n  Ray ID: 8a-FRA\n  tried 4 times"
    );
    let failed = client(&base).call(http::Method::POST, "/x").json(&json!({})).send().await.unwrap_err();
    assert_eq!((failed.attempts, seen.lock().unwrap().len()), (1, 5));
    let (base, _) = server(vec![Reply::Status(502, "", "<h1>"), Reply::Status(200, "", YES)]).await;
    assert_eq!(client(&base).get("/user").await.unwrap().result, "done");
}

#[tokio::test]
async fn an_upload_that_breaks_off_starts_over_and_arrives_whole() {
    let mut form = Form::default();
    form.file("f", "f", "text/plain", &vec![b'x'; 8 << 20]);
    let (base, seen) =
        server(vec![Reply::HangUpAfter(100_000), Reply::HangUpAfter(3 << 20), Reply::Status(200, "", YES)])
            .await;
    let put = client(&base).call(http::Method::PUT, "/upload").form(form).send().await.unwrap();
    assert_eq!(put.result, "done");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert!(seen[2].1.len() > 8 << 20 && seen[2].1.ends_with(b"--\r\n"));
}

#[tokio::test]
async fn a_lost_connection_is_reported_where_a_second_try_could_do_it_twice() {
    let (base, seen) = server(vec![Reply::HangUpAfter(2)]).await;
    let failed = client(&base).call(http::Method::POST, "/x").json(&json!({})).send().await.unwrap_err();
    assert!(matches!(failed.kind, ApiErrorKind::Transport(_)), "{failed}");
    assert_eq!((failed.attempts, seen.lock().unwrap().len()), (1, 1));
    let nobody = client("http://127.0.0.1:1").get("/user").await.unwrap_err();
    assert_eq!(nobody.attempts, 4);
    assert!(nobody.to_string().contains("cannot connect to 127.0.0.1:1"), "{nobody}");
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_asked_for_again() {
    let (base, seen) = server(vec![Reply::Status(200, "", YES)]).await;
    let failed = client(&base).call(http::Method::GET, "/x").limit(10).bytes().await.unwrap_err();
    assert!(failed.to_string().contains("more than 10 bytes"), "{failed}");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn connections_are_used_again_and_one_that_has_ended_does_no_harm() {
    let (base, seen) = server(vec![
        Reply::Status(200, "", YES),
        Reply::Status(200, "connection: close\r\n", YES),
        Reply::Status(200, "", YES),
    ])
    .await;
    let client = client(&base);
    for _ in 0..4 {
        client.call(http::Method::POST, "/x").json(&json!({})).send().await.unwrap();
    }
    assert_eq!(seen.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn https_goes_through_the_proxys_tunnel_and_http_to_it_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://me:pw@{}", listener.local_addr().unwrap());
    let certified = rcgen::generate_simple_self_signed(vec!["api.example.test".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let chain = vec![certified.cert.der().clone()];
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let seen = Seen::default();
    let log = seen.clone();
    tokio::spawn(async move {
        let yes = || Arc::new(Mutex::new((0, vec![Reply::Status(200, "", YES)])));
        let (mut first, _) = listener.accept().await.unwrap();
        let head = read_head(&mut first).await.unwrap();
        log.lock().unwrap().push((head, Vec::new()));
        first.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
        let tls: tokio_rustls::server::TlsStream<TcpStream> = acceptor.accept(first).await.unwrap();
        tokio::spawn(serve(tls, yes(), log.clone()));
        let (second, _) = listener.accept().await.unwrap();
        serve(second, yes(), log).await;
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let trust = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let proxies = Proxies::from_env(|name| (name == "ALL_PROXY").then(|| proxy.clone())).unwrap();
    let transport = Transport::trusting(proxies, trust);
    for url in ["https://api.example.test/a?b", "http://api.example.test/c"] {
        let url = url.parse().unwrap();
        let answer =
            transport.send(&url, http::Request::new(Bytes::new()), 1000, Duration::from_secs(9)).await;
        assert_eq!(answer.unwrap().body(), YES);
    }
    let seen: Vec<String> = seen.lock().unwrap().iter().map(|(head, _)| head.to_lowercase()).collect();
    assert!(
        seen[0].starts_with("connect api.example.test:443 http/1.1\r\n")
            && seen[0].contains("proxy-authorization: basic bwu6chc=")
    );
    assert!(seen[1].starts_with("get /a?b http/1.1\r\n") && !seen[1].contains("proxy-authorization"));
    assert!(
        seen[2].starts_with("get http://api.example.test/c http/1.1\r\n")
            && seen[2].contains("proxy-authorization")
    );
}

/// Sends `length` bytes: half of them at once, the rest when `rest` says so; the first time it hangs up in between.
async fn source(length: usize, mut rest: tokio::sync::mpsc::Receiver<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/client/v4", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for attempt in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await.unwrap();
            let head = format!("HTTP/1.1 200 X\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&vec![b'a'; length / 2]).await.unwrap();
            rest.recv().await;
            if attempt > 0 {
                stream.write_all(&vec![b'b'; length - length / 2]).await.unwrap();
            }
        }
    });
    base
}

#[tokio::test]
async fn what_is_passed_on_is_never_there_as_a_whole_and_starts_over_when_either_end_is_lost() {
    const LENGTH: usize = 3_000_001;
    let (go, rest) = tokio::sync::mpsc::channel(1);
    let from = client(&source(LENGTH, rest).await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = client(&format!("http://{}/client/v4", listener.local_addr().unwrap()));
    let target = tokio::spawn(async move {
        for attempt in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await.unwrap();
            // The source sends its second half only when the first one has arrived here.
            let mut half = vec![0; LENGTH / 2];
            stream.read_exact(&mut half).await.unwrap();
            assert!(half.iter().all(|byte| *byte == b'a'));
            go.send(()).await.unwrap();
            let mut rest = vec![0; LENGTH - LENGTH / 2];
            match stream.read_exact(&mut rest).await {
                Err(_) if attempt == 0 => continue,
                read => read.unwrap(),
            };
            // The second time it is this end that is lost.
            if attempt == 2 {
                let answer = format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n{YES}", YES.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
                return rest;
            }
        }
        unreachable!()
    });
    let source = from.call(http::Method::GET, "/object");
    let put = to.call(http::Method::PUT, "/object").pipe(&source, LENGTH as u64).await.unwrap();
    assert_eq!(put.result, "done");
    assert!(target.await.unwrap().iter().all(|byte| *byte == b'b'));
}

#[tokio::test]
async fn a_source_that_says_no_ends_the_call_with_what_it_said() {
    let gone = r#"{"success":false,"errors":[{"code":10007,"message":"The specified key does not exist."}],"result":null}"#;
    let (from, _) = server(vec![Reply::Status(404, "", gone)]).await;
    let (to, seen) = server(vec![Reply::Status(200, "", YES)]).await;
    let (from, to) = (client(&from), client(&to));
    let source = from.call(http::Method::GET, "/object");
    let failed = to.call(http::Method::PUT, "/object").pipe(&source, 5).await.unwrap_err();
    assert!(failed.method == http::Method::GET && failed.is_missing(&[10007]), "{failed}");
    assert_eq!(seen.lock().unwrap().len(), 0, "nothing was begun");
}

#[tokio::test]
async fn a_download_that_breaks_off_starts_over_with_a_new_file() {
    let (go, rest) = tokio::sync::mpsc::channel(2);
    let from = client(&source(1001, rest).await);
    go.try_send(()).unwrap();
    go.try_send(()).unwrap();
    let write = |all: &mut Vec<u8>, piece: &[u8]| -> Result<(), String> {
        all.extend(piece);
        Ok(())
    };
    let get = || from.call(http::Method::GET, "/object");
    let saved = get().save(1001, || Ok(Vec::new()), write).await.unwrap();
    assert_eq!(saved, [vec![b'a'; 500], vec![b'b'; 501]].concat());
    go.try_send(()).unwrap();
    let full = get().save(1001, || Ok(()), |(), _| Err("the disk is full".into())).await.unwrap_err();
    assert!(full.to_string().contains("the disk is full") && full.attempts == 1, "{full}");
}
