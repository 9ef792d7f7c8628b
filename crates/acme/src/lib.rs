//! Certificates from an ACME authority (RFC 8555): one per host name, ordered when it is wanted, kept on the disk, renewed
//! when a third of its life is left.
//!
//! [`Acme`] is what a TLS listener asks for certificates and what [`Acme::sweep`] drives; `book` decides which name is
//! ordered when (pure), `order` speaks the protocol, `store` keeps accounts and certificates, [`Challenges`] are what
//! listeners answer the authority with.
//!
//! Knows neither scripts nor routes: whether a name is served is asked of [`Names`]. Knows no sockets: requests go out
//! through an [`Http`], challenges are answered by whoever listens.

mod account;
mod book;
mod certificate;
mod challenges;
mod client;
mod manager;
mod name;
mod order;
mod store;
mod validity;

pub use account::{Binding, terms_of_service};
pub use challenges::{ACME_TLS, Challenges, WELL_KNOWN};
pub use client::Http;
pub use manager::{Acme, Names, Options, Status};
pub use name::HostName;
