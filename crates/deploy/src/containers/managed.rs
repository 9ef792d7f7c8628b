//! Containers that a Durable Object manages (`"scheduling_policy": "durable_object"`): the object chooses one of several
//! images, which belong to the script's version. The application only ties them to the class.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Map, Value as Json, json};

use super::config::{Container, Image};
use super::sizes::Size;
use super::{APPLICATIONS, Tools, image, text};
use crate::client::Client;
use crate::project::Project;
use crate::resources::encode;

/// One that is managed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Managed {
    /// The application's name.
    pub name: String,
    /// The Durable Object class that it belongs to.
    pub class: String,
    /// Its images by their names.
    pub images: Vec<(String, Image)>,
    /// As in the file.
    pub raw: Json,
}

/// How often Cloudflare is asked whether an image is ready to run, and for how long. wrangler's.
const PREPARING_LOOK: Duration = Duration::from_secs(2);
const PREPARING: Duration = Duration::from_secs(15 * 60);

/// The containers of an upload, by class: what each image is called in the registry, built, pushed and made ready.
pub(crate) type Images = Map<String, Json>;

/// Images of the registry alone: those are known without building anything.
pub(crate) fn known(client: &Client, tools: &Tools, all: &[Managed]) -> Images {
    let references = |own: &Managed| -> Json {
        let images = own.images.iter().filter_map(|(name, image)| {
            let found = super::reference(client, tools, image).ok().flatten()?;
            Some((name.clone(), found.into()))
        });
        images.collect::<Map<_, _>>().into()
    };
    all.iter().filter(|own| !own.images.is_empty()).map(|own| (own.class.clone(), references(own))).collect()
}

/// Builds, pushes and has all images made ready; each source once. Says of how many it was.
pub(crate) async fn prepare(
    client: &Client,
    tools: &Tools,
    project: &Project,
    all: &[Managed],
) -> Result<(Images, usize), String> {
    let mut done: Vec<(&Image, String)> = Vec::new();
    let mut images = Images::new();
    for own in all.iter().filter(|own| !own.images.is_empty()) {
        let mut named = Map::new();
        for (name, source) in &own.images {
            let found = done.iter().find(|(known, _)| *known == source).map(|(_, image)| image.clone());
            let image = match found {
                Some(image) => image,
                None => {
                    let image = pushed(client, tools, project, own, name, source).await?;
                    ready(client, &image).await?;
                    done.push((source, image.clone()));
                    image
                }
            };
            named.insert(name.clone(), image.into());
        }
        images.insert(own.class.clone(), named.into());
    }
    Ok((images, done.len()))
}

async fn pushed(
    client: &Client,
    tools: &Tools,
    project: &Project,
    own: &Managed,
    name: &str,
    source: &Image,
) -> Result<String, String> {
    let me = match source {
        Image::Dockerfile { .. } => client.get("{account}/containers/me").await.map_err(text)?.result,
        Image::Reference(_) => Json::Null,
    };
    let disk_mb = me["limits"]["disk_mb_per_deployment"].as_u64().unwrap_or(u64::MAX / 2_000_000);
    let container = Container {
        name: repository(&format!("{}-{}-{name}", project.name(), own.class)),
        class: own.class.clone(),
        image: source.clone(),
        // The instances' size is the object's to choose: an image has to fit the largest.
        size: Size { disk_mb, ..super::sizes::LITE },
        instance_type: None,
        raw: Json::Null,
        max_instances: 0,
    };
    Ok(image(client, tools, &container).await?.0)
}

/// What a repository may be called: wrangler's rule.
fn repository(text: &str) -> String {
    let mut name = String::new();
    for c in text.to_lowercase().chars() {
        if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-') {
            name.push(c);
        } else if !name.ends_with('\u{1}') {
            name.push('\u{1}');
        }
    }
    name.replace('\u{1}', "-").trim_matches('-').to_owned()
}

/// Waits until an image can run.
async fn ready(client: &Client, image: &str) -> Result<(), String> {
    let began = Instant::now();
    while began.elapsed() < PREPARING {
        let call = client.call(Method::POST, "{account}/containers/image-preparations");
        let said = call.json(&json!({ "image": image })).repeatable().send().await.map_err(text)?.result;
        match said["status"].as_str().unwrap_or_default() {
            "ready" => return Ok(()),
            "pending" => tokio::time::sleep(PREPARING_LOOK).await,
            "error" => {
                return Err(said["reason"]
                    .as_str()
                    .unwrap_or("Container image preparation failed")
                    .to_owned());
            }
            other => {
                return Err(format!("Container image preparation returned an unsupported status: {other}"));
            }
        }
    }
    Err("Timed out while preparing the container image on Cloudflare's network.".to_owned())
}

