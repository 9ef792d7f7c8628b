//! The front door: HTTP/1.1 and HTTP/2 from visitors to cells and assets, WebSockets and streams included.
//!
//! Knows nothing of the catalog: a [`Router`] says which [`Site`] a request is for. Knows nothing of what
//! a worker does.
//!
//! Entry point: [`serve`].

mod activity;
mod body;
mod cell;
mod chain;
mod connection;
mod decode;
mod error_page;
mod frames;
mod guard;
mod handler;
mod headers;
mod internal;
mod meter;
mod places;
mod relay;
mod scratch;
mod sendfile;
mod server;
mod trace;
mod traffic;
mod upgrade;

pub use body::EdgeBody;
pub use cell::Door;
pub use error_page::{ErrorCode, error_page};
pub use guard::EdgeLimits;
pub use handler::{AskedPath, LocalHandler, Router, Site};
pub use internal::{CallError, CpuCap, call, call_worker};
pub use meter::{LATENCY_MS, Meter, Outcome, Reading};
pub use places::{Places, PlacesError};
pub use server::{EdgeOptions, serve};
pub use tokio_rustls::rustls;
pub use trace::Traced;
pub use traffic::Traffic;
