//! What is on the server before a deploy.

use serde_json::Value as Json;

use crate::client::Client;
use crate::error::ApiError;
use crate::resources::encode;

/// The script as it is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Remote {
    /// Whether it is there.
    pub exists: bool,
    /// The last Durable Object migration that was applied.
    pub migration_tag: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The version that takes all requests.
    pub version: Option<String>,
    /// `workers/tag` of that version.
    pub version_tag: Option<String>,
    /// The bindings of the latest version.
    pub bindings: Vec<Json>,
    /// Names of its secrets.
    pub secrets: Vec<String>,
    /// Its address below the account's domain.
    pub subdomain: Subdomain,
    /// Its schedules.
    pub crons: Vec<String>,
    /// Its custom domains.
    pub domains: Vec<String>,
}

/// `{enabled, previews_enabled, url}`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subdomain {
    pub enabled: bool,
    pub previews: bool,
    pub url: Option<String>,
}

/// "Not there", of scripts.
pub(crate) const NO_SCRIPT: &[u64] = &[10007, 10090, 10092, 100_119];

fn strings(list: &Json) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|tag| tag.as_str().map(str::to_owned)).collect()
}

fn named(list: &Json, key: &str) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|own| own[key].as_str().map(str::to_owned)).collect()
}

/// Reads the state of an ordinary script.
pub(crate) async fn script(client: &Client, name: &str) -> Result<Remote, ApiError> {
    let name = encode(name);
    let Some(service) = client.find(format!("{{account}}/workers/services/{name}"), NO_SCRIPT).await? else {
        return Ok(Remote::default());
    };
    let script = &service["default_environment"]["script"];
    let path = format!("{{account}}/workers/scripts/{name}");
    let find = |tail: &str| client.find(format!("{path}/{tail}"), NO_SCRIPT);
    let (deployments, settings, schedules, secrets, domains, subdomain) = tokio::try_join!(
        find("deployments"),
        find("settings"),
        find("schedules"),
        find("secrets"),
        client.find(format!("{{account}}/workers/domains?service={name}"), NO_SCRIPT),
        subdomain(client, &name),
    )?;
    let list = |found: Option<Json>| found.unwrap_or_default();
    let newest = list(deployments)["deployments"][0]["versions"].clone();
    let version = match newest.as_array().map(Vec::as_slice) {
        Some([only]) => only["version_id"].as_str().map(str::to_owned),
        _ => None,
    };
    let version_tag = match &version {
        None => None,
        Some(id) => {
            let version = find(&format!("versions/{}", encode(id))).await?.unwrap_or_default();
            version["annotations"]["workers/tag"].as_str().map(str::to_owned)
        }
    };
    let own = list(domains)
        .as_array()
        .into_iter()
        .flatten()
        .filter(|d| d["service"] == name.as_str())
        .cloned()
        .collect();
    Ok(Remote {
        exists: true,
        migration_tag: script["migration_tag"].as_str().map(str::to_owned),
        tags: strings(&script["tags"]),
        version,
        version_tag,
        bindings: list(settings)["bindings"].as_array().cloned().unwrap_or_default(),
        secrets: named(&list(secrets), "name"),
        subdomain,
        crons: named(&list(schedules)["schedules"], "cron"),
        domains: named(&own, "hostname"),
    })
}

/// Reads the state of a script in a dispatch namespace: it has no versions, no addresses and no schedules.
pub(crate) async fn dispatched(client: &Client, namespace: &str, name: &str) -> Result<Remote, ApiError> {
    let path = script_path(Some(namespace), name);
    let Some(found) = client.find(&path, NO_SCRIPT).await? else { return Ok(Remote::default()) };
    let settings = client.find(format!("{path}/settings"), NO_SCRIPT).await?.unwrap_or_default();
    let bindings = settings["bindings"].as_array().cloned().unwrap_or_default();
    let secrets = bindings.iter().filter(|own| own["type"] == "secret_text");
    Ok(Remote {
        exists: true,
        migration_tag: found["script"]["migration_tag"].as_str().map(str::to_owned),
        tags: strings(&found["script"]["tags"]),
        secrets: secrets.filter_map(|own| own["name"].as_str().map(str::to_owned)).collect(),
        bindings,
        ..Remote::default()
    })
}

/// The path of a script, ordinary or dispatched.
pub(crate) fn script_path(namespace: Option<&str>, name: &str) -> String {
    let name = encode(name);
    match namespace {
        Some(namespace) => {
            format!("{{account}}/workers/dispatch/namespaces/{}/scripts/{name}", encode(namespace))
        }
        None => format!("{{account}}/workers/scripts/{name}"),
    }
}

/// Where a script answers below the account's domain. `name` is encoded.
pub(crate) async fn subdomain(client: &Client, name: &str) -> Result<Subdomain, ApiError> {
    let worker = client.find(format!("{{account}}/workers/workers/{name}"), NO_SCRIPT).await?;
    let own = worker.map(|worker| worker["subdomain"].clone()).unwrap_or_default();
    let enabled = own["enabled"] == true;
    Ok(Subdomain {
        enabled,
        previews: own["previews_enabled"].as_bool().unwrap_or(enabled),
        url: own["url"].as_str().map(str::to_owned),
    })
}
