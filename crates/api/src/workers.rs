//! The newer view of scripts: with their addresses, by their id or name.
//! <https://developers.cloudflare.com/api/resources/workers/subresources/beta/subresources/workers/>

use serde_json::{Value as Json, json};
use skep_catalog::{Account, Script};

use crate::aside::listed;
use crate::call::{Call, DIRECTIONS};
use crate::reply::{Answer, ApiError, ok, page, time};
use crate::scripts;
use crate::subdomain::enabled;

/// What a list can be ordered by.
pub(crate) const ORDERS: [&str; 4] = ["deployed_on", "updated_on", "created_on", "name"];

/// `script.account.domain`; `None` where the account has no subdomain.
pub(crate) fn host(call: &Call, account: &Account, script: &str) -> Option<String> {
    let at = call.api.platform.addresses();
    account.subdomain.as_ref().map(|subdomain| format!("{script}.{subdomain}.{}{}", at.domain, at.port))
}

/// By its id or name.
pub(crate) fn find(call: &Call) -> Result<Script, ApiError> {
    let (name, scripts) = (call.param(0), call.tenant()?.catalog().scripts()?);
    let found = scripts.into_iter().find(|script| script.name == name || script.tag == name);
    found.ok_or_else(crate::reply::no_script)
}

pub(crate) fn shown(call: &Call, account: &Account, script: &Script) -> Result<Json, ApiError> {
    let (enabled, previews) = enabled(script);
    let host = host(call, account, &script.name);
    let scheme = call.api.platform.addresses().scheme;
    let active = call.tenant()?.catalog().active_deployment(&script.tag)?;
    let consumers = script.settings.tail_consumers.iter();
    let consumers: Vec<Json> = consumers.map(|consumer| json!({ "name": consumer["service"] })).collect();
    Ok(json!({
        "id": script.tag,
        "name": script.name,
        "created_on": time(script.created_ms),
        "updated_on": time(script.modified_ms),
        "deployed_on": active.map(|deployment| time(deployment.created_ms)),
        "logpush": script.settings.logpush,
        "tags": script.settings.tags,
        "observability": script.settings.observability.clone().unwrap_or_else(|| json!({ "enabled": false })),
        "subdomain": {
            "enabled": enabled,
            "previews_enabled": previews,
            "url": host.as_ref().map(|host| format!("{scheme}://{host}")),
            "preview_url_suffix": host.map(|host| format!("-{host}")),
        },
        "tail_consumers": consumers,
        "references": {
            "dispatch_namespace_outbounds": [], "domains": [], "durable_objects": [], "queues": [], "workers": [],
        },
    }))
}

pub(crate) async fn get(call: Call) -> Answer {
    ok(shown(&call, &call.account()?, &find(&call)?)?)
}

pub(crate) async fn list(call: Call) -> Answer {
    listed(call, list_of).await
}

fn list_of(call: &Call) -> Answer {
    let (number, per_page) = call.page(10)?;
    let account = call.account()?;
    let scripts = call.tenant()?.catalog().scripts()?;
    let mut all = scripts.iter().map(|one| shown(call, &account, one)).collect::<Result<Vec<_>, _>>()?;
    let by = call.choice("order_by", &ORDERS)?.unwrap_or(ORDERS[0]);
    // Times are written so that their order is that of their texts.
    all.sort_by(|a, b| a[by].as_str().cmp(&b[by].as_str()));
    if call.choice("order", &DIRECTIONS)? != Some("asc") {
        all.reverse();
    }
    page(all, number, per_page)
}

pub(crate) async fn delete(mut call: Call) -> Answer {
    call.params = vec![find(&call)?.name];
    scripts::delete(call).await
}
