//! Hyperdrive configurations. <https://developers.cloudflare.com/api/resources/hyperdrive/>
//!
//! A configuration is a resource of the account. Its password is sealed as secrets are, and never shown.

use serde_json::{Value as Json, json};
use skep_catalog::{Catalog, CatalogError, Kind, Resource, Sealer};
use skep_hyperdrive::{Origin, Tls};

use crate::aside::listed;
use crate::call::Call;
use crate::reply::{Answer, ApiError, ok, page, time};
use crate::upload;

pub(crate) const SCHEMES: [&str; 3] = ["postgres", "postgresql", "mysql"];
pub(crate) const SSL_MODES: [&str; 3] = ["require", "verify-ca", "verify-full"];
/// <https://developers.cloudflare.com/hyperdrive/platform/limits/>, those of a paid account.
pub(crate) const LEAST_CONNECTIONS: u64 = 5;
pub(crate) const MOST_CONNECTIONS: u64 = 100;
const DEFAULT_CONNECTIONS: u64 = 60;
const MOST_CONFIGS: usize = 25;
/// Seconds.
const MAX_AGE: u64 = 60;
const STALE: u64 = 15;

fn invalid(text: impl Into<String>) -> ApiError {
    ApiError::bad(10026, text)
}

fn no_config() -> ApiError {
    ApiError::not_found(2001, "Hyperdrive config not found. Verify the config id.")
}

fn exists(error: CatalogError) -> ApiError {
    match error {
        CatalogError::Exists(name) => invalid(format!(
            "A Hyperdrive config named '{name}' already exists. Please use a different name."
        )),
        other => other.into(),
    }
}

/// The binding's name for [`crate::secret_context`], with no script: the place that a password is sealed for.
fn sealed_name(id: &str) -> String {
    format!("{}{id}", skep_catalog::HYPERDRIVE_SEAL)
}

fn context(account: &str, id: &str) -> String {
    crate::secret_context(account, "", &sealed_name(id))
}

fn row(call: &Call) -> Result<Resource, ApiError> {
    call.tenant()?.catalog().resource(Kind::Hyperdrive, call.param(0))?.ok_or_else(no_config)
}

fn shown(row: &Resource) -> Json {
    let settings = &row.settings;
    let mut shown = json!({
        "id": row.id,
        "name": row.name,
        "origin": settings["origin"],
        "caching": shown_caching(&settings["caching"]),
        "origin_connection_limit": settings["origin_connection_limit"].as_u64().unwrap_or(DEFAULT_CONNECTIONS),
        "created_on": time(row.created_ms),
        "modified_on": time(settings["modified_ms"].as_i64().unwrap_or(row.created_ms)),
    });
    if settings["mtls"].is_object() {
        shown["mtls"] = settings["mtls"].clone();
    }
    shown
}

fn shown_caching(kept: &Json) -> Json {
    match kept["disabled"] == true {
        true => json!({ "disabled": true }),
        false => json!({
            "disabled": false,
            "max_age": kept["max_age"].as_u64().unwrap_or(MAX_AGE),
            "stale_while_revalidate": kept["stale_while_revalidate"].as_u64().unwrap_or(STALE),
        }),
    }
}

/// What was asked for, put over what is kept: of a new configuration, over nothing. The password stands beside the
/// settings, as it is not kept in them.
fn merge(kept: &Json, asked: &Json) -> Result<(Json, Option<String>), ApiError> {
    let mut new = kept.clone();
    let origin = &asked["origin"];
    for (key, what) in [
        ("access_client_id", "Hyperdrive over Access"),
        ("access_client_secret", "Hyperdrive over Access"),
        ("service_id", "Workers VPC"),
    ] {
        if !origin[key].is_null() {
            return Err(invalid(format!(
                "origin.{key}: {what} is Cloudflare's way into a private network. Give the host and the port that this \
                 machine reaches the database at."
            )));
        }
    }
    for key in ["scheme", "host", "database", "user"] {
        if let Some(text) = origin[key].as_str() {
            new["origin"][key] = text.into();
        }
        match new["origin"][key].as_str() {
            Some(text) if (1..=512).contains(&text.len()) && !text.contains('\0') => {}
            _ => return Err(invalid(format!("origin.{key} must be a text of 1 to 512 bytes."))),
        }
    }
    match new["origin"]["scheme"].as_str() {
        Some("postgres" | "postgresql") => {}
        Some("mysql") => {
            return Err(invalid(
                "origin.scheme: Skep connects to databases that speak PostgreSQL's protocol; mysql is not there yet.",
            ));
        }
        _ => return Err(invalid(format!("origin.scheme must be one of {}.", SCHEMES.join(", ")))),
    }
    match &origin["port"] {
        Json::Null => {}
        port if port.as_u64().is_some_and(|port| (1..=65535).contains(&port)) => {
            new["origin"]["port"] = port.clone()
        }
        _ => return Err(invalid("origin.port must be a number from 1 to 65535.")),
    }
    if new["origin"]["port"].is_null() {
        new["origin"]["port"] = 5432.into();
    }
    let password = origin["password"].as_str().map(str::to_owned);
    if password.as_ref().is_some_and(|password| password.is_empty() || password.contains('\0')) {
        return Err(invalid("origin.password must not be empty."));
    }
    if asked["caching"].is_object() {
        new["caching"] = caching(&kept["caching"], &asked["caching"])?;
    }
    if asked["mtls"].is_object() {
        new["mtls"] = mtls(&kept["mtls"], &asked["mtls"])?;
    }
    match &asked["origin_connection_limit"] {
        Json::Null => {}
        limit if limit.as_u64().is_some_and(|n| (LEAST_CONNECTIONS..=MOST_CONNECTIONS).contains(&n)) => {
            new["origin_connection_limit"] = limit.clone();
        }
        _ => {
            return Err(invalid(format!(
                "origin_connection_limit must be a number from {LEAST_CONNECTIONS} to {MOST_CONNECTIONS}."
            )));
        }
    }
    Ok((new, password))
}

