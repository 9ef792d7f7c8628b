//! D1: a database as SQL, exported and imported as a whole.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use md5::{Digest, Md5};
use serde_json::{Value as Json, json};
use url::Url;

use super::kv::made;
use super::{Copy, Mark, pages, text};
use crate::client::Client;
use crate::error::ApiError;
use crate::resources::{Kind, encode};

/// The longest SQL text.
const MAX_SQL: usize = 1 << 30;
/// Until a file is down or up.
const TIME: Duration = Duration::from_secs(900);
/// Between two questions whether it is done, and how many of them.
const WAIT: Duration = Duration::from_millis(500);
const QUESTIONS: u32 = 1800;

pub(super) async fn databases(client: &Client) -> Result<Vec<(String, String)>, ApiError> {
    let all = pages(client, "{account}/d1/database", 100, None).await?;
    let pair = |own: &Json| Some((own["name"].as_str()?.to_owned(), own["uuid"].as_str()?.to_owned()));
    Ok(all.iter().filter_map(pair).collect())
}

pub(super) async fn copy(copy: &mut Copy<'_>, name: &str, database: &str, id: &str) -> Result<(), String> {
    let to = made(copy.to, Kind::D1, database, Some(id)).await?;
    let sql = exported(copy.from, id).await?;
    let tables = "SELECT count(*) AS n FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
                  AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\'";
    let query = format!("{{account}}/d1/database/{}/query", encode(&to));
    let call = copy.to.call(Method::POST, query).json(&json!({ "sql": tables })).repeatable();
    let there = call.send().await.map_err(text)?.result;
    if there[0]["results"][0]["n"].as_u64().unwrap_or(0) > 0 {
        return Err("the database has tables there already: nothing was written. Delete it, or leave it out with --only".to_owned());
    }
    let count = if sql.is_empty() { 0 } else { import(copy.to, &to, sql).await? };
    copy.keep(name, Mark { cursor: None, copied: count, done: true })
}

/// The whole database as SQL.
pub(super) async fn exported(client: &Client, id: &str) -> Result<Bytes, String> {
    let path = format!("{{account}}/d1/database/{}/export", encode(id));
    let mut body = json!({ "output_format": "polling" });
    for _ in 0..QUESTIONS {
        // Asking twice makes the same file.
        let answer =
            client.call(Method::POST, &path).json(&body).repeatable().send().await.map_err(text)?.result;
        if let Some(url) = answer["result"]["signed_url"].as_str() {
            return file(client, url, Request::new(Bytes::new())).await;
        }
        if let Some(error) = answer["error"].as_str() {
            return Err(error.to_owned());
        }
        body["current_bookmark"] = answer["at_bookmark"].clone();
        tokio::time::sleep(WAIT).await;
    }
    Err("the export does not end".to_owned())
}

/// Runs `sql` there; how many statements it had.
async fn import(client: &Client, id: &str, sql: Bytes) -> Result<u64, String> {
    let path = format!("{{account}}/d1/database/{}/import", encode(id));
    let etag = hex::encode(Md5::digest(&sql));
    let ask = |body: Json| client.call(Method::POST, &path).json(&body).send();
    let begun = ask(json!({ "action": "init", "etag": etag })).await.map_err(text)?.result;
    if let Some(url) = begun["upload_url"].as_str() {
        let mut put = Request::new(sql);
        *put.method_mut() = Method::PUT;
        file(client, url, put).await?;
    }
    let ingest = json!({ "action": "ingest", "etag": etag, "filename": begun["filename"] });
    let mut answer = ask(ingest).await.map_err(text)?.result;
    for _ in 0..QUESTIONS {
        if let Some(error) = answer["error"].as_str() {
            return Err(error.to_owned());
        }
        if answer["status"] == "complete" {
            return Ok(answer["result"]["num_queries"].as_u64().unwrap_or(0));
        }
        tokio::time::sleep(WAIT).await;
        let poll = json!({ "action": "poll", "current_bookmark": answer["at_bookmark"] });
        answer = ask(poll).await.map_err(text)?.result;
    }
    Err("the import does not end".to_owned())
}

/// A file at an address that carries its own permission: the token is not sent there.
async fn file(client: &Client, url: &str, request: Request<Bytes>) -> Result<Bytes, String> {
    let target = Url::parse(url).map_err(|e| format!("the address of the file: {e}"))?;
    let answer = client.transport().send(&target, request, MAX_SQL, TIME).await.map_err(|e| e.to_string())?;
    match answer.status().is_success() {
        true => Ok(answer.into_body()),
        false => Err(format!("the file's server answers with HTTP {}", answer.status().as_u16())),
    }
}
