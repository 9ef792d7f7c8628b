//! Workflows: which class of which script is one. <https://developers.cloudflare.com/api/resources/workflows/>

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use skep_catalog::{Kind, Resource, duration_ms};

use crate::call::{Call, script_of};
use crate::instances::{NOT_DEPLOYED, ask};
use crate::reply::{Answer, ApiError, ok, page, page_info, time, with_info};

/// Versions that are remembered of one.
const VERSIONS: usize = 100;
/// How long a list waits for the numbers of instances.
const COUNT_WAIT: Duration = Duration::from_secs(5);
/// Schedules of one, at most.
pub(crate) const MAX_SCHEDULES: usize = 200;
/// The most steps that one may ask for. <https://developers.cloudflare.com/workflows/reference/limits/>
pub(crate) const MAX_STEPS: u64 = 25_000;
/// The id of the resource that holds what the account wants of all its Workflows.
const DEFAULTS: &str = "workflows";
/// How long the engine keeps an instance that has ended, unless something else is said: 30 days.
const RETENTION_MS: u64 = 30 * 24 * 60 * 60 * 1000;

pub(crate) fn row(call: &Call) -> Result<Resource, ApiError> {
    let found = call.tenant()?.catalog().resource(Kind::Workflow, call.param(0))?;
    found.ok_or_else(|| ApiError::not_found(NOT_DEPLOYED, "workflow.not_found"))
}

/// The versions, newest first.
fn versions_of(row: &Resource) -> Vec<Json> {
    let kept = row.settings["versions"].as_array().cloned().unwrap_or_default();
    match kept.is_empty() {
        true => vec![json!({
            "id": row.settings["id"], "created_ms": row.created_ms, "class_name": row.settings["class_name"],
        })],
        false => kept,
    }
}

/// The version that was the newest at a moment: what an instance made then started with.
pub(crate) fn version_at(row: &Resource, ms: i64) -> Json {
    let all = versions_of(row);
    let found = all.iter().find(|version| version["created_ms"].as_i64().is_some_and(|at| at <= ms));
    found.or(all.last()).map_or(Json::Null, |version| version["id"].clone())
}

fn shown(call: &Call, row: &Resource) -> Json {
    let mut shown = json!({
        "id": row.settings["id"],
        "name": row.name,
        "script_name": row.settings["script_name"],
        "class_name": row.settings["class_name"],
        "created_on": time(row.created_ms),
        "modified_on": time(row.settings["modified_ms"].as_i64().unwrap_or(row.created_ms)),
        "triggered_on": null,
        "instances": {},
    });
    let crons: Vec<&str> =
        row.settings["schedules"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    if !crons.is_empty() {
        let next = |cron: &&str| {
            let at = call.api.platform.next_run(cron, call.now_ms())?;
            Some(json!({ "cron": cron, "next_instance": time(at) }))
        };
        shown["schedules"] = crons.iter().filter_map(next).collect();
    }
    shown
}

pub(crate) async fn list(call: Call) -> Answer {
    let (number, per_page) = call.page(10)?;
    let all = call.tenant()?.catalog().resources(Kind::Workflow)?;
    let searched = call.query("search").unwrap_or_default();
    let all: Vec<&Resource> = all.iter().filter(|row| row.name.contains(&searched)).collect();
    let start = usize::try_from((number - 1).saturating_mul(per_page)).unwrap_or(usize::MAX);
    let size = usize::try_from(per_page).unwrap_or(usize::MAX);
    let asked = all.iter().skip(start).take(size).map(|row| counted(&call, row));
    let shown: Vec<Json> = futures_util::future::join_all(asked).await;
    let info = page_info(shown.len() as u64, all.len() as u64, number, per_page);
    with_info(Json::Array(shown), info)
}

/// With the numbers of instances by status, unless the script does not answer in time.
async fn counted(call: &Call, row: &Resource) -> Json {
    let mut shown = shown(call, row);
    let counts = tokio::time::timeout(COUNT_WAIT, ask(call, row, "counts", json!({}))).await;
    if let Ok(Ok(counts)) = counts {
        shown["instances"] = counts;
    }
    shown
}

pub(crate) async fn get(call: Call) -> Answer {
    ok(counted(&call, &row(&call)?).await)
}

fn version(row: &Resource, version: &Json) -> Json {
    let at = time(version["created_ms"].as_i64().unwrap_or(row.created_ms));
    let mut shown = json!({
        "id": version["id"], "workflow_id": row.settings["id"], "class_name": version["class_name"],
        "created_on": at, "modified_on": at, "has_dag": false, "language": "javascript",
    });
    for key in ["limits", "default_retention"] {
        if version[key].is_object() {
            shown[key] = version[key].clone();
        }
    }
    shown
}

pub(crate) async fn versions(call: Call) -> Answer {
    let (number, per_page) = call.page(50)?;
    let row = row(&call)?;
    page(versions_of(&row).iter().map(|one| version(&row, one)).collect(), number, per_page)
}

pub(crate) async fn get_version(call: Call) -> Answer {
    let row = row(&call)?;
    let found = versions_of(&row).into_iter().find(|one| one["id"] == call.param(1));
    let found = found.ok_or_else(|| ApiError::not_found(NOT_DEPLOYED, "workflow.version_not_found"))?;
    ok(version(&row, &found))
}

/// The steps of a version as a drawing of them has them. The code is not read for it: there is none, which `has_dag` says, too.
async fn drawn(call: Call, what: &str) -> Answer {
    let row = row(&call)?;
    let found = versions_of(&row).into_iter().find(|one| one["id"] == call.param(1));
    let found = found.ok_or_else(|| ApiError::not_found(NOT_DEPLOYED, "workflow.version_not_found"))?;
    let mut shown = version(&row, &found);
    if let Some(fields) = shown.as_object_mut() {
        fields.retain(|key, _| {
            ["id", "workflow_id", "class_name", "created_on", "modified_on"].contains(&key.as_str())
        });
    }
    shown[what] = Json::Null;
    ok(shown)
}

pub(crate) async fn dag(call: Call) -> Answer {
    drawn(call, "dag").await
}

pub(crate) async fn graph(call: Call) -> Answer {
    drawn(call, "graph").await
}

#[derive(Deserialize)]
struct Cron {
    cron: String,
}

#[derive(Deserialize)]
struct Retention {
    success_retention: Option<Json>,
    error_retention: Option<Json>,
}

impl Retention {
    /// In milliseconds.
    fn read(self) -> Result<Map<String, Json>, ApiError> {
        let mut read = Map::new();
        let given =
            [("success_retention", self.success_retention), ("error_retention", self.error_retention)];
        for (name, value) in given.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            let ms = duration_ms(&value).ok_or_else(|| {
                let text = format!(
                    "'default_retention.{name}' must be a number of milliseconds or a text like \"3 days\""
                );
                ApiError::bad(10001, text)
            })?;
            read.insert(name.to_owned(), ms.into());
        }
        Ok(read)
    }
}

