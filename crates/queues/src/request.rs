//! What the engine sends to a producer binding, read and checked.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use skep_wire::header_bytes;

use crate::error::QueueError;
use crate::message::{Format, NewMessage};
use crate::settings::{MAX_BATCH_BYTES, MAX_BATCH_COUNT, MAX_DELAY_SECS, MAX_MESSAGE_BYTES};

/// Reads `POST /message`.
pub(crate) fn message(
    headers: &HeaderMap,
    body: Bytes,
    default_delay: u32,
) -> Result<NewMessage, QueueError> {
    if body.len() > MAX_MESSAGE_BYTES {
        return Err(QueueError::MessageSize(body.len()));
    }
    // Without the header it is v8: how applications before 2024-03-18 send.
    let format = header_bytes(headers, "x-msg-fmt").map_or(Ok(Format::V8), |name| {
        Format::parse(name).ok_or_else(|| QueueError::ContentType(text(name)))
    })?;
    let delay_secs = delay(headers).map_err(QueueError::MessageDelay)?.unwrap_or(default_delay);
    Ok(NewMessage { format, delay_secs, body })
}

#[derive(Deserialize)]
struct BatchBody<'a> {
    #[serde(borrow)]
    messages: Vec<BatchMessage<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BatchMessage<'a> {
    #[serde(borrow)]
    body: Cow<'a, str>,
    #[serde(borrow, default)]
    content_type: Option<Cow<'a, str>>,
    #[serde(default)]
    delay_secs: Option<serde_json::Number>,
}

/// Reads `POST /batch`. A message's own delay goes before the batch's, which goes before the queue's.
pub(crate) fn batch(
    headers: &HeaderMap,
    body: &[u8],
    default_delay: u32,
) -> Result<Vec<NewMessage>, QueueError> {
    let batch_delay = delay(headers).map_err(QueueError::BatchDelay)?.unwrap_or(default_delay);
    let body: BatchBody = serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => QueueError::Schema(error.to_string()),
        _ => QueueError::NotJson(error.to_string()),
    })?;
    if body.messages.is_empty() {
        return Err(QueueError::BatchEmpty);
    }
    if body.messages.len() > MAX_BATCH_COUNT {
        return Err(QueueError::BatchCount(body.messages.len()));
    }
    let messages =
        body.messages.into_iter().map(|m| batch_message(m, batch_delay)).collect::<Result<Vec<_>, _>>()?;
    let size = messages.iter().map(|m| m.body.len()).sum();
    if size > MAX_BATCH_BYTES {
        return Err(QueueError::BatchSize(size));
    }
    Ok(messages)
}

fn batch_message(message: BatchMessage<'_>, default_delay: u32) -> Result<NewMessage, QueueError> {
    let body = STANDARD
        .decode(message.body.as_bytes())
        .map_err(|error| QueueError::Schema(format!("a message body is not base64: {error}")))?;
    if body.len() > MAX_MESSAGE_BYTES {
        return Err(QueueError::BatchMessageSize(body.len()));
    }
    let format = message.content_type.map_or(Ok(Format::V8), |name| {
        Format::parse(name.as_bytes()).ok_or_else(|| QueueError::ContentType(name.into_owned()))
    })?;
    let delay_secs = match message.delay_secs {
        None => default_delay,
        Some(number) => number
            .as_u64()
            .and_then(valid_delay)
            .ok_or_else(|| QueueError::MessageDelay(number.to_string()))?,
    };
    Ok(NewMessage { format, delay_secs, body: body.into() })
}

/// The refusal of a batch whose headers already tell that it is too large to be read.
pub(crate) fn oversized_batch(headers: &HeaderMap, limit: usize) -> QueueError {
    let number = |name| {
        header_bytes(headers, name).and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.parse().ok())
    };
    match (number("cf-queue-batch-count"), number("cf-queue-batch-bytes")) {
        (Some(count), _) if count > MAX_BATCH_COUNT => QueueError::BatchCount(count),
        (_, Some(size)) if size > MAX_BATCH_BYTES => QueueError::BatchSize(size),
        _ => QueueError::BatchSize(limit),
    }
}

/// The refusal of a message that is too large to be read.
pub(crate) fn oversized_message(headers: &HeaderMap, limit: usize) -> QueueError {
    let length = header_bytes(headers, "content-length")
        .and_then(|v| std::str::from_utf8(v).ok())
        .and_then(|v| v.parse().ok());
    QueueError::MessageSize(length.unwrap_or(limit))
}

fn delay(headers: &HeaderMap) -> Result<Option<u32>, String> {
    let Some(value) = header_bytes(headers, "x-msg-delay-secs") else { return Ok(None) };
    let seconds = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).and_then(valid_delay);
    seconds.map(Some).ok_or_else(|| text(value))
}

fn valid_delay(seconds: u64) -> Option<u32> {
    u32::try_from(seconds).ok().filter(|s| *s <= MAX_DELAY_SECS)
}

