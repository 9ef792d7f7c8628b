//! Settings of an account that mean little off Cloudflare. <https://developers.cloudflare.com/api/resources/workers/>

use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::call::{Call, script_of};
use crate::reply::{Answer, ApiError, ok};
use crate::scripts::current_version;

fn settings() -> Json {
    json!({ "default_usage_model": "standard", "green_compute": false })
}

pub(crate) async fn get(_: Call) -> Answer {
    ok(settings())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    default_usage_model: Option<String>,
    green_compute: Option<bool>,
}

/// There is one usage model, and this machine's power is what it is.
pub(crate) async fn put(mut call: Call) -> Answer {
    let Put { default_usage_model, green_compute } = call.json().await?;
    if default_usage_model.is_some_and(|model| model != "standard") {
        return Err(ApiError::bad(10026, "The only usage model is \"standard\"."));
    }
    if green_compute == Some(true) {
        return Err(ApiError::bad(10026, "Skep does not choose where it runs: leave green_compute out."));
    }
    ok(settings())
}

/// The same of one script. Limits come with its versions.
pub(crate) async fn put_usage_model(mut call: Call) -> Answer {
    let asked: Json = call.json().await?;
    if asked["usage_model"].as_str().is_some_and(|model| model != "standard") {
        return Err(ApiError::bad(10026, "The only usage model is \"standard\"."));
    }
    if !asked["user_limits"].is_null() {
        return Err(ApiError::bad(
            10026,
            "Limits are set by the script's configuration: deploy it with `limits`.",
        ));
    }
    usage_model(call).await
}

pub(crate) async fn usage_model(call: Call) -> Answer {
    let tenant = call.tenant()?;
    let script = script_of(tenant.catalog(), call.param(0))?;
    let version = current_version(&tenant, &script)?;
    let limits = version.and_then(|version| version.content.limits);
    let cpu_ms = limits.map_or(Json::Null, |limits| limits["cpu_ms"].clone());
    ok(json!({ "usage_model": "standard", "user_limits": { "cpu_ms": cpu_ms } }))
}

/// Everything runs here.
pub(crate) async fn regions(_: Call) -> Answer {
    ok(json!({ "providers": [] }))
}
