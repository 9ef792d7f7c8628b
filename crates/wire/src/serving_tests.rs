//! What a peer gets, byte by byte.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::{empty, full, reply, stream};

fn response(status: u16, headers: &[(&str, &str)], body: crate::Body) -> crate::Response {
    let mut response = reply(StatusCode::from_u16(status).unwrap(), body);
    for (name, value) in headers {
        response.headers_mut().append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    response
}

/// What is sent for a response to a request of `method`, whether the connection stays open, and whether it was sent whole.
async fn sent(method: &str, mut response: crate::Response) -> (String, Option<bool>) {
    let (ours, mut theirs) = duplex(1 << 20);
    let mut serving = Serving::new(ours, 10);
    let request = http::Request::builder().method(method).body(()).unwrap();
    let kept = serving.answer(Asked::by(&request), &mut response).await.ok();
    drop(serving);
    let mut text = String::new();
    theirs.read_to_string(&mut text).await.unwrap();
    if text.is_empty() {
        return (text, kept);
    }
    // The time of day is there, and not of interest.
    let (before, rest) = text.split_once("date: ").unwrap_or_else(|| panic!("no date: {text}"));
    let (date, after) = rest.split_once("\r\n").unwrap();
    httpdate::parse_http_date(date).unwrap();
    (format!("{before}{after}"), kept)
}

fn pieces(pieces: &'static [&'static str]) -> crate::Body {
    stream(futures_util::stream::iter(
        pieces.iter().map(|piece| Ok::<_, io::Error>(Bytes::from_static(piece.as_bytes()))),
    ))
}

