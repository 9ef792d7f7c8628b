//! The Secrets Store. <https://developers.cloudflare.com/api/resources/secrets_store/>
//!
//! Stores and secrets are resources of the account. A value is sealed as other secrets are, and never shown; scripts get
//! it through their bindings.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_catalog::{
    Catalog, CatalogError, Kind, MOST_STORED_SECRETS, MOST_STORES, Resource, STORED_SECRET_SEAL, Sealer,
};

use crate::aside::listed;
use crate::call::Call;
use crate::permissions::{Area, allows};
use crate::reply::{Answer, ApiError, ok, page, time};
use crate::upload;

/// Bytes of a value.
pub(crate) const MAX_VALUE: usize = 64 << 10;
/// What Cloudflare has secrets for. Here only the first means something.
pub(crate) const SCOPES: [&str; 4] = ["workers", "ai_gateway", "dex", "access"];
pub(crate) const ORDERS: [&str; 5] = ["name", "comment", "created", "modified", "status"];
const DEFAULT_PAGE: u64 = 20;

fn invalid(text: impl Into<String>) -> ApiError {
    ApiError::bad(1001, text)
}

fn no_store() -> ApiError {
    ApiError::not_found(1001, "store_not_found")
}

fn no_secret() -> ApiError {
    ApiError::not_found(1001, "secret_not_found")
}

fn refused(error: CatalogError) -> ApiError {
    match error {
        CatalogError::Exists(name) => ApiError::bad(1003, format!("secret_name_already_exists: {name}")),
        CatalogError::Full(most) => ApiError::bad(1003, format!("maximum_secrets_exceeded: max {most}")),
        other => other.into(),
    }
}

fn context(account: &str, id: &str) -> String {
    crate::secret_context(account, "", &format!("{STORED_SECRET_SEAL}{id}"))
}

fn open(sealer: &Sealer, account: &str, secret: &Resource) -> Result<String, String> {
    let sealed = secret.settings["sealed"].as_str().ok_or("it has no value")?;
    let value = sealer.open_sealed(sealed, &context(account, &secret.id)).map_err(|e| e.to_string())?;
    String::from_utf8(value).map_err(|e| e.to_string())
}

/// The value of a secret of the Secrets Store that scripts may read; `None` if there is none of the name in the store.
pub fn stored_secret(
    catalog: &Catalog,
    sealer: &Sealer,
    account: &str,
    store: &str,
    name: &str,
) -> Result<Option<String>, String> {
    let found = catalog.resource_named(Kind::StoredSecret, name).map_err(|e| e.to_string())?;
    let found = found.filter(|secret| secret.settings["store"] == store && is_for_workers(secret));
    found.map(|secret| open(sealer, account, &secret)).transpose()
}

fn is_for_workers(secret: &Resource) -> bool {
    secret.settings["scopes"].as_array().is_some_and(|scopes| scopes.iter().any(|scope| scope == "workers"))
}

/// Whether a call may let scripts read stored secrets. Cloudflare asks for the right to change them.
pub(crate) fn may_bind(call: &Call) -> bool {
    allows(&call.token.terms.permissions, Some((Area::SecretsStore, true)))
}

/// Refuses a binding to a secret that is not there, or not for scripts, or not for the caller. The texts are Cloudflare's.
pub(crate) fn check_binding(
    catalog: &Catalog,
    binding: &str,
    store: &str,
    name: &str,
    may_bind: bool,
) -> Result<(), ApiError> {
    let unauthorized = || {
        ApiError::bad(
            10021,
            "Secrets store binding authorization failed. Check your permissions and secret scopes.",
        )
    };
    if !may_bind {
        return Err(unauthorized());
    }
    let found = catalog.resource_named(Kind::StoredSecret, name)?;
    match found.filter(|secret| secret.settings["store"] == store) {
        Some(secret) if is_for_workers(&secret) => Ok(()),
        Some(_) => Err(unauthorized()),
        None => Err(ApiError::bad(
            10182,
            format!(
                "Secrets Store binding '{binding}' references store '{store}' and secret '{name}' which were not found."
            ),
        )),
    }
}