/// Custom settings are not kept if caching is disabled.
fn caching(kept: &Json, asked: &Json) -> Result<Json, ApiError> {
    let mut new = if kept.is_object() { kept.clone() } else { json!({}) };
    for key in ["max_age", "stale_while_revalidate"] {
        match &asked[key] {
            Json::Null => {}
            seconds if seconds.is_u64() => new[key] = seconds.clone(),
            _ => return Err(invalid(format!("caching.{key} must be a number of seconds."))),
        }
    }
    if let Some(disabled) = asked["disabled"].as_bool() {
        new["disabled"] = disabled.into();
    }
    Ok(if new["disabled"] == true { json!({ "disabled": true }) } else { new })
}

fn mtls(kept: &Json, asked: &Json) -> Result<Json, ApiError> {
    let mut new = if kept.is_object() { kept.clone() } else { json!({}) };
    for key in ["ca_certificate_id", "mtls_certificate_id"] {
        if !asked[key].is_null() {
            return Err(invalid(format!(
                "mtls.{key}: certificates of an account are not there yet. Skep trusts the machine's authorities, to which \
                 SSL_CERT_FILE adds one."
            )));
        }
    }
    if let Some(mode) = asked["sslmode"].as_str() {
        if Tls::parse(mode).is_none() {
            return Err(invalid(format!("mtls.sslmode must be one of {}.", SSL_MODES.join(", "))));
        }
        new["sslmode"] = mode.into();
    }
    Ok(new)
}

/// The database that settings stand for.
fn origin_of(settings: &Json, password: String) -> Result<Origin, String> {
    let origin = &settings["origin"];
    let text = |key: &str| origin[key].as_str().map(str::to_owned).ok_or_else(|| format!("it has no {key}"));
    let connections = settings["origin_connection_limit"].as_u64().unwrap_or(DEFAULT_CONNECTIONS);
    Ok(Origin {
        host: text("host")?,
        port: origin["port"].as_u64().and_then(|port| u16::try_from(port).ok()).ok_or("it has no port")?,
        user: text("user")?,
        password,
        database: text("database")?,
        tls: settings["mtls"]["sslmode"].as_str().and_then(Tls::parse).unwrap_or_default(),
        connections: usize::try_from(connections).unwrap_or(1),
    })
}

/// The database of a configuration, with its password, and its scheme; `None` if the configuration is not there.
pub fn hyperdrive_origin(
    catalog: &Catalog,
    sealer: &Sealer,
    account: &str,
    id: &str,
) -> Result<Option<(Origin, String)>, String> {
    let Some(row) = catalog.resource(Kind::Hyperdrive, id).map_err(|e| e.to_string())? else {
        return Ok(None);
    };
    let password = open(&row.settings, sealer, account, id)?;
    let scheme = row.settings["origin"]["scheme"].as_str().unwrap_or("postgresql").to_owned();
    Ok(Some((origin_of(&row.settings, password)?, scheme)))
}

fn open(settings: &Json, sealer: &Sealer, account: &str, id: &str) -> Result<String, String> {
    let sealed = settings["sealed"].as_str().ok_or("it has no password")?;
    let password = sealer.open_sealed(sealed, &context(account, id)).map_err(|e| e.to_string())?;
    String::from_utf8(password).map_err(|e| e.to_string())
}

