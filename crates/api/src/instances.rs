//! Instances of Workflows: asked of the running script, which has them.
//! <https://developers.cloudflare.com/api/resources/workflows/subresources/instances/>

use std::time::UNIX_EPOCH;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_catalog::Resource;

use crate::call::{Call, DIRECTIONS};
use crate::platform::InstanceError;
use crate::reply::{Answer, ApiError, ok, time, with_info};
use crate::workflows::{row, version_at};

/// Instances that one request makes or deletes at most.
pub(crate) const MAX_BATCH: usize = 100;
/// The longest JSON of parameters and events: 1 MiB.
const MAX_PAYLOAD: usize = 1 << 20;
/// The code of a Workflow that is not there.
pub(crate) const NOT_DEPLOYED: u32 = 10200;
pub(crate) const STATUSES: &[&str] = &[
    "queued",
    "running",
    "paused",
    "errored",
    "terminated",
    "complete",
    "waitingForPause",
    "waiting",
    "rollingBack",
];

/// Those of what has not ended.
pub(crate) const UNENDED: [&str; 5] = ["queued", "running", "paused", "waitingForPause", "waiting"];
/// What can be done with one.
pub(crate) const CHANGES: [&str; 4] = ["pause", "resume", "terminate", "restart"];
/// What it can be started again from.
pub(crate) const STEPS: [&str; 3] = ["do", "sleep", "waitForEvent"];
/// What a page of a list has at most.
pub(crate) const MAX_LIST: u64 = 100;

fn refused(text: &str) -> ApiError {
    let is = |what: &str| text.contains(what);
    let error = |name: &str| format!("workflows.api.error.{name}");
    let finite = || ApiError::new(StatusCode::CONFLICT, 10401, text.to_owned());
    match () {
        () if is("instance.not_found") => ApiError::not_found(10400, error("instance.not_found")),
        () if is("step.not_found") => ApiError::not_found(10400, error("step.not_found")),
        () if is("step.stream") => {
            ApiError::bad(10001, "Skep does not show the output of a step that is a stream.")
        }
        () if is("instance.already_exists") => {
            ApiError::new(StatusCode::CONFLICT, 10405, error("instance.already_exists"))
        }
        () if is("invalid id") || is("invalid_id") => ApiError::bad(10001, error("instance.invalid_id")),
        () if is("instance.cannot_") => finite(),
        () => ApiError::bad(10001, text.to_owned()),
    }
}

/// Asks the script of a Workflow; `what` is an operation of `shims/workflows.js`.
pub(crate) async fn ask(call: &Call, row: &Resource, op: &str, mut what: Json) -> Result<Json, ApiError> {
    what["workflow"] = row.name.as_str().into();
    what["op"] = op.into();
    let script = row.settings["script_name"].as_str().unwrap_or_default();
    let not_deployed = || {
        let text = format!(
            "What is deployed of the Worker \"{script}\" does not have the Workflow \"{}\".",
            row.name
        );
        ApiError::not_found(NOT_DEPLOYED, text)
    };
    let tenant = call.tenant()?;
    let deployed = match tenant.catalog().script(script)? {
        Some(script) => tenant.catalog().active_deployment(&script.tag)?.is_some(),
        None => false,
    };
    if !deployed {
        return Err(not_deployed());
    }
    let answer = call.api.platform.instances(&call.token.account, script, what).await;
    answer.map_err(|error| match error {
        InstanceError::Refused(text) => refused(&text),
        InstanceError::NotDeployed => not_deployed(),
        InstanceError::NotRunning(text) => ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            10001,
            format!("The Worker of the Workflow \"{}\" does not answer: {text}", row.name),
        ),
    })
}

/// A date as the API takes it: UTC, the time and the `Z` may be left out.
fn moment(call: &Call, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = call.query(name) else { return Ok(None) };
    let whole = if text.len() == "2026-01-01".len() { format!("{text}T00:00:00Z") } else { text };
    let since = humantime::parse_rfc3339_weak(&whole).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let ms = since.and_then(|since| i64::try_from(since.as_millis()).ok());
    ms.map(Some)
        .ok_or_else(|| ApiError::bad(10001, format!("'{name}' must be a date in UTC, as ISO 8601 has it")))
}

fn shown(row: &Resource, one: &Json) -> Json {
    let at = |name: &str| one[name].as_f64().map(|ms| time(ms as i64));
    json!({
        "id": one["id"],
        "status": one["status"],
        "created_on": at("created"),
        "modified_on": at("modified"),
        "started_on": at("started"),
        "ended_on": at("ended"),
        "trigger_source": one["source"],
        "version_id": version_at(row, one["created"].as_f64().unwrap_or_default() as i64),
        "workflow_id": row.settings["id"],
    })
}

