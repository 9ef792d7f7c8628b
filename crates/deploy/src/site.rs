//! Workers Sites: the files of a folder in a KV namespace, under keys that name their content, and a module that says which.
//! <https://developers.cloudflare.com/workers/configuration/sites/>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde_json::{Value as Json, json};
use skep_assets::SiteFile;
use skep_bundle::{Bundle, Format, Module, ModuleKind};

use crate::client::Client;
use crate::copy::keys;
use crate::error::ApiError;

/// What the namespace is on `env`.
pub(crate) const CONTENT: &str = "__STATIC_CONTENT";
/// What code imports, and a script in service worker syntax has as a global.
pub(crate) const MANIFEST: &str = "__STATIC_CONTENT_MANIFEST";
/// Requests at once.
const PARALLEL: usize = 3;
/// Bytes of files in one request; one file alone may be longer.
const BULK: u64 = 8 << 20;
/// Keys in one request, as many as wrangler sends.
const MOST: usize = 1000;

/// The files of a site by their paths.
pub type SiteFiles = BTreeMap<String, SiteFile>;

/// The namespace's title.
pub(crate) fn title(script: &str) -> String {
    format!("__{script}-workers_sites_assets")
}

/// Adds the manifest to the code. An import of it is resolved against the folder of the module that imports it, so each
/// folder has one that leads to it.
pub fn add_manifest(bundle: &mut Bundle, files: &SiteFiles) {
    let keys: BTreeMap<&String, &String> = files.iter().map(|(path, file)| (path, &file.key)).collect();
    let folder = |module: &Module| {
        let name = module.specifier.as_deref().unwrap_or(&module.name).trim_start_matches("./");
        name.rsplit_once('/').map(|(folder, _)| folder.to_owned())
    };
    let mut folders: Vec<String> = Vec::new();
    if bundle.format == Format::Modules {
        for folder in bundle.modules.iter().skip(1).filter_map(folder) {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
    }
    let module =
        |name: String, kind, content: String| Module { name, specifier: None, kind, content: content.into() };
    bundle.modules.push(module(MANIFEST.to_owned(), ModuleKind::Text, json!(keys).to_string()));
    bundle.modules.extend(folders.into_iter().map(|folder| {
        let up = "../".repeat(folder.split('/').count());
        let content = format!("export {{ default }} from {};", json!(format!("{up}{MANIFEST}")));
        module(format!("{folder}/{MANIFEST}"), ModuleKind::EsModule, content)
    }));
}

/// What has to be sent, and which keys no file has.
pub(crate) fn changes<'a>(
    files: &'a SiteFiles,
    there: &BTreeSet<String>,
) -> (Vec<&'a SiteFile>, Vec<String>) {
    let own: BTreeSet<&String> = files.values().map(|file| &file.key).collect();
    let missing = files.values().filter(|file| !there.contains(&file.key)).collect();
    (missing, there.iter().filter(|key| !own.contains(key)).cloned().collect())
}

/// The keys of a namespace.
pub(crate) async fn known(client: &Client, namespace: &str) -> Result<BTreeSet<String>, ApiError> {
    let mut all = BTreeSet::new();
    let mut cursor: Option<String> = None;
    loop {
        let (page, next) = keys(client, namespace, cursor.as_deref()).await?;
        all.extend(page.iter().filter_map(|key| key["name"].as_str()).map(str::to_owned));
        match next {
            Some(next) => cursor = Some(next),
            None => return Ok(all),
        }
    }
}

