//! D1 databases: one SQLite file each, in Cloudflare's SQL dialect, behind the HTTP protocol of the
//! engine's own D1 client.
//!
//! Does not know cells, the catalog, the v4 API or which binding calls: a [`D1Database`] is one
//! database, and as a [`skep_wire::Service`] it answers `/query`, `/execute` and `/dump`.
//!
//! Entry points: [`D1Store`] opens databases; [`D1Database::run`] is the protocol's core without HTTP;
//! [`D1Database::migrate`] applies migration files as `wrangler d1 migrations apply` does.
//!
//! How a call travels (`database.rs`): statements that only read run at once on the caller's thread, on a
//! pooled connection; a query that turns out long moves to a blocking thread, and one that searches a full-text index to a process
//! of its own (`apart/`). Everything else goes to the database's one writer thread (`writer.rs`), which puts waiting calls into one transaction, each in
//! its own savepoint, so that they share the flush to disk.
//!
//! Two figures of the `meta` object are estimates, because stock SQLite lacks the row counters that the
//! engine patches into its own: `rows_read` and `rows_written` (`plan.rs` says how they come about).

mod apart;
mod appetite;
mod bookmark;
mod database;
mod dialect;
mod encode;
mod error;
mod expansion;
mod export;
mod functions;
mod gate;
mod guard;
mod held;
mod history;
mod limit;
mod migrations;
mod opened;
mod plan;
mod readers;
mod request;
mod run;
mod service;
mod session;
mod split;
mod store;
mod turns;
mod writer;

pub use apart::{Apart, work};
pub use database::{D1Database, Restored};
pub use error::D1Error;
pub use history::{Retention, TimeTravelError};
pub use migrations::{MigrateError, Migrations};
pub use request::{Param, ResultsFormat, Statement};
pub use split::statements;
pub use store::{D1Store, Paused};
