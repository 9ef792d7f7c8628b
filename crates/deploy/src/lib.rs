//! Deploys a project over Cloudflare's v4 API: to a Skep, or to Cloudflare itself.
//!
//! [`Client`] speaks the API: envelopes, errors with their codes, retries where they are safe, proxies. [`Deploy`] reads
//! what is there (`remote`, `resources`), makes a [`Plan`] (`survey`) and takes its steps. What is sent has wrangler's form:
//! `bindings`, `metadata` and `upload` are pure.
//!
//! Knows neither the command line nor the terminal, does not read configurations or bundle, and knows nothing of how a
//! server keeps what it is sent.

mod assets;
mod bindings;
pub mod check;
mod client;
mod containers;
mod copy;
mod d1;
mod deploy;
pub mod domain;
mod envelope;
mod error;
mod form;
pub mod http;
mod metadata;
mod plan;
mod project;
mod remote;
mod resources;
mod retry;
mod rollback;
mod script;
#[cfg(test)]
mod server_tests;
mod settings;
mod site;
mod smoke;
mod stream;
mod survey;
mod templates;
mod triggers;
pub mod types;
mod upload;

pub use client::{Call, Client};
pub use containers::{Docker, Tools, preset};
pub use copy::{Copy, Wanted, export};
pub use deploy::{Deploy, DeployOptions, Failure, Outcome, Reporter, Rollout};
pub use envelope::Envelope;
pub use error::{ApiError, ApiErrorKind, ApiMessage};
pub use form::Form;
pub use plan::{Action, Plan, Planned, Step};
pub use project::{AssetFile, AssetFiles, Blob, Project, TemplateFile, TemplateFiles};
pub use retry::RetryPolicy;
pub use rollback::rollback;
pub use settings::{Domain, Profile, Settings, Templates, Values, Variable, VariableKind};
pub use site::{SiteFiles, add_manifest};
