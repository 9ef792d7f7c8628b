//! Where scripts answer, and when they run: routes, custom domains, schedules.
//! <https://developers.cloudflare.com/workers/configuration/routing/>

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use skep_catalog::{CatalogError, Domain, Route, Schedule};

use crate::aside::{listed, long};
use crate::call::{Call, script_of};
use crate::platform::Tenant;
use crate::reply::{Answer, ApiError, ok, page, time};
use crate::upload;

/// Bytes of a host name (RFC 1035 §2.3.4), and of a path in a pattern: visitors' are not much longer.
const MAX_HOST: usize = 253;
const MAX_PATH: usize = 16 << 10;

/// Every name that leads to this machine is a zone; its id is made of its name.
pub(crate) fn zone_id(name: &str) -> String {
    hex::encode(&Sha256::digest(format!("zone:{name}").as_bytes())[..16])
}

fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

pub(crate) async fn zones(call: Call) -> Answer {
    listed(call, zones_of).await
}

fn zones_of(call: &Call) -> Answer {
    let (number, per_page) = call.page(20)?;
    let account = call.account()?;
    let tenant = call.tenant()?;
    let mut names: Vec<String> = tenant.catalog().domains()?.into_iter().map(|d| d.zone).collect();
    names.extend(tenant.catalog().routes()?.into_iter().filter_map(|r| {
        let by_host = zone_of(r.host());
        r.zone.or(by_host)
    }));
    names.push(call.api.platform.addresses().domain.clone());
    if let Some(name) = call.query("name") {
        // Whoever deploys here says which names lead here.
        names = if name.contains('.') { vec![name] } else { Vec::new() };
    }
    names.sort();
    names.dedup();
    let shown = names.into_iter().map(|name| {
        json!({
            "id": zone_id(&name), "name": name, "status": "active", "paused": false, "type": "full",
            "development_mode": 0, "name_servers": [], "original_name_servers": null,
            "account": { "id": account.id, "name": account.name }, "owner": { "id": account.id, "type": "organization" },
            "meta": {}, "plan": { "id": "skep", "name": "Skep" }, "permissions": [],
            "created_on": time(account.created_ms), "modified_on": time(account.created_ms),
            "activated_on": time(account.created_ms),
        })
    });
    page(shown.collect(), number, per_page)
}

/// The zone of a pattern that names none: the last two labels of its host, so that who goes through the zones meets it.
fn zone_of(host: &str) -> Option<String> {
    let labels: Vec<&str> = host.rsplitn(3, '.').take(2).collect();
    let [top, name] = labels.as_slice() else { return None };
    let name = name.trim_start_matches('*');
    (!name.is_empty() && !top.is_empty()).then(|| format!("{name}.{top}"))
}

/// A pattern: `host/path*`, with `*` at the start of the host and the end of the path.
/// <https://developers.cloudflare.com/workers/configuration/routing/routes/#matching-behavior>
fn check_pattern(pattern: &str) -> Result<String, ApiError> {
    let invalid = |why: &str| Err(ApiError::bad(10022, format!("Invalid route pattern '{pattern}': {why}.")));
    let bare = pattern.split_once("://").map_or(pattern, |(scheme, rest)| match scheme {
        "http" | "https" => rest,
        _ => "",
    });
    let (host, path) = bare.find('/').map_or((bare, ""), |slash| bare.split_at(slash));
    let inner = host.strip_prefix('*').unwrap_or(host);
    if inner.len() > MAX_HOST || path.len() > MAX_PATH {
        return Err(ApiError::bad(
            10022,
            format!("Invalid route pattern: a host has at most {MAX_HOST} bytes, a path {MAX_PATH}."),
        ));
    }
    let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if host.is_empty() || inner.contains('*') || !inner.chars().all(label) {
        return invalid("a host may have one * at its start, and no other");
    }
    if path.strip_suffix('*').unwrap_or(path).contains('*') {
        return invalid("a path may have one * at its end, and no other");
    }
    if path.contains(['?', '#']) {
        return invalid("a pattern has no query");
    }
    Ok(pattern.to_lowercase().chars().take(host.len() + (pattern.len() - bare.len())).collect::<String>()
        + &pattern[pattern.len() - path.len()..])
}

