//! The assets of one deployment.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use http::StatusCode;
use http::request::Parts;
use skep_wire::{BoxFuture, Request, Response, Service, empty, full, reply};

use crate::asset::ContentError;
use crate::config::AssetsConfig;
use crate::error::{AssetsError, Warning};
use crate::router::{self, Mitigation, Ruling, WorkerFirst};
use crate::serve;
use crate::site::{AssetEntry, Site};
use crate::text;
use crate::view::View;

/// Who answers a request.
#[derive(Debug)]
pub enum Decision {
    /// The assets: call [`Assets::serve`].
    Asset,
    /// The worker.
    Worker,
    /// The worker, but its reply must pass [`crate::image_reply_allowed`]; else the visitor gets 403 `Blocked`.
    WorkerImage,
    /// Neither: this is the answer.
    Answer(Box<Response>),
}

/// A folder of assets, ready to be served.
#[derive(Debug)]
pub struct Assets {
    /// `None` when the files are known never to change.
    dir: Option<PathBuf>,
    config: AssetsConfig,
    first: WorkerFirst,
    navigation_prefers_assets: bool,
    site: RwLock<Arc<Site>>,
    /// Held while the folder is read anew.
    reloading: Mutex<()>,
}

impl Assets {
    /// Reads a folder: lists it, hashes every file, parses `_redirects` and `_headers`. Blocks while doing so.
    /// The warnings are for the developer: lines and files that are left out.
    pub fn open(
        dir: impl AsRef<Path>,
        config: AssetsConfig,
    ) -> Result<(Arc<Self>, Vec<Warning>), AssetsError> {
        let first = WorkerFirst::new(&config.run_worker_first, config.has_worker)?;
        let (site, warnings) = Site::read(dir.as_ref(), &config, &Site::default())?;
        Ok((Self::new(Some(dir.as_ref().to_owned()), config, first, site), warnings))
    }

    /// Serves files that were uploaded: each by its path in the manifest, with the texts of `_redirects` and
    /// `_headers` (empty when there are none). Reads no file until it is asked for.
    pub fn from_entries(
        entries: Vec<AssetEntry>,
        redirects: &str,
        headers: &str,
        config: AssetsConfig,
    ) -> Result<(Arc<Self>, Vec<Warning>), AssetsError> {
        let first = WorkerFirst::new(&config.run_worker_first, config.has_worker)?;
        let (site, warnings) = Site::from_entries(entries, redirects, headers, &config);
        Ok((Self::new(None, config, first, site), warnings))
    }

    fn new(dir: Option<PathBuf>, config: AssetsConfig, first: WorkerFirst, site: Site) -> Arc<Self> {
        Arc::new(Self {
            dir,
            navigation_prefers_assets: config.navigation_prefers_assets(),
            config,
            first,
            site: RwLock::new(Arc::new(site)),
            reloading: Mutex::new(()),
        })
    }

    /// Reads the folder anew; only files that changed are hashed. Requests are served from the old state until
    /// the new one is complete; on an error the old one stays. Blocks.
    pub fn reload(&self) -> Result<Vec<Warning>, AssetsError> {
        let Some(dir) = &self.dir else { return Ok(Vec::new()) };
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let (site, warnings) = Site::read(dir, &self.config, &self.site())?;
        *self.site.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(site);
        self.config.cache.sweep();
        Ok(warnings)
    }

    /// What is served, by path: the manifest of an upload.
    pub fn entries(&self) -> Vec<AssetEntry> {
        self.site().entries()
    }

    fn site(&self) -> Arc<Site> {
        self.site.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who answers this request. Pure, but for the state of the folder.
    pub fn route(&self, parts: &Parts) -> Decision {
        let view = View::new(parts);
        if let Some(location) = router::cdn_cgi_bypass(view.raw, &view.pathname, view.query) {
            return Decision::Answer(Box::new(serve::redirect(StatusCode::TEMPORARY_REDIRECT, &location)));
        }
        match self.first.rule(&view.pathname) {
            Ruling::Assets => return Decision::Asset,
            Ruling::Worker => return to_worker(parts, &view),
            Ruling::Undecided if !self.config.has_worker => return Decision::Asset,
            Ruling::Undecided => {}
        }
        let navigates = || parts.headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
        let keep_not_found = self.first.has_rules() || (self.navigation_prefers_assets && navigates());
        if serve::can_answer(&self.site(), &self.config, &view, &parts.method, keep_not_found) {
            Decision::Asset
        } else {
            to_worker(parts, &view)
        }
    }

    /// Answers a request from the assets, whatever [`Assets::route`] says. The scheme is taken from the URI, or,
    /// where that has none, from a [`http::uri::Scheme`] among the extensions; it matters only to redirects
    /// to the same host.
    pub async fn serve(self: &Arc<Self>, parts: &Parts) -> Response {
        self.respond(parts, true).await
    }

    /// As [`Assets::serve`], if the answer is a file that lies in memory and nothing else about the request matters: a whole message of
    /// HTTP/1.1, with the lines of `more` in its head.
    pub fn text(&self, parts: &Parts, more: &[&[u8]]) -> Option<(StatusCode, Vec<u8>)> {
        text::text(&self.site(), &self.config, parts, more)
    }

    async fn respond(self: &Arc<Self>, parts: &Parts, encode: bool) -> Response {
        let first = serve::respond(&self.site(), &self.config, parts, encode).await;
        let outcome = match first {
            // A file changed before anyone told us.
            Err(ContentError::Changed) if self.dir.is_some() => {
                let this = self.clone();
                if let Ok(Err(error)) = tokio::task::spawn_blocking(move || this.reload()).await {
                    tracing::error!(%error, "the assets cannot be read");
                }
                serve::respond(&self.site(), &self.config, parts, encode).await
            }
            other => other,
        };
        outcome.unwrap_or_else(|error| {
            tracing::error!(%error, path = parts.uri.path(), "an asset cannot be read");
            reply(StatusCode::INTERNAL_SERVER_ERROR, empty())
        })
    }
}

fn to_worker(parts: &Parts, view: &View<'_>) -> Decision {
    // Only these two paths matter; the others need no host.
    if !view.pathname.ends_with("/image") && view.pathname != "/_image" {
        return Decision::Worker;
    }
    match router::mitigate(&parts.method, &view.pathname, view.query, &parts.headers, &view.hostname()) {
        Mitigation::None => Decision::Worker,
        Mitigation::ImageReply => Decision::WorkerImage,
        Mitigation::Blocked => Decision::Answer(Box::new(reply(StatusCode::FORBIDDEN, full("Blocked")))),
    }
}

/// `env.ASSETS`: the assets, asked by the worker; routing rules do not apply. Bodies are never compressed: the
/// engine would only have to undo it.
#[derive(Debug, Clone)]
pub struct AssetsBinding(pub Arc<Assets>);

impl Service for AssetsBinding {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let (parts, _) = request.into_parts();
            self.0.respond(&parts, false).await
        })
    }
}

#[cfg(test)]
#[path = "assets_tests.rs"]
mod tests;
