//! Static assets: what is missing is uploaded, the rest is there already.
//! <https://developers.cloudflare.com/workers/static-assets/direct-upload/>

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use skep_catalog::Version;

use crate::aside::aside;
use crate::call::Call;
use crate::modules;
use crate::platform::Tenant;
use crate::reply::{Answer, ApiError, ok, with_status};
use crate::uploaded;

/// Files of a version at most. <https://developers.cloudflare.com/workers/platform/limits/#static-assets>
const MAX_FILES: usize = 100_000;
/// What a file of a manifest takes as text, about, in bytes.
const LINE: usize = 128;
/// Bytes of a manifest at most.
const MAX_MANIFEST: usize = 32 << 20;
/// Bytes of a file at most.
pub(crate) const MAX_FILE: u64 = 25 << 20;
/// Bytes that are uploaded with one request, about: a few requests at once are in memory as a whole.
const BUCKET_BYTES: u64 = 12 << 20;
/// Files that are uploaded with one request.
const BUCKET_FILES: usize = 1000;
/// How long a session's tokens are good.
const SESSION_MS: i64 = 60 * 60 * 1000;
const SESSION: &str = "assets session";

/// Path to file.
type Manifest = BTreeMap<String, File>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct File {
    hash: String,
    size: u64,
}

/// What a session's token says; sealed, so that nobody else can make one.
#[derive(Serialize, Deserialize)]
struct Claims {
    account: String,
    script: String,
    manifest: String,
    expires_ms: i64,
}

/// Where the content of a hash is kept. A hash that is wrangler's of what was uploaded is as good as the content: it is
/// kept once for the account. Clients may make up others; such a one means something in its own script only, so that
/// nobody's upload is what another script serves.
fn verified(hash: &str) -> String {
    format!("a:{hash}")
}

fn claimed(script: &str, hash: &str) -> String {
    format!("u:{script}:{hash}")
}

/// The hash that wrangler gives a file: of its content in base64, and its path's extension.
fn wranglers_hash(path: &str, bytes: &[u8]) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let extension = name.rfind('.').filter(|at| *at > 0).map_or("", |at| &name[at + 1..]);
    let mut hash = blake3::Hasher::new();
    hash.update(STANDARD.encode(bytes).as_bytes()).update(extension.as_bytes());
    hash.finalize().to_hex()[..32].to_owned()
}

/// The content keys of hashes, and the hashes of which nothing is stored yet. What is there is kept for a while.
async fn stored(
    call: &Call,
    tenant: &Arc<dyn Tenant>,
    script: &str,
    manifest: &Manifest,
) -> Result<(Vec<String>, Vec<String>), ApiError> {
    let mut hashes: Vec<String> = manifest.values().map(|file| file.hash.clone()).collect();
    let (size, script) = (hashes.len() * LINE, script.to_owned());
    let asked = move || {
        hashes.sort_unstable();
        hashes.dedup();
        let both = hashes.iter().flat_map(|hash| [claimed(&script, hash), verified(hash)]).collect();
        (hashes, both, script)
    };
    let (hashes, both, script) = aside(size, asked).await?;
    let missing = tenant.catalog().missing_content(both, call.now_ms()).await?;
    aside(size, move || {
        let missing: HashSet<String> = missing.into_iter().collect();
        let (mut keys, mut lacking) = (Vec::new(), Vec::new());
        for hash in hashes {
            match [claimed(&script, &hash), verified(&hash)].into_iter().find(|key| !missing.contains(key)) {
                Some(key) => keys.push(key),
                None => lacking.push(hash),
            }
        }
        (keys, lacking)
    })
    .await
}

fn bad(text: impl Into<String>) -> ApiError {
    ApiError::bad(100_306, text)
}

#[derive(Deserialize)]
struct Session {
    manifest: Manifest,
}

pub(crate) async fn session(mut call: Call) -> Answer {
    let Session { manifest } = call.json_within(MAX_MANIFEST, 100_306).await?;
    let name = call.param(0).to_owned();
    uploaded::check_name(skep_catalog::split_name(&name).1)?;
    let tenant = call.tenant()?;
    let size = manifest.len() * LINE;
    let checked = move || {
        check(&manifest)?;
        let text = serde_json::to_vec(&manifest).map_err(ApiError::internal)?;
        Ok::<_, ApiError>((modules::key_of(&text), text, manifest))
    };
    let (key, text, manifest) = aside(size, checked).await??;
    modules::keep(&tenant, &key, text.into(), None, call.now_ms()).await?;
    let (_, missing) = stored(&call, &tenant, &name, &manifest).await?;
    let claims = Claims {
        account: call.token.account.clone(),
        script: name,
        manifest: key,
        expires_ms: call.now_ms() + SESSION_MS,
    };
    let claims = serde_json::to_vec(&claims).map_err(ApiError::internal)?;
    let token = call.api.sealer.seal(&claims, SESSION).map_err(ApiError::internal)?;
    ok(json!({ "jwt": token, "buckets": buckets(&manifest, missing) }))
}

