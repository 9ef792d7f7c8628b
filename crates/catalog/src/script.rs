//! Scripts, their versions and deployments, as rows.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::CatalogError;

/// A script: a name under which versions are deployed.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// Its identity for ever: 32 hexadecimal digits.
    pub tag: String,
    /// Its name, unique in the account. In a dispatch namespace: the namespace's id, a colon, and the label.
    pub name: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Of the last version, deployment or setting.
    pub modified_ms: i64,
    /// What is not part of a version.
    pub settings: Settings,
    /// Whether `<script>.<account>.<domain>` leads to it; `None` until it was said.
    pub workers_dev: Option<bool>,
    /// Whether versions have addresses of their own; `None` until it was said.
    pub previews: Option<bool>,
}

/// The name of the script that is called `label` in the dispatch namespace with this id.
pub fn name_within(namespace: &str, label: &str) -> String {
    format!("{namespace}:{label}")
}

/// The id of the dispatch namespace that the script of this name is in, and what it is called there; outside of
/// namespaces, its name.
pub fn split_name(name: &str) -> (Option<&str>, &str) {
    name.split_once(':').map_or((None, name), |(namespace, label)| (Some(namespace), label))
}

impl Script {
    /// What users call it.
    pub fn label(&self) -> &str {
        split_name(&self.name).1
    }
}

/// Settings of a script that are not part of a version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Kept for clients; no logs are pushed.
    pub logpush: bool,
    /// What is logged and how much of it.
    pub observability: Option<Json>,
    /// Labels.
    pub tags: Vec<String>,
    /// Scripts that get this one's events.
    pub tail_consumers: Vec<Json>,
    /// Cron expressions and when they were set (milliseconds since 1970).
    pub schedules: Vec<Schedule>,
}

/// A cron trigger of a script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The expression.
    pub cron: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Milliseconds since 1970.
    pub modified_ms: i64,
}

/// Who made something, with what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// `wrangler`, `api`, `terraform` …
    pub source: String,
    /// The token's id.
    pub author: String,
}

/// An immutable version of a script.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// A UUID.
    pub id: String,
    /// The script's tag.
    pub script: String,
    /// 1, 2, 3 … per script.
    pub number: u64,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Who made it.
    pub origin: Origin,
    /// `workers/message`, `workers/tag`, `workers/alias`, `workers/triggered_by`.
    pub annotations: BTreeMap<String, String>,
    /// What it is made of.
    pub content: Content,
}

/// What a version is made of. Large parts are named, not held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Content {
    /// All modules, the main one first. None: a version of assets alone.
    pub modules: Vec<Module>,
    /// The script is a service worker, not a module.
    pub service_worker: bool,
    /// Bindings as the API knows them, resolved: nothing is inherited any more. Values of secrets are sealed,
    /// under `sealed`.
    pub bindings: Vec<Json>,
    /// `YYYY-MM-DD`
    pub compatibility_date: Option<String>,
    /// Compatibility flags.
    pub compatibility_flags: Vec<String>,
    /// `cpu_ms`, `subrequests`.
    pub limits: Option<Json>,
    /// Kept for clients.
    pub placement: Option<Json>,
    /// Kept for clients.
    pub usage_model: Option<String>,
    /// Handlers of the default export.
    pub handlers: Vec<String>,
    /// Other exported classes and objects.
    pub named_handlers: Vec<NamedHandlers>,
    /// Static assets.
    pub assets: Option<AssetsRef>,
    /// The tag of the Durable Object migrations that it came with or found.
    pub migration_tag: Option<String>,
    /// The exports that it declares, as uploaded.
    pub exports: Option<Json>,
    /// Kept for clients.
    pub containers: Option<Json>,
    /// A hash of all modules.
    pub etag: String,
    /// How long the code took to start when it was tried out.
    pub startup_time_ms: u64,
}

/// A module of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// As imports name it.
    pub name: String,
    /// Its MIME type, which says its kind.
    pub content_type: String,
    /// The content file's key.
    pub key: String,
    /// Bytes.
    pub size: u64,
}

/// What a named export handles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedHandlers {
    /// The export.
    pub name: String,
    /// Methods of the class; `class` for one without.
    pub handlers: Vec<String>,
}

