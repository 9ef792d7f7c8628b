//! R2 buckets and the objects in them. <https://developers.cloudflare.com/api/resources/r2/>

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyDataStream;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_catalog::{Kind, Resource};
use skep_r2::{
    Bucket, GetBody, GetOptions, HttpFields, ListOptions, Object, ObjectOptions, PutOptions, R2Error,
    StorageClass,
};
use skep_wire::{full, reply};

use crate::aside::listed;
use crate::call::Call;
use crate::r2_buckets::{self, BucketError, LOCATIONS};
use crate::reply::{Answer, ApiError, ok, time, with_info};

pub(crate) const STORAGE_CLASS: &str = "cf-r2-storage-class";
pub(crate) const JURISDICTION: &str = "cf-r2-jurisdiction";

pub(crate) fn r2_error(error: R2Error) -> ApiError {
    ApiError::new(error.status(), error.code(), error.message())
}

/// Buckets are in one place: any other is refused, rather than a promise that is not kept.
pub(crate) fn check_jurisdiction(call: &Call) -> Result<(), ApiError> {
    match call.header(JURISDICTION) {
        None | Some("" | "default") => Ok(()),
        Some(other) => {
            Err(ApiError::bad(10005, format!("Skep has no jurisdiction \"{other}\": leave it out.")))
        }
    }
}

pub(crate) fn row(call: &Call) -> Result<Resource, ApiError> {
    check_jurisdiction(call)?;
    call.tenant()?.catalog().resource(Kind::R2, call.param(0))?.ok_or_else(BucketError::missing)
}

/// Changes what is said of a bucket, by what it is then: two such calls at once do not undo each other.
pub(crate) async fn edit<T: Send + 'static>(
    call: &Call,
    change: impl FnOnce(&mut Resource) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let id = row(call)?.id;
    call.tenant()?.catalog().edit_resource(Kind::R2, &id, change).await?.ok_or_else(BucketError::missing)?
}

pub(crate) fn bucket(call: &Call) -> Result<Arc<Bucket>, ApiError> {
    let row = row(call)?;
    call.tenant()?.r2().bucket(&row.name).map_err(crate::modules::storage)
}

fn shown(row: &Resource) -> Json {
    json!({
        "name": row.name,
        "creation_date": time(row.created_ms),
        // A hint is all that it is: everything is here. The SDKs know no other words than Cloudflare's.
        "location": row.settings["location"].as_str().unwrap_or(LOCATIONS[0]),
        "storage_class": row.settings["storage_class"].as_str().unwrap_or("Standard"),
        "jurisdiction": "default",
    })
}

pub(crate) async fn list(call: Call) -> Answer {
    listed(call, list_of).await
}

fn list_of(call: &Call) -> Answer {
    check_jurisdiction(call)?;
    let (_, per_page) = call.page(20)?;
    let mut all = call.tenant()?.catalog().resources(Kind::R2)?;
    if call.descending()? {
        all.reverse();
    }
    if let Some(part) = call.query("name_contains") {
        all.retain(|row| row.name.contains(&part));
    }
    let after = call.query("cursor").filter(|c| !c.is_empty()).or_else(|| call.query("start_after"));
    let start = match after {
        Some(after) => all.iter().position(|row| row.name == after).map_or(all.len(), |at| at + 1),
        None => 0,
    };
    let rest = &all[start..];
    let part = &rest[..rest.len().min(per_page as usize)];
    let cursor = if part.len() < rest.len() { part.last().map(|row| row.name.clone()) } else { None };
    let buckets: Vec<Json> = part.iter().map(shown).collect();
    with_info(
        json!({ "buckets": buckets }),
        json!({ "cursor": cursor.unwrap_or_default(), "per_page": per_page }),
    )
}

#[derive(Deserialize)]
struct Create {
    name: String,
    #[serde(rename = "storageClass")]
    storage_class: Option<String>,
    #[serde(rename = "locationHint")]
    location: Option<String>,
}

fn check_class(class: &str) -> Result<StorageClass, ApiError> {
    match class {
        "Standard" => Ok(StorageClass::Standard),
        "InfrequentAccess" => Ok(StorageClass::InfrequentAccess),
        other => Err(ApiError::bad(10062, format!("The storage class \"{other}\" is not valid."))),
    }
}

pub(crate) async fn create(mut call: Call) -> Answer {
    check_jurisdiction(&call)?;
    let Create { name, storage_class, location } = call.json().await?;
    let class = storage_class.unwrap_or_else(|| "Standard".into());
    check_class(&class)?;
    let tenant = call.tenant()?;
    let made = r2_buckets::make(tenant.catalog(), &name, &class, location.as_deref(), call.now_ms()).await;
    ok(shown(&made?))
}

pub(crate) async fn get(call: Call) -> Answer {
    ok(shown(&row(&call)?))
}

