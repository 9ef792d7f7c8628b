//! What can go wrong, and what to do about it.

use std::path::PathBuf;

/// Why a tool is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// No cache folder can be chosen.
    #[error("there is no folder for the engine: set HOME, XDG_CACHE_HOME or SKEP_CACHE")]
    NoHome,
    /// No package for this machine.
    #[error(
        "there is no engine for {os} on {arch}: Skep runs on Linux on x86_64 and aarch64; \
         a workerd that you built yourself can be named by SKEP_WORKERD"
    )]
    Machine {
        /// The operating system.
        os: &'static str,
        /// The processor.
        arch: &'static str,
    },
    /// The path that replaces a tool is no file.
    #[error("{}, given by {by}, is not a file", path.display())]
    NoOverride {
        /// The path.
        path: PathBuf,
        /// Where it was given.
        by: &'static str,
    },
    /// The engine given instead of the pinned one is too old.
    #[error(
        "{} is workerd {found}; releases before 2026-06-19 have memory-safety bugs and are refused: \
         take 1.{pinned} or newer, or leave the choice to Skep", path.display()
    )]
    TooOld {
        /// The binary.
        path: PathBuf,
        /// The date that it states.
        found: String,
        /// The date of the pinned one.
        pinned: &'static str,
    },
    /// The engine given instead of the pinned one does not run.
    #[error("{} does not say which workerd it is: {said}", path.display())]
    NotAnEngine {
        /// The binary.
        path: PathBuf,
        /// What it said instead.
        said: String,
    },
    /// npm is not there.
    #[error(
        "npm was not found, and {package} is fetched with it: install Node.js (it brings npm), \
         or name the binary by SKEP_WORKERD, SKEP_ESBUILD or SKEP_BROWSER"
    )]
    NoNpm {
        /// The package.
        package: &'static str,
    },
    /// npm failed.
    #[error(
        "npm could not fetch {package}@{version}; is there a network, and does `npm ping` work? \
         npm said:\n{said}"
    )]
    Npm {
        /// The package.
        package: &'static str,
        /// Its version.
        version: &'static str,
        /// npm's last lines.
        said: String,
    },
    /// What npm brought is not what was asked for.
    #[error(
        "{package}@{version} from the npm registry is not the one that Skep knows and was thrown away\n  \
         expected sha512-{expected}\n  got      sha512-{got}\n\
         Is a registry or a proxy in between that changes packages? `npm config get registry` shows which is used."
    )]
    Hash {
        /// The package.
        package: &'static str,
        /// Its version.
        version: &'static str,
        /// Our hash.
        expected: &'static str,
        /// Its hash.
        got: String,
    },
    /// The package has the right hash and still not the right content: a bug of ours.
    #[error("{package} holds no {file}")]
    Content {
        /// The package.
        package: &'static str,
        /// The file.
        file: &'static str,
    },
    /// The cache cannot be used.
    #[error("cannot use the cache at {}: {source}; SKEP_CACHE names another folder", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
