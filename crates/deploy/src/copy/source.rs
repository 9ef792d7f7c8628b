//! A Worker as it is in an account: its code and its settings.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use serde_json::Value as Json;
use skep_bundle::{Bundle, Format, Module, ModuleKind};

use super::config::{Names, Settings};
use super::{d1, kv, pages, text};
use crate::client::Client;
use crate::error::ApiError;
use crate::remote::{self, NO_SCRIPT, script_path};
use crate::resources::encode;

/// The largest script, all modules together.
const MAX_CODE: usize = 160 << 20;

/// What Workers of an account have to do with, read once.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub names: Names,
    /// Durable Object classes: `{script, class, use_sqlite, dispatch_namespace?}`
    classes: Vec<Json>,
    /// With their consumers.
    queues: Vec<Json>,
    domains: Vec<Json>,
    /// `{pattern, script, zone_name}`
    routes: Vec<Json>,
    /// What could not be read.
    pub notes: Vec<String>,
}

/// A Worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub settings: Settings,
    /// `None` where it has static assets alone.
    pub code: Option<Bundle>,
    /// Its tags, but for wrangler's.
    pub tags: Vec<String>,
    /// What a person should know of it.
    pub notes: Vec<String>,
}

/// Names of all Workers, in order.
pub(super) async fn workers(client: &Client) -> Result<Vec<String>, ApiError> {
    let all = client.get("{account}/workers/scripts").await?.result;
    Ok(sorted(&all, "id"))
}

/// Names of all dispatch namespaces.
pub(super) async fn namespaces(client: &Client) -> Result<Vec<String>, ApiError> {
    let all = client.get("{account}/workers/dispatch/namespaces").await?.result;
    Ok(sorted(&all, "namespace_name"))
}

/// Names of the scripts of a dispatch namespace.
pub(super) async fn dispatched(client: &Client, namespace: &str) -> Result<Vec<String>, ApiError> {
    let path = format!("{{account}}/workers/dispatch/namespaces/{}/scripts", encode(namespace));
    Ok(sorted(&client.get(path).await?.result, "id"))
}

fn sorted(list: &Json, key: &str) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    let mut names: Vec<String> = list.filter_map(|own| own[key].as_str().map(str::to_owned)).collect();
    names.sort();
    names
}

impl Account {
    /// Reads it. Zones that the token may not see are no reason to stop.
    pub(super) async fn read(client: &Client) -> Result<Self, String> {
        let mut own = Self::default();
        let swapped = |pairs: Vec<(String, String)>| -> BTreeMap<String, String> {
            pairs.into_iter().map(|(name, id)| (id, name)).collect()
        };
        own.names.kv = swapped(kv::namespaces(client).await.map_err(text)?);
        own.names.d1 = swapped(d1::databases(client).await.map_err(text)?);
        own.classes =
            pages(client, "{account}/workers/durable_objects/namespaces", 1000, None).await.map_err(text)?;
        own.queues = queues(client).await.map_err(text)?;
        let domains = client.get("{account}/workers/domains").await.map_err(text)?.result;
        own.domains = domains.as_array().cloned().unwrap_or_default();
        match routes(client).await {
            Ok(routes) => own.routes = routes,
            Err(error) => own.notes.push(format!("routes cannot be read with this token: {error}")),
        }
        Ok(own)
    }

    fn settings(&self, name: &str) -> Settings {
        let of = |list: &[Json], key: &str| -> Vec<Json> {
            list.iter().filter(|own| own[key] == name).cloned().collect()
        };
        let consumes =
            |consumer: &&Json| ["script", "script_name", "service"].iter().any(|key| consumer[*key] == name);
        let consumers = self.queues.iter().flat_map(|queue| {
            let list = queue["consumers"].as_array().into_iter().flatten();
            let queue = queue["queue_name"].as_str().unwrap_or_default();
            list.filter(consumes).map(move |consumer| (queue.to_owned(), consumer.clone()))
        });
        Settings {
            name: name.to_owned(),
            domains: of(&self.domains, "service"),
            routes: of(&self.routes, "script"),
            consumers: consumers.collect(),
            ..Settings::default()
        }
    }

    fn classes(&self, namespace: Option<&str>, name: &str) -> Vec<(String, bool)> {
        let within = |own: &Json| own["dispatch_namespace"].as_str() == namespace;
        let named: Vec<&Json> = self.classes.iter().filter(|own| own["script"] == name).collect();
        // A server that does not say in which namespace a script is calls all of them by the script's name.
        let is_told = named.iter().any(|own| within(own));
        let mut all: Vec<(String, bool)> = named
            .into_iter()
            .filter(|own| within(own) || !is_told)
            .filter_map(|own| Some((own["class"].as_str()?.to_owned(), own["use_sqlite"] == true)))
            .collect();
        all.sort();
        all.dedup();
        all
    }
}

