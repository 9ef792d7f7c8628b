//! `containers` of a configuration: read, with what is missing or wrong. Pure, but for whether a Dockerfile is there.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::managed::{Images, Managed};
use super::sizes::{self, LITE, Size};
use crate::project::Project;

/// One container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Container {
    /// The application's name.
    pub name: String,
    /// The Durable Object class that it belongs to.
    pub class: String,
    /// Where its image is from.
    pub image: Image,
    /// What its instances have.
    pub size: Size,
    /// The size's name, if it goes by a name.
    pub instance_type: Option<String>,
    /// As in the file, with defaults that take part in the request.
    pub raw: Json,
    /// At most so many at once.
    pub max_instances: u64,
}

/// Where an image is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// It is built.
    Dockerfile { file: PathBuf, context: PathBuf, arguments: Vec<(String, String)> },
    /// It is in a registry.
    Reference(String),
}

impl Container {
    /// The same, rolled out in one step.
    pub fn at_once(mut self) -> Self {
        self.raw["rollout_step_percentage"] = 100.into();
        self
    }
}

/// The keys that are known below `containers[]`.
const KEYS: [&str; 22] = [
    "name",
    "instances",
    "max_instances",
    "image",
    "image_build_context",
    "image_vars",
    "class_name",
    "scheduling_policy",
    "instance_type",
    "configuration",
    "constraints",
    "affinities",
    "rollout_step_percentage",
    "rollout_kind",
    "durable_objects",
    "rollout_active_grace_period",
    "ssh",
    "wrangler_ssh",
    "authorized_keys",
    "trusted_user_ca_keys",
    "unsafe",
    "observability",
];

/// All containers but those that a Durable Object manages, and everything that is wrong with them.
pub(crate) fn containers(project: &Project) -> (Vec<Container>, Vec<String>) {
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for own in project.list(&["containers"]).iter().filter(|own| !is_managed(own)) {
        match container(project, own, &mut problems) {
            Some(one) => all.push(one),
            None if problems.is_empty() => {
                problems.push("\"containers\" has something that is no container".to_owned())
            }
            None => {}
        }
    }
    (all, problems)
}

fn container(project: &Project, own: &Json, problems: &mut Vec<String>) -> Option<Container> {
    let mut wrong = |text: String| problems.push(text);
    for key in own.as_object()?.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        wrong(format!("Unexpected field found in containers field: \"{key}\""));
    }
    let (name, class) = name_and_class(project, own, &mut wrong)?;
    linked(project, &name, &class, &mut wrong);
    let image = image(project, own, &mut wrong);
    let (size, instance_type) = size(own, &mut wrong);
    let max_instances = own["max_instances"].as_u64().unwrap_or(20);
    if !own["max_instances"].is_null() && !own["max_instances"].is_u64() {
        wrong(format!(
            "\"containers.max_instances\" field should be a positive number, but got {}",
            own["max_instances"]
        ));
    }
    rollout(own, &mut wrong);
    let policy = own["scheduling_policy"].as_str().unwrap_or("default");
    if !matches!(policy, "default" | "regional" | "moon") {
        wrong(format!(
            "`skep deploy` does not know the scheduling policy \"{policy}\" of the container {name}"
        ));
    }
    Some(Container { name, class, image: image?, size, instance_type, raw: own.clone(), max_instances })
}

/// Whether a Durable Object manages it.
fn is_managed(own: &Json) -> bool {
    own["scheduling_policy"] == "durable_object"
}

/// The keys that are known of those.
const MANAGED_KEYS: [&str; 8] = [
    "name",
    "class_name",
    "scheduling_policy",
    "images",
    "observability",
    "ssh",
    "authorized_keys",
    "unsafe",
];

/// All containers that a Durable Object manages, and everything that is wrong with them. The rules and most texts are
/// wrangler's.
pub(crate) fn managed(project: &Project) -> (Vec<Managed>, Vec<String>) {
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for own in project.list(&["containers"]).iter().filter(|own| is_managed(own)) {
        all.extend(managed_one(project, own, &mut problems));
    }
    (all, problems)
}

