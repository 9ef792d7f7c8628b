//! What buckets have on Cloudflare and not here: that there is none is the truth, and nothing can be set.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::call::Call;
use crate::r2::row;
use crate::reply::{Answer, ApiError, ok};

pub(crate) async fn none(call: Call) -> Answer {
    row(&call)?;
    ok(json!({ "rules": [], "domains": [] }))
}

pub(crate) async fn disabled(call: Call) -> Answer {
    row(&call)?;
    ok(json!({ "enabled": false }))
}

/// Removes rules: there are none.
pub(crate) async fn remove(call: Call) -> Answer {
    row(&call)?;
    ok(json!({}))
}

/// The public address of a bucket: it has none.
pub(crate) async fn managed_domain(call: Call) -> Answer {
    let row = row(&call)?;
    let id = hex::encode(&Sha256::digest(row.name.as_bytes())[..16]);
    ok(json!({ "bucketId": id, "domain": "", "enabled": false }))
}

pub(crate) async fn no_domain(call: Call) -> Answer {
    row(&call)?;
    Err(ApiError::not_found(10070, "The specified custom domain does not exist on this bucket."))
}

/// What Skep cannot do is said, not pretended.
pub(crate) async fn refused(call: Call) -> Answer {
    row(&call)?;
    let parts = call.head.uri.path().split('/');
    let what = parts.skip_while(|part| *part != "buckets").nth(2).unwrap_or_default().to_owned();
    Err(ApiError::bad(10058, format!("Skep does not have \"{what}\" for buckets.")))
}
