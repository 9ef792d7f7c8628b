//! `containers`: what runs beside a Durable Object. The rules and most texts are wrangler's.
//! <https://developers.cloudflare.com/workers/wrangler/configuration/#containers>

use std::collections::BTreeSet;
use std::path::Path;

use crate::model::{Container, ContainerImage};
use crate::read::Table;
use crate::size::{self, LITE, Size};

/// What is at once if nothing is said of it.
const MAX_INSTANCES: u32 = 20;
/// Figures of a size that nobody has.
const MOST: u32 = 1 << 30;

/// All containers. Where they are deployed, others read them; so nothing is judged here.
pub(crate) fn read(root: &Table<'_>, worker: &str) -> Vec<Container> {
    if root.deploying() {
        return Vec::new();
    }
    let classes = classes(root, worker);
    let all: Vec<Container> =
        root.tables("containers").iter().filter_map(|own| container(root, own, worker, &classes)).collect();
    for (n, own) in all.iter().enumerate() {
        if all[..n].iter().any(|other| other.class_name == own.class_name) {
            let message = format!("two of \"containers\" are for the class {}", own.class_name);
            root.error("containers", message, "a class has one container: remove one of them");
        }
    }
    let names: BTreeSet<String> =
        root.tables("containers").iter().filter_map(|own| own.string("name")).collect();
    for export in root.table("exports").iter().flat_map(exported_classes) {
        if let Some(name) = export.string("container").filter(|name| !names.contains(name)) {
            let message = format!(
                "\"{}\" is \"{name}\", and none of \"containers\" has this name",
                export.name("container")
            );
            export.error("container", message, "add a container of this name, or remove it");
        }
    }
    all
}

fn exported_classes<'a>(exports: &Table<'a>) -> Vec<Table<'a>> {
    exports.node().entries().iter().filter_map(|entry| exports.table(&entry.key)).collect()
}

fn container(
    root: &Table<'_>,
    own: &Table<'_>,
    worker: &str,
    classes: &BTreeSet<String>,
) -> Option<Container> {
    let class_name = own.string("class_name").or_else(|| exported(root, &own.string("name")?));
    let Some(class_name) = class_name else {
        let message = format!(
            "The container \"{}\" is not linked to a Durable Object. Either set \"containers.class_name\", or reference this container \
             from a Durable Object's `exports` entry via its \"container\" field.",
            own.string("name").unwrap_or_default()
        );
        own.error("class_name", message, "name the class whose objects have this container");
        return None;
    };
    if !classes.contains(&class_name) {
        let message = format!(
            "The container class_name {class_name} does not match any durable object class_name defined in your Wrangler config file. \
             Note that the durable object must be defined in the same script as the container."
        );
        own.error("class_name", message, "add the class to \"durable_objects\" and \"migrations\"");
    }
    let policy = own.string("scheduling_policy");
    if policy.as_deref() == Some("durable_object") {
        let help = "remove \"scheduling_policy\", and name the image in \"image\"";
        own.error(
            "scheduling_policy",
            "containers that a Durable Object manages do not work in `skep dev`",
            help,
        );
        return None;
    }
    let name = own.string("name");
    let name = name.unwrap_or_else(|| format!("{worker}-{class_name}").to_lowercase().replace(' ', "-"));
    let size = size(own);
    let max_instances = own.integer("max_instances", 0, MOST).unwrap_or(MAX_INSTANCES);
    Some(Container { name, class_name, image: image(own)?, size, max_instances })
}

/// The class whose `exports` entry names this container.
fn exported(root: &Table<'_>, name: &str) -> Option<String> {
    let exports = root.table("exports")?;
    let mut classes = exports.node().entries().iter();
    let is_it =
        |key: &str| exports.table(key).and_then(|own| own.string("container")).is_some_and(|own| own == name);
    classes.find(|entry| is_it(&entry.key)).map(|entry| entry.key.clone())
}

/// The worker's own Durable Object classes.
fn classes(root: &Table<'_>, worker: &str) -> BTreeSet<String> {
    let bindings = root.table("durable_objects").map(|table| table.tables("bindings")).unwrap_or_default();
    let bound = bindings.iter().filter(|own| own.string("script_name").is_none_or(|script| script == worker));
    let mut classes: BTreeSet<String> = bound.filter_map(|own| own.string("class_name")).collect();
    for migration in root.tables("migrations") {
        classes.extend(migration.strings("new_classes"));
        classes.extend(migration.strings("new_sqlite_classes"));
    }
    if let Some(exports) = root.table("exports") {
        classes.extend(exports.node().entries().iter().map(|entry| entry.key.clone()));
    }
    classes
}

fn image(own: &Table<'_>) -> Option<ContainerImage> {
    let old = own.table("configuration").and_then(|table| table.string("image"));
    let Some(text) = own.string("image").or(old) else {
        let message = "\"containers.image\" field must be defined for each container app. This should be the path to your Dockerfile or \
             an image URI pointing to the Cloudflare registry.";
        own.error("image", message, "for example \"./Dockerfile\", or \"docker.io/library/httpd:2\"");
        return None;
    };
    let file = own.dir().join(text.trim_start_matches("./"));
    if file.is_dir() {
        let message = format!("{text} is a directory, you should specify a path to the Dockerfile");
        own.error("image", message, format!("for example \"{}/Dockerfile\"", text.trim_end_matches('/')));
        return None;
    }
    if file.is_file() {
        let folder = file.parent().unwrap_or(Path::new(".")).to_owned();
        let context = own.path("image_build_context").unwrap_or(folder);
        let arguments = own.string_map("image_vars").into_iter().collect();
        return Some(ContainerImage::Dockerfile { file, context, arguments });
    }
    let message = format!(
        "The image \"{text}\" does not appear to be a valid path to a Dockerfile, or a valid image registry path"
    );
    let help = if text.contains("://") {
        "Image reference should not include the protocol part (e.g: docker.io/httpd:1, not https://docker.io/httpd:1)"
    } else if !text.rsplit('/').next().is_some_and(|last| last.contains([':', '@'])) {
        "If this is an image registry path, it needs to include at least a tag ':' (e.g: docker.io/httpd:1)"
    } else if text.starts_with('-')
        || !text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c))
    {
        "It has characters that no image has"
    } else {
        return Some(ContainerImage::Reference(text));
    };
    own.error("image", message, help);
    None
}

