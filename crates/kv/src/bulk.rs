//! `POST /bulk/get`: many values in one JSON object.

use std::collections::HashSet;
use std::io::Read;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use skep_runtime::Turns;
use skep_store::StoreError;

use crate::error::KvError;
use crate::limits::{MAX_BULK_GET_BYTES, MAX_BULK_GET_KEYS, check_cache_ttl, check_key};
use crate::namespace::Namespace;
use crate::types::{Entry, Value};

/// Bytes of the request at most: 100 keys of 512 bytes, each byte written as `\u00XX`, fit several times.
pub(crate) const MAX_REQUEST: usize = 1024 * 1024;

/// Bytes of values that are put into JSON on the event loop; others wait meanwhile. Values that are files have more.
const AT_ONCE: u64 = 64 * 1024;

static TURNS: Turns = Turns::new();

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BulkGet {
    keys: Vec<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    with_metadata: bool,
    /// The engine sends a string.
    #[serde(default)]
    cache_ttl: Option<serde_json::Value>,
}

/// Answers the request `body` with a JSON object.
pub(crate) async fn get(namespace: &Namespace, body: &[u8]) -> Result<Vec<u8>, KvError> {
    let request: BulkGet = serde_json::from_slice(body).map_err(|_| KvError::BulkBody)?;
    let json = match request.kind.as_deref() {
        None | Some("" | "text") => false,
        Some("json") => true,
        Some(other) => return Err(KvError::BulkType(other.to_owned())),
    };
    match request.keys.len() {
        0 => return Err(KvError::NoKeys),
        1..=MAX_BULK_GET_KEYS => {}
        _ => return Err(KvError::TooManyKeys),
    }
    request.keys.iter().try_for_each(|key| check_key(key))?;
    match &request.cache_ttl {
        None | Some(serde_json::Value::Null) => {}
        Some(serde_json::Value::String(text)) => check_cache_ttl(text)?,
        Some(other) => check_cache_ttl(&other.to_string())?,
    }
    let mut seen = HashSet::new();
    let mut total = 0;
    let mut entries = Vec::with_capacity(request.keys.len());
    for key in request.keys.iter().filter(|key| seen.insert(key.as_str())) {
        let entry = namespace.get(key)?;
        total += entry.as_ref().map_or(0, |entry| entry.size);
        if total > MAX_BULK_GET_BYTES {
            return Err(KvError::BulkTooLarge);
        }
        entries.push((key.clone(), entry));
    }
    let with_metadata = request.with_metadata;
    if total <= AT_ONCE {
        return write(entries, json, with_metadata);
    }
    let written = TURNS.aside(move || write(entries, json, with_metadata));
    written.await.map_err(|_| StoreError::Closed)?
}

fn write(entries: Vec<(String, Option<Entry>)>, json: bool, with_metadata: bool) -> Result<Vec<u8>, KvError> {
    let mut object = Object::new();
    for (key, entry) in entries {
        object.key(&key)?;
        match entry {
            None => object.raw("null"),
            Some(Entry { value, metadata, .. }) => {
                let value = read(value)?;
                if with_metadata {
                    object.raw("{\"value\":");
                    object.value(&value, json)?;
                    object.raw(",\"metadata\":");
                    object.raw(metadata.as_deref().unwrap_or("null"));
                    object.raw("}");
                } else {
                    object.value(&value, json)?;
                }
            }
        }
    }
    Ok(object.finish())
}

fn read(value: Value) -> Result<Bytes, KvError> {
    let mut file = match value {
        Value::Inline(bytes) => return Ok(bytes),
        Value::File(file) => file,
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| StoreError::io("cannot read a value", e))?;
    Ok(bytes.into())
}

/// A JSON object being written.
struct Object(Vec<u8>);

impl Object {
    fn new() -> Self {
        Self(b"{".to_vec())
    }

    fn raw(&mut self, json: &str) {
        self.0.extend_from_slice(json.as_bytes());
    }

    fn string(&mut self, text: &str) -> Result<(), KvError> {
        serde_json::to_writer(&mut self.0, text)
            .map_err(|e| StoreError::io("cannot write JSON", e.into()).into())
    }

    fn key(&mut self, key: &str) -> Result<(), KvError> {
        if self.0.len() > 1 {
            self.raw(",");
        }
        self.string(key)?;
        self.raw(":");
        Ok(())
    }

    /// The value as `TextDecoder` reads it: no byte order mark, U+FFFD for what is not UTF-8.
    fn value(&mut self, value: &[u8], json: bool) -> Result<(), KvError> {
        let text = String::from_utf8_lossy(value.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(value));
        if !json {
            return self.string(&text);
        }
        let parsed: &RawValue = serde_json::from_str(&text).map_err(|_| KvError::NotJson)?;
        self.raw(parsed.get());
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.raw("}");
        self.0
    }
}
