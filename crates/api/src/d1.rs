//! D1 databases: made, asked, exported, filled from a file.
//! <https://developers.cloudflare.com/api/resources/d1/subresources/database/>

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use md5::{Digest, Md5};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_catalog::{CatalogError, Kind, Resource};
use skep_d1::{D1Database, D1Error, Param, ResultsFormat, Statement};
use skep_wire::{empty, reply};

use crate::BASE;
use crate::aside::{aside, listed, long};
use crate::call::Call;
use crate::reply::{self, Answer, ApiError, ok, ok_text, page, time};

/// SQL of one request or file at most.
const MAX_SQL: usize = 256 << 20;
/// How long a file of an export or an import is kept.
const FILE_MS: i64 = 60 * 60 * 1000;
const FILE: &str = "d1 file";
/// Bytes of memory that making an export may take, of those that bodies have.
const EXPORT: usize = 128 << 20;

fn sql_error(error: &D1Error) -> ApiError {
    ApiError::bad(7500, error.to_string())
}

fn row(call: &Call) -> Result<Resource, ApiError> {
    let tenant = call.tenant()?;
    let wanted = call.param(0);
    let by_id = tenant.catalog().resource(Kind::D1, wanted)?;
    let found = match by_id {
        Some(row) => Some(row),
        // wrangler asks by name.
        None => tenant.catalog().resource_named(Kind::D1, wanted)?,
    };
    found.ok_or_else(|| ApiError::not_found(7404, format!("The database {wanted} could not be found")))
}

pub(crate) fn database(call: &Call) -> Result<Arc<D1Database>, ApiError> {
    let row = row(call)?;
    call.tenant()?.d1().database(&row.id).map_err(crate::modules::storage)
}

fn shown(row: &Resource) -> Json {
    let mut shown = json!({
        "uuid": row.id,
        "name": row.name,
        "version": "production",
        "created_at": time(row.created_ms),
        "read_replication": { "mode": "disabled" },
    });
    if let Some(jurisdiction) = row.settings["jurisdiction"].as_str() {
        shown["jurisdiction"] = jurisdiction.into();
    }
    shown
}

pub(crate) async fn list(call: Call) -> Answer {
    listed(call, list_of).await
}

fn list_of(call: &Call) -> Answer {
    let (number, per_page) = call.page(100)?;
    let name = call.query("name");
    let all = call.tenant()?.catalog().resources(Kind::D1)?;
    let matching = all.iter().filter(|row| name.as_ref().is_none_or(|name| row.name.contains(name)));
    page(matching.map(shown).collect(), number, per_page)
}

#[derive(Deserialize)]
struct Create {
    name: String,
    jurisdiction: Option<String>,
    /// Skep's own: the id that a project's configuration has already.
    uuid: Option<String>,
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let Create { name, jurisdiction, uuid } = call.json().await?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ' ' | '.');
    if name.is_empty() || name.len() > 63 || !name.chars().all(allowed) {
        return Err(ApiError::bad(
            7400,
            "The name of a database has 1 to 63 letters, digits, spaces, dots, dashes or underscores.",
        ));
    }
    if let Some(jurisdiction) = jurisdiction {
        return Err(ApiError::bad(
            7400,
            format!("Skep has no jurisdiction \"{jurisdiction}\": leave it out."),
        ));
    }
    let id = match uuid {
        None => uuid::Uuid::new_v4(),
        Some(id) => uuid::Uuid::try_parse(&id).map_err(|_| ApiError::bad(7400, "The uuid is not one."))?,
    };
    let made = Resource { id: id.to_string(), name, created_ms: call.now_ms(), settings: json!({}) };
    let tenant = call.tenant()?;
    if tenant.catalog().resource(Kind::D1, &made.id)?.is_some() {
        return Err(ApiError::bad(7502, format!("A database with the uuid {} already exists", made.id)));
    }
    let made = tenant.catalog().add_resource(Kind::D1, made).await.map_err(|error| match error {
        CatalogError::Exists(name) => {
            ApiError::bad(7502, format!("A database with the name {name} already exists"))
        }
        other => other.into(),
    })?;
    ok(shown(&made))
}

pub(crate) async fn get(call: Call) -> Answer {
    let row = row(&call)?;
    let database = database(&call)?;
    let mut shown = shown(&row);
    let tables = "SELECT count(*) AS n FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let counted = run(&database, vec![Statement::new(tables)], ResultsFormat::Objects).await?;
    let counted: Json = serde_json::from_slice(&counted).map_err(ApiError::internal)?;
    shown["num_tables"] = counted[0]["results"][0]["n"].clone();
    shown["file_size"] = counted[0]["meta"]["size_after"].clone();
    ok(shown)
}