fn modified(row: &Resource) -> String {
    time(row.settings["modified_ms"].as_i64().unwrap_or(row.created_ms))
}

fn shown_store(account: &str, row: &Resource) -> Json {
    json!({
        "id": row.id, "name": row.name, "account_id": account,
        "created": time(row.created_ms), "modified": modified(row),
    })
}

fn shown(row: &Resource) -> Json {
    json!({
        "id": row.id, "store_id": row.settings["store"], "name": row.name,
        "comment": row.settings["comment"].as_str().unwrap_or_default(), "scopes": row.settings["scopes"],
        "status": "active", "created": time(row.created_ms), "modified": modified(row),
    })
}

/// A list in the order that was asked for.
fn ordered(call: &Call, mut all: Vec<Json>) -> Result<Vec<Json>, ApiError> {
    let order = call.choice("order", &ORDERS)?.unwrap_or("created");
    all.sort_by(|a, b| a[order].as_str().cmp(&b[order].as_str()));
    if call.descending()? {
        all.reverse();
    }
    Ok(all)
}

fn store(call: &Call) -> Result<Resource, ApiError> {
    call.tenant()?.catalog().resource(Kind::SecretsStore, call.param(0))?.ok_or_else(no_store)
}

fn secret(call: &Call) -> Result<Resource, ApiError> {
    let store = store(call)?.id;
    let found = call.tenant()?.catalog().resource(Kind::StoredSecret, call.param(1))?;
    found.filter(|secret| secret.settings["store"] == store).ok_or_else(no_secret)
}

pub(crate) async fn quota(call: Call) -> Answer {
    let usage = call.tenant()?.catalog().resources(Kind::StoredSecret)?.len();
    ok(json!({ "secrets": { "quota": MOST_STORED_SECRETS, "usage": usage } }))
}

pub(crate) async fn list_stores(call: Call) -> Answer {
    let (number, per_page) = call.page(DEFAULT_PAGE)?;
    let all = call.tenant()?.catalog().resources(Kind::SecretsStore)?;
    let all = all.iter().map(|row| shown_store(&call.token.account, row)).collect();
    page(ordered(&call, all)?, number, per_page)
}

/// Takes a store, or a list of one, as SDKs send it; answers in kind.
pub(crate) async fn create_store(mut call: Call) -> Answer {
    let asked: Json = call.json().await?;
    let is_list = asked.is_array();
    let one = match &asked {
        Json::Array(list) if list.len() > MOST_STORES => return Err(too_many_stores()),
        Json::Array(list) => list.first().ok_or_else(|| invalid("store_name_empty"))?,
        one => one,
    };
    let name = one["name"].as_str().filter(|name| !name.is_empty() && name.len() <= MAX_NAME);
    let name = name.ok_or_else(|| invalid("store_name_empty"))?.to_owned();
    let id = uuid::Uuid::new_v4().simple().to_string();
    let made = Resource { id, name, created_ms: call.now_ms(), settings: json!({}) };
    let made = call.tenant()?.catalog().add_secrets_store(made).await.map_err(|error| match error {
        CatalogError::Full(_) => too_many_stores(),
        other => other.into(),
    })?;
    let shown = shown_store(&call.token.account, &made);
    ok(if is_list { json!([shown]) } else { shown })
}

fn too_many_stores() -> ApiError {
    ApiError::bad(1003, "maximum_stores_exceeded")
}

pub(crate) async fn get_store(call: Call) -> Answer {
    ok(shown_store(&call.token.account, &store(&call)?))
}

pub(crate) async fn delete_store(call: Call) -> Answer {
    let force = call.choice("force", &["true", "false"])? == Some("true");
    let store = call.param(0).to_owned();
    match call.tenant()?.catalog().remove_secrets_store(&store, force).await? {
        None => Err(no_store()),
        Some(false) => {
            let text = "store_not_empty: delete its secrets first, or say ?force=true";
            Err(ApiError::new(StatusCode::CONFLICT, 1003, text))
        }
        Some(true) => {
            let gone = store.clone();
            upload::apply_bound(&call, move |binding| is_of(binding, &gone)).await?;
            ok(Json::Null)
        }
    }
}

