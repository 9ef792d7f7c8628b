//! Vectorize: indexes, and the vectors in them. <https://developers.cloudflare.com/api/resources/vectorize/>

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use skep_catalog::{CatalogError, Kind, Resource};
use skep_vectorize::{
    DIMENSIONS, Index, MAX_BATCH_HTTP, MAX_LIST, MAX_NAME_BYTES, MAX_UPLOAD, Metric, Property, Query, Shape,
    Unparsable, Vector, VectorizeError, parse_lines,
};

use crate::aside::{aside, listed, whose};
use crate::call::Call;
use crate::reply::{Answer, ApiError, ok, time};

/// Indexes of an account. <https://developers.cloudflare.com/vectorize/platform/limits/>
const MOST_INDEXES: usize = 50_000;
/// Bytes of a request that brings no vectors.
const MAX_ASKED: usize = 1 << 20;
/// Ids of a page where nothing is said.
const PER_PAGE: usize = 100;
/// What a form has beside the vectors.
const FORM_BYTES: usize = 64 << 10;
/// Bytes of the name of a metadata index.
const MAX_PROPERTY_BYTES: usize = 512;

/// What models give, by their names.
pub(crate) const PRESETS: [(&str, usize, Metric); 5] = [
    ("@cf/baai/bge-small-en-v1.5", 384, Metric::Cosine),
    ("@cf/baai/bge-base-en-v1.5", 768, Metric::Cosine),
    ("@cf/baai/bge-large-en-v1.5", 1024, Metric::Cosine),
    ("openai/text-embedding-ada-002", 1536, Metric::Cosine),
    ("cohere/embed-multilingual-v2.0", 768, Metric::DotProduct),
];

/// What lines that are no vectors lead to.
pub(crate) const UNPARSABLE: [&str; 2] = ["error", "discard"];

/// An account's indexes are made and removed one after the other: that there is none of a name stays true until there is one. Few accounts
/// share a lock: to remove a large index takes a while.
static MAKING: [tokio::sync::Mutex<()>; 64] = [const { tokio::sync::Mutex::const_new(()) }; 64];

fn making() -> &'static tokio::sync::Mutex<()> {
    &MAKING[whose() as usize % MAKING.len()]
}

fn refused(error: VectorizeError) -> ApiError {
    match error.code() {
        Some(code) => ApiError::new(error.status(), code, error.to_string()),
        None => match error {
            VectorizeError::Store(error) => crate::modules::storage(error),
            other => ApiError::bad(10004, other.to_string()),
        },
    }
}

fn no_index(name: &str) -> ApiError {
    refused(VectorizeError::NoIndex(name.to_owned()))
}

fn invalid(what: &str, why: &str) -> ApiError {
    ApiError::bad(3001, format!("vectorize.index.{what} - {why}"))
}

fn duplicate(name: &str) -> ApiError {
    ApiError::bad(3002, format!("vectorize.index.duplicate_name - Index name \"{name}\""))
}

fn row(call: &Call) -> Result<Resource, ApiError> {
    let name = call.param(0);
    call.tenant()?.catalog().resource(Kind::Vectorize, name)?.ok_or_else(|| no_index(name))
}

async fn index(call: &Call) -> Result<Arc<Index>, ApiError> {
    let (row, tenant) = (row(call)?, call.tenant()?);
    let opened = tokio::task::spawn_blocking(move || tenant.vectorize().index(&row.name)).await;
    opened.map_err(ApiError::internal)?.map_err(refused)
}

fn shown(row: &Resource) -> Json {
    json!({
        "name": row.name,
        "description": row.settings["description"].as_str().unwrap_or_default(),
        "config": row.settings["config"],
        "created_on": time(row.created_ms),
        "modified_on": time(row.created_ms),
    })
}

fn shape(config: &Json) -> Result<Shape, ApiError> {
    let invalid = |why: &str| invalid("invalid_config", why);
    if let Some(preset) = config["preset"].as_str() {
        let known = PRESETS.iter().find(|(name, ..)| *name == preset);
        let (_, dimensions, metric) = known.ok_or_else(|| invalid("Unknown preset"))?;
        return Ok(Shape { dimensions: *dimensions, metric: *metric });
    }
    if !config.is_object() {
        return Err(invalid("Config must be provided"));
    }
    let metric = config["metric"].as_str().and_then(Metric::parse);
    let metric = metric.ok_or_else(|| invalid("Metric must be one of: cosine, euclidean, dot-product"))?;
    let dimensions = config["dimensions"].as_u64().and_then(|count| usize::try_from(count).ok());
    let dimensions = dimensions.filter(|count| DIMENSIONS.contains(count)).ok_or_else(|| {
        invalid(&format!("Dimensions must be in range: [{}, {}]", DIMENSIONS.start(), DIMENSIONS.end()))
    })?;
    Ok(Shape { dimensions, metric })
}