/// Refuses what cannot be connected to, in Cloudflare's words.
async fn check(call: &Call, settings: &Json, password: String) -> Result<(), ApiError> {
    let origin = origin_of(settings, password).map_err(invalid)?;
    let checked = call.api.platform.check_database(&origin).await;
    checked.map_err(|(code, why)| {
        ApiError::bad(code, format!("Failed to connect to the provided database: {why}"))
    })
}

fn seal(call: &Call, password: &str, id: &str) -> Result<String, ApiError> {
    let sealed = call.api.sealer.seal(password.as_bytes(), &context(&call.token.account, id));
    sealed.map_err(ApiError::internal)
}

/// Says in running scripts what is new of a configuration. Connections that are open stay.
async fn apply(call: &Call, id: &str) -> Result<(), ApiError> {
    let id = id.to_owned();
    let bound = move |binding: &Json| binding["type"] == "hyperdrive" && binding["id"] == id.as_str();
    upload::apply_bound(call, bound).await
}

pub(crate) async fn list(call: Call) -> Answer {
    listed(call, list_of).await
}

fn list_of(call: &Call) -> Answer {
    let (number, per_page) = call.page(20)?;
    page(call.tenant()?.catalog().resources(Kind::Hyperdrive)?.iter().map(shown).collect(), number, per_page)
}

fn checked_name(asked: &Json) -> Result<String, ApiError> {
    let name = asked["name"].as_str().filter(|name| (1..=128).contains(&name.chars().count()));
    name.map(str::to_owned).ok_or_else(|| invalid("name must be a text of 1 to 128 characters."))
}

/// Settings of a new configuration, or of one that is replaced.
async fn whole(call: &Call, asked: &Json, id: &str) -> Result<Json, ApiError> {
    let (mut settings, password) = merge(&json!({ "origin": {} }), asked)?;
    let password = password.ok_or_else(|| invalid("origin.password is missing."))?;
    check(call, &settings, password.clone()).await?;
    settings["sealed"] = seal(call, &password, id)?.into();
    settings["modified_ms"] = call.now_ms().into();
    Ok(settings)
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let asked: Json = call.json().await?;
    let name = checked_name(&asked)?;
    // Skep's own: the id that a project's configuration has already.
    let id = match &asked["id"] {
        Json::Null => uuid::Uuid::new_v4().simple().to_string(),
        Json::String(id) if crate::kv::is_id(id) => id.clone(),
        _ => return Err(invalid("An id has 32 lowercase hexadecimal digits.")),
    };
    let tenant = call.tenant()?;
    let there = tenant.catalog().resources(Kind::Hyperdrive)?;
    if there.len() >= MOST_CONFIGS {
        return Err(invalid(format!("An account has at most {MOST_CONFIGS} Hyperdrive configs.")));
    }
    // Before somebody's database is bothered.
    if there.iter().any(|other| other.name == name) {
        return Err(exists(CatalogError::Exists(name)));
    }
    if there.iter().any(|other| other.id == id) {
        return Err(invalid(format!("A Hyperdrive config with the id {id} already exists.")));
    }
    let settings = whole(&call, &asked, &id).await?;
    let made = Resource { id, name, created_ms: call.now_ms(), settings };
    ok(shown(&tenant.catalog().add_resource(Kind::Hyperdrive, made).await.map_err(exists)?))
}

pub(crate) async fn get(call: Call) -> Answer {
    ok(shown(&row(&call)?))
}

pub(crate) async fn update(mut call: Call) -> Answer {
    let asked: Json = call.json().await?;
    let name = checked_name(&asked)?;
    let id = row(&call)?.id;
    let settings = whole(&call, &asked, &id).await?;
    edit(&call, &id, move |row| {
        row.name = name;
        row.settings = settings;
        Ok(())
    })
    .await
}

pub(crate) async fn patch(mut call: Call) -> Answer {
    let asked: Json = call.json().await?;
    let row = row(&call)?;
    let name = if asked["name"].is_null() { None } else { Some(checked_name(&asked)?) };
    let (merged, password) = merge(&row.settings, &asked)?;
    // Who may change a configuration is not to learn its password by sending it to a server of his own.
    let moved = ["host", "port"].iter().any(|key| merged["origin"][key] != row.settings["origin"][key]);
    if moved && password.is_none() {
        return Err(invalid(
            "origin.password is needed where origin.host or origin.port changes: the password that is kept goes to no other \
             server than the one that it was given for.",
        ));
    }
    let sealed = match &password {
        Some(password) => Some(seal(&call, password, &row.id)?),
        None => None,
    };
    if asked["origin"].is_object() || asked["mtls"].is_object() {
        let own = || {
            open(&row.settings, &call.api.sealer, &call.token.account, &row.id).map_err(ApiError::internal)
        };
        check(&call, &merged, password.map_or_else(own, Ok)?).await?;
    }
    let now = call.now_ms();
    edit(&call, &row.id, move |row| {
        row.settings = merge(&row.settings, &asked)?.0;
        row.settings["modified_ms"] = now.into();
        if let Some(sealed) = sealed {
            row.settings["sealed"] = sealed.into();
        }
        row.name = name.unwrap_or_else(|| row.name.clone());
        Ok(())
    })
    .await
}

