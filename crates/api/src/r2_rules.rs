//! The rules of a bucket: what must stay, what becomes of what grows old, who may read it. <https://developers.cloudflare.com/api/resources/r2/>

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use skep_r2::{CorsRule, LifecycleRule, LockRule, RulesError};

use crate::call::{Call, R2_MALFORMED, malformed};
use crate::r2::{bucket, r2_error};
use crate::reply::{Answer, ApiError, ok};

/// Bytes of the rules of a bucket: a thousand of them (<https://developers.cloudflare.com/r2/buckets/object-lifecycles/>), with their words.
const MAX_RULES: usize = 1 << 20;

#[derive(Deserialize)]
struct Put<T> {
    rules: Vec<T>,
}

/// The body's rules. A body that has none, and no empty list either, does not undo those that are there.
async fn rules_of<T: DeserializeOwned + Send + 'static>(call: &mut Call) -> Result<Vec<T>, ApiError> {
    let Put { rules } = call.json_within(MAX_RULES, R2_MALFORMED).await?;
    Ok(rules)
}

fn refused(error: RulesError) -> ApiError {
    match error {
        RulesError::Unfit(why) => malformed(R2_MALFORMED, &why.to_string()),
        RulesError::Store(error) => r2_error(error),
    }
}

pub(crate) async fn locks(call: Call) -> Answer {
    ok(json!({ "rules": bucket(&call)?.rules().locks }))
}

pub(crate) async fn put_locks(mut call: Call) -> Answer {
    let rules: Vec<LockRule> = rules_of(&mut call).await?;
    bucket(&call)?.set_locks(rules).await.map_err(refused)?;
    ok(json!({}))
}

pub(crate) async fn lifecycle(call: Call) -> Answer {
    ok(json!({ "rules": bucket(&call)?.rules().lifecycle }))
}

/// Whoever sets rules does not wait for what they do.
pub(crate) async fn put_lifecycle(mut call: Call) -> Answer {
    let rules: Vec<LifecycleRule> = rules_of(&mut call).await?;
    let bucket = bucket(&call)?;
    bucket.set_lifecycle(rules).await.map_err(refused)?;
    bucket.sweep_soon();
    ok(json!({}))
}

/// A bucket without rules has no configuration at all, as on Cloudflare.
pub(crate) async fn cors(call: Call) -> Answer {
    let rules = bucket(&call)?.rules();
    match rules.cors.is_empty() {
        true => Err(ApiError::not_found(10059, "The CORS configuration does not exist.")),
        false => ok(json!({ "rules": rules.cors })),
    }
}

pub(crate) async fn put_cors(mut call: Call) -> Answer {
    let rules: Vec<CorsRule> = rules_of(&mut call).await?;
    bucket(&call)?.set_cors(rules).await.map_err(refused)?;
    ok(json!({}))
}

pub(crate) async fn delete_cors(call: Call) -> Answer {
    bucket(&call)?.set_cors(Vec::new()).await.map_err(refused)?;
    ok(json!({}))
}
