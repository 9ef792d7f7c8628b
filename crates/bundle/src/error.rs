//! What can go wrong while bundling.

use std::path::PathBuf;

use crate::message::BuildMessage;

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The code does not build.
    #[error("{}", rendered(errors))]
    Build {
        /// At least one.
        errors: Vec<BuildMessage>,
        /// Said besides.
        warnings: Vec<BuildMessage>,
    },
    /// Python Workers do not run here.
    #[error("{} is a Python Worker; only JavaScript, TypeScript and WebAssembly are supported", .0.display())]
    Python(PathBuf),
    /// No such file.
    #[error(
        "The entry-point file at {:?} was not found.\nThis might mean that your entry-point file needs to be generated \
         (which is the general case when a framework is being used).\nIf that's the case please run your project's \
         build command and try again.", .0.display().to_string()
    )]
    NoEntry(PathBuf),
    /// The entry point is not below the folder of its modules.
    #[error("the entry point {} is not below the base_dir {}", entry.display(), base.display())]
    OutsideBase {
        /// The entry point.
        entry: PathBuf,
        /// `base_dir`.
        base: PathBuf,
    },
    /// `find_additional_modules` with a service worker.
    #[error(
        "`find_additional_modules` can only be used with an ES module entrypoint.\nRemove \
         `find_additional_modules = true` from your configuration, or migrate to the ES module Worker format: \
         https://developers.cloudflare.com/workers/learning/migrate-to-module-workers/"
    )]
    AdditionalInServiceWorker,
    /// `build.command` failed.
    #[error(
        "Running custom build `{command}` failed ({status}). There are likely more logs from your build command above."
    )]
    Custom {
        /// The command.
        command: String,
        /// How it ended.
        status: String,
    },
    /// esbuild does not start.
    #[error("cannot run {}: {source}", path.display())]
    Start {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another esbuild than the one whose protocol is spoken.
    #[error("{} is esbuild {found}; {needed} is needed", path.display())]
    Version {
        /// Its path.
        path: PathBuf,
        /// Its version.
        found: String,
        /// Ours.
        needed: &'static str,
    },
    /// The process has ended.
    #[error("esbuild ended unexpectedly")]
    Gone,
    /// esbuild does not take a request.
    #[error("esbuild refused: {0}")]
    Refused(String),
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The package manager did not install the dependencies.
    #[error("{0}")]
    Install(String),
}

fn rendered(errors: &[BuildMessage]) -> String {
    let count = errors.len();
    let mut text = format!("Build failed with {count} error{}:\n", if count == 1 { "" } else { "s" });
    for error in errors {
        text.push('\n');
        text.push_str(&error.render("✘ [ERROR]"));
    }
    text
}
