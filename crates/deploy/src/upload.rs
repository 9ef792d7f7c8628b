//! The upload's form: metadata, modules, source map. Pure.

use bytes::Bytes;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use skep_bundle::{Format, ModuleKind};

use crate::form::Form;
use crate::project::Project;

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

/// The bindings that a script in service worker syntax reads its modules by: they are no modules there.
pub(crate) fn script_parts(project: &Project) -> Vec<Json> {
    let Some(code) = project.code.as_ref().filter(|code| code.format == Format::ServiceWorker) else {
        return Vec::new();
    };
    let parts = code.modules.iter().skip(1).filter_map(|module| {
        let kind = match module.kind {
            ModuleKind::Wasm => "wasm_module",
            ModuleKind::Text => "text_blob",
            ModuleKind::Data => "data_blob",
            ModuleKind::EsModule | ModuleKind::CommonJs => return None,
        };
        let name = module.global_name();
        Some(serde_json::json!({ "name": name, "type": kind, "part": name }))
    });
    parts.collect()
}

/// The form with `metadata` and the code.
pub(crate) fn form(project: &Project, metadata: &Json) -> Form {
    let mut form = Form::default();
    form.field("metadata", metadata.to_string());
    let Some(code) = &project.code else { return form };
    for (n, module) in code.modules.iter().enumerate() {
        let name = match code.format {
            Format::ServiceWorker if n > 0 => module.global_name(),
            _ => module.name.clone(),
        };
        form.file(&name, &name, content_type(module.kind, code.format), module.content.clone());
    }
    if project.raw["upload_source_maps"] == true
        && let Some(map) = &code.source_map
    {
        let name = format!("{}.map", code.main);
        form.file(&name, &name, "application/source-map", map.clone());
    }
    form
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
    for file in project.assets.iter().flat_map(|assets| &assets.files) {
        add(file.path.as_bytes());
        add(file.hash.as_bytes());
    }
    hex::encode(&hash.finalize()[..8])
}

/// The whole size of the code.
pub(crate) fn code_size(project: &Project) -> u64 {
    project.code.iter().flat_map(|code| &code.modules).map(|module| Bytes::len(&module.content) as u64).sum()
}
