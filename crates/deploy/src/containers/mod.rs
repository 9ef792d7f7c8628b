//! Containers, as Cloudflare has them: images are built and pushed, applications made, changed and rolled out.
//! <https://developers.cloudflare.com/containers/>

pub(crate) mod config;
pub(crate) mod managed;
mod request;
pub(crate) mod sizes;

use http::Method;
use serde_json::{Value as Json, json};

pub use sizes::preset;
pub use skep_containers::Cli as Docker;

use crate::client::Client;
use crate::error::ApiError;
use crate::project::Project;
use crate::remote::script_path;
use crate::resources::encode;
use config::{Container, Image};
use managed::Managed;

/// How long the credentials of a push are good for, in minutes.
const LOGIN: u64 = 15;
const APPLICATIONS: &str = "{account}/containers/applications";

/// Where images are pushed to, and with what.
#[derive(Clone, Debug)]
pub struct Tools {
    /// `None` where there is none.
    pub docker: Option<Docker>,
    /// The registry's host; Cloudflare's by default.
    pub registry: String,
}

impl Default for Tools {
    fn default() -> Self {
        Self { docker: None, registry: request::REGISTRY.to_owned() }
    }
}

fn text(error: ApiError) -> String {
    error.to_string()
}

/// The image of a container that is in a registry already.
pub(crate) fn reference(client: &Client, tools: &Tools, image: &Image) -> Result<Option<String>, String> {
    match image {
        Image::Reference(image) => request::full_name(&tools.registry, &client.account, image).map(Some),
        Image::Dockerfile { .. } => Ok(None),
    }
}

/// What stands in the way of the images of `all`, and what an account may have.
pub(crate) async fn problems(
    client: &Client,
    tools: &Tools,
    all: &[Container],
) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    let me = client.get("{account}/containers/me").await.map_err(text)?.result;
    problems.extend(all.iter().filter_map(|own| {
        sizes::above_limits(own.size, &me).map(|text| format!("the container {}: {text}", own.name))
    }));
    if all.iter().any(|own| matches!(own.image, Image::Dockerfile { .. })) {
        match &tools.docker {
            None => problems.push(NO_DOCKER.to_owned()),
            Some(docker) => problems.extend(docker.check().await.err()),
        }
    }
    problems.extend(all.iter().filter_map(|own| reference(client, tools, &own.image).err()));
    Ok(problems)
}

/// The same of those that a Durable Object manages.
pub(crate) async fn problems_of_managed(
    client: &Client,
    tools: &Tools,
    all: &[Managed],
) -> Result<Vec<String>, String> {
    let images: Vec<&Image> = all.iter().flat_map(|own| &own.images).map(|(_, image)| image).collect();
    let mut problems = Vec::new();
    if images.iter().any(|image| matches!(image, Image::Dockerfile { .. })) {
        match &tools.docker {
            None => problems.push(NO_DOCKER.to_owned()),
            Some(docker) => problems.extend(docker.check().await.err()),
        }
    }
    problems.extend(images.into_iter().filter_map(|image| reference(client, tools, image).err()));
    Ok(problems)
}

const NO_DOCKER: &str = "there is neither docker nor podman: the image of a container has to be built. WRANGLER_DOCKER_BIN may name one";

/// Builds the image of a container and pushes it unless it is there. The image by its digest, and whether it was pushed.
pub(crate) async fn image(client: &Client, tools: &Tools, own: &Container) -> Result<(String, bool), String> {
    if let Some(image) = reference(client, tools, &own.image)? {
        return Ok((image, false));
    }
    let (Image::Dockerfile { file, context, arguments }, Some(docker)) = (&own.image, &tools.docker) else {
        return Err("there is nothing to build it with".to_owned());
    };
    let me = client.get("{account}/containers/me").await.map_err(text)?.result;
    let account = me["external_account_id"].as_str().unwrap_or(&client.account);
    let building = format!("{}:building", own.name);
    docker.build(&building, file, context, arguments).await?;
    let sized = docker.inspect(&building, "{{ .Size }} {{ len .RootFS.Layers }}").await?;
    if let Some(error) = sizes::image_too_large(&sized, own.size) {
        return Err(error);
    }
    // The same image has the same tag: what is pushed twice is pushed once.
    let id = docker.inspect(&building, "{{ .Id }}").await?;
    let id = id.rsplit(':').next().unwrap_or_default();
    let tag = format!("{}:{}", own.name, id.get(..8).unwrap_or("latest"));
    docker.tag(&building, &tag).await?;
    // The name for now; that it stays would do no harm.
    let _ = docker.remove(&building).await;
    login(client, docker, &tools.registry).await?;
    let full = request::full_name(&tools.registry, account, &tag)?;
    let repository = request::repository(&full).to_owned();
    let pinned = |digest: &str| {
        request::full_name(&tools.registry, &client.account, &format!("{repository}@{digest}"))
    };
    let known = docker.inspect(&tag, "{{ json .RepoDigests }}").await?;
    if let Some(digest) = request::digest_of(&known, &tools.registry, account, &repository)
        && let Ok(there) = docker.manifest(&format!("{repository}@{digest}")).await
        && digest_in(&there).as_deref() == Some(&digest)
    {
        return Ok((pinned(&digest)?, false));
    }
    docker.tag(&tag, &full).await?;
    if let Some(digest) = docker.push(&full).await?.filter(|digest| request::is_digest(digest)) {
        return Ok((pinned(&digest)?, true));
    }
    let known = docker.inspect(&full, "{{ json .RepoDigests }}").await?;
    let digest = match request::digest_of(&known, &tools.registry, account, &repository) {
        Some(digest) => digest,
        None => {
            let there = docker.manifest(&full).await?;
            digest_in(&there).ok_or_else(|| format!("Could not find a digest for the image {repository}"))?
        }
    };
    Ok((pinned(&digest)?, true))
}

