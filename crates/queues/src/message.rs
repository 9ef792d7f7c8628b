//! Messages and batches, and the JSON that carries a batch into a cell.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde::ser::SerializeStruct;

/// How the application encoded a body. The engine alone looks inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// UTF-8 text.
    Text,
    /// JSON text.
    Json,
    /// Raw bytes.
    Bytes,
    /// What V8's `ValueSerializer` makes.
    V8,
}

impl Format {
    /// The format of that name.
    pub fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"text" => Some(Self::Text),
            b"json" => Some(Self::Json),
            b"bytes" => Some(Self::Bytes),
            b"v8" => Some(Self::V8),
            _ => None,
        }
    }

    /// The number that stands for it on the disk; part of the stored format.
    pub(crate) fn stored(self) -> i64 {
        match self {
            Self::Text => 0,
            Self::Json => 1,
            Self::Bytes => 2,
            Self::V8 => 3,
        }
    }

    pub(crate) fn from_stored(number: i64) -> Self {
        match number {
            0 => Self::Text,
            1 => Self::Json,
            2 => Self::Bytes,
            _ => Self::V8,
        }
    }
}

/// A message under delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// 32 hexadecimal digits; the same at each delivery.
    pub id: String,
    /// When it was sent, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// Which delivery this is, from 1.
    pub attempts: u32,
    /// How the body is encoded.
    pub format: Format,
    /// The body.
    pub body: Bytes,
}

impl Serialize for Message {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Message", 5)?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("ts", &self.timestamp_ms)?;
        fields.serialize_field("attempts", &self.attempts)?;
        fields.serialize_field("fmt", &self.format)?;
        fields.serialize_field("b64", &STANDARD.encode(&self.body))?;
        fields.end()
    }
}

/// What waits in a queue: every message that is stored, delayed ones and those under delivery included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Messages.
    pub backlog_count: u64,
    /// Bytes of their bodies.
    pub backlog_bytes: u64,
    /// When the oldest was sent, in milliseconds since the Unix epoch; 0 if there is none.
    pub oldest_message_timestamp: u64,
}

/// Messages that are delivered together. Its JSON is what `shims/events.js` takes:
/// `{queue, messages: [{id, ts, attempts, fmt, b64}], metadata: {metrics}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The queue's name.
    pub queue: String,
    /// At least one, at most 100.
    pub messages: Vec<Message>,
    /// What waits in the queue besides this batch.
    pub metrics: Metrics,
}

impl Batch {
    /// Whether making a text of it takes a while.
    pub fn is_large(&self) -> bool {
        is_large(self.messages.len(), self.messages.iter().map(|message| message.body.len()).sum())
    }
}

/// Whether so many messages, whose bodies have so many bytes, are more than the event loop does in passing.
pub(crate) fn is_large(messages: usize, bytes: usize) -> bool {
    messages > 10 || bytes > 16 << 10
}

impl Serialize for Batch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Metadata {
            metrics: Metrics,
        }
        let mut fields = serializer.serialize_struct("Batch", 3)?;
        fields.serialize_field("queue", &self.queue)?;
        fields.serialize_field("messages", &self.messages)?;
        fields.serialize_field("metadata", &Metadata { metrics: self.metrics })?;
        fields.end()
    }
}

/// A message on its way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewMessage {
    pub format: Format,
    pub delay_secs: u32,
    pub body: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_the_json_that_the_shim_takes() {
        let message = Message {
            id: "0af7651916cd43dd8448eb211c80319c".into(),
            timestamp_ms: 1_700_000_000_123,
            attempts: 2,
            format: Format::V8,
            body: Bytes::from_static(b"\xff\x0f"),
        };
        let metrics = Metrics { backlog_count: 3, backlog_bytes: 40, oldest_message_timestamp: 7 };
        let batch = Batch { queue: "jobs".into(), messages: vec![message], metrics };
        assert_eq!(
            serde_json::to_string(&batch).unwrap(),
            r#"{"queue":"jobs","messages":[{"id":"0af7651916cd43dd8448eb211c80319c","ts":1700000000123,"attempts":2,"fmt":"v8","b64":"/w8="}],"metadata":{"metrics":{"backlogCount":3,"backlogBytes":40,"oldestMessageTimestamp":7}}}"#
        );
    }

    #[test]
    fn a_format_survives_the_disk() {
        for format in [Format::Text, Format::Json, Format::Bytes, Format::V8] {
            assert_eq!(Format::from_stored(format.stored()), format);
        }
    }
}
