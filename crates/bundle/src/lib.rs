//! Bundles a Worker project into modules, as wrangler does: esbuild with wrangler's options, its module rules and
//! its Node.js replacements.
//!
//! esbuild runs as one process per [`Bundler`], spoken to over its stdio protocol, and keeps what it has parsed, so
//! that a rebuild after a save costs what has changed. Knows neither `wrangler.toml` nor the engine: options come as
//! plain values, modules leave as names and bytes.
//!
//! Entry points: [`Bundler`], [`run_custom_build`], [`missing_dependencies`], [`SourceMapper`].

mod bundler;
mod custom;
mod error;
mod files;
mod flags;
mod glob;
mod install;
mod message;
mod module;
mod node;
mod options;
mod packet;
mod plugin;
mod rules;
mod service;
mod sourcemap;

pub use bundler::Bundler;
pub use custom::run_custom_build;
pub use error::BundleError;
pub use install::{Client, MissingDependencies, missing_dependencies};
pub use message::{BuildMessage, Location};
pub use module::{Bundle, Format, Module, ModuleKind};
pub use options::{BundleOptions, Rule, RuleKind};
pub use rules::active_rules;
pub use sourcemap::{SourceMapError, SourceMapper};
