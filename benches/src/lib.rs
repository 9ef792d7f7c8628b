//! Skep beside its peers. `cargo bench -p skep-benches` runs everything and prints a table; see `README.md`.
//!
//! [`load`] sends requests, [`process`] starts and weighs a peer, [`peers`] knows how each peer is started,
//! [`rounds`] compares them in rotating order, [`report`] prints; the rest is what is measured, one file each.

pub mod assets;
pub mod bindings;
pub mod deploying;
pub mod developing;
pub mod floor;
pub mod growth;
pub mod hello;
pub mod hostile;
pub mod load;
pub mod node;
pub mod peers;
pub mod process;
pub mod report;
pub mod rounds;
pub mod serving;
pub mod stats;
pub mod streaming;
pub mod tenants;
pub mod tools;
