//! Where a bucket is public. <https://developers.cloudflare.com/r2/buckets/public-buckets/>

use std::sync::Arc;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use skep_catalog::{BucketDomain, CatalogError, Kind, Resource};

use crate::call::{Call, R2_MALFORMED, malformed};
use crate::platform::Tenant;
use crate::r2::{edit, row};
use crate::reply::{Answer, ApiError, ok};
use crate::routes::{is_host_name, zone_id};

/// Versions of TLS that a domain can ask for. Connections have 1.2 or more, so that older ones ask for nothing; which
/// domain a connection with 1.2 is for is known too late to refuse it.
pub(crate) const MIN_TLS: [&str; 3] = ["1.0", "1.1", "1.2"];
/// The setting of a bucket that is public at its managed domain.
const PUBLIC: &str = "public";

/// The id of a bucket in its managed domain: 32 hexadecimal digits, others for a bucket that is made anew. They cannot
/// be guessed from the name.
fn bucket_id(account: &str, row: &Resource) -> String {
    let text = format!("{account}/{}/{}", row.id, row.created_ms);
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
}

/// The id of a bucket in its managed domain, if it is public there.
fn managed_id(account: &str, row: &Resource) -> Option<String> {
    (row.settings[PUBLIC] == true).then(|| bucket_id(account, row))
}

/// The host name that leads to the bucket of an id, below a base domain.
fn managed_host(id: &str, domain: &str) -> String {
    format!("pub-{id}.r2.{domain}")
}

/// The id of the bucket that a host name below a base domain leads to.
pub fn managed_label<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    host.strip_suffix(domain)?.strip_suffix(".r2.")?.strip_prefix("pub-")
}

fn shown_managed(call: &Call, row: &Resource) -> Json {
    let (id, addresses) = (bucket_id(&call.token.account, row), call.api.platform.addresses());
    // With the port, so that what wrangler prints can be opened.
    let domain = managed_host(&id, &addresses.domain) + &addresses.port;
    json!({ "bucketId": id, "domain": domain, "enabled": row.settings[PUBLIC] == true })
}

pub(crate) async fn managed(call: Call) -> Answer {
    ok(shown_managed(&call, &row(&call)?))
}

#[derive(Deserialize)]
struct Managed {
    enabled: bool,
}

pub(crate) async fn put_managed(mut call: Call) -> Answer {
    let Managed { enabled } = call.json().await?;
    let changed = edit(&call, move |row| {
        row.settings[PUBLIC] = enabled.into();
        Ok(row.clone())
    });
    let row = changed.await?;
    apply(&call).await?;
    ok(shown_managed(&call, &row))
}

/// Brings addresses in line.
async fn apply(call: &Call) -> Result<(), ApiError> {
    let applied = call.api.platform.addresses_changed(&call.token.account).await;
    applied.map_err(ApiError::internal)
}

fn no_domain() -> ApiError {
    ApiError::not_found(10070, "The specified custom domain does not exist on this bucket.")
}

/// The zone that the id is of, among the names that the host name ends in.
fn zone_name<'a>(hostname: &'a str, zone: &str) -> Option<&'a str> {
    let parent = |name: &&'a str| name.split_once('.').map(|(_, rest)| rest);
    std::iter::successors(Some(hostname), parent).find(|name| *name == zone || zone_id(name) == zone)
}

fn shown(domain: &BucketDomain) -> Json {
    // Whoever deploys here says which names lead here, and certificates come when they are asked for.
    let status = if domain.enabled { "active" } else { "deactivated" };
    let mut shown = json!({
        "domain": domain.hostname, "enabled": domain.enabled, "minTLS": domain.min_tls, "zoneId": domain.zone,
        "status": { "ownership": status, "ssl": "active" },
    });
    if let Some(name) = zone_name(&domain.hostname, &domain.zone) {
        shown["zoneName"] = name.into();
    }
    shown
}

fn of_bucket(call: &Call) -> Result<Vec<BucketDomain>, ApiError> {
    let row = row(call)?;
    let mut all = call.tenant()?.catalog().bucket_domains()?;
    all.retain(|domain| domain.bucket == row.id);
    Ok(all)
}

pub(crate) async fn list(call: Call) -> Answer {
    ok(json!({ "domains": of_bucket(&call)?.iter().map(shown).collect::<Vec<_>>() }))
}

