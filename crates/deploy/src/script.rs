//! Puts the code on the server and in force.

use http::Method;
use serde_json::{Map, Value as Json, json};
use skep_bundle::Format;

use crate::bindings::{Ids, bindings};
use crate::client::{Call, Client};
use crate::error::ApiError;
use crate::metadata::{self, Extras};
use crate::project::Project;
use crate::remote::{self, Remote, script_path};
use crate::upload;

/// How the upload is to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upload<'a> {
    pub namespace: Option<&'a str>,
    pub keep_vars: bool,
    pub message: Option<&'a str>,
    pub tag: Option<&'a str>,
    pub assets_token: Option<String>,
    /// Images of containers that a Durable Object manages, by class.
    pub images: Map<String, Json>,
}

/// What it came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uploaded {
    pub version: Option<String>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// The annotation that an upload of this content is known by.
pub(crate) fn content_tag(digest: &str) -> String {
    format!("skep-{digest}")
}

/// Secrets that have to be there already.
pub(crate) fn required_secrets(project: &Project) -> Vec<String> {
    let required = project.list(&["secrets", "required"]).iter().filter_map(|name| name.as_str());
    let mut names: Vec<String> = Vec::new();
    for name in required.chain(project.required_secrets.iter().map(String::as_str)) {
        if !project.secrets.contains_key(name) && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The metadata, but for the assets' token.
pub(crate) fn extras(project: &Project, remote: &Remote, ids: &Ids, upload: &Upload<'_>) -> Extras {
    let kept = required_secrets(project);
    let mut all = bindings(project, ids, &kept);
    all.extend(upload::script_parts(project));
    let migrations = metadata::migrations(project.list(&["migrations"]), remote.migration_tag.as_deref());
    // wrangler's rule: a version cannot bring migrations or containers, and a script in service worker syntax has no versions.
    let is_module = project.code.as_ref().is_none_or(|code| code.format == Format::Modules);
    let whole = upload.namespace.is_some()
        || !remote.exists
        || migrations.is_some()
        || !is_module
        || metadata::declares(&project.raw, "durable-object")
        || !project.raw["containers"].is_null();
    let mut annotations = Map::new();
    for (key, value) in [("workers/message", upload.message), ("workers/tag", upload.tag)] {
        if let Some(value) = value {
            annotations.insert(key.into(), value.into());
        }
    }
    let assets_token = upload.assets_token.clone();
    let (keep_vars, images) = (upload.keep_vars, upload.images.clone());
    Extras { bindings: all, migrations, assets_token, annotations, keep_vars, whole, images }
}

/// Uploads and deploys. Refusals that have a known way out are met once each:
/// 10074 (the class is there already) without that class, 10079 (the script stands elsewhere) from where it stands.
pub(crate) async fn deploy(
    client: &Client,
    project: &Project,
    remote: &Remote,
    ids: &Ids,
    upload: &Upload<'_>,
) -> Result<Uploaded, ApiError> {
    let mut remote = remote.clone();
    let mut extras = extras(project, &remote, ids, upload);
    let mut done = Uploaded::default();
    let mut reread = false;
    loop {
        let sent = match extras.whole {
            true => put(client, project, &extras, upload).await,
            false => version(client, project, &extras, upload, &remote).await,
        };
        let error = match sent {
            Ok(version) => {
                done.version = version;
                break;
            }
            Err(error) => error,
        };
        if let Some(class) = class_that_exists(&error)
            && extras.migrations.as_mut().is_some_and(|own| metadata::without_class(own, &class))
        {
            done.notes.push(format!("the class {class} is there already (10074): left out of the migration"));
            continue;
        }
        if error.has_code(10079) && !reread {
            reread = true;
            let now = match upload.namespace {
                Some(namespace) => remote::dispatched(client, namespace, project.name()).await?,
                None => remote::script(client, project.name()).await?,
            };
            if now.migration_tag != remote.migration_tag {
                done.notes.push("the script's migrations had moved on (10079): read again".to_owned());
                remote = now;
                extras = self::extras(project, &remote, ids, upload);
                continue;
            }
        }
        return Err(error);
    }
    if upload.namespace.is_none() {
        settings(client, project, &remote, extras.whole).await?;
    }
    Ok(done)
}

/// The class in `class 'X'` of a 10074.
fn class_that_exists(error: &ApiError) -> Option<String> {
    let message = error.messages().iter().find(|message| message.code == 10074)?;
    let (_, rest) = message.message.split_once("class '")?;
    rest.split_once('\'').map(|(class, _)| class.to_owned())
}

/// Everything in one call: version, migrations, settings, deployment.
async fn put(
    client: &Client,
    project: &Project,
    extras: &Extras,
    upload: &Upload<'_>,
) -> Result<Option<String>, ApiError> {
    let form = upload::form(project, &metadata::metadata(project, extras));
    let path = format!(
        "{}?excludeScript=true&bindings_inherit=strict",
        script_path(upload.namespace, project.name())
    );
    let answer = of_exports(client.call(Method::PUT, path), project).form(form).send().await?;
    Ok(answer.result["deployment_id"].as_str().map(str::to_owned))
}

/// A version, then its deployment.
async fn version(
    client: &Client,
    project: &Project,
    extras: &Extras,
    upload: &Upload<'_>,
    remote: &Remote,
) -> Result<Option<String>, ApiError> {
    let path = script_path(None, project.name());
    let form = upload::form(project, &metadata::metadata(project, extras));
    let call = client.call(Method::POST, format!("{path}/versions?bindings_inherit=strict"));
    let made = of_exports(call, project).form(form).send().await?;
    let Some(id) = made.result["id"].as_str().map(str::to_owned) else { return Ok(remote.version.clone()) };
    put_in_force(client, project, &id, upload.message).await?;
    Ok(Some(id))
}

/// The date of the API that knows Workflows in `exports`, as wrangler says it.
fn of_exports<'a>(call: Call<'a>, project: &Project) -> Call<'a> {
    match metadata::declares(&project.raw, "workflow") {
        true => call.header("cloudflare-workers-script-api-date", "2026-11-09"),
        false => call,
    }
}

