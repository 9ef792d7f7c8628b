//! KV namespaces and what is in them. <https://developers.cloudflare.com/api/resources/kv/>

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use skep_catalog::{CatalogError, Kind, Resource};
use skep_kv::{
    BulkEntry, Entry, Expiration, KvError, ListOptions, MAX_VALUE_BYTES, Namespace, PutOptions, Value,
};
use skep_wire::full;

use crate::aside::{aside, listed};
use crate::call::Call;
use crate::reply::{self, Answer, ApiError, ok, ok_text, page, with_info};

/// A bulk request is not longer than this. <https://developers.cloudflare.com/kv/platform/limits/>
const MAX_BULK: usize = 100 << 20;
pub(crate) const MAX_TITLE: usize = 512;
/// What a list can be ordered by.
pub(crate) const ORDERS: [&str; 2] = ["id", "title"];

fn shown(namespace: &Resource) -> Json {
    json!({ "id": namespace.id, "title": namespace.name, "supports_url_encoding": true })
}

fn kv_error(error: KvError) -> ApiError {
    let status = error.status();
    if status.is_server_error() {
        return ApiError::internal(error);
    }
    let code = match &error {
        KvError::NotFound => 10009,
        KvError::TtlNotPositive(_)
        | KvError::TtlTooShort(_)
        | KvError::ExpirationPassed(_)
        | KvError::ExpirationTooSoon(_) => 10034,
        _ => 10033,
    };
    ApiError::new(status, code, error.to_string())
}

fn title_exists(error: CatalogError) -> ApiError {
    match error {
        CatalogError::Exists(_) => {
            ApiError::bad(10014, "A namespace with this account ID and title already exists.")
        }
        other => other.into(),
    }
}

fn row(call: &Call) -> Result<Resource, ApiError> {
    let found = call.tenant()?.catalog().resource(Kind::Kv, call.param(0))?;
    found.ok_or_else(no_namespace)
}

fn no_namespace() -> ApiError {
    ApiError::not_found(10013, "namespace not found")
}

fn namespace(call: &Call) -> Result<Arc<Namespace>, ApiError> {
    let row = row(call)?;
    call.tenant()?.kv().namespace(&row.id).map_err(crate::modules::storage)
}

pub(crate) async fn list(call: Call) -> Answer {
    listed(call, list_of).await
}

fn list_of(call: &Call) -> Answer {
    let (number, per_page) = call.page(20)?;
    let mut all = call.tenant()?.catalog().resources(Kind::Kv)?;
    if call.choice("order", &ORDERS)? == Some("id") {
        all.sort_by(|a, b| a.id.cmp(&b.id));
    }
    if call.descending()? {
        all.reverse();
    }
    page(all.iter().map(shown).collect(), number, per_page)
}

#[derive(Deserialize)]
struct Title {
    #[serde(default)]
    title: String,
    /// Skep's own: the id that a project's configuration has already, for one that is to be made.
    id: Option<String>,
}

impl Title {
    fn checked(self) -> Result<String, ApiError> {
        match self.title.chars().count() {
            0 => Err(ApiError::bad(10019, "A title is required.")),
            length if length > MAX_TITLE => {
                Err(ApiError::bad(10019, format!("A title has at most {MAX_TITLE} characters.")))
            }
            _ => Ok(self.title),
        }
    }
}

/// Whether an id looks as Cloudflare's do.
pub(crate) fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let mut asked = call.json::<Title>().await?;
    let id = match asked.id.take() {
        None => uuid::Uuid::new_v4().simple().to_string(),
        Some(id) if is_id(&id) => id,
        Some(_) => return Err(ApiError::bad(10019, "An id has 32 lowercase hexadecimal digits.")),
    };
    let made = Resource { id, name: asked.checked()?, created_ms: call.now_ms(), settings: Json::Null };
    let tenant = call.tenant()?;
    if tenant.catalog().resource(Kind::Kv, &made.id)?.is_some() {
        return Err(ApiError::bad(10014, format!("A namespace with the id {} already exists.", made.id)));
    }
    ok(shown(&tenant.catalog().add_resource(Kind::Kv, made).await.map_err(title_exists)?))
}

pub(crate) async fn get(call: Call) -> Answer {
    ok(shown(&row(&call)?))
}

pub(crate) async fn rename(mut call: Call) -> Answer {
    let name = call.json::<Title>().await?.checked()?;
    let id = row(&call)?.id;
    let tenant = call.tenant()?;
    let renamed = tenant.catalog().edit_resource(Kind::Kv, &id, move |row| {
        row.name = name;
        Ok::<_, ApiError>(row.clone())
    });
    ok(shown(&renamed.await.map_err(title_exists)?.ok_or_else(no_namespace)??))
}

pub(crate) async fn delete(call: Call) -> Answer {
    let row = row(&call)?;
    let tenant = call.tenant()?;
    tenant.catalog().remove_resource(Kind::Kv, &row.id).await?;
    let removed = tokio::task::spawn_blocking(move || tenant.kv().remove(&row.id));
    removed.await.map_err(ApiError::internal)?.map_err(crate::modules::storage)?;
    ok(json!({}))
}

