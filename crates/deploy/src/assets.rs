//! Static assets: the server says which it lacks, and gets those, several at once.
//! <https://developers.cloudflare.com/workers/static-assets/direct-upload/>

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde_json::{Map, Value as Json, json};

use crate::client::Client;
use crate::project::{AssetFile, AssetFiles};
use crate::stream::{Asset, AssetForm};

/// Buckets at once, as in wrangler.
const PARALLEL: usize = 3;

/// What an upload came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uploaded {
    /// For the metadata.
    pub token: String,
    /// Files that the server lacked.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Uploads what the server lacks; `progress` hears bytes sent and bytes in all.
pub(crate) async fn upload(
    client: &Client,
    script_path: &str,
    assets: &AssetFiles,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Uploaded, String> {
    let manifest: Map<String, Json> = assets
        .files
        .iter()
        .map(|file| (file.path.clone(), json!({ "hash": file.hash, "size": file.size })))
        .collect();
    let path = format!("{script_path}/assets-upload-session");
    // A session is only a question: asking twice is like asking once.
    let session =
        client.call(Method::POST, path).json(&json!({ "manifest": manifest })).repeatable().send().await;
    let session = session.map_err(|e| e.to_string())?.result;
    let token = session["jwt"].as_str().ok_or("the server gave no token for the upload of assets")?;
    let buckets: Vec<Vec<String>> = serde_json::from_value(session["buckets"].clone()).unwrap_or_default();
    let by_hash: HashMap<&str, &AssetFile> =
        assets.files.iter().map(|file| (file.hash.as_str(), file)).collect();
    let size = |bucket: &Vec<String>| -> u64 {
        bucket.iter().filter_map(|hash| by_hash.get(hash.as_str())).map(|file| file.size).sum()
    };
    let total = buckets.iter().map(size).sum();
    let files = buckets.iter().map(Vec::len).sum();
    let sent = AtomicU64::new(0);
    let (by_hash, sent) = (&by_hash, &sent);
    let uploads = buckets.iter().filter(|bucket| !bucket.is_empty()).map(|bucket| async move {
        let token = send_bucket(client, token, bucket, by_hash).await?;
        progress(sent.fetch_add(size(bucket), Ordering::Relaxed) + size(bucket), total);
        Ok::<_, String>(token)
    });
    let tokens: Vec<Option<String>> = stream::iter(uploads).buffer_unordered(PARALLEL).try_collect().await?;
    let token = match files {
        0 => token.to_owned(),
        _ => tokens
            .into_iter()
            .flatten()
            .next_back()
            .ok_or("the server did not confirm the upload of assets")?,
    };
    Ok(Uploaded { token, files, bytes: total })
}

/// The completion token, if this bucket was the last one that was missing.
async fn send_bucket(
    client: &Client,
    token: &str,
    bucket: &[String],
    by_hash: &HashMap<&str, &AssetFile>,
) -> Result<Option<String>, String> {
    let mut form = AssetForm::default();
    for hash in bucket {
        let own =
            by_hash.get(hash.as_str()).ok_or("the server asks for an asset that is not in the manifest")?;
        let AssetFile { path, file, hash, size, content_type } = (*own).clone();
        let content_type = content_type.unwrap_or_else(|| "application/null".to_owned());
        form.add(Asset { file, path, hash, size, content_type });
    }
    let call = client.call(Method::POST, "{account}/workers/assets/upload?base64=true");
    // Contents are named by their hashes.
    let answer = call.bearer(token).assets(form).repeatable().send().await.map_err(|e| e.to_string())?;
    Ok(answer.result["jwt"].as_str().map(str::to_owned))
}