/// Static assets of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssetsRef {
    /// The content file with the manifest: JSON, path to hash and size.
    pub manifest: String,
    /// `html_handling` and so on, as uploaded.
    pub config: Json,
}

/// Which versions take requests, from when on.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// A UUID.
    pub id: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Who made it.
    pub origin: Origin,
    /// `workers/message` and so on.
    pub annotations: BTreeMap<String, String>,
    /// Version and percentage; the sum is 100.
    pub versions: Vec<(String, f64)>,
}

const SCRIPT: &str = "SELECT tag, name, created, modified, settings, workers_dev, previews FROM script";
const VERSION: &str = "SELECT id, script, number, created, origin, annotations, content FROM version";
const DEPLOYMENT: &str = "SELECT id, created, origin, annotations, versions FROM deployment";

pub(crate) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
    })
}

pub(crate) fn text(value: &impl Serialize) -> Result<String, CatalogError> {
    serde_json::to_string(value).map_err(|error| CatalogError::Invalid(error.to_string()))
}

fn script(row: &Row<'_>) -> rusqlite::Result<Script> {
    Ok(Script {
        tag: row.get(0)?,
        name: row.get(1)?,
        created_ms: row.get(2)?,
        modified_ms: row.get(3)?,
        settings: json(row, 4)?,
        workers_dev: row.get(5)?,
        previews: row.get(6)?,
    })
}

fn version(row: &Row<'_>) -> rusqlite::Result<Version> {
    Ok(Version {
        id: row.get(0)?,
        script: row.get(1)?,
        number: row.get::<_, i64>(2)?.unsigned_abs(),
        created_ms: row.get(3)?,
        origin: json(row, 4)?,
        annotations: json(row, 5)?,
        content: json(row, 6)?,
    })
}

fn deployment(row: &Row<'_>) -> rusqlite::Result<Deployment> {
    Ok(Deployment {
        id: row.get(0)?,
        created_ms: row.get(1)?,
        origin: json(row, 2)?,
        annotations: json(row, 3)?,
        versions: json(row, 4)?,
    })
}

pub(crate) fn find_script(c: &Connection, name: &str) -> Result<Option<Script>, CatalogError> {
    Ok(c.prepare_cached(&format!("{SCRIPT} WHERE name = ?"))?.query_row([name], script).optional()?)
}

/// Those of no dispatch namespace.
pub(crate) fn scripts(c: &Connection) -> Result<Vec<Script>, CatalogError> {
    let mut query = c.prepare_cached(&format!("{SCRIPT} WHERE instr(name, ':') = 0 ORDER BY name"))?;
    Ok(query.query_map([], script)?.collect::<Result<_, _>>()?)
}

pub(crate) fn scripts_within(c: &Connection, namespace: &str) -> Result<Vec<Script>, CatalogError> {
    let sql = format!("{SCRIPT} WHERE name > ? || ':' AND name < ? || ';' ORDER BY name");
    let mut query = c.prepare_cached(&sql)?;
    Ok(query.query_map([namespace, namespace], script)?.collect::<Result<_, _>>()?)
}