fn exists(error: CatalogError) -> ApiError {
    match error {
        CatalogError::Exists(pattern) => {
            ApiError::bad(10020, format!("A route with the same pattern already exists: {pattern}"))
        }
        // There, a route is in a zone, and a zone is one account's.
        CatalogError::Taken(host) => {
            ApiError::bad(10020, format!("The host '{host}' is in use by another account."))
        }
        other => other.into(),
    }
}

#[derive(Deserialize)]
struct NewRoute {
    pattern: String,
    zone_name: Option<String>,
    zone_id: Option<String>,
}

/// Routes, and custom domains, that an account may have: ten zones full of routes at Cloudflare
/// (<https://developers.cloudflare.com/workers/platform/limits/#routes-and-domains>), where a name has no zone of its own.
const MAX_ADDRESSES: usize = 10_000;

/// An error where an account that has `others` routes or domains and `before` that go would have too many with `asked` more.
fn room(what: &str, others: usize, before: usize, asked: usize) -> Result<(), ApiError> {
    match asked <= before || others + asked <= MAX_ADDRESSES {
        true => Ok(()),
        false => Err(ApiError::bad(
            10021,
            format!("This account has reached the limit of {MAX_ADDRESSES} {what} per account."),
        )),
    }
}

/// Whether there is room for `asked` routes in the place of those that `go`.
fn room_for_routes(call: &Call, asked: usize, go: impl Fn(&Route) -> bool) -> Result<(), ApiError> {
    let all = call.tenant()?.catalog().routes()?;
    let before = all.iter().filter(|route| go(route)).count();
    room("routes", all.len() - before, before, asked)
}

/// Whether there is room for `asked` custom domains in the place of those that `go`.
fn room_for_domains(call: &Call, asked: usize, go: impl Fn(&Domain) -> bool) -> Result<(), ApiError> {
    let all = call.tenant()?.catalog().domains()?;
    let before = all.iter().filter(|domain| go(domain)).count();
    room("custom domains", all.len() - before, before, asked)
}

pub(crate) async fn set_routes(mut call: Call) -> Answer {
    let asked: Vec<NewRoute> = call.json().await?;
    let name = call.param(0).to_owned();
    room_for_routes(&call, asked.len(), |route| route.script.as_deref() == Some(&*name))?;
    let mut routes = Vec::new();
    for route in asked {
        routes.push(Route {
            id: new_id(),
            pattern: check_pattern(&route.pattern)?,
            script: Some(name.clone()),
            zone: route.zone_name.or(route.zone_id),
        });
    }
    let shown = routes.iter().map(shown_route).collect();
    let hosts = routes.iter().map(|route| route.host().to_owned()).collect();
    let script = name.clone();
    let change = |tenant: Arc<dyn Tenant>| async move { tenant.catalog().set_routes(&script, routes).await };
    call.claim(hosts, change).await?.map_err(exists)?;
    upload::apply(&call, &name).await?;
    ok(shown)
}

fn shown_route(route: &Route) -> Json {
    json!({ "id": route.id, "pattern": route.pattern, "script": route.script })
}

pub(crate) async fn zone_routes(call: Call) -> Answer {
    // Each name that a host ends in is hashed.
    long(move || zone_routes_of(&call)).await
}

fn zone_routes_of(call: &Call) -> Answer {
    let tenant = call.tenant()?;
    ok(in_zone(&tenant, call.param(0))?.iter().map(shown_route).collect())
}

