//! Applications of containers: which image a Durable Object class has, how large its instances are and how many.
//! <https://developers.cloudflare.com/api/resources/containers/>
//!
//! An application is kept and shown as it was sent: wrangler compares, and rolls out what differs.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::StatusCode;
use serde_json::{Map, Value as Json, json};
use skep_catalog::{CatalogError, Kind, Resource};

use crate::call::Call;
use crate::container_images::{check_image, own_image};
use crate::container_sizes::{self, InstanceSize, LARGEST, SMALLEST};
use crate::objects::namespace_id;
use crate::platform::{ContainerInstance, Tenant};
use crate::reply::{Answer, ApiError, ok, time};

/// Applications of an account.
const MOST: usize = 1000;
/// The longest name.
pub(crate) const MAX_NAME: usize = 255;
/// The most instances that may be asked for.
pub(crate) const MOST_INSTANCES: u64 = 1_000_000;
/// Those of an application whose class starts them itself.
const BY_OBJECTS: &str = "durable_object";

/// What an application says of the containers of a Durable Object class.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerApplication {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The namespace, by the API's id.
    pub namespace_id: String,
    /// The image, by its full name; none where the version names its images.
    pub image: Option<String>,
    /// How large an instance is.
    pub size: InstanceSize,
    /// How many run at the same time at most.
    pub max_instances: Option<u64>,
    /// Goes up with every rollout.
    pub version: u64,
}

impl ContainerApplication {
    /// Of what the catalog keeps.
    pub fn of(row: &Resource) -> Self {
        let body = &row.settings["body"];
        Self {
            id: row.id.clone(),
            name: row.name.clone(),
            namespace_id: body["durable_objects"]["namespace_id"].as_str().unwrap_or_default().to_owned(),
            image: body["configuration"]["image"].as_str().map(str::to_owned),
            size: container_sizes::read(&body["configuration"]).unwrap_or(SMALLEST),
            max_instances: body["max_instances"].as_u64(),
            version: row.settings["version"].as_u64().unwrap_or(1),
        }
    }

    /// The images of all applications of an account that are in its part of the registry, as `repository@digest`,
    /// with those that deployed versions name.
    pub fn images_in_use(
        tenant: &dyn Tenant,
        account: &str,
    ) -> Result<std::collections::HashSet<String>, ApiError> {
        let catalog = tenant.catalog();
        let mut named: Vec<String> =
            catalog.resources(Kind::Container)?.iter().filter_map(|row| Self::of(row).image).collect();
        for script in catalog.scripts()? {
            let Some(deployment) = catalog.active_deployment(&script.tag)? else { continue };
            for (id, _) in deployment.versions {
                let version = catalog.version(&script.tag, &id)?;
                let containers = version.and_then(|version| version.content.containers);
                for container in containers.iter().flat_map(|all| all.as_array().into_iter().flatten()) {
                    let images = container["images"].as_object().into_iter().flatten();
                    named.extend(images.filter_map(|(_, image)| image.as_str().map(str::to_owned)));
                }
            }
        }
        let mut in_use = std::collections::HashSet::new();
        for image in named {
            let Some((repository, reference)) = own_image(account, &image) else { continue };
            if let Some(manifest) =
                tenant.images().manifest(&repository, &reference).map_err(ApiError::internal)?
            {
                in_use.insert(format!("{repository}@{}", manifest.digest));
            }
        }
        Ok(in_use)
    }
}

/// A refusal as the containers API has them: wrangler shows the code and the details.
pub(crate) fn refusal(code: &str, details: &Json) -> ApiError {
    let number = if code == TAKEN { 1608 } else { 1000 };
    ApiError::bad(number, json!({ "error": code, "details": details }).to_string())
}

const TAKEN: &str = "DURABLE_OBJECT_ALREADY_HAS_APPLICATION";

pub(crate) fn invalid(key: &str, why: impl Into<String>) -> ApiError {
    refusal("VALIDATE_INPUT", &json!({ key: why.into() }))
}

fn no_application(id: &str) -> ApiError {
    let mut error = refusal("APPLICATION_NOT_FOUND", &json!({ "application_id": id }));
    error.status = StatusCode::NOT_FOUND;
    error
}

pub(crate) fn row(call: &Call) -> Result<Resource, ApiError> {
    let id = call.param(0);
    call.tenant()?.catalog().resource(Kind::Container, id)?.ok_or_else(|| no_application(id))
}

