//! Searches of full-text indexes run in processes of their own.
//!
//! What FTS5 does for one row has no bound that anybody would wait for: a phrase of as many words as fit a query, tried at each word of a
//! text of two megabytes, `NEAR` of as many, `snippet()` of a text whose every word is found take minutes to days. It is SQLite's own
//! code, and nobody looks at the clock in it. A thread cannot be stopped there; a process can.
//!
//! Such a call goes to a process that has the database open for reading, and is killed when a statement has had its time. It waits for the
//! next call a while: a search that is short costs a message there and back.
//! What writes cannot run there. It has its turn instead, one at a time of all databases (`turns.rs`).

mod job;
mod process;
mod work;

pub(crate) use job::Job;
pub use process::Apart;
pub(crate) use process::{Place, Searcher, Searchers};
pub use work::work;
