//! Workers Sites: the files of a folder in a KV namespace, and a module that says under which keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_assets::{SiteFile, site_files};
use skep_bundle::{Bundle, Format, Module, ModuleKind};
use skep_config::WorkerConfig;
use skep_kv::{BulkEntry, ListOptions, Namespace, PutOptions};

use crate::stores::Stores;

/// What code imports, and a script in service worker syntax has as a global.
const MANIFEST: &str = "__STATIC_CONTENT_MANIFEST";
/// Bytes of values that are in memory at once.
const BATCH: u64 = 32 << 20;

/// The id of the namespace that `env.__STATIC_CONTENT` is; on Cloudflare it is its title.
pub fn namespace_of(config: &WorkerConfig) -> String {
    format!("__{}-workers_sites_assets", config.name)
}

/// Puts the files of the project's site into its namespace, and what they are called into `bundle`. What no longer belongs to
/// it goes only when `is_start`: code that still runs reads by the old names.
pub async fn publish(
    config: &WorkerConfig,
    stores: &Stores,
    bundle: &mut Bundle,
    is_start: bool,
) -> Result<(), String> {
    let Some(site) = config.site.clone() else { return Ok(()) };
    let read = tokio::task::spawn_blocking(move || site_files(&site.bucket, &site.include, &site.exclude));
    let files = read.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    let namespace = stores.kv.namespace(&namespace_of(config)).map_err(|e| e.to_string())?;
    let known = keys(&namespace)?;
    put(&namespace, files.values().filter(|file| !known.contains(&file.key)).cloned().collect()).await?;
    if is_start {
        let own: BTreeSet<&String> = files.values().map(|file| &file.key).collect();
        let gone: Vec<String> = known.iter().filter(|key| !own.contains(key)).cloned().collect();
        for some in gone.chunks(1000) {
            namespace.delete_many(some).await.map_err(|e| e.to_string())?;
        }
    }
    let keys: BTreeMap<&String, &String> = files.iter().map(|(path, file)| (path, &file.key)).collect();
    let manifest = serde_json::to_string(&keys).map_err(|e| e.to_string())?;
    name(bundle, &manifest);
    Ok(())
}

fn keys(namespace: &Namespace) -> Result<BTreeSet<String>, String> {
    let mut keys = BTreeSet::new();
    let mut options = ListOptions::default();
    loop {
        let page = namespace.list(&options).map_err(|e| e.to_string())?;
        keys.extend(page.keys.into_iter().map(|key| key.name));
        match page.cursor {
            Some(cursor) => options.cursor = Some(cursor),
            None => return Ok(keys),
        }
    }
}

async fn put(namespace: &Arc<Namespace>, files: Vec<SiteFile>) -> Result<(), String> {
    let mut files = files.into_iter().peekable();
    while files.peek().is_some() {
        let mut entries = Vec::new();
        let mut room = BATCH;
        while let Some(file) = files.next_if(|file| entries.is_empty() || file.size <= room) {
            room = room.saturating_sub(file.size);
            let path = file.file.clone();
            let read = tokio::fs::read(&file.file).await;
            let value = read.map_err(|e| format!("cannot read {}: {e}", path.display()))?.into();
            entries.push(BulkEntry { key: file.key, options: PutOptions::default(), value });
            if entries.len() == 1000 {
                break;
            }
        }
        namespace.put_many(entries).await.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Adds the manifest. An import of it is resolved against the folder of the module that imports it, so each folder has it.
fn name(bundle: &mut Bundle, manifest: &str) {
    let mut folders = BTreeSet::from([String::new()]);
    if bundle.format == Format::Modules {
        let folder = |module: &Module| {
            let name = module.name.trim_start_matches("./");
            name.rsplit_once('/').map(|(folder, _)| format!("{folder}/"))
        };
        folders.extend(bundle.modules.iter().filter_map(folder));
    }
    bundle.modules.extend(folders.into_iter().map(|folder| Module {
        name: format!("{folder}{MANIFEST}"),
        specifier: None,
        kind: ModuleKind::Text,
        content: manifest.to_owned().into(),
    }));
}
