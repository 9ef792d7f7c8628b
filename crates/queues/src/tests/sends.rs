//! What a producer is answered.

use super::*;

#[tokio::test]
async fn a_send_answers_with_the_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let (queues, _stop) = open(dir.path(), ManualClock::at(5_000).clock());
    let producer = queues.producer("q", None);
    let (status, headers, body) =
        call(&producer, Method::POST, "/message", &[("x-msg-fmt", "json")], r#"{"a":1}"#).await;
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (StatusCode::OK, "application/json"));
    assert_eq!(
        body,
        r#"{"metadata":{"metrics":{"backlogCount":1,"backlogBytes":7,"oldestMessageTimestamp":5000}}}"#
    );
    let batch = r#"{"messages":[{"body":"Ingi","contentType":"json"},{"body":"dHQ="}]}"#;
    let (_, _, body) = call(&producer, Method::POST, "/batch", &[], batch).await;
    assert!(body.contains(r#""backlogCount":3,"backlogBytes":12"#), "{body}");
    let (_, _, body) = call(&producer, Method::GET, "/metrics", &[], "").await;
    assert_eq!(body, r#"{"backlogCount":3,"backlogBytes":12,"oldestMessageTimestamp":5000}"#);
    let empty = queues.producer("empty", None);
    let (_, _, body) = call(&empty, Method::GET, "/metrics", &[], "").await;
    assert_eq!(body, r#"{"backlogCount":0,"backlogBytes":0,"oldestMessageTimestamp":0}"#);
}

#[tokio::test]
async fn a_refused_call_says_why_and_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (queues, _stop) = open(dir.path(), Clock::system());
    let producer = queues.producer("q", None);
    let big = vec![b'a'; 128_001];
    let (status, headers, _) = call(&producer, Method::POST, "/message", &[], big).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(headers["cf-queues-error-code"], "10204");
    assert_eq!(headers["cf-queues-error-cause"], "message length of 128001 bytes exceeds limit of 128000");
    let huge = vec![b' '; 5 << 20];
    let told = [("cf-queue-batch-bytes", "3000000"), ("cf-queue-batch-count", "30")];
    let (_, headers, _) = call(&producer, Method::POST, "/batch", &told, huge).await;
    assert_eq!(headers["cf-queues-error-cause"], "batch size of 3000000 bytes exceeds limit of 256000 bytes");
    let odd = [("x-msg-fmt", "\u{e9}")];
    let (status, headers, _) = call(&producer, Method::POST, "/message", &odd, "x").await;
    assert_eq!(
        (status, headers["cf-queues-error-code"].to_str().unwrap()),
        (StatusCode::BAD_REQUEST, "10203")
    );
    let (status, _, _) = call(&producer, Method::PUT, "/message", &[], "x").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(queues.metrics("q").unwrap().backlog_count, 0);
}

#[tokio::test]
async fn all_formats_arrive_as_they_were_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (queues, _stop) = open(dir.path(), Clock::system());
    let producer = queues.producer("q", None);
    let (deliver, mut inbox) = manual();
    let settings = ConsumerSettings { max_batch_size: 4, ..ConsumerSettings::default() };
    let _consumer = queues.consume("q", settings, deliver);
    let sent: [(&str, &[u8]); 4] =
        [("text", b"hi"), ("json", b"{}"), ("bytes", b"\0\xff"), ("v8", b"\xff\x0f")];
    for (format, body) in sent {
        call(&producer, Method::POST, "/message", &[("x-msg-fmt", format)], body).await;
    }
    let (batch, reply) = inbox.next().await;
    for (message, (format, body)) in batch.messages.iter().zip(sent) {
        assert_eq!(serde_json::to_value(message.format).unwrap(), format);
        assert_eq!((&message.body[..], message.attempts), (body, 1));
        assert!(message.id.len() == 32 && message.id.bytes().all(|b| b.is_ascii_hexdigit()));
    }
    reply.send(ok()).unwrap();
}
