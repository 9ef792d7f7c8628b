//! Durable storage: SQLite files with group commit, and immutable content files.
//!
//! Knows nothing of bindings or HTTP. Entry points: [`Database`] for rows, [`Blobs`] for values too
//! large for a row, [`ValueSink`] and [`read_pieces`] for values that arrive and leave in pieces, [`Folders`] for many
//! stores of one kind, [`let_sleep`] for those that nobody uses. The rule
//! that all keep: nothing is acknowledged before it is on the disk.

mod awake;
mod blobs;
mod database;
mod error;
mod folder;
mod folders;
mod quota;
mod values;
mod writer;

pub use awake::{Sleeper, has_woken, let_sleep, now};
pub use blobs::{BlobId, BlobWriter, Blobs};
pub use database::{Database, Schema};
pub use error::StoreError;
pub use folder::{folder_id, folder_name};
pub use folders::{Folders, Upkeep};
pub use quota::{Measuring, Quota};
pub use values::{Sending, Stored, ValueSink, read_pieces};
