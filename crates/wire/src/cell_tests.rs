//! A cell that holds others up is served elsewhere, and notices nothing of it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::{BINDING_HEADER, BindingTable, UnixClient, bind_unix, empty, full, read_all};

/// Works as many milliseconds as the path says, and answers with its thread's name and what came.
struct Works;

impl Service for Works {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let ms = path.trim_matches('/').split('/').next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
            let body = read_all(request.into_body(), 1 << 20).await.unwrap();
            let (start, time) = (Instant::now(), Duration::from_millis(ms));
            while start.elapsed() < time {
                std::hint::spin_loop();
            }
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            crate::reply(http::StatusCode::OK, full(format!("{thread} {path} {};", body.len())))
        })
    }
}

const LANE: &str = "skep-lane";

/// A cell with the bindings `works` and `home`; the socket, and what keeps it open.
fn cell() -> (tempfile::TempDir, skep_runtime::ShutdownTrigger) {
    let folder = tempfile::tempdir().unwrap();
    let (trigger, shutdown) = Shutdown::new();
    let mut table = BindingTable::default();
    table.insert("works", Arc::new(Works));
    table.insert("home", Arc::new(AtHome::new(Arc::new(Works))));
    let listener = bind_unix(&folder.path().join("s")).unwrap();
    tokio::spawn(serve_cell(listener, Arc::new(table), shutdown));
    (folder, trigger)
}

async fn ask(client: &Arc<UnixClient>, binding: &str, path: &str, body: usize) -> String {
    let request = http::Request::builder().method("POST").uri(path).header(BINDING_HEADER, binding);
    let body = match body {
        0 => empty(),
        size => full(Bytes::from(vec![b'x'; size])),
    };
    let response = client.send(request.body(body).unwrap()).await.unwrap();
    String::from_utf8(response.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn who_takes_much_is_served_by_another_thread_until_it_is_quiet() {
    let (folder, _trigger) = cell();
    let client = UnixClient::new(folder.path().join("s"));
    assert!(!ask(&client, "works", "/0", 0).await.starts_with(LANE));
    assert!(!ask(&client, "works", "/100", 0).await.starts_with(LANE), "nobody could know");
    // What is small, what is large, and on what connection ever.
    for size in [0, 10, 200_000, 0, 200_000] {
        let answer = ask(&client, "works", "/20", size).await;
        assert_eq!(answer, format!("{LANE} /20 {size};"));
    }
    let other = UnixClient::new(folder.path().join("s"));
    assert!(ask(&other, "works", "/0", 0).await.starts_with(LANE));
    assert!(!ask(&client, "home", "/0", 0).await.starts_with(LANE), "what others use is where they are");
    let waits = Instant::now();
    while ask(&client, "works", "/0", 0).await.starts_with(LANE) {
        assert!(waits.elapsed() < Duration::from_secs(60), "it never comes back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_connection_that_was_held_open_by_a_large_call_is_given_up_on_its_way() {
    let (folder, _trigger) = cell();
    let client = UnixClient::new(folder.path().join("s"));
    assert!(!ask(&client, "works", "/0", 200_000).await.starts_with(LANE));
    // The connection is hyper's now, and stays where it was opened: what it took is known at the next call.
    for _ in 0..2 {
        assert!(!ask(&client, "works", "/100", 200_000).await.starts_with(LANE));
    }
    for _ in 0..3 {
        assert!(ask(&client, "works", "/20", 200_000).await.starts_with(LANE));
    }
}

#[tokio::test]
async fn what_was_sent_ahead_is_answered_in_order_wherever_it_is() {
    let (folder, _trigger) = cell();
    let mut stream = UnixStream::connect(folder.path().join("s")).await.unwrap();
    let paths = ["/0/a", "/100/b", "/0/c", "/0/d", "/20/e"];
    let asked = paths.map(|path| {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\n{BINDING_HEADER}: works\r\ncontent-length: 2\r\n\r\nhi")
    });
    let mut text = String::new();
    // The second time, the first of them moves and the others are in its buffer.
    for (sent, answered) in [(0..2, 2), (2..5, 5)] {
        stream.write_all(asked[sent].concat().as_bytes()).await.unwrap();
        while text.matches(';').count() < answered {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).await.unwrap();
            assert!(read > 0, "{text}");
            text.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        }
    }
    let at = paths.map(|path| text.find(&format!("{path} 2;")).unwrap());
    assert!(at.is_sorted(), "{text}");
    assert!(text.contains(&format!("{LANE} /0/c")), "{text}");
}
