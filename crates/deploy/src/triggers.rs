//! What leads requests and events to a script: addresses, routes, domains, schedules, queues, Workflows.

use http::Method;
use serde_json::{Map, Value as Json, json};

use crate::client::Client;
use crate::error::ApiError;
use crate::project::Project;
use crate::remote::script_path;
use crate::resources::encode;

/// A route or a custom domain of the configuration, as an object.
pub(crate) fn routes(project: &Project) -> (Vec<Json>, Vec<Json>) {
    let one = &project.raw["route"];
    let list = if one.is_null() { project.list(&["routes"]).to_vec() } else { vec![one.clone()] };
    let object = |route: Json| if route.is_string() { json!({ "pattern": route }) } else { route };
    list.into_iter().map(object).partition(|route| route["custom_domain"] != true)
}

/// `{enabled, previews_enabled?}`, as wrangler decides them: a script with routes has no other address.
pub(crate) fn wanted_subdomain(project: &Project) -> (bool, Option<bool>) {
    let (routes, domains) = routes(project);
    let enabled = project.raw["workers_dev"].as_bool().unwrap_or(routes.is_empty() && domains.is_empty());
    (enabled, project.raw["preview_urls"].as_bool())
}

pub(crate) async fn set_subdomain(client: &Client, project: &Project) -> Result<(), ApiError> {
    let (enabled, previews) = wanted_subdomain(project);
    let mut body = json!({ "enabled": enabled });
    if let Some(previews) = previews {
        body["previews_enabled"] = previews.into();
    }
    let path = format!("{}/subdomain", script_path(None, project.name()));
    let call = client.call(Method::POST, path).json(&body);
    call.header("cloudflare-workers-script-api-date", "2025-08-01").repeatable().send().await?;
    Ok(())
}

/// Replaces all routes. A token that may not do so for the account adds them zone by zone.
pub(crate) async fn set_routes(client: &Client, project: &Project) -> Result<(), String> {
    let (routes, _) = routes(project);
    let path = format!("{}/routes", script_path(None, project.name()));
    match client.call(Method::PUT, path).json(&routes.clone().into()).send().await {
        Ok(_) => Ok(()),
        Err(error) if error.has_code(10000) => zone_by_zone(client, project.name(), &routes).await,
        Err(error) => Err(error.to_string()),
    }
}

async fn zone_by_zone(client: &Client, script: &str, routes: &[Json]) -> Result<(), String> {
    let text = |error: ApiError| error.to_string();
    for route in routes {
        let pattern = route["pattern"].as_str().unwrap_or_default();
        let zone = zone_of(client, route).await.map_err(text)?;
        let zone = zone.ok_or_else(|| format!("Could not find zone for `{pattern}`. Make sure the domain is set up to be proxied by Cloudflare."))?;
        let path = format!("/zones/{}/workers/routes", encode(&zone));
        let there = client.get(&path).await.map_err(text)?.result;
        let same = there.as_array().into_iter().flatten().find(|other| other["pattern"] == pattern);
        match same.map(|other| other["script"].as_str()) {
            Some(Some(owner)) if owner == script => {}
            Some(owner) => {
                let owner = owner.unwrap_or("no Worker");
                return Err(format!(
                    "The route \"{pattern}\" is assigned to {owner} already: unassign it first."
                ));
            }
            None => {
                let body = json!({ "pattern": pattern, "script": script });
                client.call(Method::POST, &path).json(&body).send().await.map_err(text)?;
            }
        }
    }
    Ok(())
}

/// The zone that a route is in: by its own words, or by the longest known name that its host ends in.
pub(crate) async fn zone_of(client: &Client, route: &Json) -> Result<Option<String>, ApiError> {
    if let Some(id) = route["zone_id"].as_str() {
        return Ok(Some(id.to_owned()));
    }
    let pattern = route["pattern"].as_str().unwrap_or_default();
    let bare = pattern.split_once("://").map_or(pattern, |(_, rest)| rest);
    let host = bare.split('/').next().unwrap_or_default().trim_start_matches(['*', '.']);
    let mut name = Some(route["zone_name"].as_str().unwrap_or(host));
    while let Some(candidate) = name.filter(|name| name.contains('.')) {
        let path = format!("/zones?name={}&account.id={}", encode(candidate), encode(&client.account));
        if let Some(id) = client.get(path).await?.result[0]["id"].as_str() {
            return Ok(Some(id.to_owned()));
        }
        name = candidate.split_once('.').map(|(_, rest)| rest);
    }
    Ok(None)
}