/// All queues with their consumers.
pub(super) async fn queues(client: &Client) -> Result<Vec<Json>, ApiError> {
    let mut all = pages(client, "{account}/queues", 100, None).await?;
    for queue in &mut all {
        if queue["consumers_total_count"].as_u64().unwrap_or(1) == 0 {
            continue;
        }
        let id = queue["queue_id"].as_str().unwrap_or_default();
        let consumers = client.get(format!("{{account}}/queues/{}/consumers", encode(id))).await?;
        queue["consumers"] = consumers.result;
    }
    Ok(all)
}

/// The routes of all zones.
async fn routes(client: &Client) -> Result<Vec<Json>, ApiError> {
    let mut all: Vec<Json> = Vec::new();
    let path = format!("/zones?account.id={}", encode(&client.account));
    for number in 1.. {
        let page = client.get(format!("{path}&page={number}&per_page=50")).await?;
        let zones = page.result.as_array().cloned().unwrap_or_default();
        for zone in &zones {
            let id = zone["id"].as_str().unwrap_or_default();
            let list = client.get(format!("/zones/{}/workers/routes", encode(id))).await?.result;
            for mut route in list.as_array().cloned().unwrap_or_default() {
                route["zone_name"] = zone["name"].clone();
                // A server without zones of its own may show a route in more than one.
                if !all.iter().any(|known| known["id"] == route["id"] && known["pattern"] == route["pattern"])
                {
                    all.push(route);
                }
            }
        }
        if zones.len() < 50 {
            break;
        }
    }
    Ok(all)
}

/// Reads a Worker, ordinary or dispatched.
pub(super) async fn worker(
    client: &Client,
    account: &Account,
    namespace: Option<&str>,
    name: &str,
) -> Result<Worker, ApiError> {
    let path = script_path(namespace, name);
    let find =
        async |tail: &str| Ok(client.find(format!("{path}/{tail}"), NO_SCRIPT).await?.unwrap_or_default());
    let mut own = if namespace.is_none() { account.settings(name) } else { Settings::default() };
    own.name = name.to_owned();
    own.classes = account.classes(namespace, name);
    let mut notes = Vec::new();
    let mut settings: Json = find("settings").await?;
    own.bindings = settings["bindings"].as_array().cloned().unwrap_or_default();
    let secrets: Json = find("secrets").await?;
    own.secrets = sorted(&secrets, "name");
    if namespace.is_none() {
        let deployments: Json = find("deployments").await?;
        let versions = deployments["deployments"][0]["versions"].as_array().cloned().unwrap_or_default();
        if let [first, _, ..] = versions.as_slice() {
            let id = first["version_id"].as_str().unwrap_or_default();
            notes.push(format!("its traffic is split between versions: the code is the newest one's, the bindings those of {id}"));
        }
        if let Some(id) = versions.first().and_then(|own| own["version_id"].as_str()) {
            let version: Json = find(&format!("versions/{}", encode(id))).await?;
            let resources = &version["resources"];
            if let Some(bindings) = resources["bindings"].as_array() {
                own.bindings.clone_from(bindings);
            }
            for key in ["compatibility_date", "compatibility_flags", "limits", "migration_tag", "exports"] {
                if !resources["script_runtime"][key].is_null() {
                    settings[key] = resources["script_runtime"][key].clone();
                }
            }
        }
        let script: Json = find("script-settings").await?;
        for key in ["logpush", "observability", "tail_consumers", "streaming_tail_consumers", "tags"] {
            if !script[key].is_null() {
                settings[key] = script[key].clone();
            }
        }
        let schedules: Json = find("schedules").await?;
        own.crons = sorted(&schedules["schedules"], "cron");
        own.subdomain = find("subdomain").await?;
    }
    if settings["migration_tag"].is_null() {
        let remote = match namespace {
            Some(namespace) => remote::dispatched(client, namespace, name).await?,
            None => remote::script(client, name).await?,
        };
        settings["migration_tag"] = remote.migration_tag.into();
    }
    if !own.classes.is_empty() {
        let classes: Vec<&str> = own.classes.iter().map(|(name, _)| name.as_str()).collect();
        notes.push(format!(
            "the data of its Durable Objects ({}) cannot be read over the API",
            classes.join(", ")
        ));
    }
    let tags = settings["tags"].as_array().into_iter().flatten().filter_map(Json::as_str);
    let tags = tags.filter(|tag| namespace.is_some() || !tag.starts_with("cf:")).map(str::to_owned).collect();
    own.settings = settings;
    let code = code(client, namespace, &path, &mut notes).await?;
    Ok(Worker { settings: own, code, tags, notes })
}