async fn edit(
    call: &Call,
    id: &str,
    change: impl FnOnce(&mut Resource) -> Result<(), ApiError> + Send + 'static,
) -> Answer {
    let change = move |row: &mut Resource| {
        change(row)?;
        Ok::<_, ApiError>(row.clone())
    };
    let tenant = call.tenant()?;
    let edited = tenant.catalog().edit_resource(Kind::Hyperdrive, id, change).await.map_err(exists)?;
    let edited = edited.ok_or_else(no_config)??;
    apply(call, id).await?;
    ok(shown(&edited))
}

pub(crate) async fn delete(call: Call) -> Answer {
    let id = row(&call)?.id;
    call.tenant()?.catalog().remove_resource(Kind::Hyperdrive, &id).await?;
    call.api.platform.forget_database(&call.token.account, &id);
    ok(Json::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(asked: &Json) -> Result<Json, String> {
        merge(&json!({ "origin": {} }), asked).map(|(new, _)| new).map_err(|e| e.errors[0].1.clone())
    }

    fn origin() -> Json {
        json!({ "scheme": "postgres", "host": "db", "database": "d", "user": "u", "password": "p" })
    }

    #[test]
    fn a_change_leaves_what_it_does_not_say() {
        let kept = new(
            &json!({ "origin": origin(), "caching": { "max_age": 5 }, "mtls": { "sslmode": "require" } }),
        )
        .unwrap();
        assert_eq!((&kept["origin"]["port"], &kept["origin"]["password"]), (&json!(5432), &Json::Null));
        let asked =
            json!({ "origin": { "user": "v", "password": "q" }, "caching": { "stale_while_revalidate": 1 } });
        let (changed, password) = merge(&kept, &asked).unwrap();
        assert_eq!(password.as_deref(), Some("q"));
        assert_eq!((&changed["origin"]["user"], &changed["origin"]["host"]), (&json!("v"), &json!("db")));
        assert_eq!(
            shown_caching(&changed["caching"]),
            json!({ "disabled": false, "max_age": 5, "stale_while_revalidate": 1 })
        );
        let off = merge(&changed, &json!({ "caching": { "disabled": true, "max_age": 9 } })).unwrap().0;
        assert_eq!(off["caching"], json!({ "disabled": true }));
        let on = merge(&off, &json!({ "caching": { "disabled": false } })).unwrap().0;
        assert_eq!(shown_caching(&on["caching"])["max_age"], MAX_AGE);
        assert!(!changed.to_string().contains("\"q\""), "the password is kept sealed alone");
    }

    #[test]
    fn what_cannot_be_is_named() {
        let with = |key: &str, value: Json| {
            let mut origin = origin();
            origin[key] = value;
            json!({ "origin": origin })
        };
        for (asked, says) in [
            (with("scheme", "mysql".into()), "origin.scheme: Skep connects"),
            (with("scheme", "http".into()), "origin.scheme must be one of"),
            (with("host", "".into()), "origin.host must be"),
            (with("port", 0.into()), "origin.port must be"),
            (with("password", "".into()), "origin.password must"),
            (with("access_client_id", "a".into()), "origin.access_client_id: Hyperdrive over Access"),
            (with("service_id", "a".into()), "origin.service_id: Workers VPC"),
            (json!({ "origin": origin(), "mtls": { "sslmode": "prefer" } }), "mtls.sslmode must be one of"),
            (json!({ "origin": origin(), "mtls": { "ca_certificate_id": "a" } }), "mtls.ca_certificate_id"),
            (json!({ "origin": origin(), "origin_connection_limit": 4 }), "from 5 to 100"),
            (json!({ "origin": origin(), "caching": { "max_age": -1 } }), "caching.max_age"),
            (json!({}), "origin.scheme must be"),
        ] {
            let said = new(&asked).unwrap_err();
            assert!(said.contains(says), "{asked}: {said}");
        }
    }
}
