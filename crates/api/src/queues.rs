//! Queues, who consumes them, and messages sent by hand. <https://developers.cloudflare.com/api/resources/queues/>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_catalog::{CatalogError, Kind, Resource};
use skep_queues::{Format, Lease, MAX_DELAY_SECS, MAX_PULL, MAX_VISIBILITY_MS, Pull};
use skep_wire::read_all;

use crate::call::{Call, script_of};
use crate::reply::{Answer, ApiError, ok, page, time};
use crate::scripts::current_version;
use crate::upload;

/// Seconds; <https://developers.cloudflare.com/queues/platform/limits/>
const DEFAULT_RETENTION: u64 = 345_600;

fn row(call: &Call) -> Result<Resource, ApiError> {
    let found = call.tenant()?.catalog().resource(Kind::Queue, call.param(0))?;
    found.ok_or_else(|| ApiError::not_found(11000, "Queue not found. Verify the queue id."))
}

/// A queue with who sends to it and who gets from it.
fn shown(call: &Call, row: &Resource) -> Result<Json, ApiError> {
    let tenant = call.tenant()?;
    let mut producers = Vec::new();
    for script in tenant.catalog().scripts()? {
        let version = current_version(&tenant, &script)?;
        let sends = |b: &Json| b["type"] == "queue" && b["queue_name"] == row.name.as_str();
        if version.iter().flat_map(|v| &v.content.bindings).any(sends) {
            producers.push(json!({ "type": "worker", "script": script.name }));
        }
    }
    let consumers = consumers(row);
    let setting = |key: &str, default: Json| match &row.settings[key] {
        Json::Null => default,
        set => set.clone(),
    };
    Ok(json!({
        "queue_id": row.id,
        "queue_name": row.name,
        "created_on": time(row.created_ms),
        "modified_on": time(row.settings["modified_ms"].as_i64().unwrap_or(row.created_ms)),
        "producers": producers,
        "producers_total_count": producers.len(),
        "consumers": consumers,
        "consumers_total_count": consumers.len(),
        "settings": {
            "delivery_delay": setting("delivery_delay", 0.into()),
            "delivery_paused": setting("delivery_paused", false.into()),
            "message_retention_period": setting("message_retention_period", DEFAULT_RETENTION.into()),
        },
    }))
}

fn consumers(row: &Resource) -> Vec<Json> {
    row.settings["consumers"].as_array().cloned().unwrap_or_default()
}

pub(crate) async fn list(call: Call) -> Answer {
    let (number, per_page) = call.page(20)?;
    let query = call.head.uri.query().unwrap_or_default();
    let names: Vec<String> = form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == "name")
        .map(|(_, name)| name.into_owned())
        .collect();
    let mut all = call.tenant()?.catalog().resources(Kind::Queue)?;
    all.retain(|row| names.is_empty() || names.contains(&row.name));
    let shown = all.iter().map(|row| shown(&call, row)).collect::<Result<Vec<_>, _>>()?;
    page(shown, number, per_page)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    queue_name: Option<String>,
    settings: Option<Json>,
}

/// <https://developers.cloudflare.com/queues/configuration/>
fn check_name(name: &str) -> Result<(), ApiError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = (1..=63).contains(&name.len()) && name.chars().all(allowed);
    match fits && !name.starts_with('-') && !name.ends_with('-') {
        true => Ok(()),
        false => Err(ApiError::bad(
            11003,
            format!("Queue name '{name}' is invalid: it has 1 to 63 lowercase letters, digits and dashes."),
        )),
    }
}

/// Settings that were asked for, into those that are kept.
fn merge(kept: &mut Json, asked: Option<Json>) -> Result<(), ApiError> {
    let Some(asked) = asked.filter(|asked| !asked.is_null()) else { return Ok(()) };
    let invalid = |what: &str| ApiError::bad(10026, format!("The setting {what} is not valid."));
    for (key, most) in [("delivery_delay", 43_200), ("message_retention_period", 1_209_600)] {
        match &asked[key] {
            Json::Null => {}
            value if value.as_u64().is_some_and(|n| n <= most) => kept[key] = value.clone(),
            _ => return Err(invalid(key)),
        }
    }
    if asked["message_retention_period"].as_u64().is_some_and(|n| n != DEFAULT_RETENTION) {
        return Err(ApiError::bad(
            10026,
            format!("Skep keeps messages for {DEFAULT_RETENTION} s: leave message_retention_period out."),
        ));
    }
    match &asked["delivery_paused"] {
        Json::Null => {}
        Json::Bool(paused) => kept["delivery_paused"] = (*paused).into(),
        _ => return Err(invalid("delivery_paused")),
    }
    Ok(())
}

