//! Static assets: the server says which it lacks, and gets those, several at once.
//! <https://developers.cloudflare.com/workers/static-assets/direct-upload/>

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde_json::{Map, Value as Json, json};

use tokio::sync::Semaphore;

use crate::client::Client;
use crate::form::Form;
use crate::project::{AssetFile, AssetFiles};

/// Buckets at once, as in wrangler.
const PARALLEL: usize = 3;
/// Bytes at once: more are in memory only if one bucket alone has them.
const IN_FLIGHT: u64 = 16 << 20;

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
    let room = Semaphore::new(IN_FLIGHT as usize);
    let (by_hash, sent, room) = (&by_hash, &sent, &room);
    let uploads = buckets.iter().filter(|bucket| !bucket.is_empty()).map(|bucket| async move {
        let share = u32::try_from(size(bucket).min(IN_FLIGHT)).unwrap_or(u32::MAX);
        let _share = room.acquire_many(share).await.map_err(|e| e.to_string())?;
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
    let mut form = Form::default();
    let length =
        |hash: &String| by_hash.get(hash.as_str()).map_or(0, |file| file.size as usize / 3 * 4 + 300);
    form.reserve(bucket.iter().map(length).sum());
    for hash in bucket {
        let file =
            by_hash.get(hash.as_str()).ok_or("the server asks for an asset that is not in the manifest")?;
        let content = read(file).await?;
        let content_type = file.content_type.as_deref().unwrap_or("application/null");
        form.file_in_base64(hash, content_type, &content);
    }
    let call = client.call(Method::POST, "{account}/workers/assets/upload?base64=true");
    // Contents are named by their hashes.
    let answer = call.bearer(token).form(form).repeatable().send().await.map_err(|e| e.to_string())?;
    Ok(answer.result["jwt"].as_str().map(str::to_owned))
}

/// The file, if it is still the one that was listed.
async fn read(file: &AssetFile) -> Result<Vec<u8>, String> {
    let failed = |e: std::io::Error| format!("cannot read {}: {e}", file.file.display());
    let metadata = tokio::fs::metadata(&file.file).await.map_err(failed)?;
    let changed = || format!("{} has changed during the deploy: deploy again", file.file.display());
    if metadata.len() != file.size {
        return Err(changed());
    }
    let content = tokio::fs::read(&file.file).await.map_err(failed)?;
    match skep_assets::content_hash(content.as_slice(), &file.path) {
        Ok(hash) if hash == file.hash => Ok(content),
        _ => Err(changed()),
    }
}
