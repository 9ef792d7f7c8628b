//! Versions of Workers as objects: one JSON document with all modules.
//! <https://developers.cloudflare.com/api/resources/workers/subresources/beta/subresources/workers/subresources/versions/>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value as Json, json};
use skep_catalog::{Module, Script, Version};

use crate::aside::aside;
use crate::call::Call;
use crate::form::Part;
use crate::reply::{Answer, ApiError, no_version, ok, ok_text, page_info, time, with_info};
use crate::subdomain::enabled;
use crate::upload::{self, Plan};
use crate::uploaded::Upload;
use crate::workers::find;
use crate::workers::host;
use crate::{bindings, modules};

/// A version's document at most: all modules, in base64.
const MAX_VERSION: usize = 180 << 20;
/// Digits of an id that name a version.
const PREFIX: usize = 8;

fn shown(call: &Call, script: &Script, version: &Version) -> Result<Json, ApiError> {
    let content = &version.content;
    let (_, previews) = enabled(script);
    let label = format!("{}-{}", version.id.get(..PREFIX).unwrap_or_default(), script.name);
    let host = host(call, &call.account()?, &label).filter(|_| previews && !content.modules.is_empty());
    let scheme = call.api.platform.addresses().scheme;
    let urls: Vec<String> = host.into_iter().map(|host| format!("{scheme}://{host}")).collect();
    let mut shown = json!({
        "id": version.id,
        "number": version.number,
        "created_on": time(version.created_ms),
        "urls": urls,
        "source": version.origin.source,
        "annotations": version.annotations,
        "bindings": content.bindings.iter().map(bindings::shown).collect::<Vec<_>>(),
        "compatibility_flags": content.compatibility_flags,
        "limits": content.limits.clone().unwrap_or_else(|| json!({})),
        "usage_model": "standard",
        "startup_time_ms": content.startup_time_ms,
    });
    let texts =
        [("compatibility_date", &content.compatibility_date), ("migration_tag", &content.migration_tag)];
    for (key, value) in texts {
        if let Some(value) = value {
            shown[key] = value.clone().into();
        }
    }
    if let Some(main) = content.modules.first() {
        shown["main_module"] = main.name.clone().into();
    }
    if let Some(placement) = &content.placement {
        shown["placement"] = placement.clone();
    }
    if let Some(assets) = &content.assets {
        shown["assets"] = json!({ "config": assets.config });
    }
    Ok(shown)
}

pub(crate) async fn versions(call: Call) -> Answer {
    let script = find(&call)?;
    let (page, per_page) = call.page(10)?;
    let offset = (page - 1).saturating_mul(per_page);
    let (versions, total) = call.tenant()?.catalog().versions(&script.tag, offset, per_page)?;
    let items =
        versions.iter().map(|version| shown(&call, &script, version)).collect::<Result<Vec<_>, _>>()?;
    let info = page_info(items.len() as u64, total, page, per_page);
    with_info(items.into(), info)
}

/// By its id, the beginning of that, or as `latest`.
fn version_of(call: &Call, script: &Script) -> Result<Version, ApiError> {
    let (tenant, asked) = (call.tenant()?, call.param(1));
    let catalog = tenant.catalog();
    let found = match asked {
        "latest" => catalog.latest_version(&script.tag)?,
        prefix if prefix.len() >= PREFIX => catalog.version_with_prefix(&script.tag, prefix)?,
        _ => None,
    };
    found.ok_or_else(|| no_version(asked))
}

pub(crate) async fn get(mut call: Call) -> Answer {
    let script = find(&call)?;
    let version = version_of(&call, &script)?;
    let mut shown = shown(&call, &script, &version)?;
    if call.choice("include", &["modules"])?.is_some() {
        let tenant = call.tenant()?;
        let modules = version.content.modules;
        let sizes = modules.iter().map(|module| modules::size(&tenant, &module.key));
        let size = sizes.sum::<Result<usize, _>>()?;
        // The content, its letters in base64, and the text that they are in.
        call.take_room(size.saturating_mul(4)).await?;
        let mut read = Vec::new();
        for module in modules {
            let bytes = modules::load(&tenant, &module.key).await?;
            read.push((module, bytes));
        }
        let write = move || {
            let shown_module = |(module, bytes): &(Module, Bytes)| {
                let text = STANDARD.encode(bytes);
                json!({ "name": module.name, "content_type": module.content_type, "content_base64": text })
            };
            shown["modules"] = read.iter().map(shown_module).collect();
            shown.to_string()
        };
        let text = aside(size, write).await?;
        return Ok(call.in_room(ok_text(text.into())));
    }
    ok(shown)
}

/// The modules of a version's document, as parts of a form would be.
fn parts(asked: &mut Json) -> Result<Vec<Part>, ApiError> {
    let modules = match asked.as_object_mut().and_then(|fields| fields.remove("modules")) {
        Some(Json::Array(modules)) => modules,
        _ => Vec::new(),
    };
    let part = |module: &Json| {
        let text = |key: &str| module[key].as_str().unwrap_or_default().to_owned();
        let bytes = STANDARD.decode(text("content_base64"));
        let bytes = bytes.map_err(|_| {
            ApiError::bad(10021, format!("The content of module \"{}\" is not valid base64", text("name")))
        })?;
        let content_type = Some(text("content_type")).filter(|kind| !kind.is_empty());
        Ok(Part { name: text("name"), file_name: None, content_type, bytes: bytes.into() })
    };
    modules.iter().map(part).collect()
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let mut asked: Json = call.json_within(MAX_VERSION, 10021).await?;
    let modules = parts(&mut asked)?;
    let script = find(&call)?;
    let deploy = call.choice("deploy", &["true", "false"])? == Some("true");
    let tenant = call.tenant()?;
    // Settings are the Worker's own, not a version's.
    if let Some(fields) = asked.as_object_mut() {
        ["logpush", "observability", "tags", "tail_consumers"]
            .iter()
            .for_each(|key| drop(fields.remove(*key)));
    }
    let upload = Upload { metadata: asked, modules };
    let plan = Plan { create: false, deploy, whole: true };
    let made = upload::publish(&call, &tenant, &script.name, &upload, plan).await?;
    let mut shown = shown(&call, &made.script, &made.version)?;
    if let Some(reconciliation) = made.reconciliation {
        shown["exports_reconciliation"] = reconciliation;
    }
    ok(shown)
}

/// One that takes no requests.
pub(crate) async fn delete(call: Call) -> Answer {
    let script = find(&call)?;
    let version = version_of(&call, &script)?;
    let tenant = call.tenant()?;
    match tenant.catalog().remove_version(&script.tag, &version.id).await? {
        true => ok(Json::Null),
        false => Err(ApiError::bad(10337, "The version takes requests: it cannot be deleted.")),
    }
}
