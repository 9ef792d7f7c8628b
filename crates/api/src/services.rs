//! The older view of scripts that wrangler and Terraform read; not in the published description.

use serde_json::{Value as Json, json};

use crate::aside::each;
use crate::call::{Call, script_of};
use crate::reply::{Answer, ApiError, ok};
use crate::{scripts, settings};

pub(crate) async fn get(call: Call) -> Answer {
    let tenant = call.tenant()?;
    // wrangler 3 knows this code only.
    let script = tenant.catalog().script(call.param(0))?;
    let script = script.ok_or_else(|| ApiError::not_found(10090, "workers.api.error.service_not_found"))?;
    let version = scripts::current_version(&tenant, &script)?;
    let shown = scripts::shown(&script, version.as_ref());
    ok(json!({
        "id": script.name,
        "default_environment": { "environment": "production", "script": shown },
    }))
}

/// A script has one environment; others of a project are scripts of their own.
fn check_environment(call: &Call) -> Result<(), ApiError> {
    match call.param(1) {
        "production" => Ok(()),
        other => Err(ApiError::not_found(10090, format!("The service has no environment \"{other}\"."))),
    }
}

pub(crate) async fn content(call: Call) -> Answer {
    check_environment(&call)?;
    scripts::source(call).await
}

pub(crate) async fn put_content(call: Call) -> Answer {
    check_environment(&call)?;
    scripts::put_content(call).await
}

pub(crate) async fn settings(call: Call) -> Answer {
    check_environment(&call)?;
    settings::get(call).await
}

pub(crate) async fn patch_settings(call: Call) -> Answer {
    check_environment(&call)?;
    settings::patch_script(call).await
}

/// A script as one that has to do with another.
fn bound(other: &str) -> Json {
    json!({ "service": other, "environment": "production" })
}

/// Who is bound to a script: what would break if it were deleted.
pub(crate) async fn references(call: Call) -> Answer {
    let tenant = call.tenant()?;
    let name = call.param(0).to_owned();
    script_of(tenant.catalog(), &name)?;
    let mut others = tenant.catalog().scripts()?;
    others.retain(|other| other.name != name);
    let found = each(others, move |other| {
        let version = scripts::current_version(&tenant, &other)?;
        let (mut incoming, mut objects) = (Vec::new(), Vec::new());
        for binding in version.iter().flat_map(|v| &v.content.bindings) {
            match binding["type"].as_str() {
                Some("service") if binding["service"] == name.as_str() => incoming.push(bound(&other.name)),
                Some("durable_object_namespace") if binding["script_name"] == name.as_str() => {
                    let class = binding["class_name"].as_str().unwrap_or_default();
                    let mut object = bound(&other.name);
                    object["durable_object_namespace_id"] = binding["namespace_id"].clone();
                    object["durable_object_namespace_name"] = format!("{name}_{class}").into();
                    objects.push(object);
                }
                _ => {}
            }
        }
        Ok((incoming, objects))
    });
    let (incoming, objects): (Vec<_>, Vec<_>) = found.await?.into_iter().unzip();
    let (incoming, objects) = (incoming.concat(), objects.concat());
    ok(json!({
        "services": { "incoming": incoming, "outgoing": [], "pages_function": false },
        "durable_objects": objects,
        "dispatch_outbounds": [],
    }))
}

pub(crate) async fn tails_by_consumer(call: Call) -> Answer {
    let tenant = call.tenant()?;
    let name = call.param(0);
    let producers: Vec<Json> = tenant
        .catalog()
        .scripts()?
        .iter()
        .filter(|script| script.settings.tail_consumers.iter().any(|consumer| consumer["service"] == name))
        .map(|script| json!({ "producer": bound(&script.name) }))
        .collect();
    ok(Json::Array(producers))
}
