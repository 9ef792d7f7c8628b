//! What a deployment says about its assets.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cache::ContentCache;

/// Most files of one version on Cloudflare's paid plans (20,000 on the free one).
/// <https://developers.cloudflare.com/workers/platform/limits/#static-assets>
pub const MAX_FILES: usize = 100_000;
/// Most bytes of one file: 25 MiB.
pub const MAX_FILE_SIZE: u64 = 25 * 1024 * 1024;

/// `assets.html_handling`: which of `/page`, `/page/` and `/page.html` an HTML file is served at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HtmlHandling {
    /// `foo.html` at `/foo`, `foo/index.html` at `/foo/`.
    #[default]
    AutoTrailingSlash,
    /// Both at `/foo/`.
    ForceTrailingSlash,
    /// Both at `/foo`.
    DropTrailingSlash,
    /// Only at their own path; `/` is not mapped to `/index.html` either.
    None,
}

/// `assets.not_found_handling`: what answers a path that has no asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotFoundHandling {
    /// A bare 404.
    #[default]
    None,
    /// `/index.html` with status 200.
    SinglePageApplication,
    /// The nearest `404.html` up the tree, with status 404.
    #[serde(rename = "404-page")]
    Page404,
}

/// `assets.run_worker_first`: which requests go to the worker without looking for an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RunWorkerFirst {
    /// All, or none.
    All(bool),
    /// Those whose path one of these globs matches, unless a `!/…` glob does too.
    Rules(Vec<String>),
}

impl Default for RunWorkerFirst {
    fn default() -> Self {
        Self::All(false)
    }
}

/// How a folder of assets is served.
#[derive(Debug, Clone)]
pub struct AssetsConfig {
    /// `assets.html_handling`.
    pub html_handling: HtmlHandling,
    /// `assets.not_found_handling`.
    pub not_found_handling: NotFoundHandling,
    /// `assets.run_worker_first`.
    pub run_worker_first: RunWorkerFirst,
    /// Whether there is a worker (`main`) behind the assets.
    pub has_worker: bool,
    /// The worker's `compatibility_date`, `YYYY-MM-DD`; Cloudflare's default is 2021-11-02.
    pub compatibility_date: String,
    /// The worker's `compatibility_flags`; only the `assets_…` ones matter here.
    pub compatibility_flags: Vec<String>,
    /// Most files; see [`MAX_FILES`].
    pub max_files: usize,
    /// Where small and compressed bodies are kept; share one to bound the memory of many deployments.
    pub cache: Arc<ContentCache>,
}

impl Default for AssetsConfig {
    fn default() -> Self {
        Self {
            html_handling: HtmlHandling::default(),
            not_found_handling: NotFoundHandling::default(),
            run_worker_first: RunWorkerFirst::default(),
            has_worker: false,
            compatibility_date: "2021-11-02".to_owned(),
            compatibility_flags: Vec::new(),
            max_files: MAX_FILES,
            cache: Arc::new(ContentCache::default()),
        }
    }
}

impl AssetsConfig {
    /// Whether a browser's navigation (`Sec-Fetch-Mode: navigate`) to a path without an asset gets the
    /// not-found answer rather than the worker: flag `assets_navigation_prefers_asset_serving`, the
    /// default from 2025-04-01. <https://developers.cloudflare.com/workers/configuration/compatibility-flags/>
    pub fn navigation_prefers_assets(&self) -> bool {
        let has = |flag: &str| self.compatibility_flags.iter().any(|f| f == flag);
        has("assets_navigation_prefers_asset_serving")
            || (self.compatibility_date.as_str() >= "2025-04-01" && !has("assets_navigation_has_no_effect"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn navigation_preference_follows_date_and_flags() {
        let config = |date: &str, flags: &[&str]| AssetsConfig {
            compatibility_date: date.to_owned(),
            compatibility_flags: flags.iter().map(|f| (*f).to_owned()).collect(),
            ..AssetsConfig::default()
        };
        assert!(!config("2025-03-31", &[]).navigation_prefers_assets());
        assert!(config("2025-04-01", &[]).navigation_prefers_assets());
        assert!(!config("2025-04-01", &["assets_navigation_has_no_effect"]).navigation_prefers_assets());
        assert!(
            config("2024-01-01", &["assets_navigation_prefers_asset_serving"]).navigation_prefers_assets()
        );
    }
}