/// The host names of the custom domains.
pub(crate) fn domain_names(project: &Project) -> Vec<String> {
    let (_, domains) = routes(project);
    domains.iter().filter_map(|domain| domain["pattern"].as_str().map(str::to_owned)).collect()
}

/// Replaces the custom domains; one that another Worker has is refused unless `takeover`.
pub(crate) async fn set_domains(client: &Client, project: &Project, takeover: bool) -> Result<(), String> {
    let (_, domains) = routes(project);
    let origins: Vec<Json> = domains
        .iter()
        .map(|domain| {
            let mut origin = Map::new();
            origin.insert("hostname".into(), domain["pattern"].clone());
            for key in ["zone_id", "zone_name", "enabled", "previews_enabled"] {
                if !domain[key].is_null() {
                    origin.insert(key.into(), domain[key].clone());
                }
            }
            origin.into()
        })
        .collect();
    let path = format!("{}/domains", script_path(None, project.name()));
    let text = |error: ApiError| error.to_string();
    let call = client.call(Method::POST, format!("{path}/changeset?replace_state=true"));
    let changes = call.json(&origins.clone().into()).repeatable().send().await.map_err(text)?.result;
    let names = |key: &str| -> Vec<String> {
        let list = changes[key].as_array().into_iter().flatten();
        list.filter_map(|own| own["hostname"].as_str().map(str::to_owned)).collect()
    };
    let others: Vec<String> = changes["updated"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|own| own["modified"] == true)
        .filter_map(|own| own["hostname"].as_str().map(str::to_owned))
        .collect();
    let list: Vec<String> = others.into_iter().chain(names("conflicting")).collect();
    if !takeover && !list.is_empty() {
        return Err(format!(
            "these custom domains are in use by another Worker or have DNS records of their own: {}. \
             --take-over-domains moves them here",
            list.join(", ")
        ));
    }
    let body = json!({
        "override_scope": true,
        "override_existing_origin": takeover,
        "override_existing_dns_record": takeover,
        "origins": origins,
    });
    client.call(Method::PUT, format!("{path}/records")).json(&body).send().await.map_err(text)?;
    Ok(())
}

/// The schedules of the configuration; `None` if it says nothing of them.
pub(crate) fn crons(project: &Project) -> Option<Vec<String>> {
    let list = project.raw["triggers"]["crons"].as_array()?;
    Some(list.iter().filter_map(|cron| cron.as_str().map(str::to_owned)).collect())
}

pub(crate) async fn set_crons(client: &Client, project: &Project) -> Result<(), ApiError> {
    let crons: Vec<Json> =
        crons(project).unwrap_or_default().iter().map(|cron| json!({ "cron": cron })).collect();
    let path = format!("{}/schedules", script_path(None, project.name()));
    client.call(Method::PUT, path).json(&crons.into()).send().await?;
    Ok(())
}

/// A queue's consumer as the API wants it.
pub(crate) fn consumer_body(project: &Project, own: &Json) -> Json {
    let mut settings = Map::new();
    let pull = own["type"] == "http_pull";
    let mut add = |key: &str, value: Json| {
        if !value.is_null() {
            settings.insert(key.to_owned(), value);
        }
    };
    add("batch_size", own["max_batch_size"].clone());
    add("max_retries", own["max_retries"].clone());
    match pull {
        true => add("visibility_timeout_ms", own["visibility_timeout_ms"].clone()),
        false => {
            let wait = own["max_batch_timeout"].as_u64().map(|seconds| seconds * 1000);
            add("max_wait_time_ms", wait.into());
            add("max_concurrency", own["max_concurrency"].clone());
        }
    }
    add("retry_delay", own["retry_delay"].clone());
    let mut body = json!({ "type": if pull { "http_pull" } else { "worker" } });
    if own["dead_letter_queue"].is_string() {
        body["dead_letter_queue"] = own["dead_letter_queue"].clone();
    }
    if !pull {
        body["script_name"] = project.name().into();
    }
    body["settings"] = settings.into();
    body
}