pub(crate) async fn list(call: Call) -> Answer {
    let row = row(&call)?;
    let (page, per_page) = call.page(50)?;
    if per_page > MAX_LIST {
        return Err(ApiError::bad(10001, "'per_page' must be a number from 1 to 100"));
    }
    let cursor = call.query("cursor").filter(|cursor| !cursor.is_empty());
    if cursor.is_some() && call.query("page").is_some() {
        return Err(ApiError::bad(10001, "Only one of 'cursor' and 'page' can be given"));
    }
    let after = cursor.map(|cursor| cursor.parse::<u32>()).transpose();
    let after = after.map_err(|_| ApiError::bad(10001, "'cursor' is none that a list gave"))?;
    let mut query = json!({
        "limit": per_page,
        "skip": (page - 1).saturating_mul(per_page),
        "ascending": call.choice("direction", &DIRECTIONS)? == Some("asc"),
    });
    let options = [
        ("status", call.choice("status", STATUSES)?.map(Json::from)),
        ("from", moment(&call, "date_start")?.map(Json::from)),
        ("to", moment(&call, "date_end")?.map(Json::from)),
        ("after", after.map(Json::from)),
    ];
    for (name, value) in options.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        query[name] = value;
    }
    let found = ask(&call, &row, "list", query).await?;
    let instances: Vec<Json> =
        found["instances"].as_array().into_iter().flatten().map(|one| shown(&row, one)).collect();
    let total = found["total"].as_u64().unwrap_or_default();
    let mut info = crate::reply::page_info(instances.len() as u64, total, page, per_page);
    if let Some(next) = found["next"].as_u64() {
        info["cursor"] = next.to_string().into();
    }
    with_info(Json::Array(instances), info)
}

#[derive(Deserialize, Default)]
struct Create {
    instance_id: Option<String>,
    params: Option<Json>,
    instance_retention: Option<Retention>,
}

#[derive(Deserialize)]
struct Retention {
    success_retention: Option<Json>,
    error_retention: Option<Json>,
}

fn payload(value: &Json) -> Result<(), ApiError> {
    match value.to_string().len() > MAX_PAYLOAD {
        true => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            10001,
            "Parameters and events have at most 1 MiB.",
        )),
        false => Ok(()),
    }
}

impl Create {
    /// As the Workflow's binding takes it.
    fn options(self) -> Result<Json, ApiError> {
        let mut options = json!({});
        if let Some(id) = self.instance_id {
            options["id"] = id.into();
        }
        if let Some(params) = self.params.filter(|params| !params.is_null()) {
            payload(&params)?;
            options["params"] = params;
        }
        if let Some(Retention { success_retention, error_retention }) = self.instance_retention {
            let given = [("successRetention", success_retention), ("errorRetention", error_retention)];
            for (name, value) in given.into_iter().filter_map(|(name, value)| Some((name, value?))) {
                if !value.is_u64() && !value.is_string() {
                    return Err(ApiError::bad(
                        10001,
                        "A retention is a number of milliseconds or a text like \"3 days\"",
                    ));
                }
                options["retention"][name] = value;
            }
        }
        Ok(options)
    }
}

async fn made(call: &Call, all: Vec<Create>) -> Result<Vec<Json>, ApiError> {
    let row = row(call)?;
    let options = all.into_iter().map(Create::options).collect::<Result<Vec<_>, _>>()?;
    let made = ask(call, &row, "create", json!({ "instances": options })).await?;
    let shown = |id: &Json| {
        json!({
            "id": id, "status": "queued", "trigger_source": "api",
            "version_id": version_at(&row, call.now_ms()), "workflow_id": row.settings["id"],
        })
    };
    Ok(made["created"].as_array().into_iter().flatten().map(shown).collect())
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let body = call.any_json().await?;
    let wanted: Option<Create> = serde_json::from_value(body)
        .map_err(|error| ApiError::bad(10026, format!("Could not parse the request body: {error}")))?;
    let made = made(&call, vec![wanted.unwrap_or_default()]).await?;
    ok(made.into_iter().next().unwrap_or_default())
}

fn batch<T>(all: &[T]) -> Result<(), ApiError> {
    match all.len() {
        1..=MAX_BATCH => Ok(()),
        _ => Err(ApiError::bad(10001, format!("A batch has from 1 to {MAX_BATCH} instances"))),
    }
}

pub(crate) async fn create_batch(mut call: Call) -> Answer {
    let all: Vec<Create> = call.json().await?;
    batch(&all)?;
    ok(Json::Array(made(&call, all).await?))
}

