//! All that is served at one moment: files, redirects, headers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io, thread};

use http::{Method, StatusCode};

use crate::asset::{Asset, Facts};
use crate::config::{AssetsConfig, HtmlHandling, NotFoundHandling};
use crate::encoding::Encoding;
use crate::error::{AssetsError, Warning};
use crate::hash::content_hash;
use crate::headers::Headers;
use crate::intent::{self, Files, Intent};
use crate::mime;
use crate::path;
use crate::redirects::{Redirected, Redirects};
use crate::view::View;
use crate::walk::{self, Found};

/// Files hashed by one thread before another is worth starting.
const FILES_PER_THREAD: usize = 64;

/// A file whose content and hash the caller already has, say from a deployment's manifest. It must not change.
#[derive(Debug, Clone)]
pub struct AssetEntry {
    /// `/` and the path below the folder of assets.
    pub path: String,
    /// Where the content is.
    pub file: PathBuf,
    /// The hash it was uploaded by: the `ETag`.
    pub hash: String,
    /// Bytes.
    pub size: u64,
    /// The `Content-Type` it was uploaded with; `None` when that was `application/null`.
    pub content_type: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Site {
    files: HashMap<String, Entry>,
    deepest_404: Option<usize>,
    pub(crate) redirects: Redirects,
    pub(crate) headers: Headers,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) asset: Arc<Asset>,
    /// Files beside it that hold the same content compressed, as [`Encoding::COMPRESSED`].
    siblings: [Option<Arc<Asset>>; 3],
}

impl Entry {
    pub(crate) fn sibling(&self, encoding: Encoding) -> Option<&Arc<Asset>> {
        let at = Encoding::COMPRESSED.iter().position(|e| *e == encoding)?;
        self.siblings.get(at)?.as_ref()
    }

    /// Whether the response depends on `Accept-Encoding`.
    pub(crate) fn varies(&self) -> bool {
        self.asset.compressible || self.siblings.iter().any(Option::is_some)
    }
}

/// What the assets answer to a request.
#[derive(Debug)]
pub(crate) enum Answer<'a> {
    /// A file, with 200 or 404.
    Serve(&'a Entry, StatusCode),
    /// Elsewhere.
    Redirect(StatusCode, String),
    /// There is a file, but not for this method: 405.
    NotAllowed,
    /// A rewrite points to nothing: 404, even where a worker could answer.
    NotFound,
    /// A redirect rule yields no URL: 500.
    Broken,
    /// The assets have nothing to say.
    Nothing,
}

impl Files for Site {
    type File<'a> = &'a Entry;
    fn get(&self, name: &str) -> Option<&Entry> {
        self.files.get(name)
    }
    fn same(a: &&Entry, b: &&Entry) -> bool {
        a.asset.hash == b.asset.hash
    }
    fn deepest_404(&self) -> Option<usize> {
        self.deepest_404
    }
}

impl Site {
    /// Reads a folder. What `before` knows of files that have not changed is taken over.
    pub(crate) fn read(
        dir: &Path,
        config: &AssetsConfig,
        before: &Self,
    ) -> Result<(Self, Vec<Warning>), AssetsError> {
        let (found, mut warnings) = walk::walk(dir, config.max_files)?;
        let (mut assets, mut new) = (HashMap::with_capacity(found.len()), Vec::new());
        for file in found {
            match before.files.get(&file.name) {
                Some(known) if known.asset.stamp == Some(file.stamp) && known.asset.disk == file.disk => {
                    assets.insert(file.name, known.asset.clone());
                }
                _ => new.push(file),
            }
        }
        assets.extend(hash_all(&new, config)?);
        let text = |name: &str| {
            let path = dir.join(name);
            match fs::read(&path) {
                Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
                Err(error) => Err(AssetsError::io(path)(error)),
            }
        };
        let (site, rules) = Self::new(assets, &text("_redirects")?, &text("_headers")?, config.html_handling);
        warnings.extend(rules);
        Ok((site, warnings))
    }

    /// All files, by their paths.
    pub(crate) fn entries(&self) -> Vec<AssetEntry> {
        let entry = |(path, entry): (&String, &Entry)| AssetEntry {
            path: path.clone(),
            file: entry.asset.disk.clone(),
            hash: entry.asset.hash.clone(),
            size: entry.asset.size,
            content_type: entry.asset.content_type.as_ref().and_then(|v| v.to_str().ok()).map(str::to_owned),
        };
        let mut entries: Vec<AssetEntry> = self.files.iter().map(entry).collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries
    }

