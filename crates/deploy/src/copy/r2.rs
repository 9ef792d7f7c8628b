//! R2: objects page by page, with the headers that they are served with.

use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde_json::Value as Json;

use super::kv::made;
use super::{Copy, Mark, text};
use crate::client::{Call, Client};
use crate::error::ApiError;
use crate::resources::{Kind, encode};

/// Objects at once, each in memory as a whole. Longer ones go alone and are sent on as they arrive.
const PARALLEL: usize = 6;
const SMALL: u64 = 4 << 20;
/// The longest object that the API takes.
pub(super) const MAX_OBJECT: u64 = 300 << 20;

/// Fields of an object's metadata, and the headers that they are.
const FIELDS: [(&str, &str); 5] = [
    ("contentType", "content-type"),
    ("contentLanguage", "content-language"),
    ("contentDisposition", "content-disposition"),
    ("contentEncoding", "content-encoding"),
    ("cacheControl", "cache-control"),
];

pub(super) async fn buckets(client: &Client) -> Result<Vec<String>, ApiError> {
    let answer = client.get("{account}/r2/buckets?per_page=1000").await?.result;
    let all = answer["buckets"].as_array().into_iter().flatten();
    Ok(all.filter_map(|own| own["name"].as_str().map(str::to_owned)).collect())
}

pub(super) async fn copy(copy: &mut Copy<'_>, name: &str, bucket: &str) -> Result<(), String> {
    made(copy.to, Kind::R2, bucket, None).await?;
    let mut mark = copy.mark(name);
    loop {
        let (objects, next) = page(copy.from, bucket, mark.cursor.as_deref()).await.map_err(text)?;
        let (small, large): (Vec<&Json>, Vec<&Json>) =
            objects.iter().partition(|own| own["size"].as_u64().unwrap_or(0) <= SMALL);
        let (from, to) = (copy.from, copy.to);
        let each = small.iter().map(|own| object(from, to, bucket, own));
        stream::iter(each).buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await?;
        let mut left = 0;
        for own in large {
            if own["size"].as_u64().unwrap_or(0) > MAX_OBJECT {
                left += 1;
                let key = own["key"].as_str().unwrap_or_default();
                copy.notes
                    .push(format!("{name}: {key} has more than {MAX_OBJECT} bytes: copy it over the S3 API"));
                continue;
            }
            long_object(from, to, bucket, own).await?;
        }
        let has_custom =
            |own: &&Json| own["custom_metadata"].as_object().is_some_and(|fields| !fields.is_empty());
        let custom = objects.iter().filter(has_custom).count();
        if custom > 0 {
            copy.notes.push(format!(
                "{name}: the custom metadata of {custom} objects cannot be written over this API"
            ));
        }
        let copied = mark.copied + objects.len() as u64 - left;
        mark = Mark { done: next.is_none(), cursor: next, copied };
        copy.keep(name, mark.clone())?;
        if mark.done {
            return Ok(());
        }
    }
}

/// A page of objects, and where the next one begins.
pub(super) async fn page(
    client: &Client,
    bucket: &str,
    cursor: Option<&str>,
) -> Result<(Vec<Json>, Option<String>), ApiError> {
    let cursor = cursor.map(|cursor| format!("&cursor={}", encode(cursor))).unwrap_or_default();
    let path = format!("{{account}}/r2/buckets/{}/objects?per_page=500{cursor}", encode(bucket));
    let page = client.get(path).await?;
    let next = page.info["cursor"].as_str().filter(|cursor| !cursor.is_empty()).map(str::to_owned);
    let next = next.filter(|_| page.info["is_truncated"] != false);
    Ok((page.result.as_array().cloned().unwrap_or_default(), next))
}

fn path_of(bucket: &str, own: &Json) -> String {
    let key = own["key"].as_str().unwrap_or_default();
    let segments: Vec<String> = key.split('/').map(encode).collect();
    format!("{{account}}/r2/buckets/{}/objects/{}", encode(bucket), segments.join("/"))
}

/// What reads the content of an object.
pub(super) fn read<'a>(client: &'a Client, bucket: &str, own: &Json) -> Call<'a> {
    client.call(Method::GET, path_of(bucket, own))
}

/// `None` if what was to be read has gone since it was listed.
pub(super) fn if_there<T>(read: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match read {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.method == Method::GET && error.is_missing(&[10007]) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What writes an object.
fn write<'a>(client: &'a Client, bucket: &str, own: &Json) -> Call<'a> {
    let put =
        client.call(Method::PUT, path_of(bucket, own)).header("content-type", "application/octet-stream");
    FIELDS.into_iter().fold(put, |put, (field, header)| match own["http_metadata"][field].as_str() {
        Some(value) => put.header(header, value),
        None => put,
    })
}

async fn object(from: &Client, to: &Client, bucket: &str, own: &Json) -> Result<(), String> {
    // It may have grown a little since it was listed.
    let content = read(from, bucket, own).limit(2 * SMALL as usize).bytes().await;
    let Some(content) = if_there(content).map_err(text)? else { return Ok(()) };
    write(to, bucket, own).content(content).send().await.map(drop).map_err(text)
}

async fn long_object(from: &Client, to: &Client, bucket: &str, own: &Json) -> Result<(), String> {
    let length = own["size"].as_u64().unwrap_or(0);
    let piped = write(to, bucket, own).pipe(&read(from, bucket, own), length).await;
    if_there(piped).map(drop).map_err(text)
}