/// Sends `files`; `progress` hears bytes sent and bytes in all.
pub(crate) async fn upload(
    client: &Client,
    namespace: &str,
    files: &[&SiteFile],
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(), String> {
    let total = files.iter().map(|file| file.size).sum();
    let sent = &AtomicU64::new(0);
    let uploads = buckets(files).into_iter().map(|bucket| async move {
        let mut entries: Vec<Json> = Vec::new();
        for file in &bucket {
            let content = tokio::fs::read(&file.file).await;
            let content = content.map_err(|e| format!("cannot read {}: {e}", file.file.display()))?;
            entries.push(json!({ "key": file.key, "value": STANDARD.encode(content), "base64": true }));
        }
        let path = format!("{{account}}/storage/kv/namespaces/{namespace}/bulk");
        // The same content under the same keys is the same state.
        let put = client.call(Method::PUT, path).json(&entries.into()).repeatable();
        put.send().await.map_err(|e| e.to_string())?;
        let size: u64 = bucket.iter().map(|file| file.size).sum();
        progress(sent.fetch_add(size, Ordering::Relaxed) + size, total);
        Ok::<_, String>(())
    });
    stream::iter(uploads).buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await?;
    Ok(())
}

fn buckets<'a>(files: &[&'a SiteFile]) -> Vec<Vec<&'a SiteFile>> {
    let mut buckets: Vec<Vec<&SiteFile>> = Vec::new();
    let mut room = 0;
    for file in files {
        match buckets.last_mut().filter(|bucket| file.size <= room && bucket.len() < MOST) {
            Some(bucket) => bucket.push(file),
            None => {
                buckets.push(vec![file]);
                room = BULK;
            }
        }
        room = room.saturating_sub(file.size);
    }
    buckets
}

/// Removes keys.
pub(crate) async fn remove(client: &Client, namespace: &str, keys: &[String]) -> Result<(), ApiError> {
    let path = format!("{{account}}/storage/kv/namespaces/{namespace}/bulk");
    for some in keys.chunks(MOST) {
        client.call(Method::DELETE, &path).json(&json!(some)).repeatable().send().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(key: &str, size: u64) -> SiteFile {
        SiteFile { file: key.into(), key: key.to_owned(), size }
    }

    #[test]
    fn each_folder_of_modules_leads_to_the_manifest() {
        let module = |name: &str| Module {
            name: name.to_owned(),
            specifier: None,
            kind: ModuleKind::EsModule,
            content: Default::default(),
        };
        let modules = ["index.js", "./a.js", "lib/b.js", "lib/deep/c.js", "lib/d.js"].map(module).into();
        let mut bundle = Bundle {
            main: "index.js".into(),
            modules,
            source_map: None,
            format: Format::Modules,
            inputs: Vec::new(),
            exports: Vec::new(),
            warnings: Vec::new(),
        };
        add_manifest(&mut bundle, &[("x.html".to_owned(), file("x.1.html", 1))].into());
        let shown = |m: &Module| format!("{}: {}", m.name, String::from_utf8_lossy(&m.content));
        let added: Vec<String> = bundle.modules[5..].iter().map(shown).collect();
        assert_eq!(
            added,
            [
                r#"__STATIC_CONTENT_MANIFEST: {"x.html":"x.1.html"}"#,
                r#"lib/__STATIC_CONTENT_MANIFEST: export { default } from "../__STATIC_CONTENT_MANIFEST";"#,
                r#"lib/deep/__STATIC_CONTENT_MANIFEST: export { default } from "../../__STATIC_CONTENT_MANIFEST";"#,
            ]
        );
    }

    #[test]
    fn only_what_is_missing_is_sent_in_requests_of_bounded_size() {
        let files: SiteFiles =
            ["a", "b", "c"].map(|key| (key.to_owned(), file(key, BULK / 2))).into_iter().collect();
        let there = ["b", "old"].map(str::to_owned).into();
        let (missing, gone) = changes(&files, &there);
        assert_eq!(missing.iter().map(|file| file.key.as_str()).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(gone, ["old"]);
        let sizes = [BULK / 2, BULK / 2, 1, BULK * 2, 1].map(|size| file("k", size));
        let refs: Vec<&SiteFile> = sizes.iter().collect();
        assert_eq!(buckets(&refs).iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 1]);
        let many = vec![file("k", 1); MOST + 1];
        assert_eq!(
            buckets(&many.iter().collect::<Vec<_>>()).iter().map(Vec::len).collect::<Vec<_>>(),
            [MOST, 1]
        );
    }
}
