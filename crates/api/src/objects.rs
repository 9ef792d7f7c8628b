//! Durable Object namespaces.
//! <https://developers.cloudflare.com/api/resources/durable_objects/>

use serde_json::json;
use sha2::{Digest, Sha256};
use skep_catalog::Kind;

use crate::call::Call;
use crate::reply::{Answer, page};

/// The id under which the API knows a namespace: 32 hexadecimal digits of its key's hash.
pub(crate) fn namespace_id(unique_key: &str) -> String {
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