/// The routes whose zone has this id; a pattern without a zone is in the zone of every name that its host ends in.
fn in_zone(tenant: &Arc<dyn Tenant>, zone: &str) -> Result<Vec<Route>, ApiError> {
    let is_in = |route: &Route| match &route.zone {
        Some(name) if name == zone || zone_id(name) == zone => true,
        _ => {
            let mut rest = Some(route.host().trim_start_matches(['*', '.']));
            std::iter::from_fn(|| {
                let name = rest?;
                rest = name.split_once('.').map(|(_, parent)| parent);
                Some(name)
            })
            .any(|name| zone_id(name) == zone)
        }
    };
    Ok(tenant.catalog().routes()?.into_iter().filter(is_in).collect())
}

/// The route of a zone that has this id.
async fn find_in_zone(call: &Call, id: &str) -> Result<Option<Route>, ApiError> {
    let (tenant, zone, id) = (call.tenant()?, call.param(0).to_owned(), id.to_owned());
    long(move || Ok(in_zone(&tenant, &zone)?.into_iter().find(|route| route.id == id))).await
}

#[derive(Deserialize)]
struct ZoneRoute {
    pattern: String,
    script: Option<String>,
}

async fn put_route(call: &mut Call, id: String) -> Answer {
    let ZoneRoute { pattern, script } = call.json().await?;
    let zone = call.param(0).to_owned();
    let route = Route { id, pattern: check_pattern(&pattern)?, script, zone: Some(zone) };
    room_for_routes(call, 1, |other| other.id == route.id)?;
    let row = route.clone();
    let change = |tenant: Arc<dyn Tenant>| async move { tenant.catalog().put_route(row).await };
    call.claim(vec![route.host().to_owned()], change).await?.map_err(exists)?;
    upload::apply(call, route.script.as_deref().unwrap_or_default()).await?;
    ok(shown_route(&route))
}

pub(crate) async fn add_zone_route(mut call: Call) -> Answer {
    put_route(&mut call, new_id()).await
}

pub(crate) async fn put_zone_route(mut call: Call) -> Answer {
    let id = call.param(1).to_owned();
    if find_in_zone(&call, &id).await?.is_none() {
        return Err(no_route());
    }
    put_route(&mut call, id).await
}

fn no_route() -> ApiError {
    ApiError::not_found(10009, "The route could not be found.")
}

pub(crate) async fn get_zone_route(call: Call) -> Answer {
    let found = find_in_zone(&call, call.param(1)).await?;
    ok(shown_route(&found.ok_or_else(no_route)?))
}

pub(crate) async fn delete_zone_route(call: Call) -> Answer {
    let tenant = call.tenant()?;
    let id = call.param(1);
    let route = find_in_zone(&call, id).await?.ok_or_else(no_route)?;
    tenant.catalog().remove_route(id).await?;
    upload::apply(&call, route.script.as_deref().unwrap_or_default()).await?;
    ok(json!({ "id": id }))
}

#[derive(Deserialize)]
struct Origin {
    hostname: String,
    zone_name: Option<String>,
    zone_id: Option<String>,
    enabled: Option<bool>,
    previews_enabled: Option<bool>,
}

pub(crate) fn is_host_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    !name.is_empty() && name.len() <= MAX_HOST && name.chars().all(allowed)
}

fn new_domain(script: &str, origin: Origin) -> Result<Domain, ApiError> {
    let hostname = origin.hostname.to_lowercase();
    if !is_host_name(&hostname) {
        return Err(ApiError::bad(10021, format!("'{hostname}' is not a host name")));
    }
    Ok(Domain {
        id: new_id(),
        zone: origin.zone_name.or(origin.zone_id).unwrap_or_else(|| hostname.clone()),
        hostname,
        script: script.to_owned(),
        enabled: origin.enabled.unwrap_or(true),
        previews: origin.previews_enabled.unwrap_or(false),
    })
}

fn shown_domain(domain: &Domain) -> Json {
    json!({
        "id": domain.id, "hostname": domain.hostname, "service": domain.script, "environment": "production",
        "zone_id": zone_id(&domain.zone), "zone_name": domain.zone, "cert_id": domain.id,
        "enabled": domain.enabled, "previews_enabled": domain.previews,
    })
}

