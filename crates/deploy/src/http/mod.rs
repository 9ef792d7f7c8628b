//! HTTP/1.1 to a server anywhere: TLS, proxies, connections that are used again.

mod body;
mod connect;
mod proxy;
mod transport;

pub use body::{Arriving, Body, Pieces};
pub use proxy::Proxies;
pub(crate) use transport::within;
pub use transport::{Transport, TransportError};