#[derive(Deserialize)]
struct Put {
    script_name: String,
    class_name: String,
    #[serde(default)]
    schedules: Vec<Cron>,
    limits: Option<Limits>,
    concurrency: Option<Concurrency>,
    default_retention: Option<Retention>,
}

#[derive(Deserialize)]
struct Limits {
    steps: Option<u64>,
}

#[derive(Deserialize)]
struct Concurrency {
    limit: Option<u64>,
}

/// What is kept of a Workflow beside its class: what holds for all of its instances.
fn kept(call: &Call, put: Put) -> Result<Map<String, Json>, ApiError> {
    let mut kept = Map::new();
    if put.schedules.len() > MAX_SCHEDULES {
        return Err(ApiError::bad(10001, format!("A Workflow has at most {MAX_SCHEDULES} schedules")));
    }
    for Cron { cron } in &put.schedules {
        let checked = call.api.platform.check_cron(cron);
        checked
            .map_err(|why| ApiError::bad(10001, format!("'{cron}' is not a valid cron expression: {why}")))?;
    }
    if !put.schedules.is_empty() {
        kept.insert("schedules".into(), put.schedules.into_iter().map(|Cron { cron }| cron).collect());
    }
    if let Some(steps) = put.limits.and_then(|limits| limits.steps) {
        if !(1..=MAX_STEPS).contains(&steps) {
            return Err(ApiError::bad(
                10001,
                format!("'limits.steps' must be a number from 1 to {MAX_STEPS}"),
            ));
        }
        kept.insert("limits".into(), json!({ "steps": steps }));
    }
    if let Some(limit) = put.concurrency.and_then(|concurrency| concurrency.limit) {
        if !(1..=u64::from(u32::MAX)).contains(&limit) {
            return Err(ApiError::bad(10001, "'concurrency.limit' must be a positive number"));
        }
        kept.insert("concurrency".into(), json!({ "limit": limit }));
    }
    if let Some(retention) = put.default_retention {
        kept.insert("default_retention".into(), retention.read()?.into());
    }
    Ok(kept)
}