/// What an account may have: no processors where the node runs no containers.
pub(crate) async fn me(call: Call) -> Answer {
    let account = &call.token.account;
    let vcpu = if call.api.platform.runs_containers().is_ok() { LARGEST.vcpu } else { 0.0 };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    ok(json!({
        "account_id": account,
        "external_account_id": account,
        "legacy_identity": account,
        "capabilities": [],
        "limits": {
            "account_id": account,
            "vcpu_per_deployment": vcpu,
            "memory_mib_per_deployment": LARGEST.memory_mib,
            "memory_per_deployment": format!("{}MiB", LARGEST.memory_mib),
            "disk_mb_per_deployment": LARGEST.disk_mb,
            "disk_per_deployment": format!("{}MB", LARGEST.disk_mb),
            "total_vcpu": cores,
            "ipv4s": 0,
            "network_modes": ["private"],
            "node_group": "cloudchamber",
        },
        "locations": [],
        "defaults": {
            "vcpus": SMALLEST.vcpu, "memory_mib": SMALLEST.memory_mib,
            "memory": format!("{}MiB", SMALLEST.memory_mib), "disk_mb": SMALLEST.disk_mb,
        },
    }))
}

fn shown(account: &str, row: &Resource, running: u64) -> Json {
    let mut shown = match &row.settings["body"] {
        Json::Object(fields) => fields.clone(),
        _ => Map::new(),
    };
    let healthy =
        json!({ "active": running, "healthy": running, "failed": 0, "starting": 0, "scheduling": 0 });
    shown.insert("id".into(), row.id.clone().into());
    shown.insert("name".into(), row.name.clone().into());
    shown.insert("account_id".into(), account.into());
    shown.insert("created_at".into(), time(row.created_ms).into());
    shown.insert("updated_at".into(), time(updated(row)).into());
    shown.insert("version".into(), row.settings["version"].as_u64().unwrap_or(1).into());
    shown.insert("instances".into(), running.into());
    shown.insert("health".into(), json!({ "instances": healthy }));
    shown.into()
}

fn updated(row: &Resource) -> i64 {
    row.settings["updated_ms"].as_i64().unwrap_or(row.created_ms)
}

pub(crate) async fn of_it(call: &Call, row: &Resource) -> Vec<ContainerInstance> {
    let namespace = ContainerApplication::of(row).namespace_id;
    call.api.platform.container_instances(&call.token.account, &namespace).await
}

/// As the API shows an application, with how many run.
pub(crate) async fn now(call: &Call, row: &Resource) -> Json {
    shown(&call.token.account, row, of_it(call, row).await.len() as u64)
}

pub(crate) async fn list(call: Call) -> Answer {
    let (name, image) = (call.query("name"), call.query("image"));
    let mut all = call.tenant()?.catalog().resources(Kind::Container)?;
    all.retain(|row| {
        name.as_ref().is_none_or(|name| row.name == *name)
            && image.as_deref().is_none_or(|image| row.settings["body"]["configuration"]["image"] == image)
    });
    let mut listed = Vec::with_capacity(all.len());
    for row in &all {
        listed.push(now(&call, row).await);
    }
    ok(listed.into())
}

pub(crate) async fn get(call: Call) -> Answer {
    let row = row(&call)?;
    ok(now(&call, &row).await)
}

/// The fields that may be changed of one that is there.
const CHANGEABLE: [&str; 10] = [
    "max_instances",
    "instances",
    "configuration",
    "constraints",
    "affinities",
    "priorities",
    "scheduling_policy",
    "rollout_active_grace_period",
    "observability",
    "jobs",
];