fn managed_one(project: &Project, own: &Json, problems: &mut Vec<String>) -> Option<Managed> {
    let mut wrong = |text: String| problems.push(text);
    let unknown: Vec<String> = own
        .as_object()?
        .keys()
        .filter(|key| !MANAGED_KEYS.contains(&key.as_str()))
        .map(|key| format!("\"{key}\""))
        .collect();
    if !unknown.is_empty() {
        wrong(format!(
            "Unsupported fields for Durable Object-managed Containers in containers: {}. Only \"name\", \"class_name\", \
             \"scheduling_policy\", \"images\", \"observability\", \"ssh\", \"authorized_keys\", and restricted \"unsafe\" settings \
             are supported.",
            unknown.join(",")
        ));
    }
    let (name, class) = name_and_class(project, own, &mut wrong)?;
    linked(project, &name, &class, &mut wrong);
    let observed = &own["observability"];
    if !observed["target_instance_count"].is_null() || !observed["target_instance_percentage"].is_null() {
        wrong(
            "\"containers.observability\" only supports enabling or disabling logs for Durable Object-managed Containers; instance \
             targeting is not supported."
                .to_owned(),
        );
    }
    let other =
        |json: &Json, only: &str| json.as_object().is_some_and(|all| all.keys().any(|key| key != only));
    if other(&own["unsafe"], "configuration") || other(&own["unsafe"]["configuration"], "experimental_flags")
    {
        wrong(
            "Only \"containers.unsafe.configuration.experimental_flags\" is supported for Durable Object-managed Containers."
                .to_owned(),
        );
    }
    let mut images = Vec::new();
    match &own["images"] {
        Json::Null => {}
        Json::Object(all) if !all.is_empty() && all.len() <= 100 => {
            for (name, image) in all {
                images.extend(
                    managed_image(project, name, image, &mut wrong).map(|image| (name.clone(), image)),
                );
            }
        }
        Json::Object(all) if all.len() > 100 => {
            wrong("\"containers.images\" must contain at most 100 images.".to_owned());
        }
        _ => wrong("\"containers.images\" must be a non-empty object when present.".to_owned()),
    }
    Some(Managed { name, class, images, raw: own.clone() })
}

fn managed_image(project: &Project, name: &str, own: &Json, wrong: &mut impl FnMut(String)) -> Option<Image> {
    let field = format!("containers.images.{name}");
    if name.is_empty() || name.chars().count() > 128 {
        wrong("\"containers.images\" image names must be between 1 and 128 characters.".to_owned());
    }
    let text = |key: &str| own[key].as_str().filter(|text| !text.is_empty());
    let known: &[&str] = match own["dockerfile"].is_null() {
        true => &["image"],
        false => &["dockerfile", "build_context", "build_vars"],
    };
    for key in
        own.as_object().into_iter().flat_map(|all| all.keys()).filter(|key| !known.contains(&key.as_str()))
    {
        wrong(format!("Unexpected fields found in {field} field: \"{key}\""));
    }
    match (text("dockerfile"), text("image")) {
        (Some(path), None) => {
            let file = project.config.dir.join(path);
            if !file.is_file() {
                wrong(format!("\"{field}.dockerfile\" is \"{path}\", which is no file"));
            }
            let folder = file.parent().unwrap_or(Path::new(".")).to_owned();
            let context = text("build_context").map_or(folder, |path| project.config.dir.join(path));
            let arguments = own["build_vars"].as_object().into_iter().flatten();
            let value = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let arguments = arguments.map(|(name, own)| (name.clone(), value(own))).collect();
            Some(Image::Dockerfile { file, context, arguments })
        }
        (None, Some(image)) => {
            let digest = image.rsplit_once("@sha256:").map(|(_, digits)| digits);
            if !digest
                .is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
            {
                wrong(format!(
                    "\"{field}.image\" must be a digest-pinned image in the managed registry, in the form \
                     \"<registry>/<account-id>/<repository>@sha256:<64 lowercase hex characters>\"."
                ));
            }
            Some(Image::Reference(image.to_owned()))
        }
        _ => {
            wrong(format!("\"{field}\" must specify exactly one of \"dockerfile\" or \"image\"."));
            None
        }
    }
}