#[tokio::test]
async fn an_answer_says_how_far_its_body_goes() {
    let whole = |text: &str| (text.to_owned(), Some(true));
    assert_eq!(
        sent("GET", reply(StatusCode::OK, full("hello"))).await,
        whole("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
    );
    assert_eq!(
        sent("GET", reply(StatusCode::OK, empty())).await,
        whole("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    );
    assert_eq!(
        sent("GET", response(200, &[("content-length", "4")], pieces(&["ab", "", "cd"]))).await,
        whole("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd")
    );
    assert_eq!(
        sent("GET", response(200, &[("x", "y")], pieces(&["abcdefghijk", "", "l"]))).await,
        whole(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx: y\r\n\r\nb\r\nabcdefghijk\r\n1\r\nl\r\n0\r\n\r\n"
        )
    );
    assert_eq!(
        sent("GET", reply(StatusCode::OK, pieces(&[]))).await,
        whole("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
    );
}

#[tokio::test]
async fn some_answers_have_no_body_whatever_is_said() {
    let whole = |text: &str| (text.to_owned(), Some(true));
    let long = [("content-length", "5")];
    assert_eq!(
        sent("HEAD", response(200, &long, full("hello"))).await,
        whole("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
    );
    assert_eq!(sent("HEAD", reply(StatusCode::OK, pieces(&["a"]))).await, whole("HTTP/1.1 200 OK\r\n\r\n"));
    assert_eq!(
        sent("GET", response(204, &long, full("hello"))).await,
        whole("HTTP/1.1 204 No Content\r\n\r\n")
    );
    assert_eq!(
        sent("GET", response(304, &long, empty())).await,
        whole("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n")
    );
}

#[tokio::test]
async fn an_answer_that_breaks_its_word_cuts_the_connection_off() {
    for wrong in [
        response(200, &[("content-length", "3")], pieces(&["ab"])),
        response(200, &[("content-length", "3")], pieces(&["ab", "cd"])),
        response(200, &[("content-length", "x")], pieces(&["ab"])),
        reply(
            StatusCode::OK,
            stream(futures_util::stream::iter([Ok(Bytes::from("a")), Err(io::Error::other("no"))])),
        ),
    ] {
        let (text, kept) = sent("GET", wrong).await;
        assert_eq!(kept, None);
        assert!(!text.ends_with("0\r\n\r\n"), "{text}");
    }
}

#[tokio::test]
async fn either_side_may_end_the_connection() {
    let (text, kept) = sent("GET", response(200, &[("connection", "close")], empty())).await;
    assert_eq!(
        (text.as_str(), kept),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", Some(false))
    );
    let (ours, mut theirs) = duplex(1 << 10);
    let mut serving = Serving::new(ours, 10);
    theirs.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
    let Next::Request(request) = serving.next().await.unwrap() else { panic!("no request") };
    let kept = serving.answer(Asked::by(&request), &mut reply(StatusCode::OK, empty())).await.unwrap();
    assert!(!kept);
}

#[tokio::test]
async fn a_reason_of_ones_own_is_sent() {
    let (text, _) = sent("GET", crate::reason(StatusCode::BAD_REQUEST, "Not so")).await;
    assert!(text.starts_with("HTTP/1.1 400 Not so\r\n"), "{text}");
}

#[tokio::test]
async fn large_pieces_arrive_whole() {
    let large = |size: usize| Ok::<_, io::Error>(Bytes::from(vec![b'x'; size]));
    let sizes = [1, 20_000, 100, 16_384, 3];
    let body = stream(futures_util::stream::iter(sizes.map(large)));
    let (text, kept) = sent("GET", response(200, &[("content-length", "36488")], body)).await;
    assert_eq!(kept, Some(true));
    assert_eq!(text.len(), text.find("\r\n\r\n").unwrap() + 4 + 36_488);
}

/// The requests that `serving` makes of what comes: method, path and body of each, and what ended them.
async fn requests(serving: &mut Serving<DuplexStream>) -> (Vec<String>, Option<bool>) {
    let mut all = Vec::new();
    loop {
        match serving.next().await {
            Ok(Next::Request(request)) => {
                let body = std::str::from_utf8(request.body()).unwrap();
                all.push(format!("{} {} {body}", request.method(), request.uri()));
            }
            Ok(Next::Other) => return (all, Some(true)),
            Ok(Next::Over) => return (all, Some(false)),
            Err(_) => return (all, None),
        }
    }
}

#[tokio::test]
async fn requests_are_read_in_whatever_pieces_they_come() {
    let text = "GET /a HTTP/1.1\r\nHost: h\r\n\r\nPUT /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /c HTTP/1.1\r\n\r\n";
    for size in [1, 7, 1000] {
        let (ours, mut theirs) = duplex(size);
        let mut serving = Serving::new(ours, 10);
        let peer = tokio::spawn(async move { theirs.write_all(text.as_bytes()).await.unwrap() });
        let expected = ["GET /a ", "PUT /b abc", "GET /c "].map(str::to_owned).to_vec();
        assert_eq!(requests(&mut serving).await, (expected, Some(false)));
        peer.await.unwrap();
    }
}

#[tokio::test]
async fn what_is_cut_short_is_an_error() {
    for text in ["GET", "GET / HTTP/1.1\r\n", "PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"] {
        let (ours, mut theirs) = duplex(1000);
        theirs.write_all(text.as_bytes()).await.unwrap();
        drop(theirs);
        assert_eq!(requests(&mut Serving::new(ours, 10)).await, (vec![], None), "{text}");
    }
}

#[tokio::test]
async fn all_else_is_left_to_another_server_as_it_came() {
    let large = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(MAX_HEAD));
    for text in
        ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PUT / HTTP/1.1\r\nContent-Length: 11\r\n\r\nabc", &large]
    {
        let (ours, mut theirs) = duplex(1 << 20);
        theirs.write_all(format!("GET /a HTTP/1.1\r\n\r\n{text}").as_bytes()).await.unwrap();
        let mut serving = Serving::new(ours, 10);
        assert_eq!(requests(&mut serving).await, (vec!["GET /a ".to_owned()], Some(true)));
        drop(theirs);
        let mut rest = String::new();
        serving.into_rest().read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, text);
    }
}

#[tokio::test]
async fn work_ends_when_the_peer_is_gone() {
    let (ours, theirs) = duplex(1000);
    let mut serving = Serving::new(ours, 10);
    let mut forever = pin!(std::future::pending::<()>());
    let never = tokio::time::timeout(Duration::from_millis(20), serving.unless_gone(forever.as_mut()));
    assert!(never.await.is_err(), "it is there");
    assert_eq!(serving.unless_gone(pin!(async { 5 })).await, Some(5));
    drop(theirs);
    assert_eq!(serving.unless_gone(forever).await, None);
}

#[tokio::test]
async fn an_answer_ends_when_the_peer_is_gone_and_is_sent_as_it_comes() {
    let (ours, mut theirs) = duplex(1000);
    let mut serving = Serving::new(ours, 10);
    let once = futures_util::stream::iter([Ok::<_, io::Error>(Bytes::from("now"))]);
    let body = stream(once.chain(futures_util::stream::pending()));
    let request = http::Request::new(());
    let answering =
        tokio::spawn(
            async move { serving.answer(Asked::by(&request), &mut reply(StatusCode::OK, body)).await },
        );
    let mut text = Vec::new();
    while !text.ends_with(b"3\r\nnow\r\n") {
        theirs.read_buf(&mut text).await.unwrap();
    }
    drop(theirs);
    assert!(answering.await.unwrap().is_err());
}
