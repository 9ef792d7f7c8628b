//! Deployments: which versions take requests.
//! <https://developers.cloudflare.com/workers/configuration/versions-and-deployments/>

use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_catalog::Deployment;

use crate::aside::listed;
use crate::call::{Call, script_of};
use crate::reply::{Answer, ApiError, ok, time};
use crate::{exports, upload};

/// Deployments that are listed.
const LISTED: u64 = 100;

fn shown(deployment: &Deployment) -> Json {
    let versions: Vec<Json> = deployment
        .versions
        .iter()
        .map(|(id, percentage)| json!({ "version_id": id, "percentage": percentage }))
        .collect();
    json!({
        "id": deployment.id,
        "source": deployment.origin.source,
        "strategy": "percentage",
        "author_email": "",
        "created_on": time(deployment.created_ms),
        "annotations": deployment.annotations,
        "versions": versions,
    })
}

pub(crate) async fn list(call: Call) -> Answer {
    listed(call, list_of).await
}

fn list_of(call: &Call) -> Answer {
    let tenant = call.tenant()?;
    let script = script_of(tenant.catalog(), call.param(0))?;
    let all: Vec<Json> = tenant.catalog().deployments(&script.tag, LISTED)?.iter().map(shown).collect();
    ok(json!({ "deployments": all }))
}

pub(crate) async fn get(call: Call) -> Answer {
    let tenant = call.tenant()?;
    let script = script_of(tenant.catalog(), call.param(0))?;
    let found = tenant.catalog().deployment(&script.tag, call.param(1))?;
    ok(shown(&found.ok_or_else(|| ApiError::not_found(10336, "Deployment not found."))?))
}

/// Forgets one that takes no requests.
pub(crate) async fn delete(call: Call) -> Answer {
    let tenant = call.tenant()?;
    let script = script_of(tenant.catalog(), call.param(0))?;
    let id = call.param(1);
    if tenant.catalog().active_deployment(&script.tag)?.is_some_and(|active| active.id == id) {
        return Err(ApiError::bad(10337, "The latest deployment takes requests: it cannot be deleted."));
    }
    match tenant.catalog().remove_deployment(&script.tag, id).await? {
        true => ok(Json::Null),
        false => Err(ApiError::not_found(10336, "Deployment not found.")),
    }
}

#[derive(Deserialize)]
struct Create {
    strategy: String,
    versions: Vec<Share>,
    #[serde(default)]
    annotations: Json,
}

#[derive(Deserialize)]
struct Share {
    version_id: String,
    percentage: f64,
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let asked: Create = call.json().await?;
    let tenant = call.tenant()?;
    let name = call.param(0).to_owned();
    let script = script_of(tenant.catalog(), &name)?;
    let invalid = |text: &str| ApiError::bad(10212, text);
    if asked.strategy != "percentage" {
        return Err(invalid("The only deployment strategy is \"percentage\"."));
    }
    if asked.versions.is_empty() || asked.versions.len() > 2 {
        return Err(invalid("A deployment has one or two versions."));
    }
    let total: f64 = asked.versions.iter().map(|share| share.percentage).sum();
    let in_range = asked.versions.iter().all(|share| (0.0..=100.0).contains(&share.percentage));
    if !in_range || (total - 100.0).abs() > 1e-6 {
        return Err(invalid("The percentages of a deployment's versions must add up to 100."));
    }
    if asked.versions.len() == 2 && asked.versions[0].version_id == asked.versions[1].version_id {
        return Err(invalid("A deployment names each version once."));
    }
    let deployment = Deployment {
        id: uuid::Uuid::new_v4().to_string(),
        created_ms: call.now_ms(),
        origin: call.origin(),
        annotations: upload::annotations(&asked.annotations),
        versions: asked.versions.into_iter().map(|share| (share.version_id, share.percentage)).collect(),
    };
    let mut versions = Vec::new();
    for (id, _) in &deployment.versions {
        let version = tenant.catalog().version(&script.tag, id)?;
        versions.push(version.ok_or_else(|| crate::reply::no_version(id))?);
    }
    let changes = exports::of_deployment(&tenant, &name, &script.tag, &versions).await?;
    let elsewhere = upload::elsewhere(tenant.catalog(), &name, changes.iter())?;
    let made = tenant.catalog().deploy(&name, deployment, changes).await?;
    upload::apply_all(&call, &tenant, &name, elsewhere).await?;
    ok(shown(&made))
}