pub(crate) async fn list(call: Call) -> Answer {
    listed(call, list_of).await
}

fn list_of(call: &Call) -> Answer {
    let (number, per_page) = call.page(DEFAULT_PAGE)?;
    let mut all = call.tenant()?.catalog().stored_secrets(&store(call)?.id)?;
    if let Some(text) = call.query("search") {
        let has = |value: &str| value.contains(&text);
        all.retain(|row| has(&row.name) || row.settings["comment"].as_str().is_some_and(has));
    }
    page(ordered(call, all.iter().map(shown).collect())?, number, per_page)
}

#[derive(Deserialize)]
struct New {
    name: String,
    value: String,
    scopes: Vec<String>,
    comment: Option<String>,
}

/// Characters of a name.
pub(crate) const MAX_NAME: usize = 255;

/// The characters are those that wrangler takes.
fn check_name(name: &str) -> Result<(), ApiError> {
    match name {
        "" => Err(invalid("secret_name_empty")),
        name if name.len() > MAX_NAME
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) =>
        {
            Err(invalid("secret_name_invalid: only letters, digits, underscores and dashes, 255 at most"))
        }
        _ => Ok(()),
    }
}

fn check_scopes(scopes: &[String]) -> Result<(), ApiError> {
    if scopes.is_empty() {
        return Err(invalid("secret_scopes_empty"));
    }
    match scopes.iter().find(|scope| !SCOPES.contains(&scope.as_str())) {
        Some(scope) => Err(invalid(format!("secret_scope_invalid: {scope}"))),
        None => Ok(()),
    }
}

fn check_value(value: &str) -> Result<(), ApiError> {
    match value.len() {
        0 => Err(invalid("secret_value_empty")),
        long if long > MAX_VALUE => Err(invalid(format!("secret_value_too_long: max {MAX_VALUE} bytes"))),
        _ => Ok(()),
    }
}

fn seal(call: &Call, value: &str, id: &str) -> Result<String, ApiError> {
    let sealed = call.api.sealer.seal(value.as_bytes(), &context(&call.token.account, id));
    sealed.map_err(ApiError::internal)
}

fn made(call: &Call, store: &str, new: New) -> Result<Resource, ApiError> {
    check_name(&new.name)?;
    check_scopes(&new.scopes)?;
    check_value(&new.value)?;
    let id = uuid::Uuid::new_v4().simple().to_string();
    let settings = json!({
        "store": store, "scopes": new.scopes, "comment": new.comment.unwrap_or_default(),
        "sealed": seal(call, &new.value, &id)?,
    });
    Ok(Resource { id, name: new.name, created_ms: call.now_ms(), settings })
}

/// Keeps secrets, all or none.
async fn keep(call: &Call, store: &str, made: Vec<Resource>) -> Result<(), ApiError> {
    let names: Vec<String> = made.iter().map(|secret| secret.name.clone()).collect();
    if !call.tenant()?.catalog().add_stored_secrets(store, made).await.map_err(refused)? {
        return Err(no_store());
    }
    // A binding may have lost it before.
    apply(call, store, &names).await
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let new: Vec<New> = call.json().await?;
    let store = store(&call)?.id;
    let all: Vec<Resource> = new.into_iter().map(|new| made(&call, &store, new)).collect::<Result<_, _>>()?;
    let shown = all.iter().map(shown).collect();
    keep(&call, &store, all).await?;
    ok(shown)
}

pub(crate) async fn get(call: Call) -> Answer {
    ok(shown(&secret(&call)?))
}

#[derive(Deserialize)]
struct Changed {
    value: Option<String>,
    scopes: Option<Vec<String>>,
    comment: Option<String>,
}