/// What Cloudflare's own names are made of.
fn check_name(name: &str) -> Result<(), ApiError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed) {
        true => Ok(()),
        false => Err(invalid(
            "invalid_name",
            &format!("A name has 1 to {MAX_NAME_BYTES} letters, digits, dashes and underscores"),
        )),
    }
}

#[derive(Deserialize)]
struct Create {
    #[serde(default)]
    name: String,
    description: Option<String>,
    #[serde(default)]
    config: Json,
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let Create { name, description, config } = call.json().await?;
    check_name(&name)?;
    let shape = shape(&config)?;
    let made = Resource {
        id: name.clone(),
        name: name.clone(),
        created_ms: call.now_ms(),
        settings: json!({
            "config": { "dimensions": shape.dimensions, "metric": shape.metric.name() },
            "description": description,
        }),
    };
    let tenant = call.tenant()?;
    // To its end, also if nobody waits any more.
    let lock = making();
    let making = tokio::spawn(async move {
        let _making = lock.lock().await;
        let there = tenant.catalog().resources(Kind::Vectorize)?;
        if there.iter().any(|other| other.id == name) {
            return Err(duplicate(&name));
        }
        if there.len() >= MOST_INDEXES {
            return Err(invalid("invalid_config", &format!("An account has at most {MOST_INDEXES} indexes")));
        }
        let (within, own) = (tenant.clone(), name.clone());
        let created = tokio::task::spawn_blocking(move || within.vectorize().create(&own, shape)).await;
        created.map_err(ApiError::internal)?.map_err(crate::modules::storage)?;
        let kept = tenant.catalog().add_resource(Kind::Vectorize, made).await;
        kept.map_err(|error| match error {
            CatalogError::Exists(_) => duplicate(&name),
            other => other.into(),
        })
    });
    ok(shown(&making.await.map_err(ApiError::internal)??))
}

/// All of them: the API has no pages here.
pub(crate) async fn list(call: Call) -> Answer {
    listed(call, list_of).await
}

fn list_of(call: &Call) -> Answer {
    ok(call.tenant()?.catalog().resources(Kind::Vectorize)?.iter().map(shown).collect())
}

pub(crate) async fn get(call: Call) -> Answer {
    ok(shown(&row(&call)?))
}

pub(crate) async fn delete(call: Call) -> Answer {
    let (row, tenant) = (row(&call)?, call.tenant()?);
    let lock = making();
    let removing = tokio::spawn(async move {
        let _making = lock.lock().await;
        let (within, own) = (tenant.clone(), row.name.clone());
        let removed = tokio::task::spawn_blocking(move || within.vectorize().remove(&own)).await;
        removed.map_err(ApiError::internal)?.map_err(crate::modules::storage)?;
        Ok::<_, ApiError>(tenant.catalog().remove_resource(Kind::Vectorize, &row.id).await?)
    });
    removing.await.map_err(ApiError::internal)??;
    ok(Json::Null)
}

fn result(value: &impl Serialize) -> Answer {
    ok(serde_json::to_value(value).map_err(ApiError::internal)?)
}

fn mutated(id: Result<String, VectorizeError>) -> Answer {
    ok(json!({ "mutationId": id.map_err(refused)? }))
}

pub(crate) async fn info(call: Call) -> Answer {
    result(&index(&call).await?.details().map_err(refused)?)
}

pub(crate) async fn insert(mut call: Call) -> Answer {
    let index = index(&call).await?;
    let vectors = vectors(&mut call, "insert").await?;
    mutated(index.insert(vectors).await)
}

pub(crate) async fn upsert(mut call: Call) -> Answer {
    let index = index(&call).await?;
    let vectors = vectors(&mut call, "upsert").await?;
    mutated(index.upsert(vectors).await)
}

/// The vectors of a request: as they are, or in a form's part `vectors`, as wrangler sends them.
async fn vectors(call: &mut Call, operation: &'static str) -> Result<Vec<Vector>, ApiError> {
    let unparsable = match call.choice("unparsable-behavior", &UNPARSABLE)? {
        Some("discard") => Unparsable::Discard,
        _ => Unparsable::Error,
    };
    let is_ndjson = call.header("content-type").is_some_and(|kind| kind.starts_with("application/x-ndjson"));
    let lines: Bytes = if is_ndjson {
        call.bytes(MAX_UPLOAD).await?
    } else {
        let form = call.form_within(MAX_UPLOAD + FORM_BYTES).await?;
        let part = form.and_then(|form| form.0.into_iter().find(|part| part.name == "vectors"));
        part.ok_or_else(|| ApiError::bad(1005, "vectorize.unknown_content_type"))?.bytes
    };
    let read = move || parse_lines(&lines, operation, MAX_BATCH_HTTP, unparsable);
    aside(usize::MAX, read).await?.map_err(refused)
}