fn name_taken(error: CatalogError) -> ApiError {
    match error {
        CatalogError::Exists(name) => ApiError::bad(
            11009,
            format!("Queue name '{name}' is already taken. Please use a different name and try again."),
        ),
        other => other.into(),
    }
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let asked: Asked = call.json().await?;
    let name = asked.queue_name.ok_or_else(|| ApiError::bad(10026, "queue_name is missing."))?;
    check_name(&name)?;
    let mut settings = json!({ "consumers": [] });
    merge(&mut settings, asked.settings)?;
    let made =
        Resource { id: uuid::Uuid::new_v4().simple().to_string(), name, created_ms: call.now_ms(), settings };
    let made = call.tenant()?.catalog().add_resource(Kind::Queue, made).await.map_err(name_taken)?;
    ok(shown(&call, &made)?)
}

pub(crate) async fn get(call: Call) -> Answer {
    ok(shown(&call, &row(&call)?)?)
}

async fn keep(call: &Call, row: &mut Resource) -> Result<(), ApiError> {
    row.settings["modified_ms"] = call.now_ms().into();
    call.tenant()?.catalog().change_resource(Kind::Queue, row.clone()).await.map_err(name_taken)?;
    // Consumers start, stop and pause with what is kept; no script is touched by it.
    upload::apply(call, "").await
}

pub(crate) async fn update(mut call: Call) -> Answer {
    let asked: Asked = call.json().await?;
    let mut row = row(&call)?;
    if asked.queue_name.is_some_and(|name| name != row.name) {
        return Err(ApiError::bad(
            10026,
            "A queue cannot be renamed: its messages and bindings hang on its name.",
        ));
    }
    merge(&mut row.settings, asked.settings)?;
    keep(&call, &mut row).await?;
    ok(shown(&call, &row)?)
}

pub(crate) async fn delete(call: Call) -> Answer {
    let row = row(&call)?;
    let tenant = call.tenant()?;
    for other in tenant.catalog().resources(Kind::Queue)? {
        if consumers(&other).iter().any(|c| c["dead_letter_queue"] == row.name.as_str()) {
            return Err(ApiError::bad(
                11005,
                format!("Queue '{}' is the dead letter queue of '{}'.", row.name, other.name),
            ));
        }
    }
    tenant.catalog().remove_resource(Kind::Queue, &row.id).await?;
    upload::apply(&call, "").await?;
    tenant.queues().purge(&row.name).await.map_err(crate::modules::storage)?;
    ok(Json::Null)
}

pub(crate) async fn purge(mut call: Call) -> Answer {
    let asked = call.any_json().await?;
    if asked["delete_messages_permanently"] != true {
        return Err(ApiError::bad(10026, "delete_messages_permanently must be true."));
    }
    let row = row(&call)?;
    call.tenant()?.queues().purge(&row.name).await.map_err(crate::modules::storage)?;
    ok(shown(&call, &row)?)
}

pub(crate) async fn purge_status(call: Call) -> Answer {
    row(&call)?;
    ok(json!({ "completed": true, "started_at": time(call.now_ms()) }))
}

pub(crate) async fn metrics(call: Call) -> Answer {
    let row = row(&call)?;
    let metrics = call.tenant()?.queues().metrics(&row.name).map_err(crate::modules::storage)?;
    ok(serde_json::to_value(metrics).map_err(ApiError::internal)?)
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
    let settings = asked.settings.unwrap_or_else(|| json!({}));
    let most = [
        ("batch_size", u64::from(MAX_PULL)),
        ("max_retries", 100),
        ("visibility_timeout_ms", MAX_VISIBILITY_MS),
        ("retry_delay", u64::from(MAX_DELAY_SECS)),
    ];
    for (key, most) in most {
        let value = &settings[key];
        if !value.is_null() && value.as_u64().is_none_or(|n| n > most) {
            return Err(ApiError::bad(
                10026,
                format!("The setting {key} is not valid: it is at most {most}."),
            ));
        }
    }
    Ok(json!({
        "consumer_id": id,
        "type": "http_pull",
        "queue_name": row.name,
        "dead_letter_queue": asked.dead_letter_queue.unwrap_or_default(),
        "settings": settings,
        "created_on": time(call.now_ms()),
    }))
}

