//! Messages by hand and by pull: sent, looked at, taken, acknowledged, removed.
//! <https://developers.cloudflare.com/api/resources/queues/subresources/messages/>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use skep_queues::{
    Format, Lease, MAX_BATCH_COUNT, MAX_DELAY_SECS, MAX_PULL, MAX_VISIBILITY_MS, Message, Metrics, Pull,
    QueueError, Ref,
};
use skep_wire::read_all;

use crate::call::Call;
use crate::consumers::puller;
use crate::queues::{metrics_json, row};
use crate::reply::{Answer, ApiError, ok};

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
    if messages.len() > MAX_BATCH_COUNT {
        // The queue would say so itself, after all of them were made anew for it.
        let text = QueueError::BatchCount(messages.len()).to_string();
        return Err(ApiError::new(http::StatusCode::PAYLOAD_TOO_LARGE, 10026, text));
    }
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
    let producer = call.tenant()?.queues().producer(&row.name, None);
    let body = json!({ "messages": batch }).to_string();
    let request = http::Request::post("/batch").body(skep_wire::full(body)).map_err(ApiError::internal)?;
    let response = producer.call(request).await;
    let status = response.status();
    let reply = read_all(response.into_body(), 1 << 20).await.map_err(ApiError::internal)?;
    match status.is_success() {
        true => {
            let said: Json = serde_json::from_slice(&reply).map_err(ApiError::internal)?;
            let metrics = &said["metadata"]["metrics"];
            let number = |name: &str| metrics[name].as_u64().unwrap_or_default();
            ok(json!({ "metadata": { "metrics": metrics_json(&Metrics {
                backlog_count: number("backlogCount"),
                backlog_bytes: number("backlogBytes"),
                oldest_message_timestamp: number("oldestMessageTimestamp"),
            }) } }))
        }
        false => Err(ApiError::new(status, 10026, String::from_utf8_lossy(&reply).into_owned())),
    }
}

fn shown(message: &Message) -> Json {
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
    })
}

/// With a member more.
fn with(mut shown: Json, name: &str, value: impl std::fmt::Display) -> Json {
    shown[name] = value.to_string().into();
    shown
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    batch_size: Option<u32>,
    visibility_timeout_ms: Option<u64>,
}

/// How many messages, and for how long. The body may be left out.
async fn asked(call: &mut Call) -> Result<Asked, ApiError> {
    match call.any_json().await? {
        Json::Null => Ok(Asked::default()),
        asked if asked.is_object() => {
            serde_json::from_value(asked).map_err(|e| ApiError::bad(10026, e.to_string()))
        }
        _ => Err(ApiError::bad(10026, "Could not parse the request body: expected a JSON object")),
    }
}

/// `default` is the consumer's.
fn batch_size(asked: Option<u32>, default: Option<u64>) -> Result<u32, ApiError> {
    let size = asked.or(default.and_then(|n| u32::try_from(n).ok())).unwrap_or(5);
    match (1..=MAX_PULL).contains(&size) {
        true => Ok(size),
        false => Err(ApiError::bad(10026, format!("batch_size is {size}; it is 1 to {MAX_PULL}."))),
    }
}

fn visibility(asked: Option<u64>, consumer: &Json) -> Result<u64, ApiError> {
    let visible = asked.or_else(|| consumer["settings"]["visibility_timeout_ms"].as_u64()).unwrap_or(30_000);
    match visible > MAX_VISIBILITY_MS {
        true => {
            let text = format!("visibility_timeout_ms is {visible}; it is at most {MAX_VISIBILITY_MS}.");
            Err(ApiError::bad(10026, text))
        }
        false => Ok(visible),
    }
}

pub(crate) async fn pull(mut call: Call) -> Answer {
    let row = row(&call)?;
    let consumer = puller(&row)?;
    let asked = asked(&mut call).await?;
    let set = |key: &str| consumer["settings"][key].as_u64();
    let dead = consumer["dead_letter_queue"].as_str().filter(|name| !name.is_empty());
    let pull = Pull {
        batch_size: batch_size(asked.batch_size, set("batch_size"))?,
        visibility_timeout_ms: visibility(asked.visibility_timeout_ms, &consumer)?,
        max_retries: set("max_retries").map_or(3, |n| u32::try_from(n).unwrap_or(u32::MAX)),
        dead_letter_queue: dead.map(str::to_owned),
    };
    let tenant = call.tenant()?;
    let pulled = tenant.queues().pull(&row.name, pull).await.map_err(crate::modules::storage)?;
    let metrics = tenant.queues().metrics(&row.name).map_err(crate::modules::storage)?;
    let messages = pulled.iter().map(|(lease, message)| with(shown(message), "lease_id", lease));
    ok(json!({
        "messages": messages.collect::<Vec<_>>(),
        "message_backlog_count": metrics.backlog_count,
        "metadata": { "metrics": metrics_json(&metrics) },
    }))
}

async fn look(mut call: Call, show: impl Fn(Ref, Lease, &Message) -> Json) -> Answer {
    let row = row(&call)?;
    let limit = batch_size(asked(&mut call).await?.batch_size, None)?;
    let found = call.tenant()?.queues().peek(&row.name, limit).map_err(crate::modules::storage)?;
    let messages: Vec<Json> =
        found.iter().map(|(named, lease, message)| show(*named, *lease, message)).collect();
    ok(json!({ "messages": messages }))
}