/// Metadata as JSON; what is kept was checked when it came.
fn metadata(text: Option<&String>) -> Json {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Json::Null)
}

pub(crate) async fn keys(call: Call) -> Answer {
    listed(call, keys_of).await
}

fn keys_of(call: &Call) -> Answer {
    let limit = match call.query("limit") {
        None => ListOptions::default().limit,
        Some(text) => {
            text.parse().map_err(|_| ApiError::bad(10033, "'limit' must be a number from 1 to 1000"))?
        }
    };
    let options = ListOptions {
        prefix: call.query("prefix").unwrap_or_default(),
        cursor: call.query("cursor").filter(|cursor| !cursor.is_empty()),
        limit,
    };
    let listed = namespace(call)?.list(&options).map_err(kv_error)?;
    let shown: Vec<Json> = listed
        .keys
        .iter()
        .map(|key| {
            let mut shown = json!({ "name": key.name });
            if let Some(expiration) = key.expiration {
                shown["expiration"] = expiration.into();
            }
            if key.metadata.is_some() {
                shown["metadata"] = metadata(key.metadata.as_ref());
            }
            shown
        })
        .collect();
    let info = json!({ "count": shown.len(), "cursor": listed.cursor.unwrap_or_default() });
    with_info(shown.into(), info)
}

fn found(call: &Call) -> Result<Entry, ApiError> {
    let entry = namespace(call)?.get(call.param(1)).map_err(kv_error)?;
    entry.ok_or_else(|| ApiError::not_found(10009, "get: 'key not found'"))
}

async fn content(value: Value) -> Result<Bytes, ApiError> {
    match value {
        Value::Inline(bytes) => Ok(bytes),
        Value::File(mut file) => {
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut file, &mut bytes).map(|_| bytes)
            });
            Ok(read.await.map_err(ApiError::internal)?.map_err(ApiError::internal)?.into())
        }
    }
}

/// The value itself, without an envelope.
pub(crate) async fn value(call: Call) -> Answer {
    let entry = found(&call)?;
    let expiration = entry.expiration;
    let body = match entry.value {
        Value::Inline(bytes) => full(bytes),
        Value::File(file) => skep_wire::stream(skep_store::read_pieces(file, 0, entry.size)),
    };
    let kind = HeaderValue::from_static("application/octet-stream");
    let mut response = reply::content(body, entry.size, kind);
    if let Some(expiration) = expiration {
        response.headers_mut().insert("expiration", HeaderValue::from(expiration));
    }
    Ok(response)
}

pub(crate) async fn value_metadata(call: Call) -> Answer {
    ok(metadata(found(&call)?.metadata.as_ref()))
}

fn seconds(call: &Call, name: &str) -> Result<Option<u64>, ApiError> {
    match call.query(name) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            ApiError::bad(10034, format!("Invalid {name} of {text}. Please specify integer greater than 0."))
        }),
    }
}

/// A relative end wins over an absolute one. <https://developers.cloudflare.com/kv/api/write-key-value-pairs/>
fn expiration(at: Option<u64>, after: Option<u64>) -> Option<Expiration> {
    after.map(Expiration::After).or(at.map(Expiration::At))
}

pub(crate) async fn put(mut call: Call) -> Answer {
    let mut options = PutOptions {
        expiration: expiration(seconds(&call, "expiration")?, seconds(&call, "expiration_ttl")?),
        metadata: None,
    };
    let namespace = namespace(&call)?;
    let key = call.param(1).to_owned();
    let is_form = call.header("content-type").is_some_and(|kind| kind.starts_with("multipart/form-data"));
    let value = match is_form {
        false => call.take_body(),
        true => {
            let form = call.form().await?.ok_or_else(|| ApiError::bad(10033, "Could not parse the form"))?;
            let mut stored = form.document("metadata").await?.unwrap_or(Json::Null);
            // Some clients send the text of the JSON as a string.
            if let Some(inner) = stored.as_str().and_then(|text| serde_json::from_str(text).ok()) {
                stored = inner;
            }
            options.metadata = (!stored.is_null()).then(|| stored.to_string());
            let value = form.0.into_iter().find(|part| part.name == "value");
            full(value.ok_or_else(|| ApiError::bad(10033, "The form has no part \"value\""))?.bytes)
        }
    };
    namespace.put(&key, options, value).await.map_err(kv_error)?;
    ok(json!({}))
}

pub(crate) async fn delete_value(call: Call) -> Answer {
    namespace(&call)?.delete(call.param(1)).await.map_err(kv_error)?;
    ok(json!({}))
}

#[derive(Deserialize)]
struct Pair {
    key: String,
    value: String,
    #[serde(default)]
    base64: bool,
    expiration: Option<u64>,
    expiration_ttl: Option<u64>,
    metadata: Option<Json>,
}

async fn bulk_body<T: serde::de::DeserializeOwned + Send + 'static>(call: &mut Call) -> Result<T, ApiError> {
    call.json_within(MAX_BULK, 10012).await
}

