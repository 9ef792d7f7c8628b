//! A version from an upload: read, resolved, tried out, published.
//! <https://developers.cloudflare.com/workers/configuration/multipart-upload-metadata/>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::StatusCode;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use skep_catalog::{
    AssetsRef, Catalog, Change, Content, Kind, MigrationSet, Module, Namespace, Publish, Published, Script,
    Settings, Version,
};

use crate::aside::{aside, each};
use crate::bindings::Resolver;
use crate::call::Call;
use crate::exports::{Exports, Surroundings};
use crate::platform::{Candidate, Tenant};
use crate::reply::ApiError;
use crate::uploaded::{Upload, check_name, no_entry};
use crate::{assets, exports, migrations, modules, script_limits};

/// How a version comes to be.
pub(crate) struct Plan {
    /// A script that is not there is made.
    pub create: bool,
    /// It takes all requests at once.
    pub deploy: bool,
    /// Migrations and settings may come with it.
    pub whole: bool,
}

/// What came of an upload.
pub(crate) struct Made {
    /// The script as it is now.
    pub script: Script,
    /// The new version.
    pub version: Version,
    /// What its `exports` changed, as the API shows it.
    pub reconciliation: Option<Json>,
}

/// Makes a version of `name` from `upload`.
pub(crate) async fn publish(
    call: &Call,
    tenant: &Arc<dyn Tenant>,
    name: &str,
    upload: &Upload,
    plan: Plan,
) -> Result<Made, ApiError> {
    check_name(skep_catalog::split_name(name).1)?;
    let catalog = tenant.catalog();
    let script = catalog.script(name)?;
    if script.is_none() && !plan.create {
        return Err(crate::reply::no_script());
    }
    let previous = match &script {
        Some(script) => catalog.latest_version(&script.tag)?,
        None => None,
    };
    let migrations = migrations::read(&upload.metadata["migrations"])?;
    if migrations.is_some() && !plan.whole {
        return Err(ApiError::bad(
            10211,
            "Durable Object migrations cannot be uploaded with a version: deploy them first with `wrangler deploy`.",
        ));
    }
    let exports = Exports::read(&upload.metadata["exports"])?.and_then(Exports::of_objects);
    if exports.is_some() && migrations.is_some() {
        return Err(ApiError::bad(10021, "`exports` and `migrations` cannot be uploaded together."));
    }
    let around = match &exports {
        Some(exports) => Some(exports.surroundings(tenant, name).await?),
        None => None,
    };
    let exports = exports.zip(around);
    let mut handed = BTreeMap::new();
    let migrations = match &exports {
        Some((exports, around)) if plan.deploy => {
            let changes = exports.reconcile(around, None, true)?.changes;
            handed = around.handed(&changes);
            Some(MigrationSet { changes, ..MigrationSet::default() })
        }
        None if plan.deploy => with(migrations, exports::forgone(tenant, name)?),
        _ => migrations,
    };
    let namespaces = catalog.try_migrations(name, migrations.clone()).await?;
    let resolver = Resolver {
        catalog,
        sealer: &call.api.sealer,
        account: &call.token.account,
        script: name,
        previous: previous.as_ref(),
        namespaces: &namespaces,
        exports: exports.as_ref().map(|(exports, _)| exports),
        handed: &handed,
        binds_secrets: crate::secrets_store::may_bind(call),
        runs_models: call.api.platform.ai().is_there(),
        has_relay: call.api.has_relay,
        runs_browsers: call.api.platform.runs_browsers(),
    };
    let (mut content, asset_keys) = read_content(call, tenant, upload, &resolver).await?;
    crate::containers::check_upload(call, &upload.metadata["containers"], &namespaces)?;
    if !content.modules.is_empty() {
        start_once(call, name, &mut content, &namespaces).await?;
    }
    let reconciliation = match &exports {
        Some((exports, around)) => Some(reconciliation(exports, around, &content, plan.deploy)?),
        None => {
            check_classes(&content, &namespaces, migrations.as_ref())?;
            None
        }
    };
    let elsewhere = elsewhere(catalog, name, migrations.iter().flat_map(|set| &set.changes))?;
    let published = catalog
        .publish(Publish {
            script: name.to_owned(),
            create: plan.create,
            origin: call.origin(),
            annotations: annotations(&upload.metadata["annotations"]),
            content,
            asset_keys,
            migrations,
            deploy: plan.deploy,
            settings: plan.whole.then(|| settings(script.as_ref(), &upload.metadata)),
            after: None,
            now_ms: call.now_ms(),
        })
        .await?;
    if plan.deploy {
        crate::containers::forget_orphans(tenant).await?;
        apply_all(call, tenant, name, elsewhere).await?;
    }
    let Published { script, version } = published;
    Ok(Made { script, version, reconciliation })
}