pub(crate) async fn patch(mut call: Call) -> Answer {
    let Changed { value, scopes, comment } = call.json().await?;
    let row = secret(&call)?;
    scopes.as_deref().map(check_scopes).transpose()?;
    value.as_deref().map(check_value).transpose()?;
    let sealed = value.map(|value| seal(&call, &value, &row.id)).transpose()?;
    let now = call.now_ms();
    let change = move |row: &mut Resource| {
        if let Some(sealed) = sealed {
            row.settings["sealed"] = sealed.into();
        }
        if let Some(scopes) = scopes {
            row.settings["scopes"] = scopes.into();
        }
        if let Some(comment) = comment {
            row.settings["comment"] = comment.into();
        }
        row.settings["modified_ms"] = now.into();
        Ok::<_, ApiError>(row.clone())
    };
    let changed = call.tenant()?.catalog().edit_resource(Kind::StoredSecret, &row.id, change).await?;
    let changed = changed.ok_or_else(no_secret)??;
    apply(&call, call.param(0), std::slice::from_ref(&changed.name)).await?;
    ok(shown(&changed))
}

pub(crate) async fn delete(call: Call) -> Answer {
    let row = secret(&call)?;
    remove(&call, &[&row]).await?;
    ok(shown(&row))
}

async fn remove(call: &Call, rows: &[&Resource]) -> Result<(), ApiError> {
    for row in rows {
        call.tenant()?.catalog().remove_resource(Kind::StoredSecret, &row.id).await?;
    }
    let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
    apply(call, call.param(0), &names).await
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

/// Those whose ids are in the body, if all of them are there.
pub(crate) async fn delete_many(mut call: Call) -> Answer {
    let named: Vec<Named> = call.json().await?;
    let its = call.tenant()?.catalog().stored_secrets(&store(&call)?.id)?;
    let find = |named: &Named| its.iter().find(|row| row.id == named.id).ok_or_else(no_secret);
    let rows: Vec<&Resource> = named.iter().map(find).collect::<Result<_, _>>()?;
    remove(&call, &rows).await?;
    ok(rows.into_iter().map(shown).collect())
}

#[derive(Deserialize)]
struct Copy {
    name: String,
    scopes: Vec<String>,
    comment: Option<String>,
}

pub(crate) async fn duplicate(mut call: Call) -> Answer {
    let Copy { name, scopes, comment } = call.json().await?;
    let row = secret(&call)?;
    let value = open(&call.api.sealer, &call.token.account, &row).map_err(ApiError::internal)?;
    let store = call.param(0).to_owned();
    let copy = made(&call, &store, New { name, value, scopes, comment })?;
    let shown = shown(&copy);
    keep(&call, &store, vec![copy]).await?;
    ok(shown)
}

/// Brings the scripts in line that are bound to any of these secrets of a store.
async fn apply(call: &Call, store: &str, names: &[String]) -> Result<(), ApiError> {
    let (store, names) = (store.to_owned(), names.to_vec());
    let is_named = move |name: &Json| names.iter().any(|named| name == named.as_str());
    let bound = move |binding: &Json| is_of(binding, &store) && is_named(&binding["secret_name"]);
    upload::apply_bound(call, bound).await
}

/// Whether a binding is to a secret of a store.
fn is_of(binding: &Json, store: &str) -> bool {
    binding["type"] == "secrets_store_secret" && binding["store_id"] == store
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_in_cloudflares_words() {
        let said = |result: Result<(), ApiError>| result.unwrap_err().errors[0].clone();
        assert_eq!(said(check_name("")), (1001, "secret_name_empty".into()));
        assert!(said(check_name("a b")).1.starts_with("secret_name_invalid"));
        assert!(said(check_name(&"a".repeat(256))).1.starts_with("secret_name_invalid"));
        assert!(check_name("A-b_9").is_ok());
        assert_eq!(said(check_scopes(&[])), (1001, "secret_scopes_empty".into()));
        assert_eq!(said(check_scopes(&["mail".into()])), (1001, "secret_scope_invalid: mail".into()));
        assert!(check_scopes(&["workers".into(), "ai_gateway".into()]).is_ok());
        assert_eq!(said(check_value("")).1, "secret_value_empty");
        assert!(check_value(&"v".repeat(65_536)).is_ok());
        assert_eq!(said(check_value(&"v".repeat(65_537))).1, "secret_value_too_long: max 65536 bytes");
    }
}