/// The pull consumer of a queue.
fn puller(row: &Resource) -> Result<Json, ApiError> {
    let found = consumers(row).into_iter().find(|consumer| consumer["type"] == "http_pull");
    found.ok_or_else(|| {
        let text = format!("Queue '{}' has no consumer of the type http_pull: add one first.", row.name);
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, 10026, text)
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AskedPull {
    batch_size: Option<u32>,
    visibility_timeout_ms: Option<u64>,
}

pub(crate) async fn pull(mut call: Call) -> Answer {
    let row = row(&call)?;
    let consumer = puller(&row)?;
    let asked: AskedPull = match call.any_json().await? {
        Json::Null => AskedPull::default(),
        asked if asked.is_object() => {
            serde_json::from_value(asked).map_err(|e| ApiError::bad(10026, e.to_string()))?
        }
        _ => return Err(ApiError::bad(10026, "Could not parse the request body: expected a JSON object")),
    };
    let set = |key: &str| consumer["settings"][key].as_u64();
    let size = asked.batch_size.map_or(set("batch_size").unwrap_or(5), u64::from);
    if !(1..=u64::from(MAX_PULL)).contains(&size) {
        return Err(ApiError::bad(10026, format!("batch_size is {size}; it is 1 to {MAX_PULL}.")));
    }
    let visible = asked.visibility_timeout_ms.or_else(|| set("visibility_timeout_ms")).unwrap_or(30_000);
    if visible > MAX_VISIBILITY_MS {
        let text = format!("visibility_timeout_ms is {visible}; it is at most {MAX_VISIBILITY_MS}.");
        return Err(ApiError::bad(10026, text));
    }
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let pull = Pull {
        batch_size: number(size),
        visibility_timeout_ms: visible,
        max_retries: number(set("max_retries").unwrap_or(3)),
        dead_letter_queue: consumer["dead_letter_queue"]
            .as_str()
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
    };
    let tenant = call.tenant()?;
    let pulled = tenant.queues().pull(&row.name, pull).await.map_err(crate::modules::storage)?;
    let metrics = tenant.queues().metrics(&row.name).map_err(crate::modules::storage)?;
    let messages = pulled.iter().map(|(lease, message)| {
        // Text is as it was sent; anything else is not JSON's to carry.
        let body = match message.format {
            Format::Text => String::from_utf8_lossy(&message.body).into_owned(),
            Format::Json | Format::Bytes | Format::V8 => STANDARD.encode(&message.body),
        };
        json!({
            "body": body,
            "id": message.id,
            "timestamp_ms": message.timestamp_ms,
            "attempts": message.attempts,
            "metadata": { "CF-Content-Type": message.format },
            "lease_id": lease.to_string(),
        })
    });
    ok(json!({
        "messages": messages.collect::<Vec<_>>(),
        "message_backlog_count": metrics.backlog_count,
        "metadata": { "metrics": {
            "backlog_count": metrics.backlog_count,
            "backlog_bytes": metrics.backlog_bytes,
            "oldest_message_timestamp_ms": metrics.oldest_message_timestamp,
        } },
    }))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Acknowledged {
    acks: Vec<Leased>,
    retries: Vec<Leased>,
}

#[derive(Deserialize)]
struct Leased {
    lease_id: String,
    delay_seconds: Option<u32>,
}

pub(crate) async fn ack(mut call: Call) -> Answer {
    let row = row(&call)?;
    let consumer = puller(&row)?;
    let asked: Acknowledged = call.json().await?;
    let delay = consumer["settings"]["retry_delay"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let parse = |leased: &Leased| {
        Lease::parse(&leased.lease_id)
            .ok_or_else(|| ApiError::bad(10026, format!("\"{}\" is not a lease_id.", leased.lease_id)))
    };
    let acks = asked.acks.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let mut retries = Vec::new();
    for leased in &asked.retries {
        let seconds = leased.delay_seconds.unwrap_or(delay);
        if seconds > MAX_DELAY_SECS {
            let text = format!("delay_seconds is {seconds}; it is at most {MAX_DELAY_SECS}.");
            return Err(ApiError::bad(10026, text));
        }
        retries.push((parse(leased)?, seconds));
    }
    let answered = call.tenant()?.queues().acknowledge(&row.name, acks, retries).await;
    let (acked, retried) = answered.map_err(crate::modules::storage)?;
    let lost = asked.acks.iter().zip(&acked).chain(asked.retries.iter().zip(&retried));
    let warnings: Vec<String> = lost
        .filter(|(_, held)| !**held)
        .map(|(leased, _)| format!("The lease {} does not hold any more.", leased.lease_id))
        .collect();
    let count = |held: &[bool]| held.iter().filter(|held| **held).count();
    ok(json!({ "ackCount": count(&acked), "retryCount": count(&retried), "warnings": warnings }))
}

pub(crate) async fn list_consumers(call: Call) -> Answer {
    ok(consumers(&row(&call)?).into())
}

pub(crate) async fn add_consumer(mut call: Call) -> Answer {
    let mut row = row(&call)?;
    let made = consumer(&mut call, &row, uuid::Uuid::new_v4().simple().to_string()).await?;
    if !consumers(&row).is_empty() {
        return Err(ApiError::bad(11004, format!("Queue '{}' has a consumer already.", row.name)));
    }
    row.settings["consumers"] = json!([made]);
    keep(&call, &mut row).await?;
    ok(made)
}

fn find_consumer(call: &Call, row: &Resource) -> Result<usize, ApiError> {
    let found = consumers(row).iter().position(|c| c["consumer_id"] == call.param(1));
    found.ok_or_else(|| ApiError::not_found(11006, "The consumer could not be found."))
}

pub(crate) async fn get_consumer(call: Call) -> Answer {
    let row = row(&call)?;
    let at = find_consumer(&call, &row)?;
    ok(consumers(&row).swap_remove(at))
}

pub(crate) async fn update_consumer(mut call: Call) -> Answer {
    let mut row = row(&call)?;
    let at = find_consumer(&call, &row)?;
    let id = call.param(1).to_owned();
    let made = consumer(&mut call, &row, id).await?;
    row.settings["consumers"][at] = made.clone();
    keep(&call, &mut row).await?;
    ok(made)
}

pub(crate) async fn delete_consumer(call: Call) -> Answer {
    let mut row = row(&call)?;
    let at = find_consumer(&call, &row)?;
    let mut left = consumers(&row);
    left.remove(at);
    row.settings["consumers"] = left.into();
    keep(&call, &mut row).await?;
    ok(Json::Null)
}

#[derive(Deserialize)]
struct Sent {
    body: Json,
    content_type: Option<String>,
    delay_seconds: Option<u32>,
}

#[derive(Deserialize)]
struct Batch {
    messages: Vec<Sent>,
    delay_seconds: Option<u32>,
}

pub(crate) async fn send(mut call: Call) -> Answer {
    let message: Sent = call.json().await?;
    store(&call, vec![message], None).await
}

pub(crate) async fn send_batch(mut call: Call) -> Answer {
    let Batch { messages, delay_seconds } = call.json().await?;
    store(&call, messages, delay_seconds).await
}

/// Through the same door as a worker's messages.
async fn store(call: &Call, messages: Vec<Sent>, delay: Option<u32>) -> Answer {
    let row = row(call)?;
    let mut batch = Vec::new();
    for message in messages {
        let kind = message.content_type.as_deref().unwrap_or(match message.body.is_string() {
            true => "text",
            false => "json",
        });
        let bytes = match (kind, &message.body) {
            ("text", Json::String(text)) => text.clone().into_bytes(),
            ("json", body) => body.to_string().into_bytes(),
            ("bytes", Json::String(text)) => STANDARD
                .decode(text)
                .map_err(|_| ApiError::bad(10026, "The body of a message of bytes must be base64."))?,
            (kind, _) => {
                return Err(ApiError::bad(
                    10026,
                    format!("A message's body does not fit its content_type {kind}."),
                ));
            }
        };
        let mut entry = json!({ "body": STANDARD.encode(bytes), "contentType": kind });
        if let Some(delay) = message.delay_seconds.or(delay) {
            entry["delaySecs"] = delay.into();
        }
        batch.push(entry);
    }
    let default = row.settings["delivery_delay"].as_u64().and_then(|n| u32::try_from(n).ok());
    let producer = call.tenant()?.queues().producer(&row.name, default);
    let body = json!({ "messages": batch }).to_string();
    let request = http::Request::post("/batch").body(skep_wire::full(body)).map_err(ApiError::internal)?;
    let response = producer.call(request).await;
    let status = response.status();
    let reply = read_all(response.into_body(), 1 << 20).await.map_err(ApiError::internal)?;
    match status.is_success() {
        true => {
            // Workers see the same in camel case.
            let said: Json = serde_json::from_slice(&reply).map_err(ApiError::internal)?;
            let metrics = &said["metadata"]["metrics"];
            ok(json!({ "metadata": { "metrics": {
                "backlog_count": metrics["backlogCount"],
                "backlog_bytes": metrics["backlogBytes"],
                "oldest_message_timestamp_ms": metrics["oldestMessageTimestamp"],
            } } }))
        }
        false => Err(ApiError::new(status, 10026, String::from_utf8_lossy(&reply).into_owned())),
    }
}
