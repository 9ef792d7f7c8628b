//! Files published to an R2 bucket, with a manifest that says what is there: only what has changed is sent.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::deploy::counted;
use crate::error::ApiError;
use crate::project::{TemplateFile, TemplateFiles};
use crate::resources::encode;

/// Files at once.
const PARALLEL: usize = 6;
/// The manifest's key, after the prefix.
const MANIFEST: &str = "manifest.json";

/// The manifest: the files by path.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Manifest {
    pub files: BTreeMap<String, Entry>,
}

/// What is there.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Entry {
    pub sha256: String,
    pub size: u64,
}

fn path(own: &TemplateFiles, key: &str) -> String {
    let key: Vec<String> = format!("{}{key}", own.prefix).split('/').map(encode).collect();
    format!("{{account}}/r2/buckets/{}/objects/{}", encode(&own.bucket), key.join("/"))
}

/// The manifest that is there; one that cannot be read counts as none, so that everything is sent again.
pub(crate) async fn manifest(client: &Client, own: &TemplateFiles) -> Result<Option<Manifest>, ApiError> {
    match client.call(Method::GET, path(own, MANIFEST)).bytes().await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.is_missing(&[10007]) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What has to be sent, and which keys have to go.
pub(crate) fn changes<'a>(
    own: &'a TemplateFiles,
    there: Option<&Manifest>,
) -> (Vec<&'a TemplateFile>, Vec<String>) {
    let known = |file: &TemplateFile| {
        there.and_then(|there| there.files.get(&file.path)).map(|entry| entry.sha256.as_str())
    };
    let changed = own.files.iter().filter(|file| known(file) != Some(&file.sha256)).collect();
    let is_own = |key: &str| own.files.iter().any(|file| file.path == key);
    let gone =
        there.iter().flat_map(|there| there.files.keys()).filter(|key| !is_own(key)).cloned().collect();
    (changed, gone)
}

/// Sends what has changed, then the manifest, then deletes what has gone: whoever reads by the manifest finds all of it.
pub(crate) async fn publish(
    client: &Client,
    own: &TemplateFiles,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<String, String> {
    let text = |error: ApiError| error.to_string();
    let there = manifest(client, own).await.map_err(text)?;
    let (changed, gone) = changes(own, there.as_ref());
    let total = changed.iter().map(|file| file.size).sum();
    let sent = std::sync::atomic::AtomicU64::new(0);
    let sent = &sent;
    let uploads = changed.iter().map(|file| async move {
        let failed = |e: std::io::Error| format!("cannot read {}: {e}", file.file.display());
        let content = tokio::fs::read(&file.file).await.map_err(failed)?;
        let kind = skep_assets::content_type(&file.path);
        let kind = kind.as_deref().unwrap_or("application/octet-stream");
        client
            .call(Method::PUT, path(own, &file.path))
            .raw(kind, Bytes::from(content))
            .send()
            .await
            .map_err(text)?;
        progress(sent.fetch_add(file.size, std::sync::atomic::Ordering::Relaxed) + file.size, total);
        Ok::<_, String>(())
    });
    stream::iter(uploads).buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await?;
    let entry =
        |file: &TemplateFile| (file.path.clone(), Entry { sha256: file.sha256.clone(), size: file.size });
    let manifest = Manifest { files: own.files.iter().map(entry).collect() };
    let manifest = serde_json::to_vec(&manifest).map_err(|e| e.to_string())?;
    let put = client.call(Method::PUT, path(own, MANIFEST)).raw("application/json", manifest.into());
    put.send().await.map_err(text)?;
    for key in &gone {
        match client.call(Method::DELETE, path(own, key)).send().await {
            Ok(_) => {}
            Err(error) if error.is_missing(&[10007]) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(format!("{} sent, {} deleted", counted(changed.len() as u64, "file"), gone.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent_and_what_is_gone_is_deleted() {
        let file = |path: &str, hash: &str| TemplateFile {
            path: path.into(),
            file: path.into(),
            size: 1,
            sha256: hash.into(),
        };
        let own = TemplateFiles {
            files: vec![file("a", "1"), file("b", "2"), file("c", "3")],
            ..Default::default()
        };
        let entry = |hash: &str| Entry { sha256: hash.into(), size: 1 };
        let files = [("a", "1"), ("b", "old"), ("d", "4")].map(|(path, hash)| (path.to_owned(), entry(hash)));
        let there = Manifest { files: files.into() };
        let (changed, gone) = changes(&own, Some(&there));
        assert_eq!(changed.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(gone, ["d"]);
        assert_eq!(changes(&own, None).0.len(), 3);
    }

    #[test]
    fn keys_are_encoded_but_for_their_slashes() {
        let own = TemplateFiles { bucket: "b".into(), prefix: "t/".into(), files: Vec::new() };
        assert_eq!(path(&own, "a b/ü?.js"), "{account}/r2/buckets/b/objects/t/a%20b/%C3%BC%3F.js");
    }
}
