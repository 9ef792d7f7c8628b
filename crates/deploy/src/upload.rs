//! The upload's form: metadata, modules, source map. Pure.

use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use skep_bundle::{Bundle, Format, Module, ModuleKind};

use crate::bindings::blob;
use crate::form::Form;
use crate::project::Project;
use crate::site;

/// A module's content type, by what it is and how the script is run.
fn content_type(kind: ModuleKind, format: Format) -> &'static str {
    match (kind, format) {
        (ModuleKind::EsModule, Format::Modules) => "application/javascript+module",
        (ModuleKind::EsModule, Format::ServiceWorker) | (ModuleKind::CommonJs, _) => "application/javascript",
        (ModuleKind::Text, _) => "text/plain",
        (ModuleKind::Data, _) => "application/octet-stream",
        (ModuleKind::Wasm, _) => "application/wasm",
    }
}

/// A script in service worker syntax.
fn script(project: &Project) -> Option<&Bundle> {
    project.code.as_ref().filter(|code| code.format == Format::ServiceWorker)
}

/// The bindings that a script in service worker syntax reads its modules by: they are no modules there. The manifest of a
/// site has its place among the other bindings.
pub(crate) fn script_parts(project: &Project) -> Vec<Json> {
    let parts = script(project).into_iter().flat_map(|code| code.modules.iter().skip(1)).filter(|module| {
        matches!(module.kind, ModuleKind::Wasm | ModuleKind::Text | ModuleKind::Data)
            && module.name != site::MANIFEST
    });
    parts.map(|module| blob(&module.global_name(), module.kind)).collect()
}

/// Whether the manifest of a site is a global.
pub(crate) fn has_manifest_as_global(project: &Project) -> bool {
    project.site.is_some() && script(project).is_some()
}

fn specifier(module: &Module) -> &str {
    module.specifier.as_deref().unwrap_or(&module.name)
}

/// The form with `metadata` and the code.
pub(crate) fn form(project: &Project, metadata: &Json) -> Form {
    let mut form = Form::default();
    let script = script(project);
    for own in &project.blobs {
        let file = relative(&own.file, &project.config.dir);
        form.file(&own.name, &file, content_type(own.kind, Format::ServiceWorker), &own.content);
    }
    // What a script reads by name goes before the metadata that names it.
    for module in script.iter().flat_map(|code| code.modules.iter().skip(1)) {
        let kind = content_type(module.kind, Format::ServiceWorker);
        form.file(&module.global_name(), specifier(module), kind, &module.content);
    }
    form.field("metadata", metadata.to_string().as_bytes());
    let Some(code) = &project.code else { return form };
    let modules = if script.is_some() { code.modules.get(..1) } else { code.modules.get(..) };
    for module in modules.unwrap_or_default() {
        let name = specifier(module);
        form.file(name, name, content_type(module.kind, code.format), &module.content);
    }
    if project.raw["upload_source_maps"] != false
        && let Some(map) = &code.source_map
    {
        let name = format!("{}.map", code.main);
        form.file(&name, &name, "application/source-map", &source_map(map, &code.main, &project.config.dir));
    }
    form
}

/// The source map as wrangler uploads it: sources relative to the project, and no path of this machine.
fn source_map(map: &Bytes, main: &str, dir: &Path) -> Bytes {
    let Ok(mut json) = serde_json::from_slice::<Json>(map) else { return map.clone() };
    let root = json["sourceRoot"].as_str().unwrap_or_default().to_owned();
    let sources = json["sources"].as_array().into_iter().flatten().filter_map(Json::as_str);
    let sources: Vec<String> = sources.map(|source| relative(&Path::new(&root).join(source), dir)).collect();
    json = serde_json::json!({
        "version": json["version"], "sources": sources, "sourceRoot": "", "sourcesContent": json["sourcesContent"],
        "mappings": json["mappings"], "names": json["names"], "file": main,
    });
    json.to_string().into()
}

/// `path` as seen from `dir`, both absolute.
fn relative(path: &Path, dir: &Path) -> String {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    let common = clean.components().zip(dir.components()).take_while(|(a, b)| a == b).count();
    let up = dir.components().skip(common).map(|_| "..".to_owned());
    let down = clean.components().skip(common).map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

/// Names the content of an upload: two uploads with the same name do the same.
pub(crate) fn digest(project: &Project, metadata: &Json) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    let mut metadata = metadata.clone();
    if let Some(metadata) = metadata.as_object_mut() {
        // Of these only a difference to what is there is sent, or they do not change what the script does.
        for key in ["annotations", "code_update_strategy", "migrations"] {
            metadata.shift_remove(key);
        }
        for binding in metadata.get_mut("bindings").and_then(Json::as_array_mut).into_iter().flatten() {
            // A secret must not be guessed at by the name of what holds it.
            if binding["type"] == "secret_text" {
                binding["text"] = Json::Null;
            }
        }
        if let Some(assets) = metadata.get_mut("assets").and_then(Json::as_object_mut) {
            assets.shift_remove("jwt");
        }
    }
    add(metadata.to_string().as_bytes());
    let modules = project.code.iter().flat_map(|code| &code.modules);
    for module in modules {
        add(module.name.as_bytes());
        add(&module.content);
    }
    for blob in &project.blobs {
        add(blob.name.as_bytes());
        add(&blob.content);
    }
    for file in project.assets.iter().flat_map(|assets| &assets.files) {
        add(file.path.as_bytes());
        add(file.hash.as_bytes());
    }
    hex::encode(&hash.finalize()[..8])
}

/// The whole size of the code.
pub(crate) fn code_size(project: &Project) -> u64 {
    let modules = project.code.iter().flat_map(|code| &code.modules).map(|module| &module.content);
    modules.chain(project.blobs.iter().map(|blob| &blob.content)).map(|content| content.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_map_names_the_projects_files_and_not_this_machines() {
        let map = r#"{"version":3,"sources":["../src/a.ts","../../shared/b.ts"],"sourceRoot":"/home/me/app/.build","sourcesContent":["x","y"],"mappings":"A","names":[]}"#;
        let sent = source_map(&Bytes::from_static(map.as_bytes()), "a.js", Path::new("/home/me/app"));
        let expected = r#"{"version":3,"sources":["src/a.ts","../shared/b.ts"],"sourceRoot":"","sourcesContent":["x","y"],"mappings":"A","names":[],"file":"a.js"}"#;
        assert_eq!(sent, expected);
    }
}