/// Checks what is to be kept, and says its size in figures.
fn check(tenant: &Arc<dyn Tenant>, account: &str, body: &mut Json) -> Result<(), ApiError> {
    let policy = body["scheduling_policy"].as_str().unwrap_or("default").to_owned();
    if !body["max_instances"].is_null()
        && body["max_instances"].as_u64().is_none_or(|most| most > MOST_INSTANCES)
    {
        return Err(invalid("max_instances", format!("must be a whole number up to {MOST_INSTANCES}")));
    }
    let configuration = &mut body["configuration"];
    if policy == BY_OBJECTS {
        let why =
            "\"durable_object\" does not work on Skep yet: name one image in `containers` for the class";
        return Err(invalid("scheduling_policy", why));
    }
    let image =
        configuration["image"].as_str().ok_or_else(|| invalid("configuration.image", "is missing"))?;
    check_image(&**tenant, account, image).map_err(|why| invalid("configuration.image", why))?;
    container_sizes::spell_out(configuration).map_err(|why| invalid("configuration", why))
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let mut body: Json = call.json().await?;
    call.api.platform.runs_containers().map_err(|why| invalid("containers", why))?;
    let (tenant, account) = (call.tenant()?, call.token.account.clone());
    let name = body["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() || name.len() > MAX_NAME || name.contains(char::is_control) {
        return Err(invalid("name", format!("must be a text of 1 to {MAX_NAME} bytes")));
    }
    let namespace = body["durable_objects"]["namespace_id"].as_str().unwrap_or_default().to_owned();
    if namespace.is_empty() {
        return Err(invalid(
            "durable_objects.namespace_id",
            "is missing: containers run for objects of a Durable Object class",
        ));
    }
    let script = script_of(&tenant, &namespace)?;
    let script =
        script.ok_or_else(|| invalid("durable_objects.namespace_id", "there is no such namespace"))?;
    check(&tenant, &account, &mut body)?;
    let id = uuid::Uuid::new_v4().to_string();
    let catalog = tenant.catalog();
    let there = catalog.resources(Kind::Container)?;
    if there.iter().any(|row| ContainerApplication::of(row).namespace_id == namespace) {
        return Err(refusal(TAKEN, &json!({ "namespace_id": namespace })));
    }
    if there.len() >= MOST {
        return Err(invalid("name", format!("an account has at most {MOST} applications")));
    }
    let now = call.now_ms();
    let settings = json!({ "body": body, "version": 1, "updated_ms": now, "rollouts": [] });
    let made = Resource { id, name, created_ms: now, settings };
    let made = catalog.add_resource(Kind::Container, made).await.map_err(|error| match error {
        CatalogError::Exists(name) => invalid(
            "name",
            format!("there is already an application called {name}: delete it, or choose another name"),
        ),
        other => other.into(),
    })?;
    crate::upload::apply(&call, &script).await?;
    ok(shown(&account, &made, 0))
}

/// The script with a namespace.
fn script_of(tenant: &Arc<dyn Tenant>, namespace: &str) -> Result<Option<String>, ApiError> {
    let all = tenant.catalog().all_namespaces()?;
    let found = all.into_iter().find(|(_, _, own)| namespace_id(&own.unique_key) == namespace);
    Ok(found.map(|(script, ..)| script))
}

/// Puts `change` over `kept`, field by field where both are objects.
fn merge(kept: &mut Json, change: &Json) {
    match (kept, change) {
        (Json::Object(kept), Json::Object(change)) => {
            for (key, value) in change {
                merge(kept.entry(key.clone()).or_insert(Json::Null), value);
            }
        }
        (kept, change) => *kept = change.clone(),
    }
}

/// A new configuration over the one that is kept. A size is taken as a whole: a type replaces figures.
pub(crate) fn reconfigure(kept: &mut Json, change: &Json) {
    let sizes = ["instance_type", "vcpu", "memory_mib", "disk"];
    if !change["instance_type"].is_null()
        && let Some(fields) = kept.as_object_mut()
    {
        sizes.iter().for_each(|key| drop(fields.remove(*key)));
    }
    merge(kept, change);
}

pub(crate) async fn change(
    call: &Call,
    change: impl FnOnce(&mut Json) -> Result<(), ApiError> + Send + 'static,
) -> Result<Resource, ApiError> {
    let (tenant, account, id, now) =
        (call.tenant()?, call.token.account.clone(), call.param(0).to_owned(), call.now_ms());
    let checked = tenant.clone();
    let edited = tenant.catalog().edit_resource(Kind::Container, &id, move |row| {
        change(&mut row.settings)?;
        check(&checked, &account, &mut row.settings["body"])?;
        row.settings["updated_ms"] = now.into();
        Ok::<_, ApiError>(row.clone())
    });
    let row = edited.await?.ok_or_else(|| no_application(&id))??;
    let namespace = ContainerApplication::of(&row).namespace_id;
    if let Some(script) = script_of(&tenant, &namespace)? {
        crate::upload::apply(call, &script).await?;
    }
    Ok(row)
}