async fn code(
    client: &Client,
    namespace: Option<&str>,
    path: &str,
    notes: &mut Vec<String>,
) -> Result<Option<Bundle>, ApiError> {
    let tail = if namespace.is_some() { "content" } else { "content/v2" };
    let answer = client.call(Method::GET, format!("{path}/{tail}")).limit(MAX_CODE).answer().await?;
    let header =
        |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (content_type, main) = (header("content-type").to_owned(), header("cf-entrypoint").to_owned());
    let parts = match multer::parse_boundary(&content_type) {
        Ok(boundary) => parts(answer.body().clone(), boundary).await,
        Err(_) => {
            Ok(vec![("index.js".to_owned(), "application/javascript".to_owned(), answer.body().clone())])
        }
    };
    let parts = match parts {
        Ok(parts) => parts,
        Err(error) => {
            notes.push(format!("its code cannot be read: {error}"));
            return Ok(None);
        }
    };
    let (bundle, others) = bundle(parts, &main);
    notes.extend(
        others.iter().map(|name| format!("the part {name} of its code has a kind that Skep does not know")),
    );
    Ok(bundle)
}

/// Name, content type, content.
type Part = (String, String, Bytes);

async fn parts(body: Bytes, boundary: String) -> Result<Vec<Part>, multer::Error> {
    let stream = futures_util::stream::once(async move { Ok::<_, std::convert::Infallible>(body) });
    let mut form = multer::Multipart::new(stream, boundary);
    let mut parts = Vec::new();
    while let Some(field) = form.next_field().await? {
        let name = field.name().or(field.file_name()).unwrap_or_default().to_owned();
        let kind = field.content_type().map(|kind| kind.essence_str().to_owned()).unwrap_or_default();
        parts.push((name, kind, field.bytes().await?));
    }
    Ok(parts)
}

/// The parts as a bundle whose main module is `main`, and the names of those that are no modules.
fn bundle(parts: Vec<Part>, main: &str) -> (Option<Bundle>, Vec<String>) {
    let only_script =
        matches!(parts.as_slice(), [(_, kind, _)] if kind == "application/javascript") && main.is_empty();
    let format = if only_script { Format::ServiceWorker } else { Format::Modules };
    let (mut modules, mut others, mut source_map) = (Vec::new(), Vec::new(), None);
    let map = format!("{main}.map");
    for (name, kind, content) in parts {
        let kind = match kind.as_str() {
            "application/javascript+module" | "text/javascript+module" => ModuleKind::EsModule,
            "application/javascript" | "text/javascript" if only_script => ModuleKind::EsModule,
            "application/javascript" | "text/javascript" => ModuleKind::CommonJs,
            "text/plain" => ModuleKind::Text,
            "application/octet-stream" => ModuleKind::Data,
            "application/wasm" => ModuleKind::Wasm,
            "application/source-map" if name == map => {
                source_map = Some(content);
                continue;
            }
            "application/source-map" => continue,
            _ => {
                others.push(name);
                continue;
            }
        };
        modules.push(Module { name, specifier: None, kind, content });
    }
    let at = modules.iter().position(|module| module.name == main).unwrap_or(0);
    if let Some(front) = modules.get_mut(..=at) {
        front.rotate_right(1);
    }
    let Some(main) = modules.first().map(|module| module.name.clone()) else { return (None, others) };
    let (inputs, exports, warnings) = (Vec::new(), Vec::new(), Vec::new());
    (Some(Bundle { main, modules, source_map, format, inputs, exports, warnings }), others)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(name: &str, kind: &str) -> Part {
        (name.to_owned(), kind.to_owned(), Bytes::from(name.to_owned()))
    }

    #[test]
    fn the_entry_point_goes_first_and_nothing_is_lost_in_silence() {
        let parts = vec![
            part("a.txt", "text/plain"),
            part("main.js", "application/javascript+module"),
            part("main.js.map", "application/source-map"),
            part("p.py", "text/x-python"),
        ];
        let (bundle, others) = bundle(parts, "main.js");
        let bundle = bundle.unwrap();
        let names: Vec<&str> = bundle.modules.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(
            (bundle.main.as_str(), names, others),
            ("main.js", vec!["main.js", "a.txt"], vec!["p.py".to_owned()])
        );
        assert_eq!(bundle.source_map.unwrap(), "main.js.map");
    }

    #[test]
    fn one_script_without_an_entry_point_is_in_service_worker_syntax() {
        let script = bundle(vec![part("index.js", "application/javascript")], "").0.unwrap();
        assert_eq!((script.format, script.modules[0].kind), (Format::ServiceWorker, ModuleKind::EsModule));
        assert!(bundle(Vec::new(), "").0.is_none());
    }

    proptest! {
        #[test]
        fn any_answer_is_read(body in prop::collection::vec(any::<u8>(), 0..300), boundary in "[a-z]{1,8}") {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(parts(Bytes::from(body), boundary));
        }
    }
}