/// The digest in what `docker manifest inspect -v` says.
fn digest_in(manifest: &str) -> Option<String> {
    let manifest: Json = serde_json::from_str(manifest).ok()?;
    manifest["Descriptor"]["digest"].as_str().filter(|digest| request::is_digest(digest)).map(str::to_owned)
}

/// Logs in with credentials that are good for a short time.
async fn login(client: &Client, docker: &Docker, registry: &str) -> Result<(), String> {
    let path = format!("{{account}}/containers/registries/{}/credentials", encode(registry));
    let body = json!({ "expiration_minutes": LOGIN, "permissions": ["push", "pull"] });
    // Others that nobody uses do no harm.
    let answer = client.call(Method::POST, path).json(&body).repeatable().send().await.map_err(text)?.result;
    match (answer["username"].as_str(), answer["password"].as_str()) {
        (Some(user), Some(password)) => docker.login(registry, user, password).await,
        _ => Err("the server gave no credentials for its registry".to_owned()),
    }
}

/// The application of this name that is there.
pub(crate) async fn application(client: &Client, name: &str) -> Result<Option<Json>, ApiError> {
    let all = client.get(APPLICATIONS).await?.result;
    Ok(all.as_array().into_iter().flatten().find(|own| own["name"] == name).cloned())
}

/// What an application has to be, with `image`.
fn wanted(project: &Project, own: &Container, image: &str, namespace: &str, before: Option<&Json>) -> Json {
    let observability = &project.raw["observability"];
    let logs = observability["logs"]["enabled"].as_bool().unwrap_or(observability["enabled"] == true);
    request::create(own, image, namespace, logs, before)
}

/// Whether an application is as it should be.
pub(crate) fn is_kept(project: &Project, own: &Container, image: &str, before: &Json) -> bool {
    let namespace = before["durable_objects"]["namespace_id"].as_str().unwrap_or_default();
    !request::differs(before, &request::modify(&wanted(project, own, image, namespace, Some(before))))
}

/// Makes the application of a container, or changes it; what was done, or `None` if nothing had to be.
pub(crate) async fn apply(
    client: &Client,
    project: &Project,
    own: &Container,
    image: &str,
    version: Option<&str>,
) -> Result<Option<String>, String> {
    let namespace = namespace(client, project, &own.class, version).await?;
    let before = application(client, &own.name).await.map_err(text)?;
    let wanted = wanted(project, own, image, &namespace, before.as_ref());
    let Some(before) = before else {
        let made = client.call(Method::POST, APPLICATIONS).json(&wanted).send().await.map_err(text)?.result;
        return Ok(Some(format!("application {}", made["id"].as_str().unwrap_or_default())));
    };
    match before["durable_objects"]["namespace_id"].as_str() {
        None => {
            return Err(
                "The previous deploy of this container application was not associated with a durable object"
                    .into(),
            );
        }
        Some(known) if known != namespace => {
            return Err(format!(
                "There is already an application with the name {} deployed that is associated with a different durable object namespace \
                 ({known}). Either change the container name or delete the existing application first.",
                own.name
            ));
        }
        Some(_) => {}
    }
    let modify = request::modify(&wanted);
    let Some(rollout) = request::rollout(own, &modify).filter(|_| request::differs(&before, &modify)) else {
        return Ok(None);
    };
    let path = format!("{APPLICATIONS}/{}", encode(before["id"].as_str().unwrap_or_default()));
    // What it is changed into is said in full.
    client.call(Method::PATCH, &path).json(&modify).repeatable().send().await.map_err(text)?;
    client.call(Method::POST, format!("{path}/rollouts")).json(&rollout).send().await.map_err(text)?;
    Ok(Some("rolled out".to_owned()))
}

/// The Durable Object namespace of a class: from the version's bindings, or from the account's list.
async fn namespace(
    client: &Client,
    project: &Project,
    class: &str,
    version: Option<&str>,
) -> Result<String, String> {
    let is_bound =
        project.list(&["durable_objects", "bindings"]).iter().any(|own| own["class_name"] == class);
    if let Some(version) = version.filter(|_| is_bound) {
        let path = format!("{}/versions/{}", script_path(None, project.name()), encode(version));
        let found = client.get(path).await.map_err(text)?.result;
        let is_its = |own: &&Json| {
            own["type"] == "durable_object_namespace"
                && own["class_name"] == class
                && own["script_name"].as_str().is_none_or(|name| name == project.name())
        };
        let bindings = found["resources"]["bindings"].as_array().into_iter().flatten();
        if let Some(id) = bindings.into_iter().find(is_its).and_then(|own| own["namespace_id"].as_str()) {
            return Ok(id.to_owned());
        }
    }
    let all =
        client.get("{account}/workers/durable_objects/namespaces?per_page=1000").await.map_err(text)?.result;
    let is_its = |own: &&Json| own["class"] == class && own["script"] == project.name();
    let found = all.as_array().into_iter().flatten().find(is_its).and_then(|own| own["id"].as_str());
    found.map(str::to_owned).ok_or_else(|| {
        "Could not deploy container application as durable object was not found in list of bindings"
            .to_owned()
    })
}
