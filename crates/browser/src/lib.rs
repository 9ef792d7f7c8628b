//! The server behind `browser` bindings: sessions of a browser that runs on this machine, and the way to its DevTools.
//!
//! It speaks what `@cloudflare/puppeteer` and `@cloudflare/playwright` ask the binding for: sessions are acquired, joined, listed
//! and closed over HTTP, and DevTools' protocol goes through WebSockets, as it is or in the chunks of earlier versions.
//! Whoever joins a session may do with the machine's network what the browser may: on a machine of one's own all that this machine may,
//! with a [`Hold`] what that says. Knows nothing of configurations and of cells.
//!
//! Entry points: [`Host`], [`Browsers`], [`Program`], [`Hold`].

mod chunks;
mod devtools;
mod error;
mod found;
mod held;
mod host;
mod inside;
mod legacy;
mod pinned;
mod process;
mod proxy;
mod service;
mod sessions;
mod socks;
mod trial;

pub use error::BrowserError;
pub use found::installed;
pub use held::Hold;
pub use host::{Host, Provide};
pub use inside::{COMMAND, become_browser};
pub use pinned::unpack;
pub use process::Program;
pub use service::BrowserBinding;
pub use sessions::Browsers;