/// What it is called, and the class that it belongs to.
fn name_and_class(project: &Project, own: &Json, wrong: &mut impl FnMut(String)) -> Option<(String, String)> {
    let class = own["class_name"].as_str().map(str::to_owned).or_else(|| exported(project, own));
    let Some(class) = class else {
        let name = own["name"].as_str().unwrap_or_default();
        wrong(format!(
            "The container \"{name}\" is not linked to a Durable Object. Either set \"containers.class_name\", or reference this \
             container from a Durable Object's `exports` entry via its \"container\" field."
        ));
        return None;
    };
    let name = own["name"].as_str().map_or_else(|| own_name(project, &class), str::to_owned);
    Some((name, class))
}

/// The class whose `exports` entry names this container.
fn exported(project: &Project, own: &Json) -> Option<String> {
    let name = own["name"].as_str()?;
    let exports = project.raw["exports"].as_object()?;
    exports.iter().find(|(_, export)| export["container"] == name).map(|(class, _)| class.clone())
}

/// wrangler's name for one that has none.
fn own_name(project: &Project, class: &str) -> String {
    let script = project.service.as_deref().unwrap_or(project.name());
    let mut name = format!("{script}-{class}");
    if let Some(environment) = &project.config.environment {
        name.push_str(&format!("-{environment}"));
    }
    name.to_lowercase().replace(' ', "-")
}

/// The class has to be one of the script's own Durable Objects.
fn linked(project: &Project, name: &str, class: &str, wrong: &mut impl FnMut(String)) {
    let bindings = project.list(&["durable_objects", "bindings"]);
    let bound = bindings.iter().find(|own| own["class_name"] == class);
    let in_migrations = project.list(&["migrations"]).iter().any(|migration| {
        ["new_sqlite_classes", "new_classes"]
            .iter()
            .any(|key| migration[*key].as_array().is_some_and(|list| list.iter().any(|own| own == class)))
    });
    let exported = project.raw["exports"].get(class).is_some();
    match bound {
        Some(own) if own["script_name"].as_str().is_some_and(|script| script != project.name()) => {
            wrong(format!(
                "The container {name} is referencing the durable object {class}, which appears to be defined on the {} Worker instead (via \
             the 'script_name' field). You cannot configure a container on a Durable Object that is defined in another Worker.",
                own["script_name"].as_str().unwrap_or_default()
            ))
        }
        None if !in_migrations && !exported => wrong(format!(
            "The container class_name {class} does not match any durable object class_name defined in your Wrangler config file. Note \
             that the durable object must be defined in the same script as the container."
        )),
        _ => {}
    }
}

fn image(project: &Project, own: &Json, wrong: &mut impl FnMut(String)) -> Option<Image> {
    let Some(text) = own["image"].as_str().or(own["configuration"]["image"].as_str()) else {
        wrong(
            "\"containers.image\" field must be defined for each container app. This should be the path to your Dockerfile or an image \
             URI pointing to the Cloudflare registry."
                .to_owned(),
        );
        return None;
    };
    let file = project.config.dir.join(text);
    if file.is_dir() {
        wrong(format!("{text} is a directory, you should specify a path to the Dockerfile"));
        return None;
    }
    if file.is_file() {
        let folder = file.parent().unwrap_or(Path::new(".")).to_owned();
        let context =
            own["image_build_context"].as_str().map_or(folder, |path| project.config.dir.join(path));
        let arguments = own["image_vars"].as_object().into_iter().flatten();
        let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let arguments = arguments.map(|(name, value)| (name.clone(), text(value))).collect();
        return Some(Image::Dockerfile { file, context, arguments });
    }
    let begins = format!(
        "The image \"{text}\" does not appear to be a valid path to a Dockerfile, or a valid image registry path:\n"
    );
    if text.contains("://") {
        wrong(format!(
            "{begins}Image reference should not include the protocol part (e.g: docker.io/httpd:1, not https://docker.io/httpd:1)"
        ));
        return None;
    }
    if !text.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        wrong(format!(
            "{begins}If this is an image registry path, it needs to include at least a tag ':' (e.g: docker.io/httpd:1)"
        ));
        return None;
    }
    Some(Image::Reference(text.to_owned()))
}

