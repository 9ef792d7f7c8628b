//! KV: keys page by page, values several at once, written in bulk with their metadata and expiry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde_json::{Value as Json, json};

use super::{Copy, Mark, pages, text};
use crate::client::Client;
use crate::error::ApiError;
use crate::resources::{Kind, Resource, encode};

/// Values at once.
const PARALLEL: usize = 8;
/// Bytes of values in one bulk write; one value alone may be longer.
const BULK: usize = 8 << 20;

/// Titles and ids.
pub(super) async fn namespaces(client: &Client) -> Result<Vec<(String, String)>, ApiError> {
    let all = pages(client, "{account}/storage/kv/namespaces", 100, None).await?;
    let pair = |own: &Json| Some((own["title"].as_str()?.to_owned(), own["id"].as_str()?.to_owned()));
    Ok(all.iter().filter_map(pair).collect())
}

pub(super) async fn copy(copy: &mut Copy<'_>, name: &str, title: &str, id: &str) -> Result<(), String> {
    let to = made(copy.to, Kind::Kv, title, Some(id)).await?;
    let mut mark = copy.mark(name);
    loop {
        let (keys, next) = keys(copy.from, id, mark.cursor.as_deref()).await.map_err(text)?;
        mark.copied += write(copy, id, &to, &keys).await?;
        mark = Mark { done: next.is_none(), cursor: next, copied: mark.copied };
        copy.keep(name, mark.clone())?;
        if mark.done {
            return Ok(());
        }
    }
}

/// A page of keys, and where the next one begins.
pub(crate) async fn keys(
    client: &Client,
    namespace: &str,
    cursor: Option<&str>,
) -> Result<(Vec<Json>, Option<String>), ApiError> {
    let cursor = cursor.map(|cursor| format!("&cursor={}", encode(cursor))).unwrap_or_default();
    let path = format!("{{account}}/storage/kv/namespaces/{namespace}/keys?limit=1000{cursor}");
    let page = client.get(path).await?;
    let next = page.info["cursor"].as_str().filter(|cursor| !cursor.is_empty()).map(str::to_owned);
    Ok((page.result.as_array().cloned().unwrap_or_default(), next))
}

/// Reads the values of `keys` and writes them; how many there were.
async fn write(copy: &Copy<'_>, from: &str, to: &str, keys: &[Json]) -> Result<u64, String> {
    let values = stream::iter(keys).map(|key| read(copy.from, from, key)).buffered(PARALLEL);
    let mut values = std::pin::pin!(values);
    let (mut bulk, mut size, mut count) = (Vec::new(), 0, 0);
    while let Some(value) = values.try_next().await.map_err(text)? {
        let Some((entry, length)) = value else { continue };
        if size + length > BULK && !bulk.is_empty() {
            send(copy.to, to, std::mem::take(&mut bulk)).await.map_err(text)?;
            size = 0;
        }
        bulk.push(entry);
        size += length;
        count += 1;
    }
    if !bulk.is_empty() {
        send(copy.to, to, bulk).await.map_err(text)?;
    }
    Ok(count)
}

/// One entry of a bulk write and its size; `None` if the value has gone meanwhile.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    key: &Json,
) -> Result<Option<(Json, usize)>, ApiError> {
    let name = key["name"].as_str().unwrap_or_default();
    let path = format!("{{account}}/storage/kv/namespaces/{namespace}/values/{}", encode(name));
    let value: Bytes = match client.call(Method::GET, path).bytes().await {
        Ok(value) => value,
        Err(error) if error.is_missing(&[10009]) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut entry = json!({ "key": name, "value": STANDARD.encode(&value), "base64": true });
    for field in ["expiration", "metadata"] {
        if !key[field].is_null() {
            entry[field] = key[field].clone();
        }
    }
    Ok(Some((entry, value.len())))
}

async fn send(client: &Client, namespace: &str, bulk: Vec<Json>) -> Result<(), ApiError> {
    let path = format!("{{account}}/storage/kv/namespaces/{namespace}/bulk");
    client.call(Method::PUT, path).json(&bulk.into()).send().await?;
    Ok(())
}

/// The resource of this kind, with the id that it has there or at least its name, made if it is missing; its id.
pub(super) async fn made(
    client: &Client,
    kind: Kind,
    name: &str,
    there: Option<&str>,
) -> Result<String, String> {
    let (binding, id, jurisdiction) = (None, None, None);
    let asked = there.map(str::to_owned);
    let mut own = Resource { kind, binding, name: name.to_owned(), asked, id, jurisdiction, config: None };
    own.find(client, &[]).await.map_err(text)?;
    if own.id.is_none() {
        own.create(client).await.map_err(text)?;
    }
    own.id.ok_or_else(|| format!("the {} {name} was made without an id", kind.title()))
}