/// What `exports` change, now that the code has been seen. A version that takes no requests yet changes nothing.
fn reconciliation(
    exports: &Exports,
    around: &Surroundings,
    content: &Content,
    deploy: bool,
) -> Result<Json, ApiError> {
    let code = exports::in_code(content);
    let mut reconciled = exports.reconcile(around, Some(&code), true)?;
    if !deploy {
        reconciled.changes.clear();
        reconciled.removable.clear();
    }
    Ok(exports::summary(&reconciled))
}

/// The migrations with these changes, too.
fn with(set: Option<MigrationSet>, changes: Vec<Change>) -> Option<MigrationSet> {
    if changes.is_empty() {
        return set;
    }
    let mut set = set.unwrap_or_default();
    set.changes.splice(0..0, changes);
    Some(set)
}

/// The scripts whose classes are elsewhere once `changes` of `script` are applied: those that it takes classes from or
/// gives them to, and itself, if it gives one away or makes one anew that was taken from it.
pub(crate) fn elsewhere<'a>(
    catalog: &Catalog,
    script: &str,
    changes: impl Iterator<Item = &'a Change>,
) -> Result<BTreeSet<String>, ApiError> {
    let mut elsewhere = BTreeSet::new();
    for change in changes {
        match change {
            Change::Transfer { from_script, .. } => drop(elsewhere.insert(from_script.clone())),
            Change::HandOver { to_script, .. } => elsewhere.extend([script.to_owned(), to_script.clone()]),
            Change::New { class, .. } if catalog.home_of(script, class)?.is_some() => {
                elsewhere.insert(script.to_owned());
            }
            _ => {}
        }
    }
    Ok(elsewhere)
}

/// Brings what runs of a script in line, then what concerns those whose classes are elsewhere now.
pub(crate) async fn apply_all(
    call: &Call,
    tenant: &Arc<dyn Tenant>,
    script: &str,
    elsewhere: BTreeSet<String>,
) -> Result<(), ApiError> {
    apply(call, script).await?;
    for moved in elsewhere {
        apply_moved(call, tenant, &moved).await?;
    }
    Ok(())
}

/// Leads a script, and all that are bound to its classes, to where these are now.
async fn apply_moved(call: &Call, tenant: &Arc<dyn Tenant>, script: &str) -> Result<(), ApiError> {
    let users = exports::users(tenant, script).await?;
    let concerned: BTreeSet<String> = users.into_values().flatten().chain([script.to_owned()]).collect();
    for script in concerned {
        apply(call, &script).await?;
    }
    Ok(())
}

/// Brings what runs in line with what was just written.
pub(crate) async fn apply(call: &Call, script: &str) -> Result<(), ApiError> {
    let applied = call.api.platform.apply(&call.token.account, script).await;
    applied.map_err(|text| ApiError::bad(10021, text))
}