pub(crate) async fn put_bulk(mut call: Call) -> Answer {
    let pairs: Vec<Pair> = bulk_body(&mut call).await?;
    let size = pairs.iter().map(|pair| pair.value.len()).sum();
    let entries = aside(size, || entries_of(pairs)).await??;
    let count = entries.len();
    namespace(&call)?.put_many(entries).await.map_err(kv_error)?;
    ok(json!({ "successful_key_count": count, "unsuccessful_keys": [] }))
}

fn entries_of(pairs: Vec<Pair>) -> Result<Vec<BulkEntry>, ApiError> {
    let mut entries = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let value: Bytes = match pair.base64 {
            false => pair.value.into(),
            true => STANDARD
                .decode(&pair.value)
                .map_err(|_| {
                    ApiError::bad(10012, format!("The value of '{}' is not valid base64", pair.key))
                })?
                .into(),
        };
        let options = PutOptions {
            expiration: expiration(pair.expiration, pair.expiration_ttl),
            metadata: pair.metadata.filter(|m| !m.is_null()).map(|m| m.to_string()),
        };
        entries.push(BulkEntry { key: pair.key, options, value });
    }
    Ok(entries)
}

pub(crate) async fn delete_bulk(mut call: Call) -> Answer {
    let keys: Vec<String> = bulk_body(&mut call).await?;
    namespace(&call)?.delete_many(&keys).await.map_err(kv_error)?;
    ok(json!({ "successful_key_count": keys.len(), "unsuccessful_keys": [] }))
}

#[derive(Deserialize)]
struct Wanted {
    keys: Vec<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default, rename = "withMetadata")]
    with_metadata: bool,
}

pub(crate) async fn get_bulk(mut call: Call) -> Answer {
    let wanted: Wanted = bulk_body(&mut call).await?;
    if let Some(kind) = wanted.kind.as_ref().filter(|kind| !["text", "json"].contains(&kind.as_str())) {
        return Err(kv_error(KvError::BulkType(kind.clone())));
    }
    if wanted.keys.len() > skep_kv::MAX_BULK_GET_KEYS {
        return Err(kv_error(KvError::TooManyKeys));
    }
    let namespace = namespace(&call)?;
    let (mut found, mut total) = (Vec::new(), 0);
    let mut asked = HashSet::new();
    for key in wanted.keys {
        if !asked.insert(key.clone()) {
            continue;
        }
        let entry = namespace.get(&key).map_err(kv_error)?;
        total += entry.as_ref().map_or(0, |entry| entry.size);
        if total > MAX_VALUE_BYTES {
            return Err(kv_error(KvError::BulkTooLarge));
        }
        found.push((key, entry));
    }
    // The values, and the text that is made of them: a byte becomes six at most.
    let size = usize::try_from(total).unwrap_or(usize::MAX);
    call.take_room(size.saturating_mul(7)).await?;
    let mut values = Vec::new();
    for (key, entry) in found {
        let read = match entry {
            None => None,
            Some(entry) => {
                let (metadata, expiration) = (metadata(entry.metadata.as_ref()), entry.expiration);
                Some(Read { bytes: content(entry.value).await?, metadata, expiration })
            }
        };
        values.push((key, read));
    }
    let (is_json, with_metadata) = (wanted.kind.as_deref() == Some("json"), wanted.with_metadata);
    let text = aside(size, move || values_text(values, is_json, with_metadata)).await??;
    Ok(call.in_room(ok_text(text)))
}

/// A value of a bulk read.
struct Read {
    bytes: Bytes,
    metadata: Json,
    expiration: Option<u64>,
}

/// `{"values": {…}}`, without making values of what is JSON already.
fn values_text(
    values: Vec<(String, Option<Read>)>,
    is_json: bool,
    with_metadata: bool,
) -> Result<Bytes, ApiError> {
    let mut text = br#"{"values":{"#.to_vec();
    for (n, (key, read)) in values.into_iter().enumerate() {
        if n > 0 {
            text.push(b',');
        }
        append(&mut text, &key)?;
        text.push(b':');
        let Some(Read { bytes, metadata, expiration }) = read else {
            text.extend(b"null");
            continue;
        };
        if with_metadata {
            text.extend(br#"{"value":"#);
        }
        match is_json {
            true => {
                let raw = serde_json::from_slice::<&RawValue>(&bytes);
                text.extend(raw.map_err(|_| kv_error(KvError::NotJson))?.get().bytes());
            }
            false => append(&mut text, &String::from_utf8_lossy(&bytes))?,
        }
        if with_metadata {
            text.extend(br#","metadata":"#);
            append(&mut text, &metadata)?;
            if let Some(expiration) = expiration {
                text.extend(format!(r#","expiration":{expiration}"#).bytes());
            }
            text.push(b'}');
        }
    }
    text.extend(b"}}");
    Ok(text.into())
}

fn append<T: serde::Serialize + ?Sized>(text: &mut Vec<u8>, value: &T) -> Result<(), ApiError> {
    serde_json::to_writer(text, value).map_err(ApiError::internal)
}