/// Made by a deploy for every Workflow that its script owns.
pub(crate) async fn put(mut call: Call) -> Answer {
    let put: Put = call.json().await?;
    let (script_name, class_name) = (put.script_name.clone(), put.class_name.clone());
    let kept = kept(&call, put)?;
    let tenant = call.tenant()?;
    script_of(tenant.catalog(), &script_name)?;
    let name = call.param(0).to_owned();
    let new = uuid::Uuid::new_v4().to_string();
    let now = call.now_ms();
    let mut first = json!({ "id": new, "created_ms": now, "class_name": class_name.as_str() });
    for (key, value) in kept.iter().filter(|(key, _)| *key == "limits" || *key == "default_retention") {
        first[key] = value.clone();
    }
    let empty = Resource { id: name.clone(), name, created_ms: now, settings: Json::Null };
    let changed = tenant.catalog().edit_or_add_resource(Kind::Workflow, empty, move |row| {
        let before = row.settings.is_object().then(|| row.clone());
        let owners: BTreeSet<String> = before.iter().filter_map(owner).chain([script_name.clone()]).collect();
        let id = match &before {
            Some(row) => row.settings["id"].clone(),
            None => uuid::Uuid::new_v4().to_string().into(),
        };
        let mut versions = vec![first];
        versions.extend(before.as_ref().map(versions_of).unwrap_or_default());
        versions.truncate(VERSIONS);
        row.settings = json!({
            "id": id, "script_name": script_name, "class_name": class_name, "modified_ms": now, "versions": versions,
        });
        if let Some(settings) = row.settings.as_object_mut() {
            settings.extend(kept);
        }
        (row.clone(), owners)
    });
    let (row, owners) = changed.await?;
    apply(&call, owners).await?;
    let mut result = shown(&call, &row);
    result["version_id"] = new.into();
    result["is_deleted"] = 0.into();
    result["terminator_running"] = 0.into();
    ok(result)
}

/// Deletes the instances, too.
pub(crate) async fn delete(call: Call) -> Answer {
    let row = row(&call)?;
    let tenant = call.tenant()?;
    let script = row.settings["script_name"].as_str().unwrap_or_default();
    if tenant.catalog().script(script)?.is_some() {
        match ask(&call, &row, "clear", json!({})).await {
            // Nothing runs that could reach them.
            Err(error) if error.errors.iter().any(|(code, _)| *code == NOT_DEPLOYED) => {}
            cleared => drop(cleared?),
        }
    }
    tenant.catalog().remove_resource(Kind::Workflow, &row.id).await?;
    apply(&call, owner(&row)).await?;
    ok(json!({ "status": "ok", "success": true }))
}

/// The script of a Workflow.
fn owner(row: &Resource) -> Option<String> {
    row.settings["script_name"].as_str().map(str::to_owned)
}

/// Brings what runs of scripts in line with what is said of their Workflows.
async fn apply(call: &Call, scripts: impl IntoIterator<Item = String>) -> Result<(), ApiError> {
    for script in scripts {
        let applied = call.api.platform.settings_changed(&call.token.account, &script).await;
        applied.map_err(|text| ApiError::bad(10021, text))?;
    }
    Ok(())
}

fn shown_settings(kept: Option<&Resource>) -> Json {
    let ms = |key: &str| {
        kept.and_then(|row| row.settings["default_retention"][key].as_u64()).unwrap_or(RETENTION_MS)
    };
    let [success, error] = ["success_retention", "error_retention"].map(ms);
    json!({ "default_retention": { "success_retention": success, "error_retention": error } })
}

/// What the account wants of all its Workflows.
pub(crate) async fn settings(call: Call) -> Answer {
    let kept = call.tenant()?.catalog().resource(Kind::Defaults, DEFAULTS)?;
    ok(shown_settings(kept.as_ref()))
}

#[derive(Deserialize)]
struct Patch {
    default_retention: Option<Retention>,
}

pub(crate) async fn change_settings(mut call: Call) -> Answer {
    let Patch { default_retention } = call.json().await?;
    let tenant = call.tenant()?;
    let Some(asked) = default_retention else { return settings(call).await };
    let asked = asked.read()?;
    let empty = Resource {
        id: DEFAULTS.to_owned(),
        name: DEFAULTS.to_owned(),
        created_ms: call.now_ms(),
        settings: json!({ "default_retention": {} }),
    };
    let changed = tenant.catalog().edit_or_add_resource(Kind::Defaults, empty, |row| {
        for (key, ms) in asked {
            row.settings["default_retention"][key] = ms;
        }
        row.clone()
    });
    let row = changed.await?;
    let owners: BTreeSet<String> =
        tenant.catalog().resources(Kind::Workflow)?.iter().filter_map(owner).collect();
    apply(&call, owners).await?;
    ok(shown_settings(Some(&row)))
}