fn size(own: &Table<'_>) -> Size {
    let figures = |table: &Table<'_>| Size {
        vcpu: table.seconds("vcpu").unwrap_or(LITE.vcpu),
        memory_mib: table.integer("memory_mib", 1, MOST).map_or(LITE.memory_mib, u64::from),
        disk_mb: table.integer("disk_mb", 1, MOST).map_or(LITE.disk_mb, u64::from),
    };
    let Some(json) = own.json("instance_type") else { return LITE };
    if json.is_object() {
        return own.table("instance_type").as_ref().map_or(LITE, figures);
    }
    let names: Vec<&str> = size::NAMED.iter().map(|(name, _)| *name).collect();
    own.one_of("instance_type", &names).and_then(|name| size::named(&name)).unwrap_or(LITE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LoadOptions, WorkerConfig, load};

    fn loaded(containers: &str, files: &[&str]) -> Result<(tempfile::TempDir, WorkerConfig), String> {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(dir.path().join(file), "FROM scratch").unwrap();
        }
        let text = format!(
            r#"{{ "name": "w", "main": "x.js", "containers": {containers},
                "durable_objects": {{ "bindings": [{{ "name": "B", "class_name": "Box" }},
                    {{ "name": "O", "class_name": "Other", "script_name": "o" }}] }},
                "migrations": [{{ "tag": "1", "new_sqlite_classes": ["Box"] }}] }}"#
        );
        let path = dir.path().join("wrangler.jsonc");
        std::fs::write(&path, text).unwrap();
        let loaded = load(&path, &LoadOptions::default()).map_err(|e| e.to_string())?;
        Ok((dir, loaded.config))
    }

    #[test]
    fn a_container_is_a_dockerfile_or_an_image_with_a_size() {
        let (dir, config) = loaded(
            r#"[{ "class_name": "Box", "image": "Dockerfile", "image_vars": { "A": "1" }, "image_build_context": "..",
                "instance_type": "basic", "max_instances": 3, "rollout_step_percentage": 50 }]"#,
            &["Dockerfile"],
        )
        .unwrap();
        let own = &config.containers[0];
        assert_eq!((own.name.as_str(), own.max_instances, own.size.memory_mib), ("w-box", 3, 1024));
        let ContainerImage::Dockerfile { file, context, arguments } = &own.image else { panic!("{own:?}") };
        assert_eq!(*file, dir.path().join("Dockerfile"));
        assert_eq!(*context, dir.path().join(".."));
        assert_eq!(*arguments, [("A".to_owned(), "1".to_owned())]);

        let (_, config) = loaded(
            r#"[{ "class_name": "Box", "image": "docker.io/library/httpd:2",
                "instance_type": { "vcpu": 0.5, "memory_mib": 512 } }]"#,
            &[],
        )
        .unwrap();
        let own = &config.containers[0];
        assert_eq!(own.image, ContainerImage::Reference("docker.io/library/httpd:2".into()));
        assert_eq!(own.size, Size { vcpu: 0.5, memory_mib: 512, disk_mb: LITE.disk_mb });
        assert_eq!(own.max_instances, 20);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (containers, expected) in [
            (r#"[{ "class_name": "Box" }]"#, "\"containers.image\" field must be defined"),
            (r#"[{ "class_name": "Box", "image": "." }]"#, ". is a directory"),
            (r#"[{ "class_name": "Box", "image": "nginx" }]"#, "needs to include at least a tag"),
            (
                r#"[{ "class_name": "Box", "image": "https://docker.io/nginx:1" }]"#,
                "should not include the protocol part",
            ),
            (r#"[{ "class_name": "Box", "image": "-v:1" }]"#, "characters that no image has"),
            (
                r#"[{ "class_name": "Else", "image": "a:1" }]"#,
                "class_name Else does not match any durable object",
            ),
            (
                r#"[{ "class_name": "Other", "image": "a:1" }]"#,
                "class_name Other does not match any durable object",
            ),
            (r#"[{ "name": "x", "image": "a:1" }]"#, "The container \"x\" is not linked to a Durable Object"),
            (
                r#"[{ "class_name": "Box", "image": "a:1", "instance_type": "huge" }]"#,
                "expected one of \"lite\"",
            ),
            (r#"[{ "class_name": "Box", "image": "a:1", "max_instances": -1 }]"#, "max_instances"),
            (
                r#"[{ "class_name": "Box", "image": "a:1" }, { "class_name": "Box", "image": "b:1" }]"#,
                "two of \"containers\" are for the class Box",
            ),
            (
                r#"[{ "class_name": "Box", "scheduling_policy": "durable_object" }]"#,
                "do not work in `skep dev`",
            ),
        ] {
            let error = loaded(containers, &[]).map(|_| ()).unwrap_err();
            assert!(error.contains(expected) && error.contains("wrangler.jsonc:"), "{containers}: {error}");
        }
    }
}
