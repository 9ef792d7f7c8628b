//! Durable Object namespaces.
//! <https://developers.cloudflare.com/api/resources/durable_objects/>

use serde_json::json;
use sha2::{Digest, Sha256};

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
    let shown = all.into_iter().map(|(script, class, namespace)| {
        json!({
            "id": namespace_id(&namespace.unique_key),
            "name": format!("{script}_{class}"),
            "script": script,
            "class": class,
            "use_sqlite": namespace.sqlite,
        })
    });
    page(shown.collect(), number, per_page)
}