    /// Files whose hashes are known.
    pub(crate) fn from_entries(
        entries: Vec<AssetEntry>,
        redirects: &str,
        headers: &str,
        config: &AssetsConfig,
    ) -> (Self, Vec<Warning>) {
        let assets = entries.into_iter().map(|entry| {
            let AssetEntry { path, file, hash, size, content_type } = entry;
            let facts = Facts { disk: file, size, stamp: None, hash, content_type };
            (path, Arc::new(Asset::new(facts, config.cache.clone())))
        });
        Self::new(assets.collect(), redirects, headers, config.html_handling)
    }

    fn new(
        assets: HashMap<String, Arc<Asset>>,
        redirects: &str,
        headers: &str,
        html: HtmlHandling,
    ) -> (Self, Vec<Warning>) {
        let (redirects, mut warnings) = Redirects::parse(redirects, html);
        let (headers, more) = Headers::parse(headers);
        warnings.extend(more);
        let entries: Vec<(String, Entry)> = assets
            .iter()
            .map(|(name, asset)| {
                let siblings = Encoding::COMPRESSED.map(|encoding| sibling(&assets, name, asset, encoding));
                (name.clone(), Entry { asset: asset.clone(), siblings })
            })
            .collect();
        let deepest_404 =
            entries.iter().filter_map(|(name, _)| name.strip_suffix("/404.html")).map(str::len).max();
        (Self { files: entries.into_iter().collect(), deepest_404, redirects, headers }, warnings)
    }

    /// What the assets say to a request, if `not_found` handles what is missing.
    pub(crate) fn answer(
        &self,
        view: &View<'_>,
        method: &Method,
        html: HtmlHandling,
        not_found: NotFoundHandling,
    ) -> Answer<'_> {
        let rewritten = match self.redirects.apply(&view.pathname, view.query, view.origin()) {
            Some(Redirected::To(status, location)) => return Answer::Redirect(status, location),
            Some(Redirected::Broken) => return Answer::Broken,
            Some(Redirected::Rewritten(path)) => Some(path),
            None => None,
        };
        let pathname = rewritten.as_deref().unwrap_or(&view.pathname);
        let name = path::decode(pathname);
        let intent = match intent::resolve(self, html, not_found, &name) {
            None if rewritten.is_some() => return Answer::NotFound,
            None => return Answer::Nothing,
            Some(_) if method != Method::GET && method != Method::HEAD => return Answer::NotAllowed,
            Some(intent) => intent,
        };
        let to = |encoded: &str| {
            Answer::Redirect(StatusCode::TEMPORARY_REDIRECT, format!("{encoded}{}", path::search(view.query)))
        };
        let (entry, status) = match intent {
            Intent::Redirect(target) => return to(&path::encode(&target)),
            Intent::Serve(entry) => (entry, StatusCode::OK),
            Intent::NotFoundPage(entry) => (entry, StatusCode::NOT_FOUND),
        };
        // A file has one URL: that of its name encoded in the canonical way.
        let canonical = path::encode(&name);
        if canonical == pathname { Answer::Serve(entry, status) } else { to(&canonical) }
    }
}

/// The file beside `name` that holds it compressed, unless it is older.
fn sibling(
    assets: &HashMap<String, Arc<Asset>>,
    name: &str,
    asset: &Asset,
    encoding: Encoding,
) -> Option<Arc<Asset>> {
    let stamp = asset.stamp?;
    let beside = assets.get(&format!("{name}{}", encoding.file_ending()?))?;
    (beside.stamp?.modified >= stamp.modified).then(|| beside.clone())
}

fn hash_all(files: &[Found], config: &AssetsConfig) -> Result<Vec<(String, Arc<Asset>)>, AssetsError> {
    let threads =
        thread::available_parallelism().map_or(1, usize::from).min(files.len() / FILES_PER_THREAD + 1);
    let share = files.len().div_ceil(threads).max(1);
    let hash_share = |files: &[Found]| files.iter().filter_map(|file| hash_one(file, config)).collect();
    let shares: Vec<Result<Vec<_>, _>> = thread::scope(|scope| {
        let running: Vec<_> =
            files.chunks(share).map(|files| scope.spawn(move || hash_share(files))).collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let mut all = Vec::with_capacity(files.len());
    for share in shares {
        all.extend(share?);
    }
    Ok(all)
}

/// `None` when the file is gone.
fn hash_one(found: &Found, config: &AssetsConfig) -> Option<Result<(String, Arc<Asset>), AssetsError>> {
    let hash = match fs::File::open(&found.disk).and_then(|file| content_hash(file, &found.name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(Err(AssetsError::io(&found.disk)(error))),
        Ok(hash) => hash,
    };
    let facts = Facts {
        disk: found.disk.clone(),
        size: found.stamp.size,
        stamp: Some(found.stamp),
        hash,
        content_type: mime::content_type(&found.name),
    };
    Some(Ok((found.name.clone(), Arc::new(Asset::new(facts, config.cache.clone())))))
}
