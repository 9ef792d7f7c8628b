//! Settings of a script and of its latest version.
//! <https://developers.cloudflare.com/api/resources/workers/subresources/scripts/subresources/settings/>

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde_json::{Value as Json, json};
use skep_catalog::{Publish, Script, Settings, Version};

use crate::bindings::{self, Resolver};
use crate::call::{Call, script_of};
use crate::platform::Tenant;
use crate::reply::{Answer, ApiError, ok};
use crate::secrets::kept_assets;
use crate::{exports, script_limits, upload};

fn script_settings(settings: &Settings) -> Json {
    json!({
        "logpush": settings.logpush,
        "observability": settings.observability.clone().unwrap_or_else(|| json!({ "enabled": false })),
        "tags": settings.tags,
        "tail_consumers": settings.tail_consumers,
    })
}

fn shown(script: &Script, version: &Version) -> Json {
    let content = &version.content;
    let mut shown = script_settings(&script.settings);
    shown["bindings"] = content.bindings.iter().map(bindings::shown).collect();
    shown["compatibility_date"] = content.compatibility_date.clone().into();
    shown["compatibility_flags"] = content.compatibility_flags.clone().into();
    shown["limits"] = content.limits.clone().unwrap_or_else(|| json!({}));
    shown["placement"] = content.placement.clone().unwrap_or_else(|| json!({}));
    shown["usage_model"] = content.usage_model.as_deref().unwrap_or("standard").into();
    if let Some(tag) = &content.migration_tag {
        shown["migration_tag"] = tag.clone().into();
    }
    if let Some(exports) = exports::shown(content.exports.as_ref()) {
        shown["exports"] = exports;
    }
    shown
}

fn latest(tenant: &Arc<dyn Tenant>, name: &str) -> Result<(Script, Version), ApiError> {
    let script = script_of(tenant.catalog(), name)?;
    let version = tenant.catalog().latest_version(&script.tag)?.ok_or_else(crate::reply::no_script)?;
    Ok((script, version))
}

pub(crate) async fn get(call: Call) -> Answer {
    let tenant = call.tenant()?;
    let (script, version) = latest(&tenant, call.param(0))?;
    ok(shown(&script, &version))
}

/// A new version with other settings; bindings that are given by name and type alone keep their value.
pub(crate) async fn patch(mut call: Call) -> Answer {
    let asked = match call.form().await? {
        Some(form) => form.typed_document("settings", "AskedSettings").await?,
        None => call.any_json().await?,
    };
    if !asked.is_object() {
        return Err(ApiError::bad(10021, "could not read content for part settings"));
    }
    let tenant = call.tenant()?;
    let name = call.param(0).to_owned();
    let script = script_of(tenant.catalog(), &name)?;
    let before = upload::deployed_latest(&tenant, &script, 10214)?;
    let mut content = before.content.clone();
    if let Some(uploaded) = asked["bindings"].as_array() {
        script_limits::check_bindings(uploaded)?;
        content.bindings = patched_bindings(&call, &tenant, &name, &before, uploaded).await?;
        call.api.limits.check_count(&content.bindings, &before.content.bindings)?;
    }
    if let Some(date) = asked["compatibility_date"].as_str() {
        content.compatibility_date = Some(date.to_owned());
    }
    if let Ok(flags) = serde_json::from_value(asked["compatibility_flags"].clone()) {
        content.compatibility_flags = flags;
        crate::flags::check(&content.compatibility_flags)?;
    }
    crate::limits::check(&asked["limits"])?;
    for key in ["migrations", "exports"] {
        if !asked[key].is_null() {
            let text = format!("{key} are not changed by settings: upload the script with them.");
            return Err(ApiError::bad(10021, text));
        }
    }
    crate::observability::check(asked.get("observability"))?;
    check_lists(&asked)?;
    for (key, field) in [("limits", &mut content.limits), ("placement", &mut content.placement)] {
        if let Some(value) = asked.get(key) {
            *field = Some(value.clone()).filter(|v| !v.is_null());
        }
    }
    let settings = merged(script.settings.clone(), &asked);
    if content == before.content && settings == script.settings {
        return ok(shown(&script, &before));
    }
    if content != before.content && !content.modules.is_empty() {
        let namespaces = tenant.catalog().namespaces(&name)?;
        upload::try_out(&call, &name, &mut content, &namespaces).await?;
    }
    let asset_keys = kept_assets(&call, &name, &content).await?;
    let published = tenant
        .catalog()
        .publish(Publish {
            script: name.clone(),
            origin: call.origin(),
            content,
            asset_keys,
            deploy: true,
            settings: Some(settings),
            after: Some(before.id),
            now_ms: call.now_ms(),
            ..Publish::default()
        })
        .await?;
    upload::apply(&call, &name).await?;
    ok(shown(&published.script, &published.version))
}

