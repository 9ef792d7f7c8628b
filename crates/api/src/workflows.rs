//! Workflows: which class of which script is one. <https://developers.cloudflare.com/api/resources/workflows/>

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_catalog::{Kind, Resource};

use crate::call::{Call, script_of};
use crate::instances::{NOT_DEPLOYED, ask};
use crate::reply::{Answer, ApiError, ok, page, page_info, time, with_info};

/// Versions that are remembered of one.
const VERSIONS: usize = 100;
/// How long a list waits for the numbers of instances.
const COUNT_WAIT: Duration = Duration::from_secs(5);

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

fn shown(row: &Resource) -> Json {
    json!({
        "id": row.settings["id"],
        "name": row.name,
        "script_name": row.settings["script_name"],
        "class_name": row.settings["class_name"],
        "created_on": time(row.created_ms),
        "modified_on": time(row.settings["modified_ms"].as_i64().unwrap_or(row.created_ms)),
        "triggered_on": null,
        "instances": {},
    })
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
    let mut shown = shown(row);
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
    json!({
        "id": version["id"], "workflow_id": row.settings["id"], "class_name": version["class_name"],
        "created_on": at, "modified_on": at, "has_dag": false, "language": "javascript",
    })
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

#[derive(Deserialize)]
struct Put {
    script_name: String,
    class_name: String,
    #[serde(default)]
    schedules: Vec<Json>,
}

/// Made by a deploy for every Workflow that its script owns.
pub(crate) async fn put(mut call: Call) -> Answer {
    let Put { script_name, class_name, schedules } = call.json().await?;
    if !schedules.is_empty() {
        return Err(ApiError::bad(
            10208,
            "Skep does not run Workflows on schedules: start one from `scheduled()`.",
        ));
    }
    let tenant = call.tenant()?;
    script_of(tenant.catalog(), &script_name)?;
    let name = call.param(0).to_owned();
    let before = tenant.catalog().resource(Kind::Workflow, &name)?;
    let id = before
        .as_ref()
        .map_or_else(|| uuid::Uuid::new_v4().to_string().into(), |row| row.settings["id"].clone());
    let new = uuid::Uuid::new_v4().to_string();
    let mut versions =
        vec![json!({ "id": new, "created_ms": call.now_ms(), "class_name": class_name.as_str() })];
    versions.extend(before.as_ref().map(versions_of).unwrap_or_default());
    versions.truncate(VERSIONS);
    let row = Resource {
        id: name.clone(),
        name,
        created_ms: before.as_ref().map_or(call.now_ms(), |row| row.created_ms),
        settings: json!({
            "id": id, "script_name": script_name, "class_name": class_name, "modified_ms": call.now_ms(), "versions": versions,
        }),
    };
    match before {
        Some(_) => {
            tenant.catalog().change_resource(Kind::Workflow, row.clone()).await?;
        }
        None => {
            tenant.catalog().add_resource(Kind::Workflow, row.clone()).await?;
        }
    }
    let mut result = shown(&row);
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
    ok(json!({ "status": "ok", "success": true }))
}
