//! Dispatch namespaces and the scripts in them: Workers for Platforms.
//! <https://developers.cloudflare.com/api/resources/workers_for_platforms/>
//!
//! A script in a namespace is a script whose name starts with the namespace's id, so that most operations are those
//! of ordinary scripts. It has no versions, routes or addresses of its own.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_catalog::{Kind, Resource, Script, name_within};
use skep_wire::{BoxFuture, Response};

use crate::aside::each;
use crate::call::{Call, script_of};
use crate::platform::Tenant;
use crate::reply::{Answer, ApiError, ok, page, time};
use crate::scripts::current_version;
use crate::{assets, scripts, secrets, settings, upload};

pub(crate) const NAME_LIMIT: usize = 64;
/// Scripts that are deleted with one request at most.
pub(crate) const DELETE_LIMIT: usize = 100;

pub(crate) fn no_namespace() -> ApiError {
    ApiError::not_found(100_119, "The specified dispatch namespace does not exist on this account.")
}

fn no_script_within() -> ApiError {
    ApiError::not_found(10092, "This Worker does not exist in the specified dispatch namespace.")
}

/// The namespace that the address names.
fn namespace(call: &Call) -> Result<Resource, ApiError> {
    let tenant = call.tenant()?;
    tenant.catalog().resource_named(Kind::Dispatch, call.param(0))?.ok_or_else(no_namespace)
}

fn shown(call: &Call, namespace: &Resource) -> Result<Json, ApiError> {
    let settings = &namespace.settings;
    let author = &settings["created_by"];
    Ok(json!({
        "namespace_id": namespace.id,
        "namespace_name": namespace.name,
        "script_count": call.tenant()?.catalog().count_within(&namespace.id)?,
        "trusted_workers": settings["trusted_workers"] == true,
        "created_on": time(namespace.created_ms),
        "created_by": author,
        "modified_on": time(settings["modified_ms"].as_i64().unwrap_or(namespace.created_ms)),
        "modified_by": settings.get("modified_by").unwrap_or(author),
    }))
}

#[derive(Deserialize)]
struct Asked {
    name: Option<String>,
    trusted_workers: Option<bool>,
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match !name.is_empty() && name.len() <= NAME_LIMIT && name.chars().all(allowed) {
        true => Ok(()),
        false => Err(ApiError::bad(
            100_120,
            format!(
                "Invalid dispatch namespace name '{name}'. Names are 1 to {NAME_LIMIT} letters, digits, dashes and underscores."
            ),
        )),
    }
}

fn taken(error: skep_catalog::CatalogError) -> ApiError {
    match error {
        skep_catalog::CatalogError::Exists(name) => {
            ApiError::bad(100_118, format!("A dispatch namespace with the name '{name}' already exists."))
        }
        other => other.into(),
    }
}

pub(crate) async fn list(call: Call) -> Answer {
    let (number, per_page) = call.page(100)?;
    let all = call.tenant()?.catalog().resources(Kind::Dispatch)?;
    let shown: Result<Vec<Json>, ApiError> = all.iter().map(|namespace| shown(&call, namespace)).collect();
    page(shown?, number, per_page)
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let asked: Asked = call.json().await?;
    let name =
        asked.name.ok_or_else(|| ApiError::bad(100_120, "A dispatch namespace must have a `name`."))?;
    check_name(&name)?;
    let made = Resource {
        id: uuid::Uuid::new_v4().to_string(),
        name,
        created_ms: call.now_ms(),
        settings: json!({ "created_by": call.token.id, "trusted_workers": asked.trusted_workers == Some(true) }),
    };
    let made = call.tenant()?.catalog().add_resource(Kind::Dispatch, made).await.map_err(taken)?;
    ok(shown(&call, &made)?)
}

pub(crate) async fn get(call: Call) -> Answer {
    let namespace = namespace(&call)?;
    ok(shown(&call, &namespace)?)
}

