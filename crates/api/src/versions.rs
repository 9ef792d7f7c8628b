//! Versions. <https://developers.cloudflare.com/api/resources/workers/subresources/scripts/subresources/versions/>

use serde_json::{Value as Json, json};
use skep_catalog::Version;

use crate::aside::listed;
use crate::bindings;
use crate::call::{Call, script_of};
use crate::exports;
use crate::reply::{Answer, no_version, ok, page_info, time, with_info};
use crate::upload::{self, Plan};
use crate::uploaded::Upload;

/// A version as the API shows it.
pub(crate) fn shown(version: &Version) -> Json {
    let content = &version.content;
    let named: Vec<Json> =
        content.named_handlers.iter().map(|n| json!({ "name": n.name, "handlers": n.handlers })).collect();
    let bindings: Vec<Json> = content.bindings.iter().map(bindings::shown).collect();
    let created = time(version.created_ms);
    let mut runtime = json!({
        "compatibility_date": content.compatibility_date,
        "compatibility_flags": content.compatibility_flags,
        "usage_model": content.usage_model.as_deref().unwrap_or("standard"),
        "limits": content.limits.clone().unwrap_or_else(|| json!({})),
    });
    if let Some(tag) = &content.migration_tag {
        runtime["migration_tag"] = tag.clone().into();
    }
    if let Some(exports) = exports::shown(content.exports.as_ref()) {
        runtime["exports"] = exports;
    }
    if let Some(containers) = &content.containers {
        runtime["containers"] = containers.clone();
    }
    json!({
        "id": version.id,
        "number": version.number,
        "metadata": {
            "created_on": created,
            "modified_on": created,
            "source": version.origin.source,
            "author_id": version.origin.author,
            "author_email": "",
            "hasPreview": !content.modules.is_empty(),
            "has_preview": !content.modules.is_empty(),
        },
        "annotations": version.annotations,
        "resources": {
            "bindings": bindings,
            "script": {
                "etag": content.etag,
                "handlers": content.handlers,
                "named_handlers": named,
                "last_deployed_from": version.origin.source,
            },
            "script_runtime": runtime,
        },
        "startup_time_ms": content.startup_time_ms,
    })
}

pub(crate) async fn list(call: Call) -> Answer {
    listed(call, list_of).await
}

fn list_of(call: &Call) -> Answer {
    let tenant = call.tenant()?;
    let script = script_of(tenant.catalog(), call.param(0))?;
    let (page, per_page) = call.page(10)?;
    let offset = (page - 1).saturating_mul(per_page);
    let (versions, total) = tenant.catalog().versions(&script.tag, offset, per_page)?;
    let items: Vec<Json> = versions.iter().map(shown).collect();
    let info = page_info(items.len() as u64, total, page, per_page);
    with_info(json!({ "items": items }), info)
}

pub(crate) async fn get(call: Call) -> Answer {
    let tenant = call.tenant()?;
    let script = script_of(tenant.catalog(), call.param(0))?;
    let id = call.param(1);
    let version = tenant.catalog().version(&script.tag, id)?.ok_or_else(|| no_version(id))?;
    ok(shown(&version))
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let upload = Upload::read(&mut call).await?;
    let tenant = call.tenant()?;
    let name = call.param(0).to_owned();
    let plan = Plan { create: false, deploy: false, whole: false };
    let made = upload::publish(&call, &tenant, &name, &upload, plan).await?;
    let mut result = shown(&made.version);
    if let Some(reconciliation) = made.reconciliation {
        result["exports_reconciliation"] = reconciliation;
    }
    ok(result)
}
