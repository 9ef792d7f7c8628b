//! Secrets: written, never read back.
//! <https://developers.cloudflare.com/api/resources/workers/subresources/scripts/subresources/secrets/>

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_catalog::{Publish, Published, Script, Version};

use crate::bindings::seal_context;
use crate::call::{Call, script_of};
use crate::platform::Tenant;
use crate::reply::{Answer, ApiError, ok};
use crate::script_limits::check_variable;
use crate::upload;

/// Secrets of one request at most.
const MAX_BULK: usize = 100;

#[derive(Deserialize)]
struct Secret {
    name: String,
    text: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

fn is_secret(binding: &Json) -> bool {
    matches!(binding["type"].as_str(), Some("secret_text" | "secret_key"))
}

fn missing(name: &str) -> ApiError {
    ApiError::not_found(10056, format!("Binding '{name}' not found."))
}

async fn latest(call: &Call) -> Result<(Arc<dyn Tenant>, Script, Version), ApiError> {
    let tenant = call.tenant()?;
    let script = script_of(tenant.catalog(), call.param(0))?;
    let version = tenant.catalog().latest_version(&script.tag)?.ok_or_else(crate::reply::no_script)?;
    Ok((tenant, script, version))
}

pub(crate) async fn list(call: Call) -> Answer {
    let (_, _, version) = latest(&call).await?;
    let secrets = version.content.bindings.iter().filter(|b| is_secret(b));
    ok(secrets.map(|b| json!({ "name": b["name"], "type": b["type"] })).collect())
}

pub(crate) async fn get(call: Call) -> Answer {
    let (_, _, version) = latest(&call).await?;
    let name = call.param(1);
    let found = version.content.bindings.iter().find(|b| is_secret(b) && b["name"] == name);
    let found = found.ok_or_else(|| missing(name))?;
    ok(json!({ "name": found["name"], "type": found["type"] }))
}

pub(crate) async fn put(mut call: Call) -> Answer {
    let secret: Secret = call.json().await?;
    let name = secret.name.clone();
    change(&call, vec![(name.clone(), Some(secret))], 10215, true, &Json::Null).await?;
    ok(json!({ "name": name, "type": "secret_text" }))
}

pub(crate) async fn delete(call: Call) -> Answer {
    let (_, _, version) = latest(&call).await?;
    let name = call.param(1).to_owned();
    if !version.content.bindings.iter().any(|b| is_secret(b) && b["name"] == name.as_str()) {
        return Err(missing(&name));
    }
    change(&call, vec![(name, None)], 10215, true, &Json::Null).await?;
    ok(Json::Null)
}

#[derive(Deserialize)]
struct Bulk {
    secrets: BTreeMap<String, Option<Secret>>,
}

pub(crate) async fn bulk(mut call: Call) -> Answer {
    let Bulk { secrets } = call.json().await?;
    if secrets.len() > MAX_BULK {
        return Err(ApiError::bad(10026, format!("At most {MAX_BULK} secrets can be changed at once.")));
    }
    let written: serde_json::Map<String, Json> = secrets
        .iter()
        .filter(|(_, secret)| secret.is_some())
        .map(|(name, _)| (name.clone(), json!({ "name": name, "type": "secret_text" })))
        .collect();
    change(&call, secrets.into_iter().collect(), 10215, true, &Json::Null).await?;
    ok(Json::Object(written))
}

/// `wrangler versions secret`: a new version that is not deployed unless asked.
pub(crate) async fn patch_latest(mut call: Call) -> Answer {
    let body = call.any_json().await?;
    let env = body["env"].as_object().ok_or_else(|| ApiError::bad(10026, "Only `env` can be changed."))?;
    let mut secrets = Vec::new();
    for (name, value) in env {
        let secret = match value {
            Json::Null => None,
            value => Some(Secret {
                name: name.clone(),
                text: value["text"].as_str().map(str::to_owned),
                kind: value["type"].as_str().map(str::to_owned),
            }),
        };
        secrets.push((name.clone(), secret));
    }
    let deploy = call.choice("deploy", &["true", "false"])? == Some("true");
    let published = change(&call, secrets, 0, deploy, &body["annotations"]).await?;
    ok(json!({ "id": published.version.id, "number": published.version.number }))
}

/// Makes the next version: the latest one with other secrets. With a `code`, the latest must be deployed.
async fn change(
    call: &Call,
    secrets: Vec<(String, Option<Secret>)>,
    code: u32,
    deploy: bool,
    annotations: &Json,
) -> Result<Published, ApiError> {
    let (tenant, script, latest) = latest(call).await?;
    if code != 0 {
        upload::deployed_latest(&tenant, &script, code)?;
    }
    let mut content = latest.content;
    let before = content.bindings.clone();
    for (name, secret) in secrets {
        if let Some(other) = content.bindings.iter().find(|b| b["name"] == name.as_str() && !is_secret(b)) {
            let kind = other["type"].as_str().unwrap_or_default();
            return Err(ApiError::bad(
                10053,
                format!(
                    "Binding name '{name}' already in use by a binding of type {kind}. Please use a different name and try again."
                ),
            ));
        }
        content.bindings.retain(|b| b["name"] != name.as_str());
        let Some(secret) = secret else { continue };
        content.bindings.push(sealed(call, &script.name, &name, secret)?);
    }
    call.api.limits.check_count(&content.bindings, &before)?;
    let asset_keys = kept_assets(call, &script.name, &content).await?;
    let published = tenant
        .catalog()
        .publish(Publish {
            script: script.name.clone(),
            origin: call.origin(),
            annotations: upload::annotations(annotations),
            content,
            asset_keys,
            deploy,
            after: Some(latest.id),
            now_ms: call.now_ms(),
            ..Publish::default()
        })
        .await?;
    if deploy {
        upload::apply(call, &script.name).await?;
    }
    Ok(published)
}

fn sealed(call: &Call, script: &str, name: &str, secret: Secret) -> Result<Json, ApiError> {
    let kind = secret.kind.as_deref().unwrap_or("secret_text");
    if kind != "secret_text" {
        return Err(ApiError::bad(
            10026,
            format!("The secret '{name}' has the type {kind}; Skep keeps secret_text only."),
        ));
    }
    if name.is_empty() || secret.name != name {
        return Err(ApiError::bad(10026, "A secret must have a name."));
    }
    let text =
        secret.text.ok_or_else(|| ApiError::bad(10026, format!("The secret '{name}' has no `text`.")))?;
    check_variable(name, text.len())?;
    let context = seal_context(&call.token.account, script, name);
    let sealed = call.api.sealer.seal(text.as_bytes(), &context).map_err(ApiError::internal)?;
    Ok(json!({ "name": name, "type": "secret_text", "sealed": sealed }))
}

/// The content files of a version's assets, for the version after it.
pub(crate) async fn kept_assets(
    call: &Call,
    script: &str,
    content: &skep_catalog::Content,
) -> Result<Vec<String>, ApiError> {
    match &content.assets {
        Some(assets) => crate::assets::keys_of(call, script, &assets.manifest).await,
        None => Ok(Vec::new()),
    }
}
