//! Many objects at once, and how much all buckets hold. <https://developers.cloudflare.com/api/resources/r2/>

use http::StatusCode;
use serde_json::{Value as Json, json};
use skep_catalog::Kind;
use skep_r2::{Bucket, ListOptions, MAX_DELETE_KEYS, OBJECT_LOCKED, StorageClass, Usage};

use crate::call::{Call, R2_MALFORMED, malformed};
use crate::r2::{bucket, check_jurisdiction, r2_error, row};
use crate::reply::{Answer, ApiError, ok, time};

/// Deletes the keys of the body, or all that start with `prefix` when there is none.
pub(crate) async fn delete(mut call: Call) -> Answer {
    row(&call)?;
    let prefix = call.query("prefix");
    match (call.any_json().await?, prefix) {
        (Json::Null, Some(prefix)) => delete_prefix(&call, prefix).await,
        (Json::Array(keys), None) => delete_listed(&call, keys).await,
        (Json::Null, None) => Err(unfit("name the objects: a JSON list of keys, or a prefix in the address")),
        _ => Err(unfit("it is a list of keys, and comes without a prefix in the address")),
    }
}

fn unfit(why: &str) -> ApiError {
    malformed(R2_MALFORMED, why)
}

async fn delete_listed(call: &Call, keys: Vec<Json>) -> Answer {
    let keys: Option<Vec<String>> = keys.iter().map(|key| key.as_str().map(str::to_owned)).collect();
    let keys = keys.ok_or_else(|| unfit("a key is a text"))?;
    bucket(call)?.delete(keys.clone()).await.map_err(r2_error)?;
    ok(keys.iter().map(|key| json!({ "key": key })).collect())
}

/// What was there when it began and is not locked. It has ended when it answers.
async fn delete_prefix(call: &Call, prefix: String) -> Answer {
    let (bucket, start) = (bucket(call)?, call.now_ms());
    if prefix.is_empty() && !bucket.rules().locks.is_empty() {
        // <https://developers.cloudflare.com/r2/buckets/bucket-locks/#notes>
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            OBJECT_LOCKED,
            "A bucket cannot be emptied while any bucket lock rules are configured.",
        ));
    }
    let mut options = ListOptions {
        prefix: prefix.clone(),
        limit: i64::try_from(MAX_DELETE_KEYS).ok(),
        ..ListOptions::default()
    };
    let mut deleted = 0;
    loop {
        let page = bucket.list(&options).map_err(r2_error)?;
        let old = page.objects.into_iter().filter(|object| object.uploaded <= start);
        let keys: Vec<String> = old.map(|object| object.name).collect();
        deleted += delete_unlocked(&bucket, keys).await?;
        options.cursor = page.cursor;
        if options.cursor.is_none() {
            break;
        }
    }
    ok(json!({
        "id": uuid::Uuid::new_v4().to_string(),
        "jobType": "prefixDelete",
        "status": "COMPLETED",
        "startTime": time(start),
        "endTime": time(call.now_ms()),
        "prefixDelete": { "prefix": prefix, "deletedObjects": deleted, "isBucketClear": prefix.is_empty() },
    }))
}

/// How many were deleted.
async fn delete_unlocked(bucket: &Bucket, keys: Vec<String>) -> Result<usize, ApiError> {
    let count = keys.len();
    match bucket.delete(keys.clone()).await {
        Ok(()) => return Ok(count),
        Err(error) if error.code() != OBJECT_LOCKED => return Err(r2_error(error)),
        Err(_) => {}
    }
    // One of them is locked: one by one, then.
    let mut deleted = 0;
    for key in keys {
        match bucket.delete(vec![key]).await {
            Ok(()) => deleted += 1,
            Err(error) if error.code() == OBJECT_LOCKED => {}
            Err(error) => return Err(r2_error(error)),
        }
    }
    Ok(deleted)
}

/// Parts of uploads that are under way are not counted.
pub(crate) async fn metrics(call: Call) -> Answer {
    check_jurisdiction(&call)?;
    let tenant = call.tenant()?;
    let summed = tokio::task::spawn_blocking(move || {
        let mut all = [Usage::default(); 2];
        for row in tenant.catalog().resources(Kind::R2)? {
            let bucket = tenant.r2().bucket(&row.name).map_err(crate::modules::storage)?;
            for (sum, class) in all.iter_mut().zip([StorageClass::Standard, StorageClass::InfrequentAccess]) {
                let one = bucket.usage(class).map_err(crate::modules::storage)?;
                sum.objects += one.objects;
                sum.payload += one.payload;
                sum.metadata += one.metadata;
            }
        }
        Ok::<_, ApiError>(all)
    });
    let [standard, infrequent] = summed.await.map_err(ApiError::internal)??;
    let shown = |usage: Usage| {
        json!({ "published": {
            "objects": usage.objects, "payloadSize": usage.payload, "metadataSize": usage.metadata,
        } })
    };
    ok(json!({ "standard": shown(standard), "infrequentAccess": shown(infrequent) }))
}