fn check(manifest: &Manifest) -> Result<(), ApiError> {
    if manifest.len() > MAX_FILES {
        return Err(bad(format!("There are {} assets; {MAX_FILES} are allowed", manifest.len())));
    }
    for (path, file) in manifest {
        let leaves = path.split('/').any(|segment| segment == ".." || segment == ".");
        if !path.starts_with('/') || leaves || path.contains('\0') || path.len() > 4096 {
            return Err(bad(format!("\"{path}\" is not the path of an asset")));
        }
        let hexadecimal = file.hash.len() == 32 && file.hash.bytes().all(|b| b.is_ascii_hexdigit());
        if !hexadecimal {
            return Err(bad(format!("The hash of \"{path}\" is not 32 hexadecimal digits")));
        }
        if file.size > MAX_FILE {
            return Err(bad(format!("\"{path}\" has {} bytes; {MAX_FILE} are allowed", file.size)));
        }
    }
    Ok(())
}

fn buckets(manifest: &Manifest, missing: Vec<String>) -> Vec<Vec<String>> {
    let sizes: BTreeMap<&str, u64> = manifest.values().map(|file| (file.hash.as_str(), file.size)).collect();
    let mut buckets: Vec<Vec<String>> = Vec::new();
    let mut filled = 0;
    for hash in missing {
        let size = sizes.get(hash.as_str()).copied().unwrap_or_default();
        match buckets.last_mut() {
            Some(last) if last.len() < BUCKET_FILES && filled + size <= BUCKET_BYTES => {
                last.push(hash);
                filled += size;
            }
            _ => {
                buckets.push(vec![hash]);
                filled = size;
            }
        }
    }
    buckets
}

/// The session of a request's bearer token.
fn claims(call: &Call, token: &str) -> Result<Claims, ApiError> {
    let refused = |text: &str| ApiError::new(StatusCode::UNAUTHORIZED, 10000, text);
    let opened = call.api.sealer.open_sealed(token, SESSION);
    let opened = opened.map_err(|_| refused("Authentication error"))?;
    let claims: Claims = serde_json::from_slice(&opened).map_err(ApiError::internal)?;
    if claims.expires_ms <= call.now_ms() {
        return Err(refused("The upload session has expired; start a new one"));
    }
    if claims.account != call.token.account {
        return Err(refused("Authentication error"));
    }
    Ok(claims)
}

fn bearer(call: &Call) -> Result<String, ApiError> {
    let token = call.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let token =
        token.ok_or_else(|| ApiError::new(StatusCode::UNAUTHORIZED, 10000, "Authentication error"))?;
    Ok(token.trim().to_owned())
}

async fn manifest_of(tenant: &Arc<dyn Tenant>, key: &str) -> Result<Manifest, ApiError> {
    let text = modules::load(tenant, key).await?;
    let manifest = aside(text.len(), move || serde_json::from_slice(&text)).await?;
    manifest.map_err(ApiError::internal)
}

pub(crate) async fn upload(mut call: Call) -> Answer {
    let token = bearer(&call)?;
    let claims = claims(&call, &token)?;
    let form = call.form().await?.ok_or_else(|| bad("The request is not a form"))?;
    let tenant = call.tenant()?;
    let manifest = manifest_of(&tenant, &claims.manifest).await?;
    let mut contents = Vec::new();
    for part in form.0 {
        let encoded = part.bytes;
        let decoded = aside(encoded.len(), move || STANDARD.decode(encoded.trim_ascii())).await?;
        let bytes = decoded.map_err(|_| bad(format!("The asset {} is not valid base64", part.name)))?;
        contents.push(content(&claims.script, &manifest, &part.name, bytes.into(), part.content_type).await?);
    }
    modules::keep_all(&tenant, contents, call.now_ms()).await?;
    finish(&call, &tenant, &claims.script, &manifest, &token).await
}

/// One asset, as it is.
pub(crate) async fn upload_one(mut call: Call) -> Answer {
    let token = bearer(&call)?;
    let claims = claims(&call, &token)?;
    let bytes = call.bytes(MAX_FILE as usize).await?;
    let tenant = call.tenant()?;
    let manifest = manifest_of(&tenant, &claims.manifest).await?;
    let content_type = call.header("content-type").map(str::to_owned);
    let hash = call.param(0).to_owned();
    let content = content(&claims.script, &manifest, &hash, bytes, content_type).await?;
    modules::keep_all(&tenant, vec![content], call.now_ms()).await?;
    finish(&call, &tenant, &claims.script, &manifest, &token).await
}

