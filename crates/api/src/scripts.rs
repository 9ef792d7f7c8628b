//! Scripts: upload, list, read, delete.
//! <https://developers.cloudflare.com/api/resources/workers/subresources/scripts/>

use std::sync::Arc;

use http::HeaderValue;
use serde_json::{Value as Json, json};
use skep_catalog::{Script, Version};

use crate::aside::each;
use crate::call::{Call, script_of};
use crate::exports;
use crate::modules::{self, Piece};
use crate::platform::Tenant;
use crate::reply::{self, Answer, ok, page, time};
use crate::upload::{self, Plan};
use crate::uploaded::Upload;

/// A script as the API shows it, with what of a version belongs to it.
pub(crate) fn shown(script: &Script, version: Option<&Version>) -> Json {
    let content = version.map(|v| v.content.clone()).unwrap_or_default();
    let named: Vec<Json> =
        content.named_handlers.iter().map(|n| json!({ "name": n.name, "handlers": n.handlers })).collect();
    let mut shown = json!({
        "id": script.label(),
        "tag": script.tag,
        "etag": content.etag,
        "handlers": content.handlers,
        "named_handlers": named,
        "has_assets": content.assets.is_some(),
        "has_modules": !content.service_worker && !content.modules.is_empty(),
        "compatibility_date": content.compatibility_date.unwrap_or_default(),
        "compatibility_flags": content.compatibility_flags,
        "created_on": time(script.created_ms),
        "modified_on": time(script.modified_ms),
        "last_deployed_from": version.map_or("api", |v| v.origin.source.as_str()),
        "logpush": script.settings.logpush,
        "observability": script.settings.observability.clone().unwrap_or_else(|| json!({ "enabled": false })),
        "tags": script.settings.tags,
        "tail_consumers": script.settings.tail_consumers,
        "usage_model": content.usage_model.unwrap_or_else(|| "standard".into()),
        "startup_time_ms": content.startup_time_ms,
    });
    if let Some(tag) = content.migration_tag {
        shown["migration_tag"] = tag.into();
    }
    if let Some(exports) = exports::shown(content.exports.as_ref()) {
        shown["exports"] = exports;
    }
    if let Some(placement) = content.placement {
        shown["placement_mode"] = placement["mode"].clone();
        shown["placement"] = placement;
    }
    shown
}

/// The version that takes the most requests, or the newest where none is deployed.
pub(crate) fn current_version(
    tenant: &Arc<dyn Tenant>,
    script: &Script,
) -> Result<Option<Version>, crate::ApiError> {
    let catalog = tenant.catalog();
    let active = catalog.active_deployment(&script.tag)?;
    let most = active.and_then(|d| d.versions.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)));
    Ok(match most {
        Some((id, _)) => catalog.version(&script.tag, &id)?,
        None => catalog.latest_version(&script.tag)?,
    })
}

pub(crate) async fn list(call: Call) -> Answer {
    let tenant = call.tenant()?;
    let scripts = tenant.catalog().scripts()?;
    let shown = each(scripts, move |script| Ok(shown(&script, current_version(&tenant, &script)?.as_ref())));
    ok(Json::Array(shown.await?))
}

/// What found scripts can be ordered by.
pub(crate) const ORDERS: [&str; 3] = ["name", "created_on", "modified_on"];

/// Scripts by a part of their name, or by their id.
pub(crate) async fn search(call: Call) -> Answer {
    let (number, per_page) = call.page(10)?;
    let (name, id) = (call.query("name").unwrap_or_default(), call.query("id"));
    let mut found = call.tenant()?.catalog().scripts()?;
    found.retain(|script| script.name.contains(&name) && id.as_ref().is_none_or(|id| script.tag == *id));
    match call.choice("order_by", &ORDERS)? {
        Some("created_on") => found.sort_by_key(|script| script.created_ms),
        Some("modified_on") => found.sort_by_key(|script| script.modified_ms),
        _ => found.sort_by(|a, b| a.name.cmp(&b.name)),
    }
    let shown = found.iter().map(|script| {
        json!({
            "id": script.tag, "script_name": script.name, "service_name": script.name,
            "environment_name": "production", "environment_is_default": true,
            "created_on": time(script.created_ms), "modified_on": time(script.modified_ms),
        })
    });
    page(shown.collect(), number, per_page)
}

