//! Durable Object namespaces.
//! <https://developers.cloudflare.com/api/resources/durable_objects/>

use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use skep_catalog::Kind;

use crate::call::Call;
use crate::reply::{Answer, ApiError, page, with_info};

/// The id under which the API knows a namespace: 32 hexadecimal digits of its key's hash.
pub fn namespace_id(unique_key: &str) -> String {
    hex::encode(&Sha256::digest(unique_key.as_bytes())[..16])
}

pub(crate) async fn namespaces(call: Call) -> Answer {
    let (number, per_page) = call.page(20)?;
    let tenant = call.tenant()?;
    let all = tenant.catalog().all_namespaces()?;
    let catalog = tenant.catalog();
    let mut shown = Vec::with_capacity(all.len());
    for (script, class, namespace) in all {
        let (dispatch, label) = skep_catalog::split_name(&script);
        let mut one = json!({
            "id": namespace_id(&namespace.unique_key),
            "name": format!("{label}_{class}"),
            "script": label,
            "class": class,
            "use_sqlite": namespace.sqlite,
        });
        if let Some(id) = dispatch
            && let Some(dispatch) = catalog.resource(Kind::Dispatch, id)?
        {
            one["dispatch_namespace"] = dispatch.name.into();
        }
        shown.push(one);
    }
    page(shown, number, per_page)
}

/// Objects of a page.
pub(crate) const OBJECTS: std::ops::RangeInclusive<usize> = 10..=10_000;

/// The objects of a namespace that were ever called.
pub(crate) async fn objects(call: Call) -> Answer {
    let limit = match call.query("limit").map(|text| text.parse::<usize>()) {
        None => 1000,
        Some(Ok(limit)) if OBJECTS.contains(&limit) => limit,
        Some(_) => return Err(ApiError::bad(10001, "'limit' must be a number from 10 to 10000")),
    };
    let cursor = call.query("cursor").filter(|cursor| !cursor.is_empty());
    let tenant = call.tenant()?;
    let all = tenant.catalog().all_namespaces()?;
    let found = all.into_iter().find(|(_, _, one)| namespace_id(&one.unique_key) == call.param(0));
    let (_, _, namespace) = found
        .ok_or_else(|| ApiError::not_found(10066, "The Durable Object namespace could not be found."))?;
    let read = move || tenant.objects(&namespace.unique_key, cursor.as_deref(), limit);
    let read = tokio::task::spawn_blocking(read).await.map_err(ApiError::internal)?;
    let (objects, more) = read.map_err(ApiError::internal)?;
    let mut info = json!({ "count": objects.len(), "per_page": limit });
    if let Some(last) = objects.last().filter(|_| more) {
        info["cursor"] = last.id.as_str().into();
    }
    let shown: Vec<Json> =
        objects.iter().map(|one| json!({ "id": one.id, "hasStoredData": one.has_stored_data })).collect();
    with_info(Json::Array(shown), info)
}
