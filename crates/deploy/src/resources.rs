//! What the bindings name: looked up, and made where it is missing.

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};

use crate::bindings::{Ids, name_of};
use crate::client::{Call, Client};
use crate::error::ApiError;
use crate::project::Project;
use crate::site;

/// Kinds of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A KV namespace.
    Kv,
    /// A D1 database.
    D1,
    /// An R2 bucket.
    R2,
    /// A queue.
    Queue,
    /// A Vectorize index.
    Vectorize,
    /// A dispatch namespace.
    Dispatch,
}

impl Kind {
    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Kv => "KV namespace",
            Self::D1 => "D1 database",
            Self::R2 => "R2 bucket",
            Self::Queue => "queue",
            Self::Vectorize => "Vectorize index",
            Self::Dispatch => "dispatch namespace",
        }
    }
}

/// One resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// What it is.
    pub kind: Kind,
    /// The binding that names it.
    pub binding: Option<String>,
    /// What it is called there, or will be.
    pub name: String,
    /// The id in the configuration.
    pub asked: Option<String>,
    /// Its id on the server; `None` while it does not exist.
    pub id: Option<String>,
    /// `cf-r2-jurisdiction`
    pub jurisdiction: Option<String>,
    /// What a Vectorize index is made as, if the configuration says it.
    pub config: Option<Json>,
}

/// What `encodeURIComponent` encodes.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

/// wrangler's name for what has none.
fn own_name(project: &Project, binding: &str) -> String {
    format!("{}-{}", project.name(), binding.to_lowercase().replace('_', "-"))
}

/// Whether a text is an id as Cloudflare makes them, and no name.
fn is_cloudflares(id: &str) -> bool {
    let hex = id.bytes().filter(|b| *b != b'-').all(|b| b.is_ascii_hexdigit());
    hex && matches!((id.len(), id.matches('-').count()), (32, 0) | (36, 4))
}

/// What a Vectorize index is made as; Skep's own keys say it.
fn index_config(kind: Kind, own: &Json) -> Option<Json> {
    let dimensions = own["dimensions"].as_u64().filter(|_| kind == Kind::Vectorize)?;
    let metric = own["metric"].as_str().unwrap_or("cosine");
    Some(json!({ "dimensions": dimensions, "metric": metric }))
}

/// All that the project needs, not yet looked up.
pub(crate) fn needed(project: &Project, dispatch_namespace: Option<&str>) -> Vec<Resource> {
    let mut all: Vec<Resource> = Vec::new();
    let mut add = |kind, own: &Json, name: Option<&str>, asked: Option<&str>| {
        let binding = name_of(own).to_owned();
        let name = name.map_or_else(|| own_name(project, &binding), str::to_owned);
        let known =
            all.iter().any(|other| other.kind == kind && other.name == name && other.binding.is_none());
        let named = matches!(kind, Kind::Queue | Kind::Vectorize | Kind::Dispatch);
        if named && known {
            return;
        }
        all.push(Resource {
            kind,
            binding: (!named).then_some(binding),
            name,
            asked: asked.map(str::to_owned),
            id: None,
            jurisdiction: own["jurisdiction"].as_str().map(str::to_owned),
            config: index_config(kind, own),
        });
    };
    for own in project.list(&["kv_namespaces"]) {
        let id = own["id"].as_str();
        add(Kind::Kv, own, id.filter(|id| !is_cloudflares(id)), id);
    }
    if project.site.is_some() {
        let title = site::title(project.name());
        add(Kind::Kv, &json!({ "binding": site::CONTENT }), Some(&title), None);
    }
    for own in project.list(&["d1_databases"]) {
        let id = own["database_id"].as_str();
        let name = own["database_name"].as_str().or(id.filter(|id| !is_cloudflares(id)));
        add(Kind::D1, own, name, id);
    }
    for own in project.list(&["r2_buckets"]) {
        add(Kind::R2, own, own["bucket_name"].as_str(), None);
    }
    for own in project.list(&["queues", "producers"]).iter().chain(project.list(&["queues", "consumers"])) {
        for queue in [&own["queue"], &own["dead_letter_queue"]] {
            if let Some(name) = queue.as_str() {
                add(Kind::Queue, own, Some(name), None);
            }
        }
    }
    for own in project.list(&["vectorize"]) {
        add(Kind::Vectorize, own, own["index_name"].as_str(), None);
    }
    for own in project.list(&["dispatch_namespaces"]) {
        add(Kind::Dispatch, own, own["namespace"].as_str(), None);
    }
    if let Some(name) = dispatch_namespace {
        add(Kind::Dispatch, &Json::Null, Some(name), None);
    }
    if let Some(templates) = &project.templates
        && !all.iter().any(|other| other.kind == Kind::R2 && other.name == templates.bucket)
    {
        let (binding, asked, id, jurisdiction, config) = (None, None, None, None, None);
        all.push(Resource {
            kind: Kind::R2,
            binding,
            name: templates.bucket.clone(),
            asked,
            id,
            jurisdiction,
            config,
        });
    }
    all
}