pub(crate) async fn get(call: Call) -> Answer {
    let name = call.param(1).to_lowercase();
    let found = of_bucket(&call)?.into_iter().find(|domain| domain.hostname == name);
    ok(shown(&found.ok_or_else(no_domain)?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Add {
    domain: String,
    zone_id: String,
    enabled: Option<bool>,
    #[serde(rename = "minTLS")]
    min_tls: Option<String>,
    ciphers: Option<Vec<String>>,
}

fn check(min_tls: Option<&str>, ciphers: Option<&[String]>) -> Result<(), ApiError> {
    let unfit = |why: &str| Err(malformed(R2_MALFORMED, why));
    match min_tls {
        Some("1.3") => return unfit("Skep cannot ask for TLS 1.3 at one domain: minTLS is 1.0, 1.1 or 1.2"),
        Some(other) if !MIN_TLS.contains(&other) => return unfit("minTLS is 1.0, 1.1, 1.2 or 1.3"),
        _ => {}
    }
    match ciphers.is_some_and(|all| !all.is_empty()) {
        true => unfit("Skep cannot choose the ciphers of one domain: leave ciphers out"),
        false => Ok(()),
    }
}

fn in_use(hostname: &str) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, 10071, format!("The custom domain \"{hostname}\" is already in use."))
}

pub(crate) async fn add(mut call: Call) -> Answer {
    let Add { domain, zone_id, enabled, min_tls, ciphers } = call.json().await?;
    let row = row(&call)?;
    check(min_tls.as_deref(), ciphers.as_deref())?;
    let hostname = domain.to_lowercase();
    if !is_host_name(&hostname) {
        return Err(malformed(R2_MALFORMED, &format!("\"{domain}\" is not a host name")));
    }
    let made = BucketDomain {
        hostname,
        bucket: row.id,
        zone: zone_id,
        enabled: enabled.unwrap_or(true),
        min_tls: min_tls.unwrap_or_else(|| MIN_TLS[0].into()),
    };
    let row = made.clone();
    let change = |tenant: Arc<dyn Tenant>| async move { tenant.catalog().add_bucket_domain(row).await };
    call.claim(vec![made.hostname.clone()], change).await?.map_err(|error| match error {
        CatalogError::Exists(hostname) | CatalogError::Taken(hostname) => in_use(&hostname),
        other => other.into(),
    })?;
    apply(&call).await?;
    ok(shown(&made))
}

#[derive(Deserialize)]
struct Change {
    enabled: Option<bool>,
    #[serde(rename = "minTLS")]
    min_tls: Option<String>,
    ciphers: Option<Vec<String>>,
}

pub(crate) async fn update(mut call: Call) -> Answer {
    let Change { enabled, min_tls, ciphers } = call.json().await?;
    check(min_tls.as_deref(), ciphers.as_deref())?;
    let (row, name) = (row(&call)?, call.param(1).to_lowercase());
    let tenant = call.tenant()?;
    let changed = tenant.catalog().change_bucket_domain(&row.id, &name, enabled, min_tls).await?;
    let changed = changed.ok_or_else(no_domain)?;
    apply(&call).await?;
    ok(shown(&changed))
}

pub(crate) async fn remove(call: Call) -> Answer {
    let (row, name) = (row(&call)?, call.param(1).to_lowercase());
    if !call.tenant()?.catalog().remove_bucket_domain(&row.id, &name).await? {
        return Err(no_domain());
    }
    apply(&call).await?;
    ok(json!({ "domain": name }))
}

/// All buckets that are public at their managed domain, by the ids in it.
pub fn managed_buckets(
    account: &str,
    catalog: &skep_catalog::Catalog,
) -> Result<Vec<(String, String)>, CatalogError> {
    let all = catalog.resources(Kind::R2)?;
    Ok(all.into_iter().filter_map(|row| Some((managed_id(account, &row)?, row.name))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_managed_domain_is_known_by_its_form_and_is_anothers_after_a_bucket_is_made_anew() {
        let row = |created_ms| Resource {
            id: "files".into(),
            name: "files".into(),
            created_ms,
            settings: json!({ "public": true }),
        };
        let id = managed_id("a1", &row(5)).unwrap();
        let host = managed_host(&id, "localhost");
        assert_eq!(managed_label(&host, "localhost"), Some(id.as_str()));
        assert_eq!(managed_label("pub-x.r2.other", "localhost"), None);
        assert_eq!(managed_label("web.r2.localhost", "localhost"), None);
        assert_ne!(managed_id("a1", &row(6)).unwrap(), id);
        assert_ne!(managed_id("a2", &row(5)).unwrap(), id);
        assert_eq!(managed_id("a1", &Resource { settings: json!({}), ..row(5) }), None);
    }

    #[test]
    fn the_name_of_a_zone_is_found_by_its_id() {
        assert_eq!(zone_name("cdn.a.test", &zone_id("a.test")), Some("a.test"));
        assert_eq!(zone_name("cdn.a.test", "cdn.a.test"), Some("cdn.a.test"));
        assert_eq!(zone_name("cdn.a.test", "other"), None);
    }
}
