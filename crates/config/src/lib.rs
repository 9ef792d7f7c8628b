//! Wrangler configuration files (`wrangler.json`, `.jsonc`, `.toml`), typed and validated.
//!
//! Every key is classified: it works, it means nothing off Cloudflare (said once), or it is refused with its
//! place in the file; an unknown key is warned of. Knows files only: nothing of bundling, storage or cells.
//!
//! Entry points: [`find`], [`load`], [`edit`].

mod check;
mod classes;
mod containers;
mod d1;
mod diagnostic;
pub mod edit;
mod environment;
mod expand;
mod exports;
mod generated;
#[cfg(test)]
mod hostile;
mod hyperdrive;
mod load;
mod migrations;
mod model;
mod node;
mod read;
mod site;
pub mod size;
mod storage;
mod stored;
mod variables;
mod worker;
mod workflow;

pub use classes::{KeyClass, classify};
pub use diagnostic::{Diagnostic, Diagnostics, Place, Severity};
pub use load::{LoadOptions, Loaded, find, is_read_too, load, refusal, to_json};
pub use migrations::{Change, MigrationError, classes_alive, steps_after};
pub use model::*;
pub use storage::{D1Database, KvNamespace, R2Bucket, S3Credentials};
pub use variables::{development_variables, parse as parse_variables};