const INDEXES: &str = "{account}/vectorize/v2/indexes";
/// There is no such index, or it was deleted.
const NO_INDEX: [u64; 2] = [3000, 3005];

impl Resource {
    /// Why it cannot be made, if it is not there and cannot be.
    pub(crate) fn cannot_be_made(&self) -> Option<String> {
        let name = &self.name;
        (self.kind == Kind::Vectorize && self.id.is_none() && self.config.is_none()).then(|| {
            format!(
                "the Vectorize index {name} is not in this account: make it with `wrangler vectorize create {name}`, or say its \
                 \"dimensions\" and \"metric\" in the configuration"
            )
        })
    }

    /// Whether it should exist, by an id that only Cloudflare can have made.
    pub(crate) fn has_foreign_id(&self) -> bool {
        self.asked.as_deref().is_some_and(is_cloudflares)
    }

    fn call<'a>(&self, client: &'a Client, method: Method, path: &str) -> Call<'a> {
        let call = client.call(method, path);
        match &self.jurisdiction {
            Some(jurisdiction) if self.kind == Kind::R2 => call.header("cf-r2-jurisdiction", jurisdiction),
            _ => call,
        }
    }

    /// Looks it up. `before` are the bindings of the script as it runs: what has no id keeps what it had.
    pub(crate) async fn find(&mut self, client: &Client, before: &[Json]) -> Result<(), ApiError> {
        self.id = match self.kind {
            Kind::Kv => self.find_kv(client, before).await?,
            Kind::D1 => self.find_d1(client, before).await?,
            Kind::R2 => {
                let path = format!("{{account}}/r2/buckets/{}", encode(&self.name));
                found(self.call(client, Method::GET, &path).send().await, &[10006])?
                    .map(|_| self.name.clone())
            }
            Kind::Queue => {
                let list =
                    client.get(format!("{{account}}/queues?page=1&name={}", encode(&self.name))).await?;
                text_of(&list.result, |queue| queue["queue_name"] == self.name.as_str(), "queue_id")
            }
            Kind::Vectorize => {
                let path = format!("{INDEXES}/{}", encode(&self.name));
                client.find(path, &NO_INDEX).await?.map(|_| self.name.clone())
            }
            Kind::Dispatch => {
                let path = format!("{{account}}/workers/dispatch/namespaces/{}", encode(&self.name));
                client.find(path, &[100_119]).await?.map(|_| self.name.clone())
            }
        };
        Ok(())
    }

    fn bound_before(&self, before: &[Json], kind: &str, key: &str) -> Option<String> {
        let same = |own: &&Json| own["type"] == kind && own["name"].as_str() == self.binding.as_deref();
        before.iter().find(same)?[key].as_str().map(str::to_owned)
    }

    async fn find_kv(&self, client: &Client, before: &[Json]) -> Result<Option<String>, ApiError> {
        const NAMESPACES: &str = "{account}/storage/kv/namespaces";
        let asked = self.asked.clone().filter(|id| is_cloudflares(id));
        let known = asked.or_else(|| self.bound_before(before, "kv_namespace", "namespace_id"));
        if let Some(id) = known
            && client.find(format!("{NAMESPACES}/{}", encode(&id)), &[10013]).await?.is_some()
        {
            return Ok(Some(id));
        }
        for page in 1.. {
            let path = format!("{NAMESPACES}?per_page=100&order=title&direction=asc&page={page}");
            let list = client.get(path).await?.result;
            if let Some(id) = text_of(&list, |own| own["title"] == self.name.as_str(), "id") {
                return Ok(Some(id));
            }
            if list.as_array().is_none_or(|list| list.len() < 100) {
                break;
            }
        }
        Ok(None)
    }

    async fn find_d1(&self, client: &Client, before: &[Json]) -> Result<Option<String>, ApiError> {
        const DATABASES: &str = "{account}/d1/database";
        let asked = self.asked.clone().filter(|id| is_cloudflares(id));
        let known = asked.or_else(|| self.bound_before(before, "d1", "id"));
        if let Some(id) = known
            && client.find(format!("{DATABASES}/{}", encode(&id)), &[7404]).await?.is_some()
        {
            return Ok(Some(id));
        }
        let list =
            client.get(format!("{DATABASES}?per_page=1000&page=1&name={}", encode(&self.name))).await?;
        Ok(text_of(&list.result, |own| own["name"] == self.name.as_str(), "uuid"))
    }

    /// Makes it, under the id that the configuration has for it, if that is one. That somebody else has made it meanwhile is fine.
    pub(crate) async fn create(&mut self, client: &Client) -> Result<(), ApiError> {
        let (path, mut body, key) = match self.kind {
            Kind::Kv => ("{account}/storage/kv/namespaces", json!({ "title": self.name }), "id"),
            Kind::D1 => ("{account}/d1/database", json!({ "name": self.name }), "uuid"),
            Kind::R2 => ("{account}/r2/buckets", json!({ "name": self.name }), "name"),
            Kind::Queue => ("{account}/queues", json!({ "queue_name": self.name }), "queue_id"),
            Kind::Vectorize => (INDEXES, json!({ "name": self.name, "config": self.config }), "name"),
            Kind::Dispatch => {
                ("{account}/workers/dispatch/namespaces", json!({ "name": self.name }), "namespace_name")
            }
        };
        // Under its own id a project goes on as it is, also by stock wrangler. Cloudflare, which gives ids, gets here
        // without one.
        if let Some(id) = self.asked.as_deref().filter(|id| is_cloudflares(id))
            && matches!(self.kind, Kind::Kv | Kind::D1)
        {
            body[key] = id.to_lowercase().into();
        }
        match self.call(client, Method::POST, path).json(&body).send().await {
            Ok(made) => {
                let named = matches!(self.kind, Kind::R2 | Kind::Dispatch).then(|| self.name.clone());
                self.id = named.or_else(|| made.result[key].as_str().map(str::to_owned));
                Ok(())
            }
            Err(error) if error.is_existing() => self.find(client, &[]).await,
            Err(error) => Err(error),
        }
    }
}