pub(crate) async fn describe(call: Call) -> Answer {
    let row = row(&call)?;
    let how = json!({
        "id": call.param(1),
        "simple": call.choice("simple", &["true", "false"])? == Some("true"),
        "descending": call.choice("order", &DIRECTIONS)? == Some("desc"),
    });
    let mut found = ask(&call, &row, "describe", how).await?;
    let created = found["created"].as_f64().unwrap_or_default() as i64;
    found["versionId"] = version_at(&row, created);
    found["trigger"] = json!({ "source": found["source"] });
    if let Some(found) = found.as_object_mut() {
        found.remove("created");
        found.remove("source");
    }
    ok(found)
}

pub(crate) async fn step(call: Call) -> Answer {
    let row = row(&call)?;
    let name = call.query("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| ApiError::bad(10001, "'name' is missing"))?;
    let mut which = json!({ "id": call.param(1), "name": name });
    if let Some(kind) = call.choice("type", &["step", "waitForEvent"])? {
        which["type"] = kind.into();
    }
    if let Some(attempt) = call.query("attempt") {
        let number = attempt.parse::<u32>();
        which["attempt"] = number.map_err(|_| ApiError::bad(10001, "'attempt' must be a number"))?.into();
    }
    ok(ask(&call, &row, "step", which).await?)
}

#[derive(Deserialize)]
struct Change {
    status: String,
    #[serde(default)]
    rollback: bool,
    from: Option<From>,
}

#[derive(Deserialize)]
struct From {
    name: String,
    count: Option<u32>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

pub(crate) async fn change(mut call: Call) -> Answer {
    let row = row(&call)?;
    let Change { status, rollback, from } = call.json().await?;
    let options = match (status.as_str(), from) {
        ("terminate", _) if rollback => json!({ "rollback": true }),
        ("restart", Some(From { name, count, kind })) => {
            let kind = kind.unwrap_or_else(|| "do".to_owned());
            if !STEPS.contains(&kind.as_str()) {
                return Err(ApiError::bad(10001, "'from.type' must be one of do, sleep, waitForEvent"));
            }
            json!({ "from": { "name": name, "count": count.unwrap_or(1), "type": kind } })
        }
        ("pause" | "resume" | "terminate" | "restart", _) => json!({}),
        _ => return Err(ApiError::bad(10001, "'status' must be one of pause, resume, terminate, restart")),
    };
    let what = json!({ "id": call.param(1), "action": status, "options": options });
    let found = ask(&call, &row, "status", what).await?;
    ok(json!({ "status": found["status"], "timestamp": time(call.now_ms()) }))
}

pub(crate) async fn send_event(mut call: Call) -> Answer {
    let row = row(&call)?;
    let body = call.any_json().await?;
    payload(&body)?;
    let kind = call.param(2);
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if kind.len() > 100 || !kind.chars().all(sound) {
        return Err(ApiError::bad(10001, "workflows.api.error.event.invalid_type"));
    }
    let what = json!({ "id": call.param(1), "type": kind, "payload": body });
    ask(&call, &row, "event", what).await?;
    ok(Json::Null)
}

pub(crate) async fn delete(call: Call) -> Answer {
    let row = row(&call)?;
    let id = call.param(1);
    let found = ask(&call, &row, "remove", json!({ "ids": [id] })).await?;
    if let Some(error) = found["errors"].get(0) {
        return Err(refused(error["message"].as_str().unwrap_or_default()));
    }
    ok(json!({ "instanceId": id, "timestamp": time(call.now_ms()) }))
}

#[derive(Deserialize)]
struct Named {
    instances: Vec<String>,
}

pub(crate) async fn delete_batch(mut call: Call) -> Answer {
    let row = row(&call)?;
    let Named { instances } = call.json().await?;
    batch(&instances)?;
    ok(ask(&call, &row, "remove", json!({ "ids": instances })).await?)
}

pub(crate) async fn terminate_batch(mut call: Call) -> Answer {
    let row = row(&call)?;
    let ids: Vec<String> = call.json().await?;
    batch(&ids)?;
    let found = ask(&call, &row, "terminate", json!({ "ids": ids })).await?;
    ok(json!({ "status": "ok", "instancesTerminated": found["terminated"] }))
}

/// Ends all that have not ended, or those in one status.
pub(crate) async fn terminate_all(call: Call) -> Answer {
    let row = row(&call)?;
    let mut what = json!({});
    if let Some(status) = call.choice("status", &UNENDED)? {
        what["status"] = status.into();
    }
    ask(&call, &row, "terminate", what).await?;
    ok(json!({ "status": "ok" }))
}

/// They have ended when [`terminate_all`] answers.
pub(crate) async fn terminating(call: Call) -> Answer {
    row(&call)?;
    ok(json!({ "status": "not_running" }))
}