/// An asset as it is to be kept, if it is what the manifest says.
async fn content(
    script: &str,
    manifest: &Manifest,
    hash: &str,
    bytes: Bytes,
    content_type: Option<String>,
) -> Result<modules::Content, ApiError> {
    let named = manifest.iter().filter(|(_, file)| file.hash == hash);
    let Some((path, file)) = named.clone().next() else {
        return Err(bad(format!("The asset {hash} is not in the manifest")));
    };
    if file.size != bytes.len() as u64 {
        return Err(bad(format!(
            "The asset {path} has {} bytes, but {} in the manifest",
            bytes.len(),
            file.size
        )));
    }
    let content_type = content_type.filter(|kind| kind != "application/null" && !kind.is_empty());
    let paths: Vec<String> = named.map(|(path, _)| path.clone()).collect();
    let (asset, expected) = (bytes.clone(), hash.to_owned());
    let is_its = move || paths.iter().any(|path| wranglers_hash(path, &asset) == expected);
    let key = match aside(bytes.len(), is_its).await? {
        true => verified(hash),
        false => claimed(script, hash),
    };
    Ok(modules::Content { key, bytes, content_type })
}

/// The token is the completion's too: it is worth something only when nothing is missing.
async fn finish(
    call: &Call,
    tenant: &Arc<dyn Tenant>,
    script: &str,
    manifest: &Manifest,
    token: &str,
) -> Answer {
    match stored(call, tenant, script, manifest).await?.1.is_empty() {
        true => with_status(StatusCode::CREATED, json!({ "jwt": token })),
        false => with_status(StatusCode::ACCEPTED, json!({ "jwt": null })),
    }
}

/// The content keys of a stored manifest.
pub(crate) async fn keys_of(call: &Call, script: &str, manifest: &str) -> Result<Vec<String>, ApiError> {
    let tenant = call.tenant()?;
    let manifest = manifest_of(&tenant, manifest).await?;
    Ok(stored(call, &tenant, script, &manifest).await?.0)
}

/// The assets of an upload's version: the manifest's key with the configuration, and all content keys.
pub(crate) async fn of_upload(
    call: &Call,
    tenant: &Arc<dyn Tenant>,
    script: &str,
    metadata: &Json,
    previous: Option<&Version>,
) -> Result<(Option<(String, Json)>, Vec<String>), ApiError> {
    let before = previous.and_then(|version| version.content.assets.clone());
    let config = &metadata["assets"]["config"];
    let (key, config) = match metadata["assets"]["jwt"].as_str() {
        Some(token) => {
            let claims = claims(call, token)?;
            if claims.script != script {
                return Err(bad("The assets were uploaded for another Worker"));
            }
            (claims.manifest, config.clone())
        }
        None if metadata["keep_assets"] == true => match before {
            Some(assets) if config.is_null() => (assets.manifest, assets.config),
            Some(assets) => (assets.manifest, config.clone()),
            None => return Ok((None, Vec::new())),
        },
        None if metadata["assets"].is_null() => return Ok((None, Vec::new())),
        None => return Err(bad("assets must have a `jwt`: upload the assets first")),
    };
    let manifest = manifest_of(tenant, &key).await?;
    let (keys, lacking) = stored(call, tenant, script, &manifest).await?;
    if let Some(hash) = lacking.first() {
        return Err(bad(format!("The upload of the assets is not complete: {hash} is missing")));
    }
    Ok((Some((key, config)), keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(files: &[(&str, u64)]) -> Manifest {
        files
            .iter()
            .enumerate()
            .map(|(n, (path, size))| ((*path).to_owned(), File { hash: format!("{n:032x}"), size: *size }))
            .collect()
    }

    #[test]
    fn a_hash_is_wranglers_by_content_and_extension() {
        // blake3("aGVsbG8=" + "html")
        let expected = blake3::hash(b"aGVsbG8=html").to_hex()[..32].to_owned();
        assert_eq!(wranglers_hash("/a.b/index.html", b"hello"), expected);
        let none = blake3::hash(b"aGVsbG8=").to_hex()[..32].to_owned();
        for path in ["/index", "/.html", "/a.html/b", "/a."] {
            assert_eq!(wranglers_hash(path, b"hello"), none, "{path}");
        }
    }

    #[test]
    fn buckets_are_filled_and_not_overfilled() {
        let files = manifest(&[("/a", 11 << 20), ("/b", 8 << 20), ("/c", 3 << 20)]);
        let missing = files.values().map(|file| file.hash.clone()).collect();
        let sizes: Vec<usize> = buckets(&files, missing).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 2]);
        assert!(buckets(&files, Vec::new()).is_empty());
    }

    #[test]
    fn paths_hashes_and_sizes_are_checked() {
        assert!(check(&manifest(&[("/a/b.html", 1)])).is_ok());
        for path in ["a", "/../a", "/a/..", "/a\0", "/./a"] {
            assert!(check(&manifest(&[(path, 1)])).is_err(), "{path}");
        }
        assert!(check(&manifest(&[("/a", MAX_FILE + 1)])).is_err());
        let short = BTreeMap::from([("/a".to_owned(), File { hash: "12".into(), size: 1 })]);
        assert!(check(&short).is_err());
    }
}
