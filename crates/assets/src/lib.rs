//! Static assets, served without touching the worker where the rules allow.
//!
//! A folder (or an uploaded manifest) becomes [`Assets`]: a snapshot of files by name, with `_redirects` and
//! `_headers`. [`Assets::route`] says whether a request goes to the assets or to the worker, [`Assets::serve`]
//! answers it, [`AssetsBinding`] answers `env.ASSETS.fetch`. What an application can notice is as on Cloudflare;
//! ranges, lists in `If-None-Match` and compressed siblings are more than Cloudflare's asset worker does.
//!
//! The decisions are pure and each has its module: `intent` (html_handling and not_found_handling), `redirects`,
//! `headers`, `router` (run_worker_first), `range`, `encoding`. The disk is touched in `walk`, `hash` and `asset`.
//!
//! This crate does not know cells, hosts, deployments, or how a worker is called; it watches no files: whoever
//! does calls [`Assets::reload`].

#[cfg(test)]
mod answer_tests;
mod asset;
mod assets;
mod cache;
mod config;
mod encoding;
mod error;
mod hash;
mod headers;
mod intent;
mod mime;
mod path;
mod pattern;
mod range;
mod redirects;
mod router;
mod rule_url;
mod serve;
mod site;
#[cfg(test)]
mod test_support;
mod text;
mod view;
mod walk;
mod workers_site;

pub use assets::{Assets, AssetsBinding, Decision};
pub use cache::{ContentCache, DEFAULT_CAPACITY};
pub use config::{AssetsConfig, HtmlHandling, MAX_FILE_SIZE, MAX_FILES, NotFoundHandling, RunWorkerFirst};
pub use error::{AssetsError, Warning};
pub use hash::{ContentHash, content_hash};
pub use mime::content_type;
pub use path::pathname;
pub use router::image_reply_allowed;
pub use site::AssetEntry;
pub use workers_site::{SiteFile, site_files};
