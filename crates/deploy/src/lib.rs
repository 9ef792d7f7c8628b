//! Deploys a project over Cloudflare's v4 API: to a Skep, or to Cloudflare itself.
//!
//! [`Client`] speaks the API: envelopes, errors with their codes, retries where they are safe, proxies.
//!
//! Knows neither the command line nor the terminal, and nothing of how a server keeps what it is sent.

mod client;
mod envelope;
mod error;
mod form;
pub mod http;
mod retry;
#[cfg(test)]
mod server_tests;

pub use client::{Call, Client};
pub use envelope::Envelope;
pub use error::{ApiError, ApiErrorKind, ApiMessage};
pub use form::Form;
pub use retry::RetryPolicy;