/// Brings the scripts in line, those of dispatch namespaces too, of which a deployed version has such a binding.
pub(crate) async fn apply_bound(
    call: &Call,
    bound: impl Fn(&Json) -> bool + Send + Sync + 'static,
) -> Result<(), ApiError> {
    let tenant = call.tenant()?;
    let catalog = tenant.catalog();
    let mut scripts = catalog.scripts()?;
    for namespace in catalog.resources(Kind::Dispatch)? {
        scripts.extend(catalog.scripts_within(&namespace.id)?);
    }
    let tenant = tenant.clone();
    let concerned = each(scripts, move |script| {
        let catalog = tenant.catalog();
        let Some(deployment) = catalog.active_deployment(&script.tag)? else { return Ok(None) };
        let versions = deployment.versions.iter().map(|(id, _)| catalog.version(&script.tag, id));
        let versions: Vec<_> = versions.collect::<Result<_, _>>()?;
        let mut bindings = versions.iter().flatten().flat_map(|version| &version.content.bindings);
        Ok(bindings.any(&bound).then_some(script.name))
    });
    for script in concerned.await?.into_iter().flatten() {
        apply(call, &script).await?;
    }
    Ok(())
}

async fn read_content(
    call: &Call,
    tenant: &Arc<dyn Tenant>,
    upload: &Upload,
    resolver: &Resolver<'_>,
) -> Result<(Content, Vec<String>), ApiError> {
    let metadata = &upload.metadata;
    let uploaded = match &metadata["bindings"] {
        Json::Null => &[][..],
        Json::Array(bindings) => bindings.as_slice(),
        _ => return Err(ApiError::bad(10021, "bindings is not a list")),
    };
    let flags = upload.strings("compatibility_flags")?.unwrap_or_default();
    crate::flags::check(&flags)?;
    crate::limits::check(&metadata["limits"])?;
    crate::observability::check(metadata.get("observability"))?;
    crate::settings::check_lists(metadata)?;
    let keep = upload.strings("keep_bindings")?;
    script_limits::check_bindings(uploaded)?;
    let (ordered, service_worker) = upload.ordered()?;
    call.api.limits.check_size(ordered.iter().map(|(_, _, part)| part.bytes.clone()).collect()).await?;
    let bindings = resolver.resolve(uploaded, keep.as_deref()).await?;
    call.api.limits.check_count(&bindings, &[])?;
    let mut hash = Sha256::new();
    let (mut modules, mut contents) = (Vec::new(), Vec::new());
    for (module, content_type, part) in ordered {
        hash.update((module.len() as u64).to_be_bytes());
        hash.update(module.as_bytes());
        hash.update((part.bytes.len() as u64).to_be_bytes());
        let bytes = part.bytes.clone();
        let (next, key) = aside(bytes.len(), move || {
            hash.update(&bytes);
            (hash, modules::key_of(&bytes))
        })
        .await?;
        hash = next;
        let (bytes, size) = (part.bytes.clone(), part.bytes.len() as u64);
        contents.push(modules::Content { key: key.clone(), bytes, content_type: None });
        modules.push(Module { name: module, content_type, key, size });
    }
    modules::keep_all(tenant, contents, call.now_ms()).await?;
    let (assets, asset_keys) =
        assets::of_upload(call, tenant, resolver.script, metadata, resolver.previous).await?;
    if modules.is_empty() && assets.is_none() {
        return Err(no_entry());
    }
    let text = |key: &str| metadata[key].as_str().map(str::to_owned);
    let present = |key: &str| (!metadata[key].is_null()).then(|| metadata[key].clone());
    let content = Content {
        modules,
        service_worker,
        bindings,
        compatibility_date: text("compatibility_date"),
        compatibility_flags: flags,
        limits: present("limits"),
        placement: present("placement"),
        usage_model: text("usage_model"),
        assets: assets.map(|(manifest, config)| AssetsRef { manifest, config }),
        exports: present("exports"),
        containers: present("containers"),
        etag: hex::encode(hash.finalize()),
        ..Content::default()
    };
    Ok((content, asset_keys))
}