pub(crate) async fn patch(call: Call) -> Answer {
    let Some(class) = call.header(STORAGE_CLASS).map(str::to_owned) else { return ok(shown(&row(&call)?)) };
    check_class(&class)?;
    let changed = edit(&call, move |row| {
        row.settings["storage_class"] = class.into();
        Ok(row.clone())
    });
    ok(shown(&changed.await?))
}

pub(crate) async fn delete(call: Call) -> Answer {
    let name = row(&call)?.name;
    r2_buckets::remove(call.api.platform.as_ref(), &call.token.account, &name).await?;
    ok(json!({}))
}

fn http_fields(headers: &HeaderMap) -> HttpFields {
    let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let expires = text(header::EXPIRES).and_then(|text| {
        humantime::parse_rfc3339_weak(&text).ok().or_else(|| httpdate::parse_http_date(&text).ok())
    });
    HttpFields {
        content_type: text(header::CONTENT_TYPE),
        content_language: text(header::CONTENT_LANGUAGE),
        content_disposition: text(header::CONTENT_DISPOSITION),
        content_encoding: text(header::CONTENT_ENCODING),
        cache_control: text(header::CACHE_CONTROL),
        cache_expiry: expires
            .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
            .and_then(|since| i64::try_from(since.as_millis()).ok()),
    }
}

fn shown_object(object: &Object) -> Json {
    let fields = object.http_fields.clone().unwrap_or_default();
    let custom: serde_json::Map<String, Json> = object
        .custom_fields
        .iter()
        .flatten()
        .map(|field| (field.k.clone(), field.v.clone().into()))
        .collect();
    json!({
        "key": object.name,
        "version": object.version,
        "etag": object.etag,
        "size": object.size,
        "last_modified": time(object.uploaded),
        "http_metadata": fields,
        "custom_metadata": custom,
        "storage_class": object.storage_class,
    })
}

pub(crate) async fn put_object(mut call: Call) -> Answer {
    let bucket = bucket(&call)?;
    let class = call.header(STORAGE_CLASS).map(check_class).transpose()?.unwrap_or_default();
    let length = call.header("content-length").and_then(|text| text.parse().ok());
    let object = ObjectOptions {
        http_fields: http_fields(&call.head.headers),
        storage_class: class,
        ..Default::default()
    };
    let options = PutOptions { object, length, ..PutOptions::default() };
    let mut content = Box::pin(BodyDataStream::new(call.take_body()));
    let stored = bucket.put(call.param(1), options, &mut content).await.map_err(r2_error)?;
    let mut shown = shown_object(&stored);
    shown["uploaded"] = shown["last_modified"].clone();
    ok(shown)
}

pub(crate) async fn get_object(call: Call) -> Answer {
    let found = bucket(&call)?.get(call.param(1), &GetOptions::default()).map_err(r2_error)?;
    let object = found.object;
    let body = match found.body {
        GetBody::Whole(bytes) => full(bytes),
        GetBody::Pieces(pieces) => skep_wire::stream(pieces),
    };
    let mut response = reply(StatusCode::OK, body);
    let headers = response.headers_mut();
    let fields = object.http_fields.unwrap_or_default();
    let content_type = fields.content_type.or(Some("application/octet-stream".into()));
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_LANGUAGE, fields.content_language),
        (header::CONTENT_DISPOSITION, fields.content_disposition),
        (header::CONTENT_ENCODING, fields.content_encoding),
        (header::CACHE_CONTROL, fields.cache_control),
        (header::ETAG, Some(format!("\"{}\"", object.etag))),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(object.size));
    Ok(response)
}

pub(crate) async fn delete_object(call: Call) -> Answer {
    let key = call.param(1).to_owned();
    bucket(&call)?.delete(vec![key.clone()]).await.map_err(r2_error)?;
    ok(json!({ "key": key }))
}

pub(crate) async fn list_objects(call: Call) -> Answer {
    listed(call, list_objects_of).await
}

fn list_objects_of(call: &Call) -> Answer {
    let number = |name: &str| call.query(name).map(|text| text.parse().unwrap_or(-1));
    let options = ListOptions {
        prefix: call.query("prefix").unwrap_or_default(),
        delimiter: call.query("delimiter"),
        start_after: call.query("start_after"),
        cursor: call.query("cursor").filter(|cursor| !cursor.is_empty()),
        limit: number("per_page"),
        include_http: true,
        include_custom: true,
    };
    let page = bucket(call)?.list(&options).map_err(r2_error)?;
    let shown: Vec<Json> = page.objects.iter().map(shown_object).collect();
    let info = json!({
        "cursor": page.cursor.unwrap_or_default(), "is_truncated": page.truncated,
        "delimited": page.delimited_prefixes, "per_page": options.limit.unwrap_or(1000),
    });
    with_info(shown.into(), info)
}
