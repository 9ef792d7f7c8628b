//! What buckets have on Cloudflare and not here: that there is none is the truth, and nothing can be set.

use serde_json::json;

use crate::call::Call;
use crate::r2::row;
use crate::reply::{Answer, ApiError, ok};

pub(crate) async fn disabled(call: Call) -> Answer {
    row(&call)?;
    ok(json!({ "enabled": false }))
}

/// What Skep cannot do is said, not pretended.
pub(crate) async fn refused(call: Call) -> Answer {
    row(&call)?;
    let parts = call.head.uri.path().split('/');
    let what = parts.skip_while(|part| *part != "buckets").nth(2).unwrap_or_default().to_owned();
    Err(ApiError::bad(10058, format!("Skep does not have \"{what}\" for buckets.")))
}