/// What setting the domains would change.
pub(crate) async fn changeset(mut call: Call) -> Answer {
    let asked: Vec<Origin> = call.json().await?;
    let tenant = call.tenant()?;
    let name = call.param(0).to_owned();
    script_of(tenant.catalog(), &name)?;
    room_for_domains(&call, asked.len(), |domain| domain.script == name)?;
    let known = tenant.catalog().domains()?;
    let by_name: HashMap<&str, &Domain> = known.iter().map(|domain| (&*domain.hostname, domain)).collect();
    let (mut added, mut updated, mut conflicting) = (Vec::new(), Vec::new(), Vec::new());
    let mut wanted = HashSet::new();
    for origin in asked {
        let domain = new_domain(&name, origin)?;
        match by_name.get(&*domain.hostname) {
            None => added.push(shown_domain(&domain)),
            Some(other) if other.script == name => {
                let mut shown = shown_domain(other);
                shown["modified"] =
                    (other.enabled != domain.enabled || other.previews != domain.previews).into();
                updated.push(shown);
            }
            Some(other) => conflicting.push(json!({
                "hostname": domain.hostname, "external_dns_record_id": null, "external_cert_id": null,
                "id": other.id, "service": other.script,
            })),
        }
        wanted.insert(domain.hostname);
    }
    let removed: Vec<Json> = known
        .iter()
        .filter(|other| other.script == name && !wanted.contains(&other.hostname))
        .map(shown_domain)
        .collect();
    ok(json!({ "added": added, "removed": removed, "updated": updated, "conflicting": conflicting }))
}

#[derive(Deserialize)]
struct Records {
    origins: Vec<Origin>,
    #[serde(default)]
    override_existing_origin: bool,
}

fn taken(error: CatalogError) -> ApiError {
    match error {
        CatalogError::Exists(host) | CatalogError::Taken(host) => ApiError::new(
            http::StatusCode::CONFLICT,
            100_116,
            format!("The hostname '{host}' is already in use by another Worker."),
        ),
        other => other.into(),
    }
}

pub(crate) async fn set_domains(mut call: Call) -> Answer {
    let Records { origins, override_existing_origin } = call.json().await?;
    let name = call.param(0).to_owned();
    room_for_domains(&call, origins.len(), |domain| domain.script == name)?;
    let domains: Vec<Domain> =
        origins.into_iter().map(|origin| new_domain(&name, origin)).collect::<Result<_, _>>()?;
    let shown = domains.iter().map(shown_domain).collect();
    let hosts = domains.iter().map(|domain| domain.hostname.clone()).collect();
    let script = name.clone();
    let change = |tenant: Arc<dyn Tenant>| async move {
        tenant.catalog().set_domains(&script, domains, override_existing_origin).await
    };
    call.claim(hosts, change).await?.map_err(taken)?;
    upload::apply(&call, &name).await?;
    ok(shown)
}

pub(crate) async fn domains(call: Call) -> Answer {
    let tenant = call.tenant()?;
    let (host, service) = (call.query("hostname"), call.query("service"));
    let all = tenant.catalog().domains()?;
    let matching = all.iter().filter(|d| {
        host.as_ref().is_none_or(|host| *host == d.hostname)
            && service.as_ref().is_none_or(|s| *s == d.script)
    });
    ok(matching.map(shown_domain).collect())
}

fn find_domain(call: &Call) -> Result<Domain, ApiError> {
    let id = call.param(0);
    let found = call.tenant()?.catalog().domains()?.into_iter().find(|domain| domain.id == id);
    found.ok_or_else(|| ApiError::not_found(100_114, "The domain could not be found."))
}

pub(crate) async fn domain(call: Call) -> Answer {
    ok(shown_domain(&find_domain(&call)?))
}

#[derive(Deserialize)]
struct PutDomain {
    service: String,
    #[serde(flatten)]
    origin: Origin,
}

