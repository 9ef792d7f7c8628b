//! `POST /bulk/get`: many values in one JSON object.

use std::collections::HashSet;

use bytes::Bytes;
use serde::Deserialize;
use skep_wire::Body;

use crate::error::KvError;
use crate::limits::{MAX_BULK_GET_BYTES, MAX_BULK_GET_KEYS, check_cache_ttl, check_key};
use crate::namespace::Namespace;
use crate::object::Object;
use crate::pieces;
use crate::rows::{Place, Row};

/// Bytes of the request at most: 100 keys of 512 bytes, each byte written as `\u00XX`, fit several times.
pub(crate) const MAX_REQUEST: usize = 1024 * 1024;

/// Bytes of values that are put into JSON on the event loop, all at once; others wait meanwhile. Values that are files have more.
const AT_ONCE: u64 = 64 * 1024;

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

/// A key with its value and its metadata, if it is there.
type Small = (String, Option<(Bytes, Option<String>)>);

/// Answers the request `body` with a JSON object: all of it if it is small, else as it is read.
pub(crate) async fn get(namespace: &Namespace, body: &[u8]) -> Result<Body, KvError> {
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
    let keys: Vec<String> = request.keys.into_iter().filter(|key| seen.insert(key.clone())).collect();
    let mut total = 0;
    let mut small: Vec<Small> = Vec::with_capacity(keys.len());
    for key in &keys {
        let row = namespace.row(key)?;
        total += row.as_ref().map_or(0, |row| row.size);
        if total > MAX_BULK_GET_BYTES {
            return Err(KvError::BulkTooLarge);
        }
        match row {
            None => small.push((key.clone(), None)),
            Some(Row { place: Place::Inline(value), metadata, .. }) if total <= AT_ONCE => {
                small.push((key.clone(), Some((value, metadata))));
            }
            Some(_) => small.clear(),
        }
    }
    match small.len() == keys.len() {
        true => whole(small, json, request.with_metadata).map(skep_wire::full),
        false => pieces::read(namespace, keys, json, request.with_metadata).await,
    }
}

fn whole(entries: Vec<Small>, json: bool, with_metadata: bool) -> Result<Vec<u8>, KvError> {
    let mut object = Object::new(json, with_metadata);
    for (key, entry) in entries {
        let Some((value, metadata)) = entry else {
            object.absent(&key)?;
            continue;
        };
        object.begin(&key)?;
        object.value(&value)?;
        object.end(metadata.as_deref());
    }
    Ok(object.finish())
}