/// Gives all requests to a version.
pub(crate) async fn put_in_force(
    client: &Client,
    project: &Project,
    version: &str,
    message: Option<&str>,
) -> Result<(), ApiError> {
    let mut annotations = Map::new();
    if let Some(message) = message {
        annotations.insert("workers/message".into(), message.into());
    }
    let body = json!({
        "strategy": "percentage",
        "versions": [{ "version_id": version, "percentage": 100 }],
        "annotations": annotations,
        "code_update_strategy": metadata::code_update_strategy(&project.raw),
    });
    let path = format!("{}/deployments", script_path(None, project.name()));
    // The same version twice at 100 % is the same state.
    client.call(Method::POST, path).json(&body).repeatable().send().await?;
    Ok(())
}

/// Settings that are not part of a version, and the tags by which environments are known.
async fn settings(client: &Client, project: &Project, remote: &Remote, whole: bool) -> Result<(), ApiError> {
    let tags = tags(project, &remote.tags);
    if whole && tags == remote.tags {
        return Ok(());
    }
    let mut body = Map::new();
    if !whole {
        for key in ["tail_consumers", "logpush"] {
            if !project.raw[key].is_null() {
                body.insert(key.into(), project.raw[key].clone());
            }
        }
        let observability = match &project.raw["observability"] {
            Json::Null => json!({ "enabled": false }),
            own => own.clone(),
        };
        body.insert("observability".into(), observability);
    }
    body.insert("tags".into(), tags.into());
    let path = format!("{}/script-settings", script_path(None, project.name()));
    client.call(Method::PATCH, path).json(&body.into()).repeatable().send().await?;
    Ok(())
}

/// `cf:service=NAME` and `cf:environment=ENV` for an environment; other tags stay.
fn tags(project: &Project, before: &[String]) -> Vec<String> {
    let (service, environment) = ("cf:service=", "cf:environment=");
    let others = before.iter().filter(|tag| !tag.starts_with(service) && !tag.starts_with(environment));
    let mut tags: Vec<String> = others.cloned().collect();
    if let Some(own) = &project.config.environment {
        tags.push(format!("{service}{}", project.service.as_deref().unwrap_or(project.name())));
        tags.push(format!("{environment}{own}"));
    }
    tags
}