/// The consumer that is there: its id, and whether it is as `body` says.
pub(crate) async fn find_consumer(
    client: &Client,
    project: &Project,
    own: &Json,
    body: &Json,
) -> Result<Option<(String, bool)>, ApiError> {
    let name = own["queue"].as_str().unwrap_or_default();
    let list = client.get(format!("{{account}}/queues?page=1&name={}", encode(name))).await?.result;
    let queue = list.as_array().into_iter().flatten().find(|queue| queue["queue_name"] == name);
    let consumers = queue.and_then(|queue| queue["consumers"].as_array()).into_iter().flatten();
    let ours = |consumer: &&Json| match body["type"].as_str() {
        Some("worker") => [&consumer["script"], &consumer["script_name"], &consumer["service"]]
            .contains(&&project.name().into()),
        _ => consumer["type"] == "http_pull",
    };
    let Some(found) = consumers.into_iter().find(ours) else { return Ok(None) };
    let settings = body["settings"].as_object().into_iter().flatten();
    let same = settings.into_iter().all(|(key, value)| found["settings"][key] == *value)
        && found["dead_letter_queue"].as_str().unwrap_or_default()
            == body["dead_letter_queue"].as_str().unwrap_or_default();
    Ok(found["consumer_id"].as_str().map(|id| (id.to_owned(), same)))
}

pub(crate) async fn set_consumer(
    client: &Client,
    project: &Project,
    own: &Json,
    queue: &str,
) -> Result<(), ApiError> {
    let body = consumer_body(project, own);
    let path = format!("{{account}}/queues/{}/consumers", encode(queue));
    match find_consumer(client, project, own, &body).await? {
        Some((id, _)) => {
            client.call(Method::PUT, format!("{path}/{}", encode(&id))).json(&body).send().await?
        }
        None => client.call(Method::POST, path).json(&body).send().await?,
    };
    Ok(())
}

/// The Workflows that the script itself has.
pub(crate) fn own_workflows(project: &Project) -> Vec<Json> {
    let own = |workflow: &&Json| workflow["script_name"].as_str().is_none_or(|name| name == project.name());
    let mut all: Vec<Json> = project.list(&["workflows"]).iter().filter(own).cloned().collect();
    for (class, export) in project.raw["exports"].as_object().into_iter().flatten() {
        if export["type"] == "workflow" {
            let mut declared = export.clone();
            declared["class_name"] = class.clone().into();
            // What `exports` says of one counts, in the place of the binding to it.
            match all.iter_mut().find(|bound| bound["name"] == declared["name"]) {
                Some(bound) => *bound = declared,
                None => all.push(declared),
            }
        }
    }
    all
}

/// Whether a Workflow is there as the configuration says.
pub(crate) async fn workflow_is_kept(
    client: &Client,
    project: &Project,
    own: &Json,
) -> Result<Option<bool>, ApiError> {
    let path = format!("{{account}}/workflows/{}", encode(own["name"].as_str().unwrap_or_default()));
    let found = client.find(path, &[10200]).await?;
    let settings = ["limits", "concurrency", "schedules", "default_retention", "jurisdiction"];
    let settings = settings.iter().all(|key| own[*key].is_null());
    Ok(found.map(|found| {
        settings && found["script_name"] == project.name() && found["class_name"] == own["class_name"]
    }))
}

pub(crate) async fn set_workflow(client: &Client, project: &Project, own: &Json) -> Result<(), ApiError> {
    let mut body = json!({ "script_name": project.name(), "class_name": own["class_name"] });
    let set = |body: &mut Json, keys: &[&str]| {
        for key in keys.iter().filter(|key| !own[**key].is_null()) {
            body[*key] = own[*key].clone();
        }
    };
    set(&mut body, &["limits", "concurrency"]);
    let schedules = match &own["schedules"] {
        Json::Null => Vec::new(),
        Json::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    if !schedules.is_empty() {
        body["schedules"] = schedules.iter().map(|cron| json!({ "cron": cron })).collect();
    }
    set(&mut body, &["default_retention", "jurisdiction"]);
    let path = format!("{{account}}/workflows/{}", encode(own["name"].as_str().unwrap_or_default()));
    client.call(Method::PUT, path).json(&body).send().await?;
    Ok(())
}