fn size(own: &Json, wrong: &mut impl FnMut(String)) -> (Size, Option<String>) {
    let old = &own["configuration"];
    let figures = |limits: &Json, disk: &Json| Size {
        vcpu: limits["vcpu"].as_f64().unwrap_or(LITE.vcpu),
        memory_mib: limits["memory_mib"].as_u64().unwrap_or(LITE.memory_mib),
        disk_mb: disk.as_u64().unwrap_or(LITE.disk_mb),
    };
    if ["disk", "vcpu", "memory_mib"].iter().any(|key| !old[*key].is_null()) {
        if !own["instance_type"].is_null() {
            wrong(
                "Cannot set custom limits via \"containers.configuration\" and use preset \"instance_type\" limits at the same time."
                    .to_owned(),
            );
        }
        return (figures(old, &old["disk"]["size_mb"]), None);
    }
    match &own["instance_type"] {
        Json::Null => (LITE, Some("lite".to_owned())),
        Json::String(name) => match sizes::named(name) {
            Some(size) => (size, Some(name.clone())),
            None => {
                let known: Vec<&str> = sizes::NAMED.iter().map(|(name, _)| *name).collect();
                wrong(format!(
                    "\"containers.instance_type\" must be one of {}, but got \"{name}\". Presets stand in skep.deploy.toml",
                    known.join(", ")
                ));
                (LITE, None)
            }
        },
        limits => {
            for key in ["vcpu", "memory_mib", "disk_mb"] {
                if !limits[key].is_null() && !limits[key].is_number() {
                    wrong(format!("\"containers.instance_type.{key}\", when present, should be a number."));
                }
            }
            (figures(limits, &limits["disk_mb"]), None)
        }
    }
}

/// <https://developers.cloudflare.com/containers/platform-details/rollouts/>
fn rollout(own: &Json, wrong: &mut impl FnMut(String)) {
    const KEY: &str = "\"containers.rollout_step_percentage\"";
    match &own["rollout_step_percentage"] {
        Json::Null => {}
        Json::Number(step) if [5, 10, 20, 25, 50, 100].iter().any(|known| step.as_u64() == Some(*known)) => {}
        Json::Number(step) => wrong(format!("{KEY} must be one of [5, 10, 20, 25, 50, 100], but got {step}")),
        Json::Array(list) => {
            let steps: Vec<u64> = list.iter().filter_map(Json::as_u64).collect();
            if steps.len() < list.len() || steps.iter().any(|step| !(10..=100).contains(step)) {
                wrong(format!("{KEY} array elements must be between 10 and 100"));
            } else if !steps.is_sorted() {
                wrong(format!("{KEY} array elements must be in ascending order"));
            } else if steps.last().is_some_and(|last| *last != 100) {
                wrong(format!("The final step in {KEY} must be 100"));
            }
            if let Some(most) = own["max_instances"].as_u64().filter(|most| list.len() as u64 > *most) {
                wrong(format!(
                    "{KEY} cannot have more steps ({}) than \"max_instances\" ({most})",
                    list.len()
                ));
            }
        }
        other => wrong(format!("{KEY} must be a number or array of numbers, but got \"{other}\"")),
    }
    let kind = &own["rollout_kind"];
    if !kind.is_null() && !["full_auto", "full_manual", "none"].iter().any(|known| kind == known) {
        wrong(format!("\"containers.rollout_kind\" must be full_auto, full_manual or none, but got {kind}"));
    }
    let grace = &own["rollout_active_grace_period"];
    if !grace.is_null() && !grace.is_u64() {
        wrong(format!(
            "\"containers.rollout_active_grace_period\" field should be a positive number but got \"{grace}\""
        ));
    }
}

/// `metadata.containers` of an upload; `images` are those of the containers that a Durable Object manages.
pub(crate) fn metadata(project: &Project, images: &Images) -> Json {
    let all = project.list(&["containers"]);
    if all.is_empty() {
        return Json::Null;
    }
    let one = |own: &Json| {
        if is_managed(own)
            && let Some((name, class)) = name_and_class(project, own, &mut |_| {})
        {
            let mut entry = json!({ "name": name, "class_name": class });
            if let Some(images) = images.get(&class) {
                entry["images"] = images.clone();
            }
            return entry;
        }
        let class = own["class_name"].as_str();
        let name =
            own["name"].as_str().map(str::to_owned).or_else(|| class.map(|class| own_name(project, class)));
        let mut entry = json!({});
        if let Some(name) = name {
            entry["name"] = name.into();
        }
        if let Some(class) = class {
            entry["class_name"] = class.into();
        }
        entry
    };
    all.iter().map(one).collect()
}