/// Renames it, or changes whether its scripts are trusted.
pub(crate) async fn update(mut call: Call) -> Answer {
    let asked: Asked = call.json().await?;
    if let Some(name) = &asked.name {
        check_name(name)?;
    }
    let id = namespace(&call)?.id;
    let (now, token) = (call.now_ms(), call.token.id.clone());
    let change = move |row: &mut Resource| {
        if let Some(name) = asked.name {
            row.name = name;
        }
        if let Some(trusted) = asked.trusted_workers {
            row.settings["trusted_workers"] = trusted.into();
        }
        row.settings["modified_ms"] = now.into();
        row.settings["modified_by"] = token.into();
        Ok::<_, ApiError>(row.clone())
    };
    let edited = call.tenant()?.catalog().edit_resource(Kind::Dispatch, &id, change).await.map_err(taken)?;
    let changed = edited.ok_or_else(no_namespace)??;
    call.api.platform.namespace_changed(&call.token.account, &changed.id).map_err(ApiError::internal)?;
    ok(shown(&call, &changed)?)
}

/// Deletes it with all scripts in it.
pub(crate) async fn delete(call: Call) -> Answer {
    let namespace = namespace(&call)?;
    let tenant = call.tenant()?;
    // First the namespace: nobody adds a script to it any more.
    tenant.catalog().remove_resource(Kind::Dispatch, &namespace.id).await?;
    for script in tenant.catalog().scripts_within(&namespace.id)? {
        tenant.catalog().remove_script(&script.name).await?;
        crate::containers::forget_orphans(&tenant).await?;
        upload::apply(&call, &script.name).await?;
    }
    ok(Json::Null)
}

/// Which scripts `tags=a:yes,b:no` asks for.
fn tag_filter(call: &Call) -> Result<Vec<(String, bool)>, ApiError> {
    let asked = call.query("tags").unwrap_or_default();
    let items = asked.split(',').filter(|item| !item.is_empty());
    let filter = items.map(|item| match item.rsplit_once(':') {
        Some((tag, "yes")) => Ok((tag.to_owned(), true)),
        Some((tag, "no")) => Ok((tag.to_owned(), false)),
        _ => Err(ApiError::bad(10001, format!("'{item}' is not a tag filter; write tag:yes or tag:no"))),
    });
    filter.collect()
}

fn fits(script: &Script, filter: &[(String, bool)]) -> bool {
    filter.iter().all(|(tag, wanted)| script.settings.tags.contains(tag) == *wanted)
}

fn shown_script(tenant: &Arc<dyn Tenant>, namespace: &Resource, script: &Script) -> Result<Json, ApiError> {
    let version = current_version(tenant, script)?;
    Ok(json!({
        "id": script.label(),
        "script": scripts::shown(script, version.as_ref()),
        "dispatch_namespace": namespace.name,
        "created_on": time(script.created_ms),
        "modified_on": time(script.modified_ms),
    }))
}

pub(crate) async fn list_scripts(call: Call) -> Answer {
    let (namespace, filter) = (namespace(&call)?, tag_filter(&call)?);
    let tenant = call.tenant()?;
    let mut all = tenant.catalog().scripts_within(&namespace.id)?;
    all.retain(|script| fits(script, &filter));
    ok(each(all, move |script| shown_script(&tenant, &namespace, &script)).await?.into())
}

/// Deletes the scripts that the tags ask for; without tags it would be all of them, which must be said.
pub(crate) async fn delete_scripts(call: Call) -> Answer {
    let (namespace, filter) = (namespace(&call)?, tag_filter(&call)?);
    if filter.is_empty() {
        return Err(ApiError::bad(10001, "Say which Workers to delete: ?tags=tag:yes"));
    }
    let limit = match call.query("limit").map(|text| text.parse::<usize>()) {
        None => DELETE_LIMIT,
        Some(Ok(limit)) if (1..=DELETE_LIMIT).contains(&limit) => limit,
        Some(_) => {
            return Err(ApiError::bad(10001, format!("'limit' must be a number from 1 to {DELETE_LIMIT}")));
        }
    };
    let tenant = call.tenant()?;
    let all = tenant.catalog().scripts_within(&namespace.id)?;
    let found: Vec<&Script> = all.iter().filter(|script| fits(script, &filter)).collect();
    let mut deleted = Vec::new();
    for script in found.iter().take(limit) {
        tenant.catalog().remove_script(&script.name).await?;
        crate::containers::forget_orphans(&tenant).await?;
        upload::apply(&call, &script.name).await?;
        deleted.push(json!({ "id": script.label() }));
    }
    ok(json!({ "deleted_count": deleted.len(), "deleted": deleted, "has_more": found.len() > limit }))
}