pub(crate) async fn put_domain(mut call: Call) -> Answer {
    let PutDomain { service, origin } = call.json().await?;
    let domain = new_domain(&service, origin)?;
    room_for_domains(&call, 1, |other| other.hostname == domain.hostname)?;
    let row = domain.clone();
    let change = |tenant: Arc<dyn Tenant>| async move { tenant.catalog().put_domain(row, false).await };
    call.claim(vec![domain.hostname.clone()], change).await?.map_err(taken)?;
    upload::apply(&call, &service).await?;
    ok(shown_domain(&domain))
}

pub(crate) async fn delete_domain(call: Call) -> Answer {
    let domain = find_domain(&call)?;
    call.tenant()?.catalog().remove_domain(&domain.id).await?;
    upload::apply(&call, &domain.script).await?;
    ok(json!({ "id": domain.id }))
}

fn shown_schedules(schedules: &[Schedule]) -> Json {
    let shown: Vec<Json> = schedules
        .iter()
        .map(|s| json!({ "cron": s.cron, "created_on": time(s.created_ms), "modified_on": time(s.modified_ms) }))
        .collect();
    json!({ "schedules": shown })
}

pub(crate) async fn schedules(call: Call) -> Answer {
    let tenant = call.tenant()?;
    ok(shown_schedules(&script_of(tenant.catalog(), call.param(0))?.settings.schedules))
}

#[derive(Deserialize)]
struct Cron {
    cron: String,
}

/// Schedules of an account (<https://developers.cloudflare.com/workers/platform/limits/#account-plan-limits>).
const MAX_SCHEDULES: usize = 250;

/// Whether an account that has `others` schedules of other scripts may have `asked` of one that had `before`. Who has more than he may gets rid of some.
fn may_have(others: usize, before: usize, asked: usize) -> bool {
    asked <= before || others + asked <= MAX_SCHEDULES
}

pub(crate) async fn set_schedules(mut call: Call) -> Answer {
    let asked: Vec<Cron> = call.json().await?;
    let all = call.tenant()?.catalog().scripts()?;
    let count = |own: bool| -> usize {
        let counted = all.iter().filter(|script| (script.name == call.param(0)) == own);
        counted.map(|script| script.settings.schedules.len()).sum()
    };
    if !may_have(count(false), count(true), asked.len()) {
        let text =
            format!("This account has reached the limit of {MAX_SCHEDULES} cron triggers per account.");
        return Err(ApiError::bad(10072, text));
    }
    for Cron { cron } in &asked {
        call.api
            .platform
            .check_cron(cron)
            .map_err(|why| ApiError::bad(10100, format!("'{cron}' is not a valid cron expression: {why}")))?;
    }
    let tenant = call.tenant()?;
    let name = call.param(0).to_owned();
    let now = call.now_ms();
    let changed = tenant.catalog().update(&name, move |script| {
        let before = std::mem::take(&mut script.settings.schedules);
        let created = |cron: &str| before.iter().find(|s| s.cron == cron).map_or(now, |s| s.created_ms);
        script.settings.schedules = asked
            .into_iter()
            .map(|Cron { cron }| Schedule { created_ms: created(&cron), modified_ms: now, cron })
            .collect();
    });
    let script = changed.await?;
    upload::apply(&call, &name).await?;
    ok(shown_schedules(&script.settings.schedules))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_checked_and_their_host_is_lower_case() {
        assert_eq!(check_pattern("*.Example.com/Images/*").unwrap(), "*.example.com/Images/*");
        assert_eq!(check_pattern("https://a.b/*").unwrap(), "https://a.b/*");
        assert_eq!(check_pattern("example.com").unwrap(), "example.com");
        for wrong in ["", "/a", "a.*.b/", "a.b/*/c", "ftp://a.b/", "a.b/?x", "a b/"] {
            assert!(check_pattern(wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_pattern_is_taken_or_refused(pattern in ".{0,40}") {
            let _ = check_pattern(&pattern);
        }
    }
}
