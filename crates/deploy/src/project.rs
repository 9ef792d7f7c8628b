//! What is deployed: a project as it was read and built.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use serde_json::Value as Json;
use skep_bundle::{Bundle, ModuleKind};
use skep_config::WorkerConfig;

use crate::site::SiteFiles;

/// A project, ready to be sent.
#[derive(Debug)]
pub struct Project {
    /// The configuration, typed.
    pub config: WorkerConfig,
    /// The configuration as it stands in the file.
    pub raw: Json,
    /// The name that all environments of the file have in common.
    pub service: Option<String>,
    /// Variables over those of the configuration.
    pub vars: Vec<(String, Json)>,
    /// The code; `None` for assets alone.
    pub code: Option<Bundle>,
    /// The static assets.
    pub assets: Option<AssetFiles>,
    /// The files of a Workers Site.
    pub site: Option<SiteFiles>,
    /// What `wasm_modules`, `text_blobs` and `data_blobs` name, in this order.
    pub blobs: Vec<Blob>,
    /// The SQL migrations of each D1 binding, in order: names and texts.
    pub d1_migrations: BTreeMap<String, Vec<(String, String)>>,
    /// Files that are published to a bucket.
    pub templates: Option<TemplateFiles>,
    /// Secrets that come with this deploy.
    pub secrets: BTreeMap<String, String>,
    /// Secrets that have to be on the server if they do not come with this deploy, beside those in `secrets.required`.
    pub required_secrets: Vec<String>,
    /// What is missing or wrong: told together with what else is found before the first step.
    pub problems: Vec<String>,
}

/// A file that is a global of a script in service worker syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The global.
    pub name: String,
    /// Wasm, text or data.
    pub kind: ModuleKind,
    /// Where it was read.
    pub file: PathBuf,
    /// What is in it.
    pub content: Bytes,
}

/// Static assets on the disk.
#[derive(Debug, Default)]
pub struct AssetFiles {
    /// By path.
    pub files: Vec<AssetFile>,
    /// The text of `_redirects`.
    pub redirects: Option<String>,
    /// The text of `_headers`.
    pub headers: Option<String>,
}

/// Files for a bucket.
#[derive(Clone, Debug, Default)]
pub struct TemplateFiles {
    /// The bucket.
    pub bucket: String,
    /// What keys begin with.
    pub prefix: String,
    /// The files, by their path from the folder on.
    pub files: Vec<TemplateFile>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct TemplateFile {
    /// From the folder on, with slashes.
    pub path: String,
    /// Where it is.
    pub file: PathBuf,
    /// Bytes.
    pub size: u64,
    /// SHA-256, in hex.
    pub sha256: String,
}

/// One asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetFile {
    /// `/` and the path below the folder.
    pub path: String,
    /// Where it is.
    pub file: PathBuf,
    /// wrangler's hash of it.
    pub hash: String,
    /// Bytes.
    pub size: u64,
    /// What it is served as.
    pub content_type: Option<String>,
}

impl Project {
    /// A configuration and perhaps code, with no files beside it.
    pub(crate) fn plain(config: WorkerConfig, raw: Json, code: Option<Bundle>) -> Self {
        Self {
            config,
            raw,
            service: None,
            vars: Vec::new(),
            code,
            assets: None,
            site: None,
            blobs: Vec::new(),
            d1_migrations: BTreeMap::new(),
            templates: None,
            secrets: BTreeMap::new(),
            required_secrets: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// The script's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// A list of objects in the configuration.
    pub(crate) fn list(&self, path: &[&str]) -> &[Json] {
        let value = path.iter().fold(&self.raw, |value, key| &value[*key]);
        value.as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// Keys of the configuration that a deploy would leave out, so that it must not go on.
    pub(crate) fn unknown_to_deploy(&self) -> Vec<String> {
        const UNKNOWN: &[&str] = &[
            "agent_memory",
            "ai_search",
            "ai_search_namespaces",
            "artifacts",
            "cloudchamber",
            "connect",
            "flagship",
            "k2",
            "pages_build_output_dir",
            "unsafe_hello_world",
            "vpc_networks",
        ];
        let is_set = |value: &Json| match value {
            Json::Null | Json::Bool(false) => false,
            Json::Array(list) => !list.is_empty(),
            Json::Object(object) => !object.is_empty(),
            _ => true,
        };
        let mut found: Vec<String> =
            UNKNOWN.iter().filter(|key| is_set(&self.raw[**key])).map(|key| (*key).to_owned()).collect();
        for (outer, inner) in [("triggers", "events"), ("unsafe", "capnp")] {
            if is_set(&self.raw[outer][inner]) {
                found.push(format!("{outer}.{inner}"));
            }
        }
        found
    }
}