/// Answers for a script in a namespace as `operation` does for an ordinary one.
async fn within(mut call: Call, operation: fn(Call) -> BoxFuture<'static, Answer>) -> Answer {
    let namespace = namespace(&call)?;
    call.params.remove(0);
    let Some(label) = call.params.first_mut() else { return Err(no_namespace()) };
    *label = name_within(&namespace.id, label);
    operation(call).await.map_err(|error| match error.errors.first() {
        Some((10007, _)) => no_script_within(),
        _ => error,
    })
}

macro_rules! as_ordinary {
    ($($name:ident => $operation:path;)*) => {
        $(pub(crate) async fn $name(call: Call) -> Result<Response, ApiError> {
            within(call, |call| Box::pin($operation(call))).await
        })*
    };
}

as_ordinary! {
    put => scripts::put;
    delete_script => scripts::delete;
    content => scripts::source;
    put_content => scripts::put_content;
    get_settings => settings::get;
    patch_settings => settings::patch;
    list_secrets => secrets::list;
    put_secret => secrets::put;
    get_secret => secrets::get;
    delete_secret => secrets::delete;
    bulk_secrets => secrets::bulk;
    assets_session => assets::session;
    bindings => shown_bindings;
    tags => shown_tags;
    put_tags => set_tags;
    put_tag => add_tag;
    delete_tag => remove_tag;
}

pub(crate) async fn get_script(call: Call) -> Answer {
    let namespace = namespace(&call)?;
    let tenant = call.tenant()?;
    let script = tenant.catalog().script(&name_within(&namespace.id, call.param(1)))?;
    ok(shown_script(&tenant, &namespace, &script.ok_or_else(no_script_within)?)?)
}

async fn shown_bindings(call: Call) -> Answer {
    let tenant = call.tenant()?;
    let script = script_of(tenant.catalog(), call.param(0))?;
    let version = current_version(&tenant, &script)?.ok_or_else(crate::reply::no_script)?;
    ok(version.content.bindings.iter().map(crate::bindings::shown).collect())
}

async fn shown_tags(call: Call) -> Answer {
    let tenant = call.tenant()?;
    ok(json!(script_of(tenant.catalog(), call.param(0))?.settings.tags))
}

async fn change_tags(
    call: &Call,
    change: impl FnOnce(&mut Vec<String>) + Send + 'static,
) -> Result<Vec<String>, ApiError> {
    let (tenant, now) = (call.tenant()?, call.now_ms());
    let changed = tenant.catalog().update(call.param(0), move |script| {
        change(&mut script.settings.tags);
        script.modified_ms = now;
    });
    Ok(changed.await?.settings.tags)
}

async fn set_tags(mut call: Call) -> Answer {
    let tags: Vec<String> = call.json().await?;
    crate::settings::check_tags(tags.len())?;
    ok(json!(change_tags(&call, move |all| *all = tags).await?))
}

async fn add_tag(call: Call) -> Answer {
    let tag = call.param(1).to_owned();
    let tags = script_of(call.tenant()?.catalog(), call.param(0))?.settings.tags;
    crate::settings::check_tags(tags.iter().filter(|other| **other != tag).count() + 1)?;
    change_tags(&call, move |all| {
        if !all.contains(&tag) {
            all.push(tag);
        }
    })
    .await?;
    ok(Json::Null)
}

async fn remove_tag(call: Call) -> Answer {
    let tag = call.param(1).to_owned();
    change_tags(&call, move |all| all.retain(|other| *other != tag)).await?;
    ok(Json::Null)
}
