//! Addresses below the account's subdomain.
//! <https://developers.cloudflare.com/workers/configuration/routing/workers-dev/>

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_catalog::{CatalogError, Script};

use crate::call::{Call, script_of};
use crate::reply::{Answer, ApiError, ok};
use crate::upload;

/// Cloudflare's code for an account without one, at which wrangler offers to register it.
fn none() -> ApiError {
    ApiError::not_found(10007, "You do not have a workers.dev subdomain")
}

pub(crate) async fn account(call: Call) -> Answer {
    ok(json!({ "subdomain": call.account()?.subdomain.ok_or_else(none)? }))
}

#[derive(Deserialize)]
struct Wanted {
    subdomain: String,
}

/// Managed domains of buckets are below it: an account there could answer at the address of a bucket that is not public.
const RESERVED: &str = "r2";

fn unavailable(name: &str) -> ApiError {
    ApiError::bad(10031, format!("The subdomain '{name}' is unavailable."))
}

fn is_label(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty()
        && name.len() <= 63
        && name.chars().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

pub(crate) async fn set_account(mut call: Call) -> Answer {
    let Wanted { subdomain } = call.json().await?;
    if !is_label(&subdomain) {
        return Err(ApiError::bad(10029, format!("'{subdomain}' is not a valid subdomain.")));
    }
    if subdomain == RESERVED {
        return Err(unavailable(&subdomain));
    }
    let set = call.api.registry.set_subdomain(&call.token.account, Some(&subdomain)).await;
    set.map_err(|error| match error {
        CatalogError::Exists(_) => unavailable(&subdomain),
        other => other.into(),
    })?;
    apply(&call).await?;
    ok(json!({ "subdomain": subdomain }))
}

/// Brings all addresses in line.
async fn apply(call: &Call) -> Result<(), ApiError> {
    for script in call.tenant()?.catalog().scripts()? {
        upload::apply(call, &script.name).await?;
    }
    Ok(())
}

/// Takes the addresses from all Workers. What each of them wants stays, for the next subdomain.
pub(crate) async fn delete_account(call: Call) -> Answer {
    call.account()?.subdomain.ok_or_else(none)?;
    call.api.registry.set_subdomain(&call.token.account, None).await?;
    apply(&call).await?;
    Ok(skep_wire::reply(StatusCode::NO_CONTENT, skep_wire::empty()))
}

/// Says by its error whether a subdomain is free.
pub(crate) async fn is_free(call: Call) -> Answer {
    let name = call.param(0);
    let taken = name == RESERVED || !call.api.registry.is_subdomain_free(&call.token.account, name)?;
    Err(match taken {
        true => unavailable(name),
        false => ApiError::not_found(10032, format!("The subdomain '{name}' is available.")),
    })
}

/// What was not said is on: a script is reachable when it is deployed.
pub(crate) fn enabled(script: &Script) -> (bool, bool) {
    let enabled = script.workers_dev.unwrap_or(false);
    (enabled, script.previews.unwrap_or(enabled))
}

fn shown(script: &Script) -> Json {
    let (enabled, previews) = enabled(script);
    json!({ "enabled": enabled, "previews_enabled": previews })
}

pub(crate) async fn get(call: Call) -> Answer {
    let tenant = call.tenant()?;
    ok(shown(&script_of(tenant.catalog(), call.param(0))?))
}

#[derive(Deserialize)]
struct Switch {
    enabled: bool,
    previews_enabled: Option<bool>,
}

pub(crate) async fn set(mut call: Call) -> Answer {
    let Switch { enabled, previews_enabled } = call.json().await?;
    let tenant = call.tenant()?;
    let name = call.param(0).to_owned();
    let changed = tenant.catalog().update(&name, move |script| {
        script.workers_dev = Some(enabled);
        script.previews = previews_enabled;
    });
    let script = changed.await?;
    upload::apply(&call, &name).await?;
    ok(shown(&script))
}

pub(crate) async fn delete(call: Call) -> Answer {
    let tenant = call.tenant()?;
    let name = call.param(0).to_owned();
    let changed = tenant.catalog().update(&name, |script| {
        script.workers_dev = Some(false);
        script.previews = Some(false);
    });
    let script = changed.await?;
    upload::apply(&call, &name).await?;
    ok(shown(&script))
}