/// Takes what has no meaning here: replication.
pub(crate) async fn update(mut call: Call) -> Answer {
    let asked: Json = call.json().await?;
    let mode = asked["read_replication"]["mode"].as_str();
    if let Some(mode) = mode.filter(|mode| *mode != "disabled") {
        return Err(ApiError::bad(
            7400,
            format!("Skep has one copy of a database: read replication cannot be \"{mode}\"."),
        ));
    }
    ok(shown(&row(&call)?))
}

pub(crate) async fn delete(call: Call) -> Answer {
    let row = row(&call)?;
    let tenant = call.tenant()?;
    tenant.catalog().remove_resource(Kind::D1, &row.id).await?;
    let removed = tokio::task::spawn_blocking(move || tenant.d1().remove(&row.id));
    removed.await.map_err(ApiError::internal)?.map_err(crate::modules::storage)?;
    ok(json!({}))
}

#[derive(Deserialize)]
struct Query {
    sql: String,
    #[serde(default)]
    params: Option<Vec<Param>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Queries {
    Batch { batch: Vec<Query> },
    One(Query),
}

impl Queries {
    /// Bytes of SQL.
    fn size(&self) -> usize {
        match self {
            Self::Batch { batch } => batch.iter().map(|query| query.sql.len()).sum(),
            Self::One(query) => query.sql.len(),
        }
    }
}

/// Each statement by itself; parameters belong to a text of one statement.
fn statements(queries: Queries) -> Result<Vec<Statement>, ApiError> {
    let queries = match queries {
        Queries::Batch { batch } => batch,
        Queries::One(query) => vec![query],
    };
    let mut all = Vec::new();
    for Query { sql, params } in queries {
        let params = params.unwrap_or_default();
        if !params.is_empty() && skep_d1::statements(&sql).nth(1).is_some() {
            return Err(ApiError::bad(7400, "A query with params must only contain one statement."));
        }
        let parts = skep_d1::statements(&sql);
        all.extend(parts.map(|sql| Statement { sql: sql.to_owned(), params: params.clone() }));
    }
    match all.is_empty() {
        true => Err(nothing()),
        false => Ok(all),
    }
}

fn nothing() -> ApiError {
    ApiError::bad(7500, "No SQL statements detected.")
}

/// What the statements come to, as the text of a list. It has room among the results of databases until it is dropped.
async fn run(
    database: &D1Database,
    statements: Vec<Statement>,
    format: ResultsFormat,
) -> Result<Bytes, ApiError> {
    database.run(statements, format).await.map_err(|error| sql_error(&error))
}

async fn answer(mut call: Call, format: ResultsFormat) -> Answer {
    let queries: Queries = call.json_within(MAX_SQL, 7400).await?;
    let statements = aside(queries.size(), || statements(queries)).await??;
    Ok(ok_text(run(&*database(&call)?, statements, format).await?))
}

pub(crate) async fn query(call: Call) -> Answer {
    answer(call, ResultsFormat::Objects).await
}

pub(crate) async fn raw(call: Call) -> Answer {
    answer(call, ResultsFormat::RowsAndColumns).await
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Dump {
    no_schema: bool,
    no_data: bool,
    tables: Vec<String>,
}

#[derive(Deserialize)]
struct Export {
    #[serde(default)]
    dump_options: Option<Dump>,
}

/// The file is there at once: the first poll already says so.
pub(crate) async fn export(mut call: Call) -> Answer {
    let Export { dump_options } = call.json().await?;
    let row = row(&call)?;
    let database = database(&call)?;
    let Dump { no_schema, no_data, tables } = dump_options.unwrap_or_default();
    call.take_room(EXPORT).await?;
    let sql = database.export_sql(no_schema, no_data, tables).await.map_err(|error| sql_error(&error))?;
    let sql = Bytes::from(sql);
    let whole = sql.clone();
    let key = aside(sql.len(), move || crate::modules::key_of(&whole)).await?;
    crate::modules::keep(&call.tenant()?, &key, sql, None, call.now_ms()).await?;
    let url = file_url(&call, &row, Some(key))?;
    let filename = format!("{}.sql", row.id);
    ok(json!({
        "success": true, "type": "export", "at_bookmark": database.bookmark(), "status": "complete", "messages": [],
        "result": { "filename": filename, "signed_url": url },
    }))
}

/// An address that leads to one file for a while: `content` to be read, or none yet.
fn file_url(call: &Call, row: &Resource, content: Option<String>) -> Result<String, ApiError> {
    let claims = json!({
        "account": call.token.account, "database": row.id, "content": content,
        "expires_ms": call.now_ms() + FILE_MS,
    });
    let sealed = call.api.sealer.seal(claims.to_string().as_bytes(), FILE).map_err(ApiError::internal)?;
    let token: String = form_urlencoded::byte_serialize(sealed.as_bytes()).collect();
    Ok(format!("{}{BASE}/d1/files/{token}", call.api.platform.addresses().api))
}

/// What such an address says, if it is ours and still good.
fn file_claims(call: &mut Call) -> Result<Json, ApiError> {
    let refused = || ApiError::new(StatusCode::FORBIDDEN, 10000, "Authentication error");
    let opened = call.api.sealer.open_sealed(call.param(0), FILE).map_err(|_| refused())?;
    let claims: Json = serde_json::from_slice(&opened).map_err(|_| refused())?;
    if claims["expires_ms"].as_i64().is_none_or(|expires| expires <= call.now_ms()) {
        return Err(refused());
    }
    claims["account"].as_str().unwrap_or_default().clone_into(&mut call.token.account);
    Ok(claims)
}

pub(crate) async fn download(mut call: Call) -> Answer {
    let claims = file_claims(&mut call)?;
    let key = claims["content"].as_str().ok_or_else(|| ApiError::no_route(call.head.uri.path()))?;
    let (content, length) = crate::modules::open(&call.tenant()?, key).await?;
    Ok(reply::content(content, length, HeaderValue::from_static("application/sql")))
}

/// The content that an import's file is kept under.
fn import_key(database: &str, etag: &str) -> String {
    format!("d:{database}:{etag}")
}

pub(crate) async fn upload(mut call: Call) -> Answer {
    let claims = file_claims(&mut call)?;
    // One that a file is read by is not one to write another by.
    if !claims["content"].is_null() {
        return Err(ApiError::no_route(call.head.uri.path()));
    }
    let bytes = call.bytes(MAX_SQL).await?;
    let whole = bytes.clone();
    let etag = aside(bytes.len(), move || hex::encode(Md5::digest(&whole))).await?;
    let key = import_key(claims["database"].as_str().unwrap_or_default(), &etag);
    crate::modules::keep(&call.tenant()?, &key, bytes, None, call.now_ms()).await?;
    let mut response = reply(StatusCode::OK, empty());
    let value = HeaderValue::try_from(format!("\"{etag}\"")).map_err(ApiError::internal)?;
    response.headers_mut().insert(http::header::ETAG, value);
    Ok(response)
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
enum Import {
    Init { etag: String },
    Ingest { etag: String },
    Poll { current_bookmark: Option<String> },
}

/// What is said of a text of statements, beside the rows of the last one.
fn meta_of(results: &[u8]) -> Result<Json, ApiError> {
    #[derive(Deserialize)]
    struct Done {
        meta: Json,
    }
    let [Done { meta }] = serde_json::from_slice(results).map_err(ApiError::internal)?;
    Ok(meta)
}

/// A file is taken in one transaction: when it is answered, all of it is there, or none.
pub(crate) async fn import(mut call: Call) -> Answer {
    let asked: Import = call.json().await?;
    let row = row(&call)?;
    let database = database(&call)?;
    let complete = |meta: Json, count: usize, bookmark: String| {
        json!({
            "success": true, "type": "import", "at_bookmark": bookmark, "status": "complete", "messages": [],
            "result": { "num_queries": count, "final_bookmark": bookmark, "meta": meta },
        })
    };
    match asked {
        Import::Init { etag } => {
            let tenant = call.tenant()?;
            let known = tenant.catalog().content(&import_key(&row.id, &etag))?;
            let mut result = json!({ "success": true, "type": "import", "filename": format!("{etag}.sql") });
            if known.is_none() {
                result["upload_url"] = file_url(&call, &row, None)?.into();
            }
            ok(result)
        }
        Import::Ingest { etag } => {
            let key = import_key(&row.id, &etag);
            let tenant = call.tenant()?;
            if tenant.catalog().content(&key)?.is_none() {
                return Err(ApiError::bad(7400, "The file to import was not uploaded."));
            }
            call.take_room(crate::modules::size(&tenant, &key)?).await?;
            let bytes = crate::modules::load(&tenant, &key).await?;
            let read = move || {
                let sql = String::from_utf8(bytes.into());
                let sql = sql.map_err(|_| ApiError::bad(7500, "The file to import is not UTF-8."))?;
                match skep_d1::statements(&sql).count() {
                    0 => Err(nothing()),
                    count => Ok((sql, count)),
                }
            };
            let (sql, count) = long(read).await?;
            // One text: a result for each of a million statements would be too much.
            let results = run(&database, vec![Statement::new(sql)], ResultsFormat::Objects).await?;
            let meta = aside(results.len(), move || meta_of(&results)).await??;
            ok(complete(meta, count, database.bookmark()))
        }
        Import::Poll { current_bookmark } => {
            ok(complete(json!({}), 0, current_bookmark.unwrap_or_else(|| database.bookmark())))
        }
    }
}
