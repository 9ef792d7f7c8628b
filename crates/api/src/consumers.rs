//! Who consumes a queue: a script, or whoever pulls over HTTP.
//! <https://developers.cloudflare.com/api/resources/queues/subresources/consumers/>

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_catalog::Resource;
use skep_queues::{
    MAX_BATCH_SIZE, MAX_BATCH_TIMEOUT, MAX_CONCURRENCY, MAX_DELAY_SECS, MAX_RETRIES, MAX_VISIBILITY_MS,
};

use crate::call::{Call, script_of};
use crate::queues::{check_name, consumers, edit, row};
use crate::reply::{Answer, ApiError, ok, time};
use crate::scripts::current_version;

/// The settings of a consumer, each with its least and its most.
/// <https://developers.cloudflare.com/queues/configuration/configure-queues/>
pub(crate) const SETTINGS: [(&str, u64, u64); 6] = [
    ("batch_size", 1, MAX_BATCH_SIZE as u64),
    ("max_retries", 0, MAX_RETRIES as u64),
    ("max_wait_time_ms", 0, MAX_BATCH_TIMEOUT as u64 * 1000),
    ("max_concurrency", 1, MAX_CONCURRENCY as u64),
    ("retry_delay", 0, MAX_DELAY_SECS as u64),
    ("visibility_timeout_ms", 0, MAX_VISIBILITY_MS),
];

fn check_settings(settings: Option<&Json>) -> Result<(), ApiError> {
    let Some(settings) = settings else { return Ok(()) };
    for (key, least, most) in SETTINGS {
        let value = &settings[key];
        if !value.is_null() && !value.as_u64().is_some_and(|n| (least..=most).contains(&n)) {
            let text = format!("The setting {key} is not valid: it is {least} to {most}.");
            return Err(ApiError::bad(10026, text));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Consumer {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    script_name: Option<String>,
    script: Option<String>,
    dead_letter_queue: Option<String>,
    settings: Option<Json>,
}

async fn consumer(call: &mut Call, row: &Resource, id: String) -> Result<Json, ApiError> {
    let asked: Consumer = call.json().await?;
    if let Some(dead) = asked.dead_letter_queue.as_ref().filter(|name| !name.is_empty()) {
        check_name(dead)?;
    }
    check_settings(asked.settings.as_ref())?;
    match asked.kind.as_deref() {
        None | Some("worker") => {}
        Some("http_pull") => return pull_consumer(call, row, id, asked),
        Some(other) => {
            let text = format!("A consumer has the type \"worker\" or \"http_pull\", not \"{other}\".");
            return Err(ApiError::bad(10026, text));
        }
    }
    let script = asked.script_name.or(asked.script);
    let script = script.ok_or_else(|| ApiError::bad(10026, "script_name is missing."))?;
    let tenant = call.tenant()?;
    let found = script_of(tenant.catalog(), &script)?;
    let version = current_version(&tenant, &found)?;
    if version.is_some_and(|v| !v.content.service_worker && !v.content.handlers.iter().any(|h| h == "queue"))
    {
        return Err(ApiError::bad(
            11001,
            format!("Queue handler is missing. Script '{script}' has no queue handler."),
        ));
    }
    Ok(json!({
        "consumer_id": id,
        "type": "worker",
        "script": script,
        "queue_name": row.name,
        "dead_letter_queue": asked.dead_letter_queue.unwrap_or_default(),
        "settings": asked.settings.unwrap_or_else(|| json!({})),
        "created_on": time(call.now_ms()),
    }))
}

/// <https://developers.cloudflare.com/queues/configuration/pull-consumers/>
fn pull_consumer(call: &Call, row: &Resource, id: String, asked: Consumer) -> Result<Json, ApiError> {
    Ok(json!({
        "consumer_id": id,
        "type": "http_pull",
        "queue_name": row.name,
        "dead_letter_queue": asked.dead_letter_queue.unwrap_or_default(),
        "settings": asked.settings.unwrap_or_else(|| json!({})),
        "created_on": time(call.now_ms()),
    }))
}

/// The pull consumer of a queue.
pub(crate) fn puller(row: &Resource) -> Result<Json, ApiError> {
    let found = consumers(row).into_iter().find(|consumer| consumer["type"] == "http_pull");
    found.ok_or_else(|| {
        let text = format!("Queue '{}' has no consumer of the type http_pull: add one first.", row.name);
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, 10026, text)
    })
}

pub(crate) async fn list(call: Call) -> Answer {
    ok(consumers(&row(&call)?).into())
}

pub(crate) async fn add(mut call: Call) -> Answer {
    let queue = row(&call)?;
    let made = consumer(&mut call, &queue, uuid::Uuid::new_v4().simple().to_string()).await?;
    edit(&call, {
        let made = made.clone();
        move |row| {
            if !consumers(row).is_empty() {
                return Err(ApiError::bad(11004, format!("Queue '{}' has a consumer already.", row.name)));
            }
            row.settings["consumers"] = json!([made]);
            Ok(())
        }
    })
    .await?;
    ok(made)
}

/// Where the consumer `id` is among those of a queue.
fn find_consumer(row: &Resource, id: &str) -> Result<usize, ApiError> {
    let found = consumers(row).iter().position(|c| c["consumer_id"] == id);
    found.ok_or_else(|| ApiError::not_found(11006, "The consumer could not be found."))
}

pub(crate) async fn get(call: Call) -> Answer {
    let row = row(&call)?;
    let at = find_consumer(&row, call.param(1))?;
    ok(consumers(&row).swap_remove(at))
}

pub(crate) async fn update(mut call: Call) -> Answer {
    let queue = row(&call)?;
    let id = call.param(1).to_owned();
    find_consumer(&queue, &id)?;
    let made = consumer(&mut call, &queue, id.clone()).await?;
    edit(&call, {
        let made = made.clone();
        move |row| {
            let at = find_consumer(row, &id)?;
            row.settings["consumers"][at] = made;
            Ok(())
        }
    })
    .await?;
    ok(made)
}

pub(crate) async fn delete(call: Call) -> Answer {
    let id = call.param(1).to_owned();
    edit(&call, move |row| {
        let at = find_consumer(row, &id)?;
        let mut left = consumers(row);
        left.remove(at);
        row.settings["consumers"] = left.into();
        Ok(())
    })
    .await?;
    ok(Json::Null)
}
