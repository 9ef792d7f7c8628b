//! Queues. <https://developers.cloudflare.com/api/resources/queues/>

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_catalog::{CatalogError, Kind, Resource};
use skep_queues::{DEFAULT_RETENTION_SECS, MAX_DELAY_SECS, Metrics, RETENTION_SECS};

use crate::aside::{each, listed};
use crate::call::Call;
use crate::reply::{Answer, ApiError, ok, page_of, time};
use crate::scripts::current_version;
use crate::upload;

/// What the settings of a queue may be, in seconds. <https://developers.cloudflare.com/queues/platform/limits/>
pub(crate) const SETTINGS: [(&str, RangeInclusive<u32>); 2] =
    [("delivery_delay", 0..=MAX_DELAY_SECS), ("message_retention_period", RETENTION_SECS)];

pub(crate) fn row(call: &Call) -> Result<Resource, ApiError> {
    let found = call.tenant()?.catalog().resource(Kind::Queue, call.param(0))?;
    found.ok_or_else(no_queue)
}

fn no_queue() -> ApiError {
    ApiError::not_found(11000, "Queue not found. Verify the queue id.")
}

/// The scripts that send to each queue, by its name.
async fn producers(call: &Call) -> Result<HashMap<String, Vec<String>>, ApiError> {
    let tenant = call.tenant()?;
    let scripts = tenant.catalog().scripts()?;
    let sends = each(scripts, move |script| {
        let version = current_version(&tenant, &script)?;
        let bindings = version.iter().flat_map(|version| &version.content.bindings);
        let queues = bindings.filter(|binding| binding["type"] == "queue");
        let queues = queues.filter_map(|binding| binding["queue_name"].as_str().map(str::to_owned));
        Ok((script.name, queues.collect::<BTreeSet<_>>()))
    })
    .await?;
    let mut producers: HashMap<String, Vec<String>> = HashMap::new();
    for (script, queues) in sends {
        for queue in queues {
            producers.entry(queue).or_default().push(script.clone());
        }
    }
    Ok(producers)
}

async fn shown_now(call: &Call, row: &Resource) -> Answer {
    let producers = producers(call).await?;
    ok(shown(row, &producers))
}

/// A queue with who sends to it and who gets from it.
fn shown(row: &Resource, producers: &HashMap<String, Vec<String>>) -> Json {
    let producers = producers.get(&row.name).into_iter().flatten();
    let producers: Vec<Json> =
        producers.map(|script| json!({ "type": "worker", "script": script })).collect();
    let consumers = consumers(row);
    let setting = |key: &str, default: Json| match &row.settings[key] {
        Json::Null => default,
        set => set.clone(),
    };
    json!({
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
            "message_retention_period": setting("message_retention_period", DEFAULT_RETENTION_SECS.into()),
        },
    })
}

pub(crate) fn consumers(row: &Resource) -> Vec<Json> {
    row.settings["consumers"].as_array().cloned().unwrap_or_default()
}

pub(crate) async fn list(call: Call) -> Answer {
    let (number, per_page) = call.page(20)?;
    let producers = producers(&call).await?;
    listed(call, move |call| {
        let query = call.head.uri.query().unwrap_or_default();
        let names: Vec<String> = form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key == "name")
            .map(|(_, name)| name.into_owned())
            .collect();
        let mut all = call.tenant()?.catalog().resources(Kind::Queue)?;
        all.retain(|row| names.is_empty() || names.contains(&row.name));
        page_of(&all, number, per_page, |row| shown(row, &producers))
    })
    .await
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    queue_name: Option<String>,
    settings: Option<Json>,
}

/// <https://developers.cloudflare.com/queues/configuration/>
pub(crate) fn check_name(name: &str) -> Result<(), ApiError> {
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
    for (key, allowed) in SETTINGS {
        let number = |value: &Json| value.as_u64().and_then(|n| u32::try_from(n).ok());
        match &asked[key] {
            Json::Null => {}
            value if number(value).is_some_and(|n| allowed.contains(&n)) => kept[key] = value.clone(),
            _ => return Err(invalid(key)),
        }
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
    shown_now(&call, &made).await
}

pub(crate) async fn get(call: Call) -> Answer {
    shown_now(&call, &row(&call)?).await
}

/// Changes a queue by what it is then: two such calls at once do not undo each other. Consumers start, stop and pause with what is kept; no script is
/// touched by it.
pub(crate) async fn edit<T: Send + 'static>(
    call: &Call,
    change: impl FnOnce(&mut Resource) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let id = row(call)?.id;
    let now = call.now_ms();
    let change = move |row: &mut Resource| {
        let done = change(row)?;
        row.settings["modified_ms"] = now.into();
        Ok::<_, ApiError>(done)
    };
    let edited = call.tenant()?.catalog().edit_resource(Kind::Queue, &id, change).await?;
    let done = edited.ok_or_else(no_queue)??;
    upload::apply(call, "").await?;
    Ok(done)
}

pub(crate) async fn update(mut call: Call) -> Answer {
    let asked: Asked = call.json().await?;
    let changed = edit(&call, move |row| {
        if asked.queue_name.is_some_and(|name| name != row.name) {
            return Err(ApiError::bad(
                10026,
                "A queue cannot be renamed: its messages and bindings hang on its name.",
            ));
        }
        merge(&mut row.settings, asked.settings)?;
        Ok(row.clone())
    })
    .await?;
    shown_now(&call, &changed).await
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
    shown_now(&call, &row).await
}

pub(crate) async fn purge_status(call: Call) -> Answer {
    row(&call)?;
    ok(json!({ "completed": true, "started_at": time(call.now_ms()) }))
}

/// Workers see the same in camel case.
pub(crate) fn metrics_json(metrics: &Metrics) -> Json {
    json!({
        "backlog_count": metrics.backlog_count,
        "backlog_bytes": metrics.backlog_bytes,
        "oldest_message_timestamp_ms": metrics.oldest_message_timestamp,
    })
}

pub(crate) async fn metrics(call: Call) -> Answer {
    let row = row(&call)?;
    let metrics = call.tenant()?.queues().metrics(&row.name).map_err(crate::modules::storage)?;
    ok(metrics_json(&metrics))
}