/// A binding's name and type.
fn told(binding: &Json) -> Option<(&str, &str)> {
    Some((binding["name"].as_str()?, binding["type"].as_str()?))
}

async fn patched_bindings(
    call: &Call,
    tenant: &Arc<dyn Tenant>,
    script: &str,
    before: &Version,
    uploaded: &[Json],
) -> Result<Vec<Json>, ApiError> {
    let bare = |binding: &Json| binding.as_object().is_some_and(|fields| fields.len() == 2);
    let had: HashSet<(&str, &str)> = before.content.bindings.iter().filter_map(told).collect();
    let inherited = |binding: &Json| match bare(binding) && told(binding).is_some_and(|it| had.contains(&it))
    {
        true => json!({ "type": "inherit", "name": binding["name"] }),
        false => binding.clone(),
    };
    let uploaded: Vec<Json> = uploaded.iter().map(inherited).collect();
    let namespaces = tenant.catalog().namespaces(script)?;
    let resolver = Resolver {
        catalog: tenant.catalog(),
        sealer: &call.api.sealer,
        account: &call.token.account,
        script,
        previous: Some(before),
        namespaces: &namespaces,
        exports: None,
        handed: &BTreeMap::new(),
        binds_secrets: crate::secrets_store::may_bind(call),
        runs_models: call.api.platform.ai().is_there(),
        has_relay: call.api.has_relay,
        runs_browsers: call.api.platform.runs_browsers(),
    };
    resolver.resolve(&uploaded, None).await
}

/// Tags that a script may have.
/// <https://developers.cloudflare.com/cloudflare-for-platforms/workers-for-platforms/reference/limits/#tags>
const MAX_TAGS: usize = 8;
/// Scripts that may be told of a script's events.
const MAX_TAIL_CONSUMERS: usize = 100;

/// Refuses lists that are too long, in settings or in the metadata of an upload.
pub(crate) fn check_lists(asked: &Json) -> Result<(), ApiError> {
    let found = |key: &str| asked[key].as_array().map_or(0, Vec::len);
    check_tags(found("tags"))?;
    check_number("tail_consumers", found("tail_consumers"), MAX_TAIL_CONSUMERS)
}

/// Refuses more tags than a script may have.
pub(crate) fn check_tags(found: usize) -> Result<(), ApiError> {
    check_number("tags", found, MAX_TAGS)
}

fn check_number(what: &str, found: usize, most: usize) -> Result<(), ApiError> {
    match found <= most {
        true => Ok(()),
        false => Err(ApiError::bad(10021, format!("There are {found} {what}; a script may have {most}."))),
    }
}

/// The settings with what `asked` names.
fn merged(mut settings: Settings, asked: &Json) -> Settings {
    if let Some(logpush) = asked["logpush"].as_bool() {
        settings.logpush = logpush;
    }
    if let Some(observability) = asked.get("observability") {
        settings.observability = Some(observability.clone()).filter(|o| !o.is_null());
    }
    match asked.get("tags") {
        Some(Json::Null) => settings.tags.clear(),
        Some(tags) => settings.tags = serde_json::from_value(tags.clone()).unwrap_or(settings.tags),
        None => {}
    }
    match asked.get("tail_consumers") {
        Some(Json::Null) => settings.tail_consumers.clear(),
        Some(Json::Array(consumers)) => settings.tail_consumers.clone_from(consumers),
        _ => {}
    }
    settings
}

pub(crate) async fn get_script(call: Call) -> Answer {
    let tenant = call.tenant()?;
    ok(script_settings(&script_of(tenant.catalog(), call.param(0))?.settings))
}

pub(crate) async fn patch_script(mut call: Call) -> Answer {
    let asked = call.any_json().await?;
    if !asked.is_object() {
        return Err(ApiError::bad(10026, "Could not parse the request body: expected an object"));
    }
    crate::observability::check(asked.get("observability"))?;
    check_lists(&asked)?;
    let tenant = call.tenant()?;
    let before = script_of(tenant.catalog(), call.param(0))?.settings;
    let now = call.now_ms();
    let changed = tenant.catalog().update(call.param(0), move |script| {
        script.settings = merged(std::mem::take(&mut script.settings), &asked);
        script.modified_ms = now;
    });
    let changed = changed.await?;
    let heard = |settings: &Settings| (settings.observability.clone(), settings.tail_consumers.clone());
    if heard(&changed.settings) != heard(&before) {
        let applied = call.api.platform.settings_changed(&call.token.account, &changed.name).await;
        applied.map_err(|text| ApiError::bad(10021, text))?;
    }
    ok(script_settings(&changed.settings))
}