/// Starts it once and notes what it was seen to export.
async fn start_once(
    call: &Call,
    name: &str,
    content: &mut Content,
    namespaces: &BTreeMap<String, Namespace>,
) -> Result<(), ApiError> {
    let candidate =
        Candidate { script: name.to_owned(), content: content.clone(), namespaces: namespaces.clone() };
    let tried = call.api.platform.try_out(&call.token.account, &candidate).await;
    let examined = tried.map_err(|text| ApiError::bad(10021, text))?;
    content.handlers = examined.handlers;
    content.named_handlers = examined.named;
    content.startup_time_ms = examined.startup_time_ms;
    Ok(())
}

/// Starts it once and checks what the Durable Object namespaces ask of its exports.
pub(crate) async fn try_out(
    call: &Call,
    name: &str,
    content: &mut Content,
    namespaces: &BTreeMap<String, Namespace>,
) -> Result<(), ApiError> {
    start_once(call, name, content, namespaces).await?;
    check_classes(content, namespaces, None)
}

/// Every namespace needs its class.
fn check_classes(
    content: &Content,
    namespaces: &BTreeMap<String, Namespace>,
    migrations: Option<&MigrationSet>,
) -> Result<(), ApiError> {
    if !content.modules.is_empty() && !content.service_worker {
        let exported = |class: &str| content.named_handlers.iter().any(|named| named.name == class);
        if let Some(class) = namespaces.keys().find(|class| !exported(class)) {
            let is_new = migrations.is_some_and(|set| {
                set.changes
                    .iter()
                    .any(|c| matches!(c, skep_catalog::Change::New { class: new, .. } if new == class))
            });
            return Err(match is_new {
                true => ApiError::bad(
                    10070,
                    format!(
                        "Cannot apply new-class migration to class '{class}' that is not exported by script. \
                         Did you forget to export it?"
                    ),
                ),
                false => ApiError::bad(
                    10064,
                    format!(
                        "New version of script does not export class '{class}' which is depended on by existing \
                         Durable Objects. Please ensure that your new script exports all classes that have existing \
                         Durable Objects, or use a delete-class migration."
                    ),
                ),
            });
        }
    }
    Ok(())
}

pub(crate) fn annotations(annotations: &Json) -> BTreeMap<String, String> {
    let known = ["workers/message", "workers/tag", "workers/alias", "workers/triggered_by"];
    known
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), annotations[key].as_str()?.to_owned())))
        .collect()
}

/// The settings after an upload: what it does not name stays.
fn settings(script: Option<&Script>, metadata: &Json) -> Settings {
    let mut settings = script.map(|script| script.settings.clone()).unwrap_or_default();
    if let Some(logpush) = metadata["logpush"].as_bool() {
        settings.logpush = logpush;
    }
    if let Some(observability) = metadata.get("observability") {
        settings.observability = Some(observability.clone()).filter(|o| !o.is_null());
    }
    if let Some(consumers) = metadata["tail_consumers"].as_array() {
        settings.tail_consumers.clone_from(consumers);
    }
    if let Ok(tags) = serde_json::from_value(metadata["tags"].clone()) {
        settings.tags = tags;
    }
    settings
}

/// What must be the newest version for secrets and settings to be changed: the deployed one.
pub(crate) fn deployed_latest(
    tenant: &Arc<dyn Tenant>,
    script: &Script,
    code: u32,
) -> Result<Version, ApiError> {
    let catalog = tenant.catalog();
    let latest = catalog.latest_version(&script.tag)?.ok_or_else(crate::reply::no_script)?;
    let active = catalog.active_deployment(&script.tag)?;
    let versions = active.map(|deployment| deployment.versions).unwrap_or_default();
    match versions.as_slice() {
        [(id, _)] if *id == latest.id => Ok(latest),
        _ => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            code,
            "The latest version of this Worker is not the one that is deployed. Deploy it first, or use `wrangler versions secret`.",
        )),
    }
}