pub(crate) async fn modify(mut call: Call) -> Answer {
    let asked: Map<String, Json> = call.json().await?;
    let row = row(&call)?;
    let namespace = &row.settings["body"]["durable_objects"]["namespace_id"];
    for (key, value) in &asked {
        let is_same = key == "name" && *value == row.name.as_str()
            || key == "durable_objects" && value["namespace_id"] == *namespace;
        if !CHANGEABLE.contains(&key.as_str()) && !is_same {
            return Err(invalid(key, "cannot be changed of an application that is there"));
        }
    }
    let changed = change(&call, move |settings| {
        for (key, value) in asked.iter().filter(|(key, _)| CHANGEABLE.contains(&key.as_str())) {
            match key.as_str() {
                "configuration" => reconfigure(&mut settings["body"]["configuration"], value),
                key => settings["body"][key] = value.clone(),
            }
        }
        Ok(())
    });
    let changed = changed.await?;
    ok(now(&call, &changed).await)
}

pub(crate) async fn delete(call: Call) -> Answer {
    let (row, tenant) = (row(&call)?, call.tenant()?);
    tenant.catalog().remove_resource(Kind::Container, &row.id).await?;
    if let Some(script) = script_of(&tenant, &ContainerApplication::of(&row).namespace_id)? {
        crate::upload::apply(&call, &script).await?;
    }
    ok(json!({ "message": format!("Application {} was deleted", row.id) }))
}

/// Forgets the applications of namespaces that are not there any more.
pub(crate) async fn forget_orphans(tenant: &Arc<dyn Tenant>) -> Result<(), ApiError> {
    let catalog = tenant.catalog();
    let applications = catalog.resources(Kind::Container)?;
    if applications.is_empty() {
        return Ok(());
    }
    let namespaces: BTreeSet<String> =
        catalog.all_namespaces()?.iter().map(|(_, _, own)| namespace_id(&own.unique_key)).collect();
    for row in applications {
        if !namespaces.contains(&ContainerApplication::of(&row).namespace_id) {
            catalog.remove_resource(Kind::Container, &row.id).await?;
        }
    }
    Ok(())
}

/// Checks what an upload says of containers: each is of a class of the script that has objects, and its images are there.
pub(crate) fn check_upload(
    call: &Call,
    containers: &Json,
    namespaces: &std::collections::BTreeMap<String, skep_catalog::Namespace>,
) -> Result<(), ApiError> {
    let all = containers.as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() {
        return Ok(());
    }
    let wrong = |what: String| ApiError::bad(10021, format!("containers: {what}"));
    call.api.platform.runs_containers().map_err(wrong)?;
    for container in all {
        let class = container["class_name"].as_str().unwrap_or_default();
        match namespaces.get(class) {
            None => return Err(wrong(format!("{class:?} is not a Durable Object class of the script"))),
            Some(namespace) if !namespace.sqlite => {
                return Err(wrong(format!(
                    "the class {class} keeps its data the old way: containers need `new_sqlite_classes`"
                )));
            }
            Some(_) => {}
        }
        if container["images"].as_object().is_some_and(|images| !images.is_empty()) {
            return Err(wrong(format!(
                "{class} names its images when it starts them (scheduling_policy \"durable_object\"), which does not work on Skep \
                 yet: name one `image` for the class"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_changes_field_by_field_and_its_size_as_a_whole() {
        let mut kept = json!({ "image": "a", "vcpu": 1, "memory_mib": 500, "disk": { "size_mb": 3000 }, "wrangler_ssh": { "enabled": true } });
        reconfigure(&mut kept, &json!({ "image": "b", "disk": { "size_mb": 4000 } }));
        assert_eq!(
            (&kept["image"], &kept["vcpu"], &kept["disk"]["size_mb"]),
            (&json!("b"), &json!(1), &json!(4000))
        );
        reconfigure(&mut kept, &json!({ "instance_type": "lite" }));
        assert_eq!(
            kept,
            json!({ "image": "b", "instance_type": "lite", "wrangler_ssh": { "enabled": true } })
        );
    }

    #[test]
    fn a_refusal_has_the_form_that_wrangler_shows() {
        let error = invalid("name", "why");
        let said: Json = serde_json::from_str(&error.errors[0].1).unwrap();
        assert_eq!(said, json!({ "error": "VALIDATE_INPUT", "details": { "name": "why" } }));
        assert_eq!(refusal(TAKEN, &json!({})).errors[0].0, 1608);
        assert_eq!(no_application("x").status, StatusCode::NOT_FOUND);
    }
}