/// Looks at messages; [`purge`] removes them.
pub(crate) async fn peek(call: Call) -> Answer {
    look(call, |named, _, message| with(shown(message), "ref", named)).await
}

/// Looks at messages; [`ack_previewed`] removes them.
pub(crate) async fn preview(call: Call) -> Answer {
    look(call, |_, lease, message| with(shown(message), "lease_id", lease)).await
}

#[derive(Deserialize)]
struct Purge {
    refs: Vec<Referred>,
}

#[derive(Deserialize)]
struct Referred {
    #[serde(rename = "ref")]
    named: String,
}

/// Removes messages that were peeked at.
pub(crate) async fn purge(mut call: Call) -> Answer {
    let row = row(&call)?;
    let Purge { refs } = call.json().await?;
    let parse = |one: &Referred| {
        Ref::parse(&one.named).ok_or_else(|| ApiError::bad(10026, format!("\"{}\" is not a ref.", one.named)))
    };
    let parsed = refs.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let there = call.tenant()?.queues().remove(&row.name, parsed).await.map_err(crate::modules::storage)?;
    let gone = refs.iter().zip(&there).filter(|(_, there)| !**there);
    let warnings: Map<String, Json> =
        gone.map(|(one, _)| (one.named.clone(), "The message is not there any more.".into())).collect();
    ok(json!({ "errors": [], "warnings": warnings }))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Acknowledged {
    acks: Option<Vec<Leased>>,
    retries: Option<Vec<Leased>>,
}

#[derive(Deserialize)]
struct Leased {
    lease_id: String,
    delay_seconds: Option<u32>,
}

impl Leased {
    fn lease(&self) -> Result<Lease, ApiError> {
        let text = || format!("\"{}\" is not a lease_id.", self.lease_id);
        Lease::parse(&self.lease_id).ok_or_else(|| ApiError::bad(10026, text()))
    }
}

/// What is said of leases that did not hold.
fn warnings<'a>(all: impl Iterator<Item = (&'a Leased, &'a bool)>) -> Json {
    let lost = all.filter(|(_, held)| !**held);
    lost.map(|(leased, _)| (leased.lease_id.clone(), Json::from("The lease does not hold any more.")))
        .collect::<Map<_, _>>()
        .into()
}

/// Removes messages, or makes them due again after `delay` seconds where the request says no other.
async fn acknowledge(call: &mut Call, queue: &str, delay: u32) -> Result<Json, ApiError> {
    let Acknowledged { acks: asked, retries: again } = call.json().await?;
    if asked.is_none() && again.is_none() {
        return Err(ApiError::bad(10026, "Could not parse the request body: expected acks or retries"));
    }
    let (asked, again) = (asked.unwrap_or_default(), again.unwrap_or_default());
    let acks = asked.iter().map(Leased::lease).collect::<Result<Vec<_>, _>>()?;
    let mut retries = Vec::new();
    for leased in &again {
        let seconds = leased.delay_seconds.unwrap_or(delay);
        if seconds > MAX_DELAY_SECS {
            let text = format!("delay_seconds is {seconds}; it is at most {MAX_DELAY_SECS}.");
            return Err(ApiError::bad(10026, text));
        }
        retries.push((leased.lease()?, seconds));
    }
    let answered = call.tenant()?.queues().acknowledge(queue, acks, retries).await;
    let (acked, retried) = answered.map_err(crate::modules::storage)?;
    let all = asked.iter().zip(&acked).chain(again.iter().zip(&retried));
    let count = |held: &[bool]| held.iter().filter(|held| **held).count();
    Ok(json!({ "ackCount": count(&acked), "retryCount": count(&retried), "warnings": warnings(all) }))
}

pub(crate) async fn ack(mut call: Call) -> Answer {
    let row = row(&call)?;
    let delay = puller(&row)?["settings"]["retry_delay"].as_u64();
    let delay = delay.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    ok(acknowledge(&mut call, &row.name, delay).await?)
}

/// Removes messages that were previewed and not delivered since.
pub(crate) async fn ack_previewed(mut call: Call) -> Answer {
    let row = row(&call)?;
    let said = acknowledge(&mut call, &row.name, 0).await?;
    ok(json!({ "warnings": said["warnings"] }))
}

#[derive(Deserialize)]
struct Extend {
    extend: Vec<Leased>,
    visibility_timeout_ms: Option<u64>,
}

/// Makes leases last longer; they keep their ids.
pub(crate) async fn extend(mut call: Call) -> Answer {
    let row = row(&call)?;
    let consumer = puller(&row)?;
    let Extend { extend, visibility_timeout_ms } = call.json().await?;
    let visible = visibility(visibility_timeout_ms, &consumer)?;
    let leases = extend.iter().map(Leased::lease).collect::<Result<Vec<_>, _>>()?;
    let held = call.tenant()?.queues().extend(&row.name, leases, visible).await;
    let held = held.map_err(crate::modules::storage)?;
    let count = held.iter().filter(|held| **held).count();
    ok(json!({ "extendCount": count, "warnings": warnings(extend.iter().zip(&held)) }))
}
