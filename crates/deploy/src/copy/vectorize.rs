//! Vectorize: indexes with their metadata indexes, and vectors page by page.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde_json::{Value as Json, json};

use super::{Copy, Mark, Wanted, text};
use crate::client::Client;
use crate::error::ApiError;
use crate::resources::encode;

const INDEXES: &str = "{account}/vectorize/v2/indexes";
/// There is no such index, or it was deleted.
const NO_INDEX: [u64; 2] = [3000, 3005];
/// Ids of a page.
const PAGE: usize = 1000;
/// Vectors of one call that reads them, and such calls at once.
const READ: usize = 20;
const PARALLEL: usize = 8;
/// Vectors of one call that keeps them: some 8 MB.
const KEEP: usize = 200;

fn path(index: &str, below: &str) -> String {
    format!("{INDEXES}/{}{below}", encode(index))
}

/// All indexes, as the API shows them.
pub(super) async fn indexes(client: &Client) -> Result<Vec<Json>, ApiError> {
    Ok(client.get(INDEXES).await?.result.as_array().cloned().unwrap_or_default())
}

/// The metadata indexes of an index.
pub(super) async fn properties(client: &Client, index: &str) -> Result<Vec<Json>, ApiError> {
    let all = client.get(path(index, "/metadata_index/list")).await?.result;
    Ok(all["metadataIndexes"].as_array().cloned().unwrap_or_default())
}

/// A page of ids, and where the next one begins.
pub(super) async fn ids(
    client: &Client,
    index: &str,
    cursor: Option<&str>,
) -> Result<(Vec<String>, Option<String>), ApiError> {
    let cursor = cursor.map(|cursor| format!("&cursor={}", encode(cursor))).unwrap_or_default();
    let page = client.get(path(index, &format!("/list?count={PAGE}{cursor}"))).await?.result;
    let ids = page["vectors"].as_array().into_iter().flatten().filter_map(|own| own["id"].as_str());
    let next = page["nextCursor"].as_str().filter(|next| !next.is_empty()).map(str::to_owned);
    Ok((ids.map(str::to_owned).collect(), next))
}

/// The vectors with these ids, each as a line, handed on some at a time; how many there are.
pub(super) async fn vectors(
    client: &Client,
    index: &str,
    ids: &[String],
    mut keep: impl AsyncFnMut(Vec<String>) -> Result<(), String>,
) -> Result<u64, String> {
    let read = |ids: &[String]| {
        let call = client.call(Method::POST, path(index, "/get_by_ids")).json(&json!({ "ids": ids }));
        call.repeatable().send()
    };
    let pages = stream::iter(ids.chunks(READ)).map(read).buffered(PARALLEL);
    let mut pages = std::pin::pin!(pages);
    let (mut lines, mut count) = (Vec::new(), 0);
    while let Some(page) = pages.try_next().await.map_err(text)? {
        let found = page.result.as_array().into_iter().flatten();
        lines.extend(found.map(|vector| line(vector).to_string()));
        if lines.len() >= KEEP {
            count += lines.len() as u64;
            keep(std::mem::take(&mut lines)).await?;
        }
    }
    count += lines.len() as u64;
    if !lines.is_empty() {
        keep(lines).await?;
    }
    Ok(count)
}

/// A vector as it is kept: what is null is not there.
fn line(vector: &Json) -> Json {
    let mut line = vector.clone();
    if let Some(fields) = line.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    line
}

/// Makes the indexes that are wanted, and copies what is in them.
pub(super) async fn copy(copy: &mut Copy<'_>, wanted: &Wanted, print: &impl Fn(&str)) -> Result<(), String> {
    let all = match indexes(copy.from).await {
        Ok(all) => all,
        // A token that may not see them, or a server that has none.
        Err(error) => {
            copy.notes.push(format!("vectorize: cannot be read with this token: {error}"));
            return Ok(());
        }
    };
    for index in all {
        let own = index["name"].as_str().unwrap_or_default().to_owned();
        let name = format!("vectorize/{own}");
        if !wanted.has(&name) || copy.is_done(&name, print) {
            continue;
        }
        one(copy, &name, &own, &index).await.map_err(|error| format!("{name}: {error}"))?;
        copy.tell(&name, "vector", print);
    }
    Ok(())
}

async fn one(copy: &mut Copy<'_>, name: &str, own: &str, index: &Json) -> Result<(), String> {
    if copy.to.find(path(own, ""), &NO_INDEX).await.map_err(text)?.is_none() {
        let body = json!({ "name": own, "config": index["config"], "description": index["description"] });
        copy.to.call(Method::POST, INDEXES).json(&line(&body)).send().await.map_err(text)?;
    }
    for property in properties(copy.from, own).await.map_err(text)? {
        let call = copy.to.call(Method::POST, path(own, "/metadata_index/create")).json(&property);
        call.repeatable().send().await.map_err(text)?;
    }
    let mut mark = copy.mark(name);
    loop {
        let (ids, next) = match ids(copy.from, own, mark.cursor.as_deref()).await {
            // A cursor of an earlier run may have expired: then from the beginning, which changes nothing that is there.
            Err(_) if mark.cursor.is_some() => {
                mark = Mark::default();
                continue;
            }
            page => page.map_err(text)?,
        };
        let to = copy.to;
        let keep = async |lines: Vec<String>| {
            let call = to.call(Method::POST, path(own, "/upsert"));
            let call = call.raw("application/x-ndjson", Bytes::from(lines.join("\n")));
            call.repeatable().send().await.map(drop).map_err(text)
        };
        mark.copied += vectors(copy.from, own, &ids, keep).await?;
        mark = Mark { done: next.is_none(), cursor: next, copied: mark.copied };
        copy.keep(name, mark.clone())?;
        if mark.done {
            return Ok(());
        }
    }
}