pub(crate) async fn put(mut call: Call) -> Answer {
    let upload = Upload::read(&mut call).await?;
    let tenant = call.tenant()?;
    let name = call.param(0).to_owned();
    let plan = Plan { create: true, deploy: true, whole: true };
    let published = upload::publish(&call, &tenant, &name, &upload, plan).await?;
    let mut result = shown(&published.script, Some(&published.version));
    result["deployment_id"] = published.version.id.clone().into();
    if let Some(reconciliation) = published.reconciliation {
        result["exports_reconciliation"] = reconciliation;
    }
    if let Some(main) = published.version.content.modules.first() {
        result["entry_point"] = main.name.clone().into();
    }
    ok(result)
}

/// Replaces the code alone.
pub(crate) async fn put_content(mut call: Call) -> Answer {
    let mut upload = Upload::read(&mut call).await?;
    let tenant = call.tenant()?;
    let name = call.param(0).to_owned();
    let script = script_of(tenant.catalog(), &name)?;
    let before = upload::deployed_latest(&tenant, &script, 10214)?.content;
    let inherited: Vec<Json> =
        before.bindings.iter().map(|b| json!({ "type": "inherit", "name": b["name"] })).collect();
    let metadata = &mut upload.metadata;
    metadata["bindings"] = inherited.into();
    metadata["compatibility_date"] = before.compatibility_date.into();
    metadata["compatibility_flags"] = before.compatibility_flags.into();
    metadata["keep_assets"] = before.assets.is_some().into();
    metadata["limits"] = before.limits.into();
    metadata["placement"] = before.placement.into();
    metadata["exports"] = before.exports.into();
    let plan = Plan { create: false, deploy: true, whole: true };
    let published = upload::publish(&call, &tenant, &name, &upload, plan).await?;
    ok(shown(&published.script, Some(&published.version)))
}

/// The code as it was uploaded: a form of its modules, or the script.
pub(crate) async fn source(call: Call) -> Answer {
    let tenant = call.tenant()?;
    let script = script_of(tenant.catalog(), call.param(0))?;
    let version = current_version(&tenant, &script)?.ok_or_else(crate::reply::no_script)?;
    let content = version.content;
    if content.service_worker
        && let Some(only) = content.modules.first()
    {
        let (content, length) = modules::open(&tenant, &only.key).await?;
        return Ok(reply::content(content, length, HeaderValue::from_static("application/javascript")));
    }
    let boundary = uuid::Uuid::new_v4().simple().to_string();
    let mut pieces = Vec::new();
    for (n, module) in content.modules.iter().enumerate() {
        let name = module.name.replace('"', "%22");
        let (end, kind) = (if n == 0 { "" } else { "\r\n" }, &module.content_type);
        pieces.push(Piece::Text(format!(
            "{end}--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
             Content-Type: {kind}\r\n\r\n"
        )));
        pieces.push(Piece::Content(module.key.clone()));
    }
    pieces.push(Piece::Text(format!("\r\n--{boundary}--\r\n")));
    let (body, length) = modules::joined(&tenant, pieces)?;
    let kind = HeaderValue::try_from(format!("multipart/form-data; boundary={boundary}"));
    let mut response = reply::content(body, length, kind.map_err(crate::ApiError::internal)?);
    if let Some(main) = content.modules.first()
        && let Ok(name) = HeaderValue::try_from(main.name.as_str())
    {
        response.headers_mut().insert("cf-entrypoint", name);
    }
    Ok(response)
}

pub(crate) async fn delete(call: Call) -> Answer {
    let tenant = call.tenant()?;
    let name = call.param(0).to_owned();
    script_of(tenant.catalog(), &name)?;
    tenant.catalog().remove_script(&name).await?;
    crate::containers::forget_orphans(&tenant).await?;
    upload::apply(&call, &name).await?;
    ok(Json::Null)
}