pub(crate) fn count_within(c: &Connection, namespace: &str) -> Result<u64, CatalogError> {
    let sql = "SELECT count(*) FROM script WHERE name > ? || ':' AND name < ? || ';'";
    let count: i64 = c.prepare_cached(sql)?.query_row([namespace, namespace], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

pub(crate) fn find_version(c: &Connection, tag: &str, id: &str) -> Result<Option<Version>, CatalogError> {
    let mut query = c.prepare_cached(&format!("{VERSION} WHERE id = ? AND script = ?"))?;
    Ok(query.query_row([id, tag], version).optional()?)
}

pub(crate) fn version_with_prefix(
    c: &Connection,
    tag: &str,
    prefix: &str,
) -> Result<Option<Version>, CatalogError> {
    let sql = format!(
        "{VERSION} WHERE script = ?1 AND substr(id, 1, length(?2)) = ?2 ORDER BY number DESC LIMIT 1"
    );
    Ok(c.prepare_cached(&sql)?.query_row([tag, prefix], version).optional()?)
}

pub(crate) fn latest_version(c: &Connection, tag: &str) -> Result<Option<Version>, CatalogError> {
    let mut query = c.prepare_cached(&format!("{VERSION} WHERE script = ? ORDER BY number DESC LIMIT 1"))?;
    Ok(query.query_row([tag], version).optional()?)
}

pub(crate) fn versions(
    c: &Connection,
    tag: &str,
    offset: u64,
    limit: u64,
) -> Result<(Vec<Version>, u64), CatalogError> {
    let mut query =
        c.prepare_cached(&format!("{VERSION} WHERE script = ? ORDER BY number DESC LIMIT ? OFFSET ?"))?;
    let rows =
        query.query_map(params![tag, limit as i64, offset as i64], version)?.collect::<Result<_, _>>()?;
    let mut count = c.prepare_cached("SELECT count(*) FROM version WHERE script = ?")?;
    let count: i64 = count.query_row([tag], |row| row.get(0))?;
    Ok((rows, count.unsigned_abs()))
}

pub(crate) fn deployments(c: &Connection, tag: &str, limit: u64) -> Result<Vec<Deployment>, CatalogError> {
    let mut query =
        c.prepare_cached(&format!("{DEPLOYMENT} WHERE script = ? ORDER BY sequence DESC LIMIT ?"))?;
    Ok(query.query_map(params![tag, limit as i64], deployment)?.collect::<Result<_, _>>()?)
}

pub(crate) fn find_deployment(
    c: &Connection,
    tag: &str,
    id: &str,
) -> Result<Option<Deployment>, CatalogError> {
    let mut query = c.prepare_cached(&format!("{DEPLOYMENT} WHERE script = ? AND id = ?"))?;
    Ok(query.query_row([tag, id], deployment).optional()?)
}

/// Each version of a deployment is stored as a pair: its id and its share.
pub(crate) fn was_deployed(c: &Connection, tag: &str, version: &str) -> Result<bool, CatalogError> {
    let sql = "SELECT 1 FROM deployment, json_each(deployment.versions) AS pair \
               WHERE deployment.script = ? AND json_extract(pair.value, '$[0]') = ?";
    Ok(c.prepare_cached(sql)?.exists([tag, version])?)
}

pub(crate) fn insert_script(c: &Connection, script: &Script) -> Result<(), CatalogError> {
    c.prepare_cached("INSERT INTO script VALUES (?, ?, ?, ?, ?, ?, ?)")?.execute(params![
        script.tag,
        script.name,
        script.created_ms,
        script.modified_ms,
        text(&script.settings)?,
        script.workers_dev,
        script.previews
    ])?;
    Ok(())
}

pub(crate) fn update_script(c: &Connection, script: &Script) -> Result<(), CatalogError> {
    let sql = "UPDATE script SET modified = ?, settings = ?, workers_dev = ?, previews = ? WHERE tag = ?";
    c.prepare_cached(sql)?.execute(params![
        script.modified_ms,
        text(&script.settings)?,
        script.workers_dev,
        script.previews,
        script.tag
    ])?;
    Ok(())
}

pub(crate) fn insert_version(
    c: &Connection,
    version: &Version,
    asset_keys: &[String],
) -> Result<(), CatalogError> {
    c.prepare_cached("INSERT INTO version VALUES (?, ?, ?, ?, ?, ?, ?)")?.execute(params![
        version.id,
        version.script,
        version.number as i64,
        version.created_ms,
        text(&version.origin)?,
        text(&version.annotations)?,
        text(&version.content)?
    ])?;
    let mut used = c.prepare_cached("INSERT OR IGNORE INTO content_use VALUES (?, ?)")?;
    let content = &version.content;
    let own = content.modules.iter().map(|m| &m.key).chain(content.assets.iter().map(|a| &a.manifest));
    for key in own.chain(asset_keys) {
        used.execute(params![version.id, key])?;
    }
    Ok(())
}

pub(crate) fn insert_deployment(c: &Connection, tag: &str, made: &Deployment) -> Result<(), CatalogError> {
    let sql = "INSERT INTO deployment(id, script, created, origin, annotations, versions) VALUES (?, ?, ?, ?, ?, ?)";
    c.prepare_cached(sql)?.execute(params![
        made.id,
        tag,
        made.created_ms,
        text(&made.origin)?,
        text(&made.annotations)?,
        text(&made.versions)?
    ])?;
    Ok(())
}
