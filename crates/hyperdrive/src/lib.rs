//! Hyperdrive: connections from cells to databases elsewhere.
//! <https://developers.cloudflare.com/hyperdrive/>
//!
//! A worker's driver begins PostgreSQL's protocol on a socket of its cell. That beginning is answered here: the database
//! is looked up, judged, connected to, with TLS, and logged in to; from then on bytes pass both ways. So a worker never
//! sees the database's password, nor where the database is. There is no pool and no cache. This crate does not know
//! accounts, catalogs or cells.
//!
//! Entry points: [`Hyperdrive`], [`Origin`].

mod connect;
mod failure;
mod login;
mod messages;
mod open;
mod origin;
mod pass;
mod refusals;
mod scram;
mod slots;
mod tls;
mod used;

pub use connect::{Judge, Verdict};
pub use failure::Failure;
pub use origin::{Origin, Tls};
pub use pass::{Binding, Find, Hyperdrive};