/// What the caller wrote, short enough for an error's text.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.get(..100).unwrap_or(value)).into_owned()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn one(pairs: &[(&'static str, &str)]) -> Result<NewMessage, QueueError> {
        message(&headers(pairs), Bytes::from_static(b"hi"), 3)
    }

    #[test]
    fn a_message_has_the_format_and_delay_of_its_headers() {
        let sent = one(&[("x-msg-fmt", "text"), ("x-msg-delay-secs", "30")]).unwrap();
        assert_eq!((sent.format, sent.delay_secs), (Format::Text, 30));
        let bare = one(&[]).unwrap();
        assert_eq!((bare.format, bare.delay_secs), (Format::V8, 3));
    }

    #[test]
    fn what_is_wrong_with_a_message_is_said_in_cloudflares_words() {
        let said = |r: Result<NewMessage, QueueError>| {
            let error = r.unwrap_err();
            (error.status().as_u16(), error.code(), error.to_string())
        };
        let (status, code, text) = said(one(&[("x-msg-fmt", "xml")]));
        assert_eq!((status, code), (400, 10203));
        assert!(text.starts_with("message content type xml is invalid; if specified, must be one of"));
        for delay in ["86401", "-1", "1.5", "x", ""] {
            assert_eq!(said(one(&[("x-msg-delay-secs", delay)])).1, 10203);
        }
        let big = message(&HeaderMap::new(), vec![0; 128_001].into(), 0);
        assert_eq!(
            said(big),
            (413, 10204, "message length of 128001 bytes exceeds limit of 128000".to_owned())
        );
        assert!(message(&HeaderMap::new(), vec![0; 128_000].into(), 0).is_ok());
    }

    #[test]
    fn a_batch_is_read_with_its_delays_in_order_of_precedence() {
        let body = br#"{"messages":[{"body":"Ingi","contentType":"json"},{"body":"dHQ=","contentType":"text","delaySecs": 5},{"body":"/w9EAAAAAAAAAAA=","contentType":"v8"}]}"#;
        let read = batch(&headers(&[("x-msg-delay-secs", "9")]), body, 3).unwrap();
        let seen: Vec<_> = read.iter().map(|m| (m.format, m.delay_secs, &m.body[..])).collect();
        assert_eq!(seen[0], (Format::Json, 9, &b"\"x\""[..]));
        assert_eq!(seen[1], (Format::Text, 5, &b"tt"[..]));
        assert_eq!(seen[2].0, Format::V8);
        assert_eq!(batch(&HeaderMap::new(), body, 3).unwrap()[0].delay_secs, 3);
    }

    #[test]
    fn a_batch_past_the_limits_is_refused_whole() {
        let code = |body: String| batch(&HeaderMap::new(), body.as_bytes(), 0).unwrap_err().code();
        let of = |count: usize, bytes: usize| {
            let message = format!(r#"{{"body":"{}"}}"#, STANDARD.encode(vec![b'a'; bytes]));
            format!(r#"{{"messages":[{}]}}"#, vec![message; count].join(","))
        };
        assert_eq!(code(of(101, 1)), 10206);
        assert_eq!(code(of(0, 1)), 10206);
        assert_eq!(code(of(1, 128_001)), 10204);
        assert_eq!(code(of(3, 100_000)), 10205);
        assert!(batch(&HeaderMap::new(), of(2, 128_000).as_bytes(), 0).is_ok());
        assert_eq!(code("{".into()), 10208);
        assert_eq!(code(r#"{"messages":[{}]}"#.into()), 10207);
        assert_eq!(code(r#"{"messages":[{"body":"*"}]}"#.into()), 10207);
        assert_eq!(code(r#"{"messages":[{"body":"","delaySecs":86401}]}"#.into()), 10203);
        assert_eq!(code(r#"{"messages":[{"body":"","contentType":"x"}]}"#.into()), 10203);
    }

    proptest! {
        #[test]
        fn arbitrary_calls_never_panic(
            format in proptest::collection::vec(32u8..=255, 0..9),
            delay in proptest::collection::vec(32u8..=255, 0..9),
            body in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in [("x-msg-fmt", format), ("x-msg-delay-secs", delay)] {
                if let Ok(value) = HeaderValue::from_bytes(&value) { headers.insert(name, value); }
            }
            let _ = message(&headers, Bytes::from(body.clone()), 0);
            let _ = batch(&headers, &body, 0);
            let _ = oversized_batch(&headers, 1);
        }

        #[test]
        fn arbitrary_batches_never_panic(body in r#"\{"messages":\[(\{"body":"[A-Za-z0-9+/=]{0,9}"(,"(contentType|delaySecs)":("?[a-z0-9.-]{0,7}"?|null))?\},?){0,4}\]\}"#) {
            let _ = batch(&HeaderMap::new(), body.as_bytes(), 0);
        }
    }
}
