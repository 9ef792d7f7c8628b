//! Workers into a folder: each as a project that `skep deploy` and `wrangler deploy` take.

use std::path::{Component, Path};

use serde_json::{Value as Json, json};
use skep_bundle::{Bundle, Format, ModuleKind};

use super::config::{self, Ids};
use super::export::{Whole, file_name};
use super::source::{self, Account, Worker};
use super::{Wanted, text};
use crate::client::Client;
use crate::deploy::counted;

/// The file that is written last: where it is, the project is whole.
const CONFIG: &str = "wrangler.json";

/// Writes all Workers that are wanted; returns what a person should know.
pub(super) async fn workers(
    from: &Client,
    dir: &Path,
    wanted: &Wanted,
    print: &impl Fn(&str),
) -> Result<Vec<String>, String> {
    let mut open = Vec::new();
    if wanted.has_any("worker") {
        for name in source::workers(from).await.map_err(text)? {
            open.push((format!("worker/{name}"), dir.join("worker").join(file_name(&name)), None, name));
        }
    }
    if wanted.has_any("dispatch") {
        for namespace in source::namespaces(from).await.map_err(text)? {
            for name in source::dispatched(from, &namespace).await.map_err(text)? {
                let folder = dir.join("dispatch").join(file_name(&namespace)).join(file_name(&name));
                open.push((format!("dispatch/{namespace}/{name}"), folder, Some(namespace.clone()), name));
            }
        }
    }
    open.retain(|(label, ..)| wanted.has(label));
    open.retain(|(label, folder, ..)| {
        let there = folder.join(CONFIG).exists();
        if there {
            print(&format!("{label}: is there already"));
        }
        !there
    });
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let account = Account::read(from).await?;
    let mut notes = account.notes.clone();
    for (label, folder, namespace, name) in open {
        let failed = |error: String| format!("{label}: {error}");
        let worker = source::worker(from, &account, namespace.as_deref(), &name).await;
        let worker = worker.map_err(|error| failed(error.to_string()))?;
        let (config, own) = config::config(&worker.settings, &account.names, Ids::Stay);
        notes.extend(own.iter().chain(&worker.notes).map(|note| format!("{label}: {note}")));
        let secrets = &worker.settings.secrets;
        if !secrets.is_empty() {
            notes.push(format!("{label}: its secrets cannot be read: {}", secrets.join(", ")));
        }
        let count = write(&folder, &worker, config).map_err(failed)?;
        print(&format!("{label}: {}", counted(count as u64, "module")));
    }
    Ok(notes)
}

/// Writes a project; how many modules it has.
fn write(folder: &Path, worker: &Worker, mut config: serde_json::Map<String, Json>) -> Result<usize, String> {
    if let Some(code) = &worker.code {
        for module in &code.modules {
            file(&folder.join("src"), &module.name, &module.content)?;
        }
        if let Some(map) = &code.source_map {
            file(&folder.join("src"), &format!("{}.map", code.main), map)?;
        }
        config.insert("main".into(), format!("src/{}", code.main).into());
        // The modules are what a bundler has made.
        config.insert("no_bundle".into(), true.into());
        if code.format == Format::Modules {
            config.insert("base_dir".into(), "src".into());
            config.insert("rules".into(), rules(code));
            config.insert("find_additional_modules".into(), true.into());
        }
    }
    if !worker.settings.secrets.is_empty() {
        config.insert("secrets".into(), json!({ "required": worker.settings.secrets }));
    }
    let text = serde_json::to_vec_pretty(&Json::from(config)).map_err(|e| e.to_string())?;
    let mut whole = Whole::create(&folder.join(CONFIG))?;
    whole.write(&text)?;
    whole.write(b"\n")?;
    whole.finish()?;
    Ok(worker.code.as_ref().map_or(0, |code| code.modules.len()))
}

/// One rule per kind, with the modules by their names: what they are does not follow from their endings.
fn rules(code: &Bundle) -> Json {
    let kinds = [
        (ModuleKind::EsModule, "ESModule"),
        (ModuleKind::CommonJs, "CommonJS"),
        (ModuleKind::Text, "Text"),
        (ModuleKind::Data, "Data"),
        (ModuleKind::Wasm, "CompiledWasm"),
    ];
    let rule = |(kind, name): (ModuleKind, &str)| {
        let of = code.modules.iter().skip(1).filter(|module| module.kind == kind);
        let globs: Vec<&str> = of.map(|module| module.name.trim_start_matches("./")).collect();
        json!({ "type": name, "globs": globs, "fallthrough": false })
    };
    kinds.into_iter().map(rule).filter(|rule| rule["globs"] != json!([])).collect()
}

/// A module's file below `folder`; a name that leads elsewhere is refused.
fn file(folder: &Path, name: &str, content: &[u8]) -> Result<(), String> {
    let path = Path::new(name.trim_start_matches("./"));
    if path.components().any(|part| !matches!(part, Component::Normal(_))) || path.as_os_str().is_empty() {
        return Err(format!("the module \"{name}\" has a name that no file of this folder can have"));
    }
    let mut whole = Whole::create(&folder.join(path))?;
    whole.write(content)?;
    whole.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_module_leaves_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["../a.js", "/etc/a.js", "a/../../b.js", "", "./"] {
            assert!(file(dir.path(), name, b"x").is_err(), "{name}");
        }
        file(dir.path(), "./a/b.js", b"x").unwrap();
        assert_eq!(std::fs::read(dir.path().join("a/b.js")).unwrap(), b"x");
    }
}