pub(crate) async fn query(mut call: Call) -> Answer {
    let index = index(&call).await?;
    let query = Query::parse(&call.bytes(MAX_ASKED).await?).map_err(refused)?;
    result(&index.query(query).await.map_err(refused)?)
}

#[derive(Deserialize)]
struct Ids {
    #[serde(default)]
    ids: Vec<String>,
}

async fn ids(call: &mut Call) -> Result<Vec<String>, ApiError> {
    let Ids { ids } = call.json_within(MAX_ASKED, 40026).await?;
    match ids.is_empty() {
        true => Err(refused(VectorizeError::Json("ids: expected at least one".into()))),
        false => Ok(ids),
    }
}

pub(crate) async fn get_by_ids(mut call: Call) -> Answer {
    let index = index(&call).await?;
    let ids = ids(&mut call).await?;
    let got = tokio::task::spawn_blocking(move || index.get(&ids)).await;
    result(&got.map_err(ApiError::internal)?.map_err(refused)?)
}

pub(crate) async fn delete_by_ids(mut call: Call) -> Answer {
    let index = index(&call).await?;
    let ids = ids(&mut call).await?;
    mutated(index.delete(ids).await)
}

pub(crate) async fn list_vectors(call: Call) -> Answer {
    let index = index(&call).await?;
    let count = match call.query("count") {
        None => PER_PAGE,
        Some(text) => {
            text.parse().ok().filter(|count| (1..=MAX_LIST).contains(count)).ok_or_else(|| {
                ApiError::bad(10001, format!("'count' must be a number from 1 to {MAX_LIST}"))
            })?
        }
    };
    let cursor = call.query("cursor").filter(|cursor| !cursor.is_empty());
    let listed = index.list(count, cursor.as_deref()).map_err(refused)?;
    let vectors: Vec<Json> = listed.ids.iter().map(|id| json!({ "id": id })).collect();
    ok(json!({
        "count": vectors.len(),
        "totalCount": listed.total,
        "isTruncated": listed.cursor.is_some(),
        "nextCursor": listed.cursor,
        // It names an id: it does not expire.
        "cursorExpirationTimestamp": null,
        "vectors": vectors,
    }))
}

pub(crate) async fn create_metadata_index(mut call: Call) -> Answer {
    let index = index(&call).await?;
    let property: Property = call.json_within(MAX_ASKED, 40026).await?;
    let name = &property.property_name;
    if name.is_empty() || name.len() > MAX_PROPERTY_BYTES || name.contains('"') || name.starts_with('$') {
        return Err(refused(VectorizeError::Json(
            "propertyName: expected a key of metadata, or keys with dots between them".into(),
        )));
    }
    mutated(index.add_property(property).await)
}

pub(crate) async fn list_metadata_indexes(call: Call) -> Answer {
    result(&json!({ "metadataIndexes": index(&call).await?.properties().map_err(refused)? }))
}

#[derive(Deserialize)]
struct PropertyName {
    #[serde(default, rename = "propertyName")]
    property_name: String,
}

pub(crate) async fn delete_metadata_index(mut call: Call) -> Answer {
    let index = index(&call).await?;
    let PropertyName { property_name } = call.json_within(MAX_ASKED, 40026).await?;
    mutated(index.remove_property(property_name).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_has_dimensions_and_a_metric_or_those_of_a_model() {
        let said = |config: Json| shape(&config).map_err(|e| e.errors[0].1.clone());
        let made = said(json!({ "dimensions": 32, "metric": "euclidean" })).unwrap();
        assert_eq!(made, Shape { dimensions: 32, metric: Metric::Euclidean });
        assert_eq!(said(json!({ "preset": "@cf/baai/bge-base-en-v1.5" })).unwrap().dimensions, 768);
        for dimensions in [0, 31, 1537] {
            let refused = said(json!({ "dimensions": dimensions, "metric": "cosine" })).unwrap_err();
            assert_eq!(refused, "vectorize.index.invalid_config - Dimensions must be in range: [32, 1536]");
        }
        assert_eq!(said(Json::Null).unwrap_err(), "vectorize.index.invalid_config - Config must be provided");
        assert!(said(json!({ "dimensions": 32, "metric": "manhattan" })).is_err());
        assert!(said(json!({ "preset": "other" })).is_err());
    }

    #[test]
    fn names_lead_nowhere_else() {
        for good in ["a", "memory_messages", "Docs-2", &"n".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b", "..", "a b", "é", &"n".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