/// Settings of the application, in the API's names.
fn settings(own: &Managed) -> Map<String, Json> {
    let raw = &own.raw;
    let mut configuration = Map::new();
    for (key, value) in [
        ("experimental_flags", &raw["unsafe"]["configuration"]["experimental_flags"]),
        ("wrangler_ssh", &raw["ssh"]),
        ("authorized_keys", &raw["authorized_keys"]),
    ] {
        if !value.is_null() {
            configuration.insert(key.to_owned(), value.clone());
        }
    }
    let mut settings = Map::new();
    if !configuration.is_empty() {
        settings.insert("configuration".to_owned(), configuration.into());
    }
    if !raw["observability"].is_null() {
        let logs = raw["observability"]["enabled"] == true || raw["observability"]["logs"]["enabled"] == true;
        settings.insert("observability".to_owned(), json!({ "logs": { "enabled": logs } }));
    }
    settings
}

/// What is to be changed of an application that is there.
fn differences(settings: &Map<String, Json>, before: &Json) -> Map<String, Json> {
    let sorted = |flags: &Json| {
        let mut flags: Vec<String> =
            flags.as_array().into_iter().flatten().map(ToString::to_string).collect();
        flags.sort();
        flags.dedup();
        flags
    };
    let is_other = |key: &str, wanted: &Json| match key {
        "configuration" => wanted.as_object().into_iter().flatten().any(|(key, wanted)| {
            let now = &before["configuration"][key];
            if key == "experimental_flags" { sorted(wanted) != sorted(now) } else { wanted != now }
        }),
        key => *wanted != before[key],
    };
    settings
        .iter()
        .filter(|(key, wanted)| is_other(key, wanted))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// Makes the application of a class, or changes it; what was done, or `None` if nothing had to be.
pub(crate) async fn apply(
    client: &Client,
    project: &Project,
    own: &Managed,
    version: Option<&str>,
) -> Result<Option<String>, String> {
    let namespace = super::namespace(client, project, &own.class, version).await?;
    let path = format!("{APPLICATIONS}/{}", encode(&namespace));
    let settings = settings(own);
    let Some(before) = client.find(&path, &[]).await.map_err(text)? else {
        let mut body = json!({ "name": own.name, "scheduling_policy": "durable_object",
            "durable_objects": { "namespace_id": namespace } });
        if let Some(body) = body.as_object_mut() {
            body.extend(settings);
        }
        client.call(Method::POST, APPLICATIONS).json(&body).send().await.map_err(text)?;
        return Ok(Some(format!("application {namespace}")));
    };
    if before["id"] != namespace.as_str()
        || before["durable_objects"]["namespace_id"] != namespace.as_str()
        || before["scheduling_policy"] != "durable_object"
        || before["name"] != own.name.as_str()
    {
        return Err(format!(
            "The application for Durable Object namespace \"{namespace}\" does not match Container \"{}\". The existing name, namespace, \
             and scheduling policy must match before its settings can be applied.",
            own.name
        ));
    }
    let changed = differences(&settings, &before);
    if changed.is_empty() {
        return Ok(None);
    }
    client.call(Method::PATCH, &path).json(&changed.into()).repeatable().send().await.map_err(text)?;
    Ok(Some("changed".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn managed(raw: Json) -> Managed {
        Managed { name: "n".into(), class: "C".into(), images: Vec::new(), raw }
    }

    #[test]
    fn a_repository_has_a_name_that_registries_take() {
        assert_eq!(repository("app-MyBox-Node 20 / x"), "app-mybox-node-20-x");
        assert_eq!(repository("-a-"), "a");
    }

    #[test]
    fn only_what_differs_is_changed() {
        let own = managed(json!({ "ssh": { "enabled": true }, "observability": { "enabled": true },
            "unsafe": { "configuration": { "experimental_flags": ["b", "a"] } } }));
        let all = settings(&own);
        assert_eq!(
            all["configuration"],
            json!({ "experimental_flags": ["b", "a"], "wrangler_ssh": { "enabled": true } })
        );
        let same = json!({ "configuration": { "experimental_flags": ["a", "b"], "wrangler_ssh": { "enabled": true } },
            "observability": { "logs": { "enabled": true } } });
        assert!(differences(&all, &same).is_empty());
        let other = json!({ "configuration": same["configuration"], "observability": { "logs": { "enabled": false } } });
        assert_eq!(differences(&all, &other).keys().collect::<Vec<_>>(), ["observability"]);
        assert!(settings(&managed(json!({}))).is_empty());
    }
}
