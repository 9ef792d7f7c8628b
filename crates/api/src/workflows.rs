//! Workflows: which class of which script is one. <https://developers.cloudflare.com/api/resources/workflows/>

use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_catalog::{Kind, Resource};

use crate::call::{Call, script_of};
use crate::reply::{Answer, ApiError, ok, page, time};

fn row(call: &Call) -> Result<Resource, ApiError> {
    let found = call.tenant()?.catalog().resource(Kind::Workflow, call.param(0))?;
    found.ok_or_else(|| ApiError::not_found(10200, "workflow.not_found"))
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
    page(all.iter().map(shown).collect(), number, per_page)
}

pub(crate) async fn get(call: Call) -> Answer {
    ok(shown(&row(&call)?))
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
    let row = Resource {
        id: name.clone(),
        name,
        created_ms: before.as_ref().map_or(call.now_ms(), |row| row.created_ms),
        settings: json!({
            "id": id, "script_name": script_name, "class_name": class_name, "modified_ms": call.now_ms(),
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
    result["version_id"] = row.settings["id"].clone();
    ok(result)
}

pub(crate) async fn delete(call: Call) -> Answer {
    let row = row(&call)?;
    call.tenant()?.catalog().remove_resource(Kind::Workflow, &row.id).await?;
    ok(json!({ "status": "ok", "success": true }))
}

/// Instances are reached through the binding of a script, not from outside.
pub(crate) async fn instances(call: Call) -> Answer {
    row(&call)?;
    Err(ApiError::bad(
        10001,
        "Skep does not show the instances of a Workflow yet: ask through its binding in a Worker.",
    ))
}