fn found(
    answer: Result<crate::envelope::Envelope, ApiError>,
    codes: &[u64],
) -> Result<Option<Json>, ApiError> {
    match answer {
        Ok(envelope) => Ok(Some(envelope.result)),
        Err(error) if error.is_missing(codes) => Ok(None),
        Err(error) => Err(error),
    }
}

fn text_of(list: &Json, is: impl Fn(&Json) -> bool, key: &str) -> Option<String> {
    list.as_array()?.iter().find(|own| is(own))?[key].as_str().map(str::to_owned)
}

/// The ids for the bindings.
pub(crate) fn ids(resources: &[Resource]) -> Ids {
    let mut ids = Ids::default();
    for resource in resources {
        let (Some(binding), Some(id)) = (&resource.binding, &resource.id) else { continue };
        let map = match resource.kind {
            Kind::Kv => &mut ids.kv,
            Kind::D1 => &mut ids.d1,
            Kind::R2 => &mut ids.r2,
            Kind::Queue | Kind::Vectorize | Kind::Dispatch => continue,
        };
        map.insert(binding.clone(), id.clone());
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_are_told_apart() {
        assert!(is_cloudflares("0123456789abcdef0123456789abcdef"));
        assert!(is_cloudflares("11111111-1111-4111-8111-111111111111"));
        for name in ["hive-settings", "", "0123", "11111111-1111-4111-8111-11111111111g"] {
            assert!(!is_cloudflares(name), "{name}");
        }
    }
}
